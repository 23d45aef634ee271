"""HAProxy as deploy/haproxy.cfg has it, with the demo's nodes and ports, and each answer names its node."""

from __future__ import annotations

import csv
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from tools.fleet_demo.node import Node
from tools.fleet_demo.processes import CHECKOUT, Process, StageError, program, wait_until
from tools.ports import free_port

HOST = "127.0.0.1"
SAMPLE = CHECKOUT / "deploy" / "haproxy.cfg"
_SERVER = re.compile(r"^    server one .*?(port|track) .*\n    server two .*\n", re.MULTILINE)


def filled_in(sample: str, nodes: Sequence[Node], web: int, stats: Path) -> str:
    """The sample with what is the demo's. Raises StageError where the sample has changed."""

    def servers(match: re.Match[str]) -> str:
        checked = match[1] == "port"
        rows = []
        for node in nodes:
            more = f"port {node.admin[1]}" if checked else f"track nodes/{node.name}"
            rows.append(f"    server {node.name} {node.web[0]}:{node.web[1]} {more}\n")
        return "".join(rows)

    text, count = _SERVER.subn(servers, sample)
    if count != 2:
        raise StageError(f"{SAMPLE.name} has {count} lists of servers, not 2")
    for was, here in (
        ("/run/haproxy/admin.sock", str(stats)),
        ("bind 127.0.0.1:8080", f"bind {HOST}:{web}"),
        ("    default_backend nodes", "    http-response set-header Node %s\n    default_backend nodes"),
    ):
        if was not in text:
            raise StageError(f"{SAMPLE.name} has no {was!r}")
        text = text.replace(was, here)
    return text


class Front:
    """HAProxy as a process; `web` is where clients come."""

    def __init__(self, folder: Path, nodes: Sequence[Node]) -> None:
        self.web = (HOST, free_port(HOST))
        self._stats = folder / "h"  # short: HAProxy takes no more than 97 bytes for the path of a socket
        config = folder / "haproxy.cfg"
        config.write_text(filled_in(SAMPLE.read_text(), nodes, self.web[1], self._stats))
        self.process = Process([program("haproxy"), "-db", "-f", str(config)], folder / "haproxy.log")

    def start(self) -> None:
        """And its socket answers."""
        self.process.start()
        wait_until("haproxy", lambda: self.process.pid and self._stats.exists())

    def status(self, node: str) -> str:
        """UP, DOWN and more, as HAProxy has it."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._stats))
            sock.sendall(b"show stat\n")
            data = b""
            while chunk := sock.recv(1 << 16):
                data += chunk
        rows = csv.DictReader(data.decode().removeprefix("# ").splitlines())
        return next(row["status"] for row in rows if (row["pxname"], row["svname"]) == ("nodes", node))

    def await_status(self, node: str, status: str) -> None:
        """Raises StageError."""
        wait_until(f"haproxy has {node} {status}", lambda: self.status(node).startswith(status))
