"""Types, charsets and `.svgz` on the wire, by either engine."""

from __future__ import annotations

import gzip
import subprocess
import sys

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.site import Serve, Site

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 100


@pytest.mark.parametrize("compress", [False, True])
def test_svgz_is_an_image_that_is_coded(site: Site, live: Serve, compress: bool) -> None:
    content = gzip.compress(SVG, mtime=0)
    site.write("a.svgz", content * 50)
    site.write("b.svgz", content, mtime=1000)
    site.write("b.svgz.gz", gzip.compress(content, mtime=0), mtime=1000)
    with Client(live(site.root, compress=compress).port) as client:
        for _ in range(3):
            for lines in ((), ("Accept-Encoding: gzip",), ("Accept-Encoding: identity",)):
                answer = client.get("/a.svgz", *lines)
                assert (answer["Content-Type"], answer["Content-Encoding"]) == (
                    b"image/svg+xml; charset=utf-8",
                    b"gzip",
                )
                assert (answer.body, answer["Vary"]) == (content * 50, None)
            part = client.get("/a.svgz", "Range: bytes=1-9")
            assert (part.body, part["Content-Encoding"]) == (content[1:10], b"gzip")
            twice = client.get("/b.svgz", "Accept-Encoding: gzip, identity;q=0")
            assert (twice.body, twice["Content-Encoding"]) == (gzip.compress(content, mtime=0), b"gzip, gzip")


def test_types_and_charsets_are_what_one_says(site: Site, live: Serve) -> None:
    names = ("a.ts", "a.foo", "a.svgz", "a.txt", "a.json", "a.html")
    for name in names:
        site.write(name, b"x")
    own = (
        "ts=text/x-typescript",
        ".FOO=application/x-foo; v=1",
        "svgz=application/gzip",
        "html=text/html; charset=big5",
    )
    with Client(live(site.root, type=own, charset="iso-8859-1").port) as client:
        for _ in range(3):
            answers = [client.get(f"/{name}") for name in names]
            assert [answer["Content-Type"] for answer in answers] == [
                b"text/x-typescript; charset=iso-8859-1", b"application/x-foo; v=1", b"application/gzip",
                b"text/plain; charset=iso-8859-1", b"application/json", b"text/html; charset=big5",
            ]  # fmt: skip
            assert not any(answer["Content-Encoding"] for answer in answers)
    with Client(live(site.root, charset="none").port) as client:
        assert client.get("/a.txt")["Content-Type"] == b"text/plain"


def test_they_are_flags_keys_and_variables(site: Site, command: StartCommand) -> None:
    (config := site.root.parent / "zc.toml").write_text('type = ["a=text/a", "b=text/b"]\ncharset = "none"\n')
    for name in "abc":
        site.write(f"x.{name}", b"x")
    process = command(site.root, "--config", str(config))
    with Client(process.port) as client:
        assert [client.get(f"/x.{name}")["Content-Type"] for name in "ab"] == [b"text/a", b"text/b"]
    process = command(site.root, "--type", "a=x/a", "--type", "c=x/c", environ={"ZCSERVE_CHARSET": "koi8-r"})
    with Client(process.port) as client:
        assert [client.get(f"/x.{name}")["Content-Type"] for name in "ac"] == [b"x/a", b"x/c"]
    process = command(site.root, environ={"ZCSERVE_TYPE": "a=x/a, b=text/b", "ZCSERVE_CHARSET": "koi8-r"})
    with Client(process.port) as client:
        assert [client.get(f"/x.{name}")["Content-Type"] for name in "ab"] == [b"x/a", b"text/b; charset=koi8-r"]


@pytest.mark.parametrize("flags", [("--type", "a=b"), ("--charset", "a b"), ("--charset", "klingon")])
def test_a_wrong_one_is_one_line(site: Site, flags: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "zcserve", "--root", str(site.root), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"zcserve: {flags[0]}: {flags[1]!r} is not a")
    assert "accepted: " in done.stderr
