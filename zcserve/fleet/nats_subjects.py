"""Subjects of NATS by the names of sites. It imports nothing: a command goes ahead by them (nats_ahead.py)."""

from __future__ import annotations


def word(name: str) -> str:
    """A name of a site or a node as one word of a subject; two names never have the same."""
    return name.replace("_", "_-").replace(".", "__")


def commands_subject(site: str) -> str:
    """What the stream of a site's commands takes."""
    return f"zcserve.commands.{word(site)}"
