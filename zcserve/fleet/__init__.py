"""Releases for many nodes: a manifest says what a site is to serve, an agent on each node brings it there.

    operator --manifest, commands--> Bus --> agent (one beside each server) --admin listener--> server

- **A release is files and a manifest** of them, which is signed. On a node it is a folder that is named by its content,
  and visible only when each file is what the manifest says.
- **A rollout has two phases.** Nodes fetch and prepare: the server has the release in memory, beside the live one. When
  enough have, the release is the desired one, and from then on each node flips to it, also one that comes back later.
- **What decides has no input and no output**: the states of a node and of a rollout take messages and the time, and say
  what is to be done. So a simulator runs the same.

Nothing here is imported by a server: the agent is a process of its own (`zcserve node`).
"""
