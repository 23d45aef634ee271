"""A fleet in virtual time: the classes that decide on a node and for a site (zcserve/fleet: node_state.py, rollout.py)
with a bus, a network, an origin and servers that are numbers.

    python -m tools.fleet_sim --nodes 1000 --seed 1 --failing 2%

| module | what it has |
|---|---|
| `clock.py`    | virtual time, and what does one thing at a time |
| `network.py`  | links: latency, loss, what comes twice, partitions |
| `origin.py`   | one bandwidth, shared by all that fetch |
| `bus.py`      | stream, desired, states, claims: within what zcserve/fleet/bus.py promises, and hardly better |
| `node.py`     | a node: its agent, its disk, its server |
| `operator.py` | an operator: does what a rollout wants, and can be killed |
| `world.py`    | all of them together, and what must hold at every moment |
| `failures.py` | what goes wrong, at random |
| `figures.py`  | what comes of it: times, loads, text and JSON |

Everything random is of one seed, so a run is the same each time. What must hold (`world.py`): a node never flips to
what it has not prepared, nor to what was never desired of it, nor to a sequence that is older than what was live there
and desired of all; of each edition there is one value; and there is no commit without a quorum.
"""
