"""A release is prepared beside the live one, and flipped to: by either engine, with one lane and two, over sockets."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.command import StartCommand
from tests.support.engines import ENGINES
from tests.support.following import asking, checked, in_loop
from tests.support.linked import Releases
from tests.support.site import Serve
from tests.support.trees import rewrite_unseen
from tests.support.upgrades import StartLine
from tests.support.waited import BYSTANDER_FILES, check_bystander
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.index import Generation
from zcserve.content.builder import Built
from zcserve.content.live import Live

LAYOUTS: dict[str, dict[str, Any]] = {
    "python": {"engine": "python"},
    "1 lane": {"engine": "native", "lanes": 1},
    "2 lanes": {"engine": "native", "lanes": 2},
}

# A lane more or less is no matter to the rest.
SOME = pytest.mark.parametrize("start", ["python", "2 lanes"], indirect=True)
CLIENTS = 4
# A bystander's wait beside 10,000 files takes `ZCSERVE_SOAK_FILES=40000`, and a machine that does nothing else.
FILES_MANY = BYSTANDER_FILES // 4


def say_to(node: str, verb: str, **words: Any) -> tuple[int, Any]:
    body = json.dumps(words).encode()
    with Client(node, timeout=60) as client:
        fields = f"Host: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(f"POST /{verb} HTTP/1.1\r\n{fields}".encode() + body)
        response = client.read()
    return response.status, json.loads(response.body)


def tell(server: Server, verb: str, **words: Any) -> tuple[int, Any]:
    return say_to(str(server.config.admin).removeprefix("unix:"), verb, **words)


def prepare(server: Server, root: Path | None) -> Any:
    status, told = tell(server, "prepare", root=None if root is None else str(root))
    assert status == 200, told
    return told


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    made = Releases(tmp_path / "releases")
    made.make(1)
    made.point(1)
    return made


@pytest.fixture(params=LAYOUTS)
def start(
    request: pytest.FixtureRequest, serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Server]:
    if request.param != "python":
        pytest.importorskip("zcserve.net._lane")
    where = tmp_path_factory.mktemp("admin") / "socket"
    return lambda root, **config: serve(root, **{"admin": f"unix:{where}", **LAYOUTS[request.param], **config})


def flip(server: Server, releases: Releases, number: int) -> None:
    releases.point(number)
    status, told = tell(server, "reload", wait=True)
    assert (status, told["problems"]) == (200, 0)


def explained(server: Server, path: str) -> str:
    with Client(str(server.config.admin).removeprefix("unix:")) as client:
        return client.get(f"/explain?url={path}").body.decode()


def stats(server: Server) -> Any:
    with Client(str(server.config.admin).removeprefix("unix:")) as client:
        return json.loads(client.get("/stats").body)


def test_what_live_lacks_comes_with_the_prepared_release_and_goes_with_it(
    releases: Releases, start: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zcserve")
    server = start(releases.root, keep_generations=1, listing=True, watch=False)
    second = releases.make(2, **{"404.html": b"of the second", "_headers": b"/*\n  X-Release: 2\n"})
    (second / "below").mkdir()
    (second / "below" / "index.html").write_bytes(b"below")
    (second / "bare").mkdir()
    (second / "bare" / "file").write_bytes(b"file")
    new = {"/assets/0.2.js": releases.asset(2, 0), "/assets/4.2.js": releases.asset(2, 4), "/below/": b"below"}
    with Client(server.port) as client, Client(server.port) as other:

        def check(is_prepared: bool) -> None:
            for each in (client, other):
                for target, body in new.items():
                    for _ in range(2):  # the second time by what a lane may have been taught
                        answer = each.get(target)
                        assert (answer.status, answer.body == body) == ((200, True) if is_prepared else (404, False))
                assert each.get("/below").status == (301 if is_prepared else 404)
                page, absent = each.get("/"), each.get("/nothing")
                assert (page.body, page["X-Release"]) == (releases.page(1), None)
                assert (absent.status, b"second" in absent.body) == (404, False)
                assert each.get("/bare/").status == 404  # a listing is a live release's
                assert b"0.2.js" not in checked(each.get("/assets/")).body

        check(False)
        for _ in range(2):
            told = prepare(server, second)
            assert (told["files"], told["share"], told["root"], told["problems"]) == (10, 1.0, str(second), 0)
            check(True)
            assert checked(client.get("/assets/0.2.js"))["X-Release"] == b"2"  # as it was loaded
            assert "it is of the prepared one" in explained(server, "/assets/0.2.js")
            (site,) = stats(server)["sites"]
            assert site["prepared"]["root"] == str(second)
            assert (site["prepared"]["share"], site["generation"]["kept"]) == (1.0, 0)
            assert prepare(server, None)["root"] is None
            check(False)
            assert stats(server)["sites"][0]["prepared"] is None
        for root, why in ((releases.path / "nothing", "does not exist"), (second / "kept", "is not a directory")):
            status, told = tell(server, "prepare", root=str(root))
            assert (status, why in told["error"]) == (503, True)
        assert tell(server, "prepare", root="release-2")[0] == tell(server, "prepare")[0] == 400
        prepare(server, second)
        flip(server, releases, 2)
        for each in (client, other):
            page = checked(each.get("/"))
            assert (page.body, page["X-Release"]) == (releases.page(2), b"2")
            assert each.get("/nothing").body == b"of the second"
            assert checked(each.get("/assets/0.1.js")).body == releases.asset(1, 0)
            assert checked(each.get("/bare/")).status == 200
    assert "is not prepared any more" in caplog.text


@SOME
def test_what_was_written_and_dated_back_comes_from_the_disk_and_what_was_linked_from_memory(
    releases: Releases, start: Callable[..., Server]
) -> None:
    """No watcher tells of it. Of a linked file, written in place, both releases have the new content."""
    names = ("linked", "replaced", "in-place", "large")
    first = releases.path / "release-1"
    for name in names:
        (first / name).write_bytes(name.encode() * (100_000 if name == "large" else 100))
    server = start(releases.root, keep_generations=1, watch=False)

    def bodies(client: Client) -> dict[str, bytes]:
        return {name: checked(client.get(f"/{name}")).body for name in names}

    with Client(server.port) as client:
        one = bodies(client)
        second = releases.path / "release-2"
        shutil.copytree(first, second, copy_function=os.link)
        two = {**one, **{name: one[name].swapcase() for name in ("replaced", "in-place", "large")}}
        replaced = (second / "replaced").stat()
        (second / "replaced").unlink()
        (second / "replaced").write_bytes(two["replaced"])
        os.utime(second / "replaced", ns=(replaced.st_atime_ns, replaced.st_mtime_ns))
        rewrite_unseen(second / "in-place", two["in-place"])
        rewrite_unseen(second / "large", two["large"])
        told = prepare(server, second)
        assert told["files"] - told["shared_files"] == 3
        flip(server, releases, 2)
        assert bodies(client) == two
        prepare(server, first)
        flip(server, releases, 1)
        assert bodies(client) == {**two, "replaced": one["replaced"]}


@SOME
def test_a_flip_goes_to_what_is_prepared_whatever_notices(
    releases: Releases, start: Callable[..., Server], wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(releases.root, keep_generations=1)
    flips: list[Generation] = []
    whole = Live.flip

    def noted(self: Live, built: Built, *more: Any, **named: Any) -> Any:
        flips.append(built.generation)
        return whole(self, built, *more, **named)

    monkeypatch.setattr(Live, "flip", noted)
    with Client(server.port) as client:
        for number, notice in ((2, "watcher"), (3, "SIGHUP"), (4, "reload")):
            told = prepare(server, releases.make(number))
            assert (told["share"], told["shared_files"]) == (1.0, 0)
            held = in_loop(server, lambda: server.site.prepared)
            assert held is not None
            flips.clear()
            if notice == "reload":
                flip(server, releases, number)
            else:
                releases.point(number)
                if notice == "SIGHUP":
                    server.reload()
            wait_until(lambda number=number: checked(client.get("/")).body == releases.page(number))
            there = [one for one in flips if one.root.is_same(held.root)]
            assert there[0] is held  # a reload may follow what the watcher has begun
            assert checked(client.get(f"/assets/0.{number - 1}.js")).body == releases.asset(number - 1, 0)


def test_nothing_is_mixed_while_releases_are_prepared_dropped_and_flipped_to_under_load(
    releases: Releases, start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start(releases.root, keep_generations=2)
    page_of, rounds = [1] * CLIENTS, [0] * CLIENTS
    nothing: list[int] = []
    prepared = nothing  # in it the release that was said to be prepared, until it is about to be no more
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(CLIENTS)]

        def ask(number: int) -> None:
            client = clients[number]
            release = int(checked(client.get("/")).body[:4])
            assert release >= page_of[number]
            page_of[number] = release
            assert checked(client.get("/kept")).body == b"the same in all"
            for of in (release - 1, release, release + 1):
                before = prepared
                answer = client.get(f"/assets/{of % 5}.{of}.js")
                if answer.status == 404:
                    assert not 1 <= of <= release
                    assert not (of in before and before is prepared)
                else:
                    assert checked(answer).body == releases.asset(of, of % 5)
            rounds[number] += 1
            odd = client.get("/odd")
            if odd.status == 200:
                assert release - 2 <= int(odd.body) <= release + 2
            else:
                assert client.get("/absent").status == 404

        with asking(CLIENTS, ask):
            for number in range(2, 7):
                made = releases.make(number, **({"odd": b"%d" % number} if number % 2 else {}))
                for is_last in (False, True):
                    assert prepare(server, made)["share"] == 1.0
                    prepared = [number]
                    asked = list(rounds)
                    wait_until(lambda asked=asked: all(now > was + 1 for now, was in zip(rounds, asked, strict=True)))
                    if not is_last:
                        prepared = nothing
                        prepare(server, None)
                flip(server, releases, number)
                prepared = nothing
    assert server.content.counters.failed == 0


@SOME
def test_memory_comes_back_over_many_rounds(
    releases: Releases, start: Callable[..., Server], wait_until: WaitUntil
) -> None:
    server = start(releases.root)

    def taken() -> tuple[int, int, int]:
        server.store.take_back()
        return server.store.committed, server.store.resident, server.store.overhead

    made = [releases.make(number) for number in (2, 3)]
    before = taken()
    with Client(server.port) as client:
        for number in range(20):
            prepare(server, made[number % 2])
            target = f"/assets/4.{2 + number % 2}.js"
            assert checked(client.get(target)).status == 200
        assert client.get("/assets/4.2.js").status == 404
        prepare(server, None)
        assert taken() == before
        assert client.get(target).status == 404
    roots = [str(one) for one in made]

    def are_closed() -> bool:
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return not any(os.path.realpath(link) in roots for link in links)

    wait_until(are_closed)


@SOME
def test_what_rules_had_answered_for_a_path_is_forgotten(releases: Releases, start: Callable[..., Server]) -> None:
    """A lane knows for all requests what the page for absent paths, or a redirect, leads to."""
    server = start(releases.root, clean_urls=True, spa=True, watch=False)
    second = releases.make(2, **{"about.html": b"about", "one": b"one"})
    with Client(server.port) as client:
        for _ in range(2):
            for _ in range(3):
                assert client.get("/about").body == client.get("/one").body == releases.page(1)
                assert client.get("/assets/0.2.js").status == 404
            prepare(server, second)
            for _ in range(3):
                assert (client.get("/about").body, client.get("/one").body) == (b"about", b"one")
                assert checked(client.get("/assets/0.2.js")).body == releases.asset(2, 0)
            prepare(server, None)


@SOME
def test_what_is_prepared_goes_with_its_directory_and_not_before(
    releases: Releases, start: Callable[..., Server]
) -> None:
    server = start(releases.root)
    second = releases.make(2)
    prepare(server, second)
    shutil.rmtree(second)
    with Client(server.port) as client:
        assert checked(client.get("/assets/0.2.js")).body == releases.asset(2, 0)
        status, told = tell(server, "prepare", root=str(second))
        assert (status, "does not exist" in told["error"]) == (503, True)
        assert checked(client.get("/assets/0.2.js")).body == releases.asset(2, 0)
        prepare(server, None)
        assert client.get("/assets/0.2.js").status == 404


def test_an_upgrade_lets_go_of_what_is_prepared_and_says_so(
    releases: Releases, line: StartLine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = f"{tmp_path_factory.mktemp('admin')}/node"
    server = line(releases.root, "--admin", f"unix:{node}")
    second = str(releases.make(2))
    assert say_to(node, "prepare", root=second)[1]["share"] == 1.0
    with Client(server.port) as client:
        assert checked(client.get("/assets/0.2.js")).body == releases.asset(2, 0)
    old = server.upgrade()
    server.await_end(old)
    with Client(server.port) as client:
        assert client.get("/assets/0.2.js").status == 404
    server.await_said(f"({second} is not prepared any more): the new process knows nothing of it")
    assert say_to(node, "prepare", root=second)[1]["share"] == 1.0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bystander_of_a_preparation_hardly_waits(
    engine: str, releases: Releases, command: StartCommand, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (releases.path / "release-1" / "by").write_bytes(b"by")
    second = releases.make(2)
    for number in range(FILES_MANY):
        file = second / f"many/{number % 10}/{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
    node = tmp_path_factory.mktemp("admin") / "node"
    server = command(releases.root, "--engine", engine, "--admin", f"unix:{node}")
    told: list[Any] = []

    def say(root: Path | None) -> None:
        told.append(say_to(str(node), "prepare", root=None if root is None else str(root)))

    for root in (second, second, None):
        check_bystander(server, f"{engine}, {root}", partial(say, root))
    assert [one[0] for one in told] == [200] * 3
    assert told[0][1]["files"] == told[1][1]["files"] == FILES_MANY + 7
