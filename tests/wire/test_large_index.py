"""An index of many files is shards (cache/shards.py), and clients see no difference. Many are few here.

Real processes get the low bound from a `sitecustomize` of their own, since a new program is started by itself.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from pathlib import Path

import pytest

import zcserve
from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.following import Becomes, publish
from tests.support.site import Serve, Site
from tests.support.waiting import WaitUntil
from zcserve.cache.shards import Shards

FEW = 12
CHECKOUT = Path(zcserve.__file__).parents[1]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """An index of more keys than these is shards."""
    monkeypatch.setattr("zcserve.cache.shards.DICT_KEYS_MAX", FEW)
    return FEW


def plant(directory: Path, count: int) -> None:
    directory.mkdir(parents=True)
    (directory / "index.html").write_bytes(b"index")
    for number in range(count):
        (directory / f"{number}").write_bytes(b"%d" % number)


def test_an_index_of_few_files_is_a_dict_whatever_happens(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    site.write("page", b"old")
    server = live(site.root)
    with Client(server.port) as client:
        publish(site.root / "page", b"new")
        becomes(client, "/page", b"new")
        assert not isinstance(server.site.live.resources, Shards)
        server.reload()
        wait_until(lambda: server.content.counters.flips)
        assert not isinstance(server.site.live.resources, Shards)
        assert client.get("/page").body == b"new"


def test_an_index_grows_past_its_bound_and_shrinks_while_it_is_served(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, few: int, tmp_path: Path
) -> None:
    site.write("page", b"old")
    site.write("kept", b"kept")
    plant(tmp_path / "many", 2 * few)
    server = live(site.root)
    first = server.site.live.resources
    assert type(first) is dict
    with Client(server.port) as client:
        (tmp_path / "many").rename(site.root / "many")
        becomes(client, f"/many/{2 * few - 1}", b"%d" % (2 * few - 1))
        becomes(client, "/many/", b"index")
        shards = server.site.live.resources
        assert isinstance(shards, Shards)
        assert len(shards) == 2 + 2 * few + 3
        kept = shards[b"/kept"]
        publish(site.root / "page", b"new")  # of those that the dict has had
        publish(site.root / "many/1", b"new one")
        (site.root / "many/2").unlink()
        becomes(client, "/page", b"new")
        becomes(client, "/many/1", b"new one")
        becomes(client, "/many/2", None)
        server.reload()
        wait_until(lambda: server.content.counters.flips)
        assert isinstance(server.site.live.resources, Shards)
        assert server.site.live.resources[b"/kept"] is kept
        assert [client.get(f"/{name}").body for name in ("page", "kept", "many/1")] == [b"new", b"kept", b"new one"]
        assert [client.get(f"/many{name}").status for name in ("", "/", "/2", "/3")] == [301, 200, 404, 200]
        (site.root / "many").rename(tmp_path / "many")
        becomes(client, "/many/3", None)
        becomes(client, "/many/", None)
        assert client.get("/kept").body == b"kept"
        server.reload()
        wait_until(lambda: server.content.counters.flips == 2)
        assert not isinstance(server.site.live.resources, Shards)
        assert client.get("/page").body == b"new"


def test_what_is_done_at_random_is_what_lies_on_the_disk(
    site: Site, live: Serve, wait_until: WaitUntil, few: int, tmp_path: Path
) -> None:
    chance = random.Random(20)
    plant(site.root / "d0", few)
    server = live(site.root)
    for number in range(1, 25):
        places = sorted(path for path in site.root.iterdir() if path.is_dir())
        place = chance.choice(places)
        match chance.randrange(5):
            case 0:
                plant(tmp_path / "next", chance.randrange(2 * few))
                (tmp_path / "next").rename(site.root / f"d{number}")
            case 1 if len(places) > 1:
                shutil.rmtree(place)
            case 2:
                place.rename(site.root / f"d{number}")
            case 3:
                server.reload()
            case _:
                publish(place / str(chance.randrange(few)), b"written %d" % number)
    expected: dict[str, bytes] = {}
    for path in site.root.rglob("*"):
        if path.is_file():
            expected[f"/{path.relative_to(site.root)}"] = path.read_bytes()
    targets = {f"/d{number}/{name}" for number in range(25) for name in ("index.html", *range(few))} | expected.keys()

    def found(client: Client) -> dict[str, bytes]:
        answers = {target: client.get(target) for target in targets}
        return {target: answer.body for target, answer in answers.items() if answer.status == 200}

    with Client(server.port) as client:
        wait_until(lambda: found(client) == expected)


# Tells of each index that becomes shards.
TELLING = f"""
import os, sys
from zcserve.cache import shards
shards.DICT_KEYS_MAX = {FEW}
made = shards.Shards.__init__
def make(self, first=None):
    if first is not None:
        print("shards in process", os.getpid(), file=sys.stderr, flush=True)
    made(self, first)
shards.Shards.__init__ = make
"""


def test_an_upgrade_hands_over_shards(
    site: Site, command: StartCommand, engine: str, becomes: Becomes, wait_until: WaitUntil, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELLING)
    plant(site.root / "many", 2 * FEW)
    environ = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(CHECKOUT)))}
    server = command(site.root, "--engine", engine, environ=environ)

    def said(pattern: str) -> list[str]:
        return [match[1] for line in server.lines if (match := re.search(pattern, line))]

    os.kill(server.pid, signal.SIGUSR2)
    wait_until(lambda: said(r"process (\d+) serves now"))
    (successor,) = said(r"process (\d+) serves now")
    assert said(r"(\d+) resident files taken over") == [str(2 * FEW + 1)]
    assert {str(server.pid), successor} <= set(said(r"shards in process (\d+)"))
    with Client(server.port) as client:
        assert client.get("/many/3").body == b"3"
        publish(site.root / "many/3", b"new")
        (site.root / "many/4").unlink()
        becomes(client, "/many/3", b"new")
        becomes(client, "/many/4", None)
        os.kill(int(successor), signal.SIGHUP)
        wait_until(lambda: said(r"reloaded: (\d+) files"))
        assert [client.get(f"/many{name}").status for name in ("", "/", "/3", "/4", "/5")] == [301, 200, 200, 404, 200]
