"""Which bus a command talks over, as its flags say: the nodes of a list over HTTP, or NATS."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zcserve.config.site_names import DEFAULT_NAME
from zcserve.errors import UsageError
from zcserve.fleet import forms
from zcserve.fleet.forms import FormError
from zcserve.fleet.node_list import Listed, read_nodes

if TYPE_CHECKING:
    from zcserve.fleet.nats_place import NatsPlace

_NATS = ("nats_creds", "nats_password_file", "nats_ca", "nats_cert", "nats_key")


def add_bus(parser: argparse.ArgumentParser, *, with_site: bool = True) -> None:
    """The flags; `with_site`: --site, too."""
    if with_site:
        parser.add_argument("--site", metavar="NAME", default=DEFAULT_NAME, help="the site (default %(default)s)")
    bus = parser.add_mutually_exclusive_group(required=True)
    bus.add_argument("--nodes", metavar="FILE", help="a line a node: NAME URL [PUBLIC-URL]")
    bus.add_argument("--nats", metavar="URL", help="the NATS that carries it")
    parser.add_argument("--token-file", metavar="FILE", help="what --nodes want to see")
    nats = parser.add_argument_group("with --nats")
    nats.add_argument("--public", metavar="FILE", help="a line a node, NAME PUBLIC-URL")
    nats.add_argument("--nats-creds", metavar="FILE", help="a user's JWT and its seed, as nsc writes them")
    nats.add_argument("--nats-password-file", metavar="FILE", help="the password of the user that the URL names")
    nats.add_argument("--nats-ca", metavar="FILE", help="certificates (PEM) that NATS's own is signed by")
    nats.add_argument("--nats-cert", metavar="FILE", help="a certificate of one's own (PEM)")
    nats.add_argument("--nats-key", metavar="FILE", help="and its key")


def check(arguments: argparse.Namespace) -> tuple[Listed, ...]:
    """The nodes of the list; none with --nats. Raises UsageError."""
    try:
        forms.name(arguments.site, "--site")
    except FormError as error:
        raise UsageError(str(error)) from None
    if arguments.nats and arguments.token_file:
        raise UsageError("--token-file has no effect with --nats")
    if arguments.nodes and arguments.public:
        raise UsageError("--public has no effect with --nodes, whose lines have a third word for it")
    if arguments.nodes and (idle := [name for name in _NATS if getattr(arguments, name)]):
        raise UsageError(f"--{idle[0].replace('_', '-')} has no effect with --nodes")
    return read_nodes(arguments.nodes) if arguments.nodes else ()


def place_of(arguments: argparse.Namespace) -> NatsPlace:
    """Where NATS is. Raises UsageError."""
    from zcserve.fleet.nats_place import NatsPlace  # late: HTTP needs none of it

    files = {name.removeprefix("nats_"): Path(value) for name in _NATS if (value := getattr(arguments, name))}
    return NatsPlace.of(arguments.nats, **files)
