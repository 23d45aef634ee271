"""The fleet on one machine: three nodes, what carries releases to them, clients all the while, and what can go wrong.

    python -m tools.fleet_demo [--only SCENE] [--bus nats|http] [--short] [--svg FILE] [--keep]

    clients --> HAProxy (deploy/haproxy.cfg) --> three servers on loopback addresses of their own
    warm_cache --> nats-server <--> an agent beside each server --> nginx, the origin

Everything is a process as an operator has it, and commands are command lines (commands.py). The third node's agent has
its links through a relay (relay.py), which can be cut.

**What is shown is judged, not looked at.** Each file names its path and its build (content.py), and each answer of each
client goes to the judge (judge.py), which knows what a node may serve at that time: so what is lost, mixed or older
than what was there before is a fault of the scene in which it came.

Needs programs of others (PROGRAMS in stage.py, and those of a scene in scenes/programme.py) and the extra `fleet`.
A run looks for them first, and says how to install what is missing.
"""
