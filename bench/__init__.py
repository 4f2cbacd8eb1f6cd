"""Measurements of speed. Every number is a ratio to a peer that ran in the same minutes on the same machine.

`bench_*.py` are pytest-benchmark suites of the translator's parts, in one process (`make bench-stages`), and
`tables.py` makes tables of them. `alive.py` measures whole processes: first and second runs, tier 0, Debian's busybox
(`python -m bench.alive`); `spike.py` is the peer that it asks, on the bundled programs. Programs at their full size
are `dragoman bench`'s.
"""
