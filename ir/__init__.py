"""The intermediate representation: what a block of guest code says, in terms of no guest and no host.

The distribution is `dragoman`; `DISTRIBUTION` lets the entry point tell this package from a namesake.
"""

DISTRIBUTION = "dragoman"
