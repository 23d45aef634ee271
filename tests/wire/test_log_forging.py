"""What clients, files and applications say reaches the logs as text: no line, field or escape is ever theirs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Site
from tests.support.waiting import WaitUntil
from zcserve import Config, Server

# Targets, as far as a request's line can hold them; each is asked for three times, so that the lane knows it.
TARGETS = [
    b"/csp?hello",
    b'/csp?hello&x=","peer":"6.6.6.6","status":404,"x":"\\',
    b'/csp?hello" 404 1 "-" "-"',
    b"/csp?hello\\",
    b"/csp?hello\\\\\"'",
    b'/named/a"b',
    b"/named/a\\",
    b'/"quoted"',
    b'/missing"\\',
    b"/page.html?\\x22",
]
TARGETS = [target.replace(b" ", b"%20") for target in TARGETS]
# Values of Referer and User-Agent.
VALUES = [
    b"plain",
    b'"',
    b'" 404 1 "x" "y"',
    b'","peer":"6.6.6.6","x":"',
    b"\\",
    b'\\\\"',
    b"\t",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"\xc2\x85\xe2\x80\xa8",
    b"\x9b31m",
]
SERVLET = """
from zcserve import servlet

def get(request):
    return "hello"

@servlet("/named/{name}")
def named(request, name):
    return name

@servlet("/raise")
def fails(request):
    raise ValueError(request.query["x"])
"""
COMBINED = re.compile(
    r'127\.0\.0\.1 - - \[[^]]+\] "(?P<method>[^" ]+) (?P<target>[^" ]+) HTTP/1\.[01]" (?P<status>\d+) \d+ '
    r'"(?P<referer>[^"]*)" "(?P<agent>[^"]*)"'
)


@pytest.fixture
def servlets(tmp_path: Path) -> Path:
    directory = tmp_path / "servlets"
    directory.mkdir()
    (directory / "hello.py").write_text(SERVLET)
    return directory


def unescaped(text: str) -> bytes:
    """What stands in a line of the combined format, as it was sent."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), text).encode("latin-1")


@pytest.mark.parametrize("form", ["combined", "json"])
def test_each_line_of_the_access_log_says_what_was_asked_and_no_more(
    site: Site, servlets: Path, tmp_path: Path, engine: Any, form: Any
) -> None:
    site.write("page.html", b"page")
    log = tmp_path / "access.log"
    config = Config(  # lines of several lanes have an order in each
        root=site.root,
        port=0,
        engine=engine,
        lanes=1,
        servlets=str(servlets),
        access_log=str(log),
        access_log_format=form,
    )
    asked: list[tuple[bytes, bytes, int]] = []
    with Server(config) as server, Client(server.port) as client:
        for target, value in [*((target, b"x") for target in TARGETS), *((b"/csp?hello", value) for value in VALUES)]:
            for _ in range(3):
                head = b"GET %b HTTP/1.1\r\nHost: test\r\nReferer: %b\r\nUser-Agent: %b\r\n\r\n"
                client.send(head % (target, value, value))
                asked.append((target, value.strip(b" \t"), client.read().status))
        client.send(b"G'E|T /page.html HTTP/1.1\r\nHost: test\r\n\r\n")
        assert client.read().status == 501
    *lines, last = log.read_bytes().decode("ascii").split("\n")
    assert last == ""
    assert len(lines) == len(asked) + 1
    for line, (target, value, status) in zip(lines, asked, strict=False):
        assert line.isprintable()
        if form == "json":
            facts = json.loads(line)
            text = value.decode("utf-8", "backslashreplace")
            assert (facts["method"], facts["peer"], facts["status"]) == ("GET", "127.0.0.1", status)
            assert (facts["target"], facts["referer"], facts["user_agent"]) == (target.decode(), text, text)
        else:
            match = COMBINED.fullmatch(line)
            assert match is not None, line
            assert unescaped(match["target"]) == target
            assert int(match["status"]) == status
            assert unescaped(match["referer"]) == unescaped(match["agent"]) == (value or b"-")


FORGED = "\n2026-11-29T00:00:00+0000 ERROR forged\r\x1b[31m\u202e"


def test_no_name_of_a_file_and_no_exception_forges_the_error_log(
    site: Site, command: StartCommand, servlets: Path, engine: str, wait_until: WaitUntil
) -> None:
    site.write("page.html", b"page")
    os.mkfifo(site.root / f"fifo{FORGED}")
    os.mkfifo(os.fsencode(site.root) + b"/fifo\xff\xfe")
    os.symlink("/nowhere", site.root / f"link{FORGED}")
    server = command(site.root, "--engine", engine, "--servlets", str(servlets))
    site.write(f"new{FORGED}.html", b"new")
    os.mkfifo(site.root / f"later{FORGED}")
    with Client(server.port) as client:
        wait_until(lambda: client.get("/new%0A2026-11-29T00:00:00+0000%20ERROR%20forged%0D%1B%5B31m%E2%80%AE.html"))
        assert client.get("/raise?x=a%0A2026-11-29T00:00:00%2B0000+ERROR+forged%1B%5B31m%E2%80%AE").status == 500
        assert client.get('/raise?x=%ED%B3%BF\\"').status == 500
    site.write(f"new{FORGED}.html", b"newer")
    (servlets / "hello.py").write_text(f"raise ValueError({FORGED!r})")
    with Client(server.port) as client:
        client.get("/csp?hello")
    parts = ("later", "fifo", "is not a regular file", "updated: ", "ValueError", "does not load")
    wait_until(lambda: all(any(part in line for line in server.lines) for part in parts))
    server.end()
    assert all(line.isprintable() for line in server.lines)
    assert not [line for line in server.lines if line.startswith("2026-11-29T00:00:00+0000 ERROR forged")]
    assert any("ERROR forged" in line for line in server.lines)
