"""Merge the heat of nodes, and access logs, into the order in which files are worth to be in memory.

A path a line, on standard output, first the one with most uses for each byte: for zcserve ctl warm, POST /warm and
warm_cache --list. How large files are is told by nodes, by --root or --manifest (files that are not there are left out
then), and else by the answers in the logs.

Exit codes: 0 all was read; 1 a node or a log told nothing, or nothing is known of any file; 2 wrong use;
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.warm.arguments import EXIT_RIGHT, EXIT_WRONG
from tools.warm.log_lines import hits_in, lines_of
from tools.warm.making_told import tell
from tools.warm.merged import Merged, Worth, by_benefit
from tools.warm.nodes import AskError, heat_of
from tools.warm.releases import add_configuration, configured, read_manifest
from zcserve.cache.heat import HALF_LIFE_S, size_of
from zcserve.cache.heat_lines import FileTold, Told
from zcserve.cache.ruled import open_root
from zcserve.cache.walk import walk
from zcserve.config.units import counted, parse_duration
from zcserve.errors import UsageError, reason_of
from zcserve.http import host_name
from zcserve.rules.book import Rulebook

TOKEN_BYTES_MAX = 4096


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments."""
    node = "http://HOST:PORT or unix:PATH of an admin listener, a file that names some, or a file of what one told"
    parser.add_argument("--nodes", metavar="FILE|URL", nargs="+", action="extend", default=[], help=node)
    parser.add_argument("--token-file", metavar="FILE", help="the first line of this file is the nodes' token")
    log = "an access log, .gz too; - is standard input"
    parser.add_argument("--log", metavar="FILE", nargs="+", action="extend", default=[], help=log)
    parser.add_argument("--host", metavar="NAME", help="of the logs, requests for this host (--access-log-fields host)")
    parser.add_argument("--half-life", metavar="TIME", help=f"of uses (default {HALF_LIFE_S / 3600:g}h)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--root", metavar="DIR", help="the site's directory: what is there, and how large")
    where.add_argument("--manifest", metavar="FILE", help="a release's manifest, for the same")
    add_configuration(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON, with uses and bytes")


def run(arguments: argparse.Namespace) -> int:
    """Merge, and print the order."""
    if not (arguments.nodes or arguments.log):
        raise UsageError("nothing says what is hot; accepted: --nodes, --log, or both")
    merged = Merged(_half_life(arguments.half_life))
    faults = [*_add_nodes(merged, arguments), *_add_logs(merged, arguments)]
    files = list(merged.worth())
    if (sizes := _sizes(arguments)) is not None:
        files = _as_they_are(files, sizes)
    order = by_benefit(iter(files))
    if not order:
        faults.append("nothing is known of any file")
    tell(faults)
    print(_json_of(order, faults) if arguments.json else "".join(f"{one.path}\n" for one in order), end="")
    return EXIT_WRONG if faults else EXIT_RIGHT


def _half_life(text: str | None) -> float:
    seconds = HALF_LIFE_S if text is None else parse_duration(text)
    if not seconds > 0:
        raise UsageError(f"--half-life {text!r} is no time; accepted: 30m, 6h, 2d")
    return seconds


def _token(path: str | None) -> str:
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            return file.readline(TOKEN_BYTES_MAX).strip().decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path!r} cannot be read: {reason_of(error)}") from None


def _add_nodes(merged: Merged, arguments: argparse.Namespace) -> Iterator[str]:
    """Why those tell nothing that do not."""
    site = arguments.site
    for told in heat_of(arguments.nodes, _token(arguments.token_file)):
        if isinstance(told, AskError):
            yield str(told)
            continue
        first, *others = told
        assert isinstance(first, Told)
        names = {one.site for one in others if not isinstance(one, Told)}
        if names and site not in names:
            yield f"a node has no site {site}, but {', '.join(sorted(names))}: --site says which is meant"
        for one in others:
            if isinstance(one, FileTold) and one.site == site:
                merged.add(one.path, one.uses, first.at, one.bytes)


def _add_logs(merged: Merged, arguments: argparse.Namespace) -> Iterator[str]:
    """Why those tell nothing that do not, and how many lines are not understood."""
    host = host_name(arguments.host.encode()) if arguments.host else None
    for path in arguments.log:
        unknown, first = 0, b""
        try:
            for hit in hits_in(lines_of(path)):
                if isinstance(hit, bytes):
                    unknown, first = unknown + 1, first or hit
                elif host in (None, hit.host):
                    merged.add(hit.path, 1.0, hit.at, hit.size)
        except (OSError, EOFError, zlib.error) as error:
            yield f"{path}: {reason_of(error)}"
        if unknown:
            yield f"{path}: {counted(unknown, 'line')} not understood, as {first[:100].decode(errors='replace')!r}"


def _sizes(arguments: argparse.Namespace) -> Mapping[str, tuple[str, int]] | None:
    """Of each path that leads to a file, the file's own and its bytes; None: it is not told what there is."""
    if arguments.manifest:
        files = read_manifest(Path(arguments.manifest)).files
        return {
            path: (path, file.size + sum(one.size for one in file.encodings.values()))
            for path, file in files.items()
            if file.is_served
        }
    if arguments.root is None:
        return None
    config = configured(arguments.root, arguments)
    generation = walk(open_root(config.directory, Rulebook(config)), index=config.index)
    found = {}
    for entry in generation.entries():
        found[entry.key.decode("latin-1")] = (entry.key.decode("latin-1"), size_of(entry))
    for key, resource in generation.resources.items():
        if (path := getattr(resource, "key", key)) != key and path.decode("latin-1") in found:
            found[key.decode("latin-1")] = found[path.decode("latin-1")]  # a directory's, that is its index file's
    return found


def _as_they_are(files: list[Worth], sizes: Mapping[str, tuple[str, int]]) -> list[Worth]:
    """Those that are there, with their sizes; what a directory was asked for is its index file's."""
    there = Merged()
    for one in files:
        if (found := sizes.get(one.path)) is not None:
            there.add(found[0], one.uses, 0.0, found[1])
    return list(there.worth())


def _json_of(order: list[Worth], faults: list[str]) -> str:
    files = [{"path": one.path, "uses": round(one.uses, 4), "bytes": one.bytes} for one in order]
    return json.dumps({"files": files, "faults": faults}, indent=2) + "\n"
