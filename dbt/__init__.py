"""Everything that runs: translator, engines, cache, memory, Linux personality, command line.

The distribution is `dragoman`; `DISTRIBUTION` lets the entry point tell this package from a namesake.
"""

DISTRIBUTION = "dragoman"
