"""Conditions and ranges: the lane answers them by itself, and logs them as the general lane does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.engines import ask
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.net.fastlane import FastLane

pytest.importorskip("zcserve.net._lane")

DATE = "Sun, 09 Sep 2001 01:46:40 GMT"
SINCE, UNMODIFIED = f"If-Modified-Since: {DATE}", f"If-Unmodified-Since: {DATE}"
CHANGED = "If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT"
# Their tags are the same in each server.
FIELDS = [
    (SINCE,), ("If-None-Match: *",), ('If-None-Match: "a", W/"b"',), ('If-None-Match: "a"', SINCE),
    ("Range: bytes=0-0",), ("Range: bytes=2000-",), ("Range: bytes=-1500",), ("Range: bytes=100-4195",),
    ("Range: bytes=1-9000",), ("Range: bytes=999999999-",), ("Range: bytes=-0",), ("Range: lines=1-2",),
    ("Range: bytes=5-9", f"If-Range: {DATE}"), ("Range: bytes=5-9", 'If-Range: "a"'), ("Range: bytes=5-9", SINCE),
    ("Range: bytes=5-9", UNMODIFIED), ("If-Match: *",), ('If-Match: "a"',), (CHANGED,), (CHANGED, "If-Match: *"),
]  # fmt: skip


def requests_to(targets: tuple[str, ...]) -> list[bytes]:
    return [
        "\r\n".join(
            (f"{method} {target} HTTP/1.1", "Host: test", f"Accept-Encoding: {coding}", *fields, "", "")
        ).encode()
        for method in ("GET", "HEAD")
        for target in targets
        for coding in ("identity", "gzip")
        for fields in FIELDS
    ]


def lines_of(log: Path) -> list[bytes]:
    return re.sub(rb"\[.*?\]", b"", log.read_bytes()).splitlines()


def start(serve: Serve, site: Site, log: Path, engine: str) -> Server:
    return serve(site.root, engine=engine, access_log=str(log), trust_siblings=True)


def test_conditions_and_ranges_are_the_lanes(site: Site, serve: Serve, tmp_path: Path, wait_until: WaitUntil) -> None:
    for name, size in (("small", 3000), ("small.gz", 2500), ("large", 300_000)):
        site.write(name, bytes(number % 251 for number in range(size)), mtime=1_000_000_000)
    logs = {engine: tmp_path / engine for engine in ("native", "python")}
    native, python = (start(serve, site, log, engine) for engine, log in logs.items())
    requests = requests_to(("/small", "/large"))
    plain = [(target, coding) for target in ("/small", "/large") for coding in ("identity", "gzip")]
    for server in (native, python):
        with Client(server.port) as client:  # from now on the lane knows all that they name
            for target, coding in plain:
                client.get(target, f"Accept-Encoding: {coding}")
    front = native.loop.front
    assert isinstance(front, FastLane)
    before = front.lane.requests
    pipelined = b"".join(requests)
    assert ask(native.port, [pipelined]) == ask(python.port, [pipelined])
    assert front.lane.requests == before + len(requests)
    wait_until(lambda: all(len(lines_of(log)) == len(plain) + len(requests) for log in logs.values()))
    assert lines_of(logs["native"]) == lines_of(logs["python"])
