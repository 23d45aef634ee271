"""The parts of `tools/warm_cache.py`, in the order in which its work goes through them.

`classes`, `listing`: what a file counts as, and which files come first. Then one of two ways: `loading` a root without
a socket; or `expected` (what is asked for), `clients` (how), `answers` (what is wrong with what came), `comparing` (all
of them, over a few connections). `report` puts the findings of either into words. A part imports from the parts that
are named before it, and from `zcserve`, which imports nothing from here.
"""
