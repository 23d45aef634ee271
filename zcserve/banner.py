"""What a server says when it serves: what it has, with what, and what is not as its operator may think."""

from __future__ import annotations

import logging
import os
import resource
import socket
from collections.abc import Iterator, Sequence

from zcserve import log
from zcserve.cache.budget import Budget
from zcserve.cache.compress import missing_codecs
from zcserve.cache.store import Store
from zcserve.config.keys import of_no_use
from zcserve.config.table import Config
from zcserve.config.units import counted, size_text
from zcserve.content.content import Content
from zcserve.content.contents import Contents
from zcserve.content.told import report_problems, resident
from zcserve.log import Log, printable
from zcserve.net.engine import why_not_native

_log = Log(__name__)

# Descriptors that come and go while the server runs: a reload's directories, an upgrade's, an application's.
DESCRIPTORS_BESIDE = 32


def say_ready(
    config: Config,
    contents: Contents,
    store: Store,
    budget: Budget,
    *,
    engine: str,
    lanes: int,
    servlets: str,
    addresses: Sequence[str],
    ready_after_s: float,
) -> None:
    """Warn of what is amiss, and print the lines that begin with `root:`."""
    _warn_of_descriptors(config)
    for content in contents:
        report_problems(content.site.live.problems)
        if not content.is_loading:
            content.warn_of_memory()
    for line in of_no_use(config):
        _log.warning("%s", line)
    if config.compress and missing_codecs():
        _log.warning("compress: only gzip can be made here; for brotli and zstd: %s", missing_codecs())
    if not _log.isEnabledFor(logging.INFO):
        return
    pending = sum(content.variants_pending for content in contents)
    memory = f"{size_text(store.committed)} of {size_text(store.budget)}"
    lines = (
        *_told_of_sites(contents),
        *((f"compress: the variants of {counted(pending, 'file')} follow",) if pending else ()),
        f"memory: {memory}, ready in {ready_after_s:.2f} s",
        *((f"budget: {budget.note}",) if budget.note else ()),
        f"engine: {_engine(config, engine, lanes)}",
        *((f"servlets: {servlets}",) if servlets else ()),
        *(f"serving {address}" for address in addresses),
    )
    log.say("\n".join(lines))


def _told_of_sites(contents: Contents) -> Iterator[str]:
    for content in contents:
        files = f"files: {content.report.files - content.report.variants}, {_loaded(content)}"
        if len(contents) == 1:
            yield f"root: {content.site.root.path}"
            yield files
        else:
            yield f"site {content.site.name}: {content.site.root.path}, {files}"


def _loaded(content: Content) -> str:
    if content.is_loading:
        return "being loaded: what is not in memory yet is read when it is asked for"
    return resident(content.report)


def _warn_of_descriptors(config: Config) -> None:
    """Say now what would be found out when the last connections come."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        opened = len(os.listdir("/proc/self/fd"))
    except OSError:  # none is left to look with
        opened = limit
    needed = opened + config.connections_max + config.loader_threads + DESCRIPTORS_BESIDE
    if needed > limit:
        _log.warning(
            "descriptors: the process may have %d, and --connections-max %d needs %d: raise the limit "
            "(ulimit -n, LimitNOFILE=) or lower --connections-max",
            limit, config.connections_max, needed,
        )  # fmt: skip


def _engine(config: Config, engine: str, lanes: int) -> str:
    """What answers plain requests, in how many lanes, or why it is not the fast lane where that was not asked for."""
    if engine == "native":
        return f"{engine}, {lanes} {'lane' if lanes == 1 else 'lanes'}"
    return engine if config.engine == engine else f"{engine} ({printable(why_not_native())})"


def url(sock: socket.socket) -> str:
    """A listening socket's address, as a browser wants it."""
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{where}"
    host = f"[{where[0]}]" if ":" in where[0] else where[0]
    return f"http://{host}:{where[1]}"
