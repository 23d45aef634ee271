"""The parts of `tools/warm_cache.py`. A part imports from those that are named before it, and from `zcserve`, which
imports nothing from here.

**Warming**: `classes`, `listing`: what a file counts as, and which files come first. Then one of two ways: `loading` a
root without a socket; or `expected` (what is asked for), `clients` (how), `answers` (what is wrong with what came),
`comparing` (all of them, over a few connections). `report` puts the findings of either into words, and `warming` has
their flags.

**Releases**: `subcommands` is the table of words. `releases` has what `manifest`, `diff`, `verify` and `keygen` share,
and `making_told` says what comes up.

**A fleet**: `bus_flags` says which bus, and `buses` makes it. `planning` says which sequence a release gets, and where
a rollback goes. `driving` drives a rollout's states over a bus, `views` shows it, `proving` asks nodes what they serve,
and `rolling` is all of these, which `release` and `rollback` share. `acknowledging` says which nodes have done a
command: `purging`, which `purge` goes ahead of. `status` and `nodes` need a bus alone.
"""
