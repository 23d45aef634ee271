"""Forget a node that is gone: it counts no more, until it reports again.

With --nodes the file says which nodes there are: take its line out of it.

Exit codes: 0 it is forgotten; 1 the bus is away; 2 wrong use; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio

from tools.warm.arguments import EXIT_RIGHT
from tools.warm.bus_flags import add_bus
from tools.warm.buses import opened
from zcserve.errors import UsageError
from zcserve.fleet import forms
from zcserve.fleet.forms import FormError


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    parser.add_argument("what", choices=["forget"], help="what is done")
    parser.add_argument("node", metavar="NAME", help="the node")
    add_bus(parser)


def run(arguments: argparse.Namespace) -> int:
    """Forget it."""
    try:
        forms.name(arguments.node, "NAME")
    except FormError as error:
        raise UsageError(str(error)) from None
    if arguments.nodes:
        raise UsageError(f"the nodes are those of {arguments.nodes}; take the line of {arguments.node} out of it")
    asyncio.run(_run(arguments))
    return EXIT_RIGHT


async def _run(arguments: argparse.Namespace) -> None:
    async with opened(arguments) as fleet:
        await fleet.bus.forget(arguments.node)
    print(f"{arguments.node} is forgotten")
