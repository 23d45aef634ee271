"""tools.warm.heat: nodes' heat and access logs, merged into an order of paths."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.support.client import Client
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from tools.warm_cache import main
from zcserve.cache.heat import HALF_LIFE_S
from zcserve.cache.heat_lines import file_line, first_line, last_line, root_line
from zcserve.ctl.shell import main as ctl

Heat: TypeAlias = Callable[..., tuple[int, str, str]]
NOW = 1_764_527_276.0


@pytest.fixture
def heat(capsys: pytest.CaptureFixture[str]) -> Heat:
    """`heat(*arguments)`: the exit code, and what was printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["heat", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def told(path: Path, files: dict[str, tuple[int, float]], at: float = NOW, site: str = "default") -> Path:
    """A file of what a node told."""
    lines = [file_line(site, key.encode(), size, uses) for key, (size, uses) in files.items()]
    path.write_bytes(b"".join([first_line(at), root_line(site, "/srv"), *lines, last_line(len(lines))]))
    return path


def line_of(
    target: str, at: float = NOW, status: int = 200, size: int = 10, method: str = "GET", more: str = ""
) -> str:
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
    return f'127.0.0.1 - - [{when}] "{method} {target} HTTP/1.1" {status} {size} "-" "curl/8 \\"x\\""{more}\n'


def test_nodes_and_logs_are_one_order_by_uses_for_each_byte(heat: Heat, tmp_path: Path) -> None:
    one = told(tmp_path / "one", {"/large": (10_000_000, 90.0), "/both": (1000, 10.0), "/rare": (1000, 1.0)})
    # Of a half-life before: half of it is left.
    other = told(tmp_path / "other", {"/both": (1000, 20.0), "/old": (1000, 30.0)}, at=NOW - HALF_LIFE_S)
    log = tmp_path / "access.log"
    log.write_text(line_of("/rare") * 3 + line_of("/seen?x=1", size=1000) * 7)
    code, out, err = heat("--nodes", one, other, "--log", log)
    assert (code, out.split(), err) == (0, ["/both", "/old", "/seen", "/rare", "/large"], "")
    code, out, _ = heat("--log", log, "--nodes", other, "--nodes", one, "--json")
    files = json.loads(out)["files"]
    assert files[0] == {"path": "/both", "uses": 20.0, "bytes": 1000}
    assert {one["path"]: one["uses"] for one in files}["/rare"] == 4.0


def test_what_of_a_log_counts(heat: Heat, tmp_path: Path) -> None:
    log = tmp_path / "access.log.gz"
    lines = [
        line_of("/a%62c"), line_of("/abc", status=304, size=0), line_of("/abc", status=206, size=3),
        line_of("http://host/abc?q", size=900), line_of("/%61bc", method="HEAD"), line_of("/abc", status=404),
        line_of("/none", status=301), line_of("/x\\x22\\xc3"), line_of("/%c3%a4/./b/.."),
        '127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1\n', '127.0.0.1 - - [07/Nov/1994:08:49:37 +0130] "-" 400 0 "-" "-"\n',
        json.dumps({"time": "2025-11-30T18:27:56Z", "method": "GET", "target": "/abc", "status": 200, "bytes": 2}),
        "\n",
        '{"time": "2025-11-30T18:27:56Z"}\n', "x" * 600_000 + "\n",
    ]  # fmt: skip
    log.write_bytes(gzip.compress("".join(lines).encode()))
    code, out, err = heat("--log", log, "--json")
    assert code == 1
    assert f"{log}: 5 lines not understood, as '127.0.0.1 - - [x]" in err
    files = {one["path"]: (one["uses"], one["bytes"]) for one in json.loads(out)["files"]}
    assert files.keys() == {"/abc", "/%C3%A4/"}  # what no request can name was answered with 400
    assert files["/abc"] == (pytest.approx(5, rel=0.001), 900)


def test_lines_of_one_host_are_taken_alone(heat: Heat, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line_of("/a", more=' "Example.ORG:80" "id" 0.001') + line_of("/b", more=' "other"') + line_of("/c"))
    assert heat("--log", log, "--host", "example.org")[:2] == (0, "/a\n")


def test_what_is_there_and_how_large_a_directory_or_a_manifest_says(
    heat: Heat, tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.write("docs/index.html", bytes(500))
    site.write("large", bytes(100_000))
    site.write("small", b"1")
    log = tmp_path / "log"
    asked = ("/docs/",) * 4 + ("/docs/index.html",) * 4 + ("/large",) * 5 + ("/small",) * 2 + ("/gone",) * 9
    log.write_text("".join(map(line_of, asked)))
    wanted = "/docs/index.html\n/small\n/large\n"
    assert heat("--log", log, "--root", site.root) == (0, wanted, "")
    assert main(["manifest", str(site.root)]) == 0
    (tmp_path / "release.json").write_text(capsys.readouterr().out)
    code, out, _ = heat("--log", log, "--manifest", tmp_path / "release.json")
    assert (code, set(out.split())) == (0, {"/docs/index.html", "/small", "/large"})


def test_nodes_are_asked_and_take_the_order(
    heat: Heat, tmp_path: Path, site: Site, serve: Serve, wait_until: WaitUntil
) -> None:
    for name in ("a", "b", "c d"):
        site.write(name, name.encode())
    servers = [serve(site.root, admin="127.0.0.1:0", engine=engine) for engine in (ENGINES[0], ENGINES[-1])]
    for server, names in zip(servers, ("aaabb", "bbb"), strict=True):
        with Client(server.port) as client:
            for name in names:
                assert client.get(f"/{name}").status == 200
            assert client.get("/c%20d").status == 200
    nodes = tmp_path / "nodes"
    nodes.write_text("# the nodes\n\n" + "".join(f"http://127.0.0.1:{server.admin_port}\n" for server in servers))
    wait_until(lambda: heat("--nodes", nodes)[1] == "/b\n/a\n/c%20d\n")
    order = tmp_path / "order.txt"
    order.write_text(heat("--nodes", nodes)[1])
    assert main(["--root", str(site.root), "--list", str(order)]) == 0
    assert ctl(["warm", str(order), "--admin", f"127.0.0.1:{servers[0].admin_port}"]) == 0
    code, out, err = heat("--nodes", f"http://127.0.0.1:{servers[0].admin_port}", f"unix:{tmp_path}/none")
    assert (code, out) == (1, "/a\n/b\n/c%20d\n")
    assert f"unix:{tmp_path}/none" in err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no node"),
        (b"{}\n", "its first line does not say that it is heat"),
        (first_line(1.0), "its end is missing"),
        (first_line(1.0).replace(b'"version": 1', b'"version": 9'), "it has version 9"),
    ],
)
def test_what_tells_nothing_is_named_and_the_others_are_merged(
    heat: Heat, tmp_path: Path, content: bytes, why: str
) -> None:
    good = told(tmp_path / "good", {"/a": (1, 1.0)})
    (tmp_path / "bad").write_bytes(content)
    if not content:
        (tmp_path / "bad").write_bytes(b"no:node:at all\n")
    code, out, err = heat("--nodes", good, tmp_path / "bad")
    assert why in err
    assert (code, out) == ((1, "/a\n") if content else (2, ""))


def test_wrong_use_is_told_and_a_site_that_a_node_lacks(heat: Heat, tmp_path: Path) -> None:
    assert heat()[::2] == (2, "warm_cache: nothing says what is hot; accepted: --nodes, --log, or both\n")
    blog = told(tmp_path / "blog", {"/a": (1, 1.0)}, site="blog")
    code, out, err = heat("--nodes", blog)
    assert (code, out) == (1, "")
    assert "a node has no site default, but blog: --site says which is meant" in err
    assert heat("--nodes", blog, "--site", "blog")[:2] == (0, "/a\n")
    code, _, err = heat("--log", tmp_path / "none", "--half-life", "1h")
    assert (code, "No such file" in err, "nothing is known of any file" in err) == (1, True, True)
    assert heat("--log", "x", "--half-life", "0s")[0] == 2
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(line_of("/a").encode() * 1000)[:-20])
    assert heat("--log", cut)[0] == 1


def test_a_token_is_sent(heat: Heat, tmp_path: Path, site: Site, serve: Serve) -> None:
    site.write("a", b"1")
    token: Any = tmp_path / "token"
    token.write_text("a token of some length\n")
    server = serve(site.root, admin="127.0.0.1:0", admin_token_file=str(token), engine="python")
    with Client(server.port) as client:
        assert client.get("/a").status == 200
    node = f"127.0.0.1:{server.admin_port}"
    assert heat("--nodes", node)[0] == 1
    assert heat("--nodes", node, "--token-file", token) == (0, "/a\n", "")
