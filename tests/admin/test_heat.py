"""zcserve.admin.heat: how hot each file is, told a step at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client import Client, Response
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.heat_lines import FileTold, Told, read
from zcserve.config.addresses import UnixAddress
from zcserve.config.site import SiteTable
from zcserve.ctl.client import Node
from zcserve.ctl.client import ask as ask_node

LANES = [("python", 1), *[("native", lanes) for lanes in (1, 2) if "native" in ENGINES]]


def files_of(socket_path: str, query: str = "") -> dict[tuple[str, str], tuple[int, float]]:
    """The bytes and uses of each, in the order in which they are told."""
    answer = ask_node(Node(UnixAddress(socket_path)), "/heat" + query)
    assert answer.status == 200
    first, *found = read(answer.body.splitlines())
    assert isinstance(first, Told)
    return {(one.site, one.path): (one.bytes, one.uses) for one in found if isinstance(one, FileTold)}


@pytest.mark.parametrize(("engine", "lanes"), LANES)
def test_each_files_uses_are_told_by_site_and_the_hottest_first_where_wanted(
    site: Site,
    serve: Serve,
    socket_path: str,
    wait_until: WaitUntil,
    tmp_path: Path,
    engine: str,
    lanes: int,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "page").write_bytes(b"another page")
    for name in ("cold", "page", "hot page", "style.css"):
        site.write(name, name.encode())
    table = SiteTable(name="other", hosts=("other",), values={"root": other})
    server = serve(site.root, engine=engine, lanes=lanes, admin=f"unix:{socket_path}", sites=(table,))
    for target, host, times in (("/page", "a", 3), ("/hot%20page", "a", 9), ("/page", "other", 5)):
        for _ in range(3):  # connections, which lanes share
            with Client(server.port) as client:
                for _ in range(times):
                    client.send(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert client.read().status == 200
    wanted = {("default", "/hot%20page"): (8, 27), ("other", "/page"): (12, 15), ("default", "/page"): (4, 9)}
    wait_until(lambda: files_of(socket_path) == wanted)  # a lane tells of its uses once a second
    assert list(files_of(socket_path, "?top=2")) == list(wanted)[:2]
    assert list(files_of(socket_path, "?top=9")) == list(wanted)
    assert list(files_of(socket_path, "?site=other")) == [("other", "/page")]
    assert files_of(socket_path, "?site=default&top=1") == {("default", "/hot%20page"): (8, 27)}


@pytest.mark.parametrize(
    ("query", "status", "why"),
    [
        ("?sites=a", 400, "sites is no parameter of /heat"),
        ("?top=-1", 400, "top cannot be '-1'"),
        ("?top=x", 400, "top cannot be 'x'"),
        ("?top=10001", 400, "top cannot be '10001'"),
        ("?" + "&".join(["top=1"] * 20), 400, "more than 10 parameters"),
        ("?site=nowhere", 404, "no site is called 'nowhere'"),
    ],
)
def test_wrong_use_is_refused_by_name(
    node: Server, ask: Callable[..., Response], query: str, status: int, why: str
) -> None:
    answer = ask("/heat" + query)
    assert answer.status == status
    assert why in json.loads(answer.body)["error"]
