"""The benchmark: `python -m tools.bench --help`.

It starts real servers as processes of their own, drives them with real load generators, and reads what they
cost from /proc. It knows zcserve as a command line only and imports nothing of it, so that every peer is
measured by the same rule. The tables to widen are `peers.PEERS`, `workloads.WORKLOADS`, `targets.TARGETS`,
those of the same names in `servlets`, `ordinary.KINDS`, and `sweep.SWEEPS`.
"""
