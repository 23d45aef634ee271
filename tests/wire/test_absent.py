"""What leads nowhere is answered with 404, and nothing else is: while files come and go, generations too.

The fast lane knows what is absent and answers by itself (net/lane/absent.pxd); the general lane looks it up. Both
engines are asked the same.
"""

from __future__ import annotations

import random
import shutil

import pytest

from tests.support.client import Client
from tests.support.following import Becomes, Known, asking, publish
from tests.support.site import Serve, Site
from tests.support.stage import write_servlet, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Server
from zcserve.cache.entry import Entry
from zcserve.net.fastlane import FastLane
from zcserve.site.reply import not_found


def answered_by_lane(server: Server) -> int | None:
    """How many requests the fast lane has answered; None: there is none."""
    front = server.loop.front
    return front.lane.requests if isinstance(front, FastLane) else None


def may_be_absent(server: Server, key: bytes) -> bool:
    """Whether the front may answer this with 404; a front that knows of nothing may not."""
    front = server.loop.front
    return isinstance(front, FastLane) and front.lane.is_absent(key) > 0


def is_native(server: Server) -> bool:
    return isinstance(server.loop.front, FastLane)


# --- files come and go ----------------------------------------------------------------------------------------


def test_a_file_that_comes_goes_and_comes_again_is_so_at_once_under_a_flood_of_404s(
    site: Site, live: Serve, known: Known
) -> None:
    site.write("page", b"page")
    server = live(site.root)
    counts = [0, 0]
    with Client(server.port) as client:
        flood = [Client(server.port) for _ in counts]

        def ask(number: int) -> None:
            counts[number] += 1
            assert flood[number].get(f"/nothing/{counts[number]}").status == 404

        with asking(len(counts), ask):
            for version in range(8):
                assert client.get("/new/file").status == 404
                site.write("new/file.tmp", b"")
                publish(site.root / "new" / "file", b"version %d" % version)
                known(server)
                assert client.get("/new/file").body == b"version %d" % version
                (site.root / "new" / "file").unlink()
                known(server)
        for one in flood:
            one.close()
    by_lane = answered_by_lane(server)
    assert by_lane is None or by_lane > sum(counts) * 0.9


def test_a_thousand_files_that_come_at_once_are_there_and_are_gone_again(site: Site, live: Serve, known: Known) -> None:
    server = live(site.root)
    names = [f"many/{number}" for number in range(1000)]
    for there in (True, False):
        for name in names:
            site.write(name, name.encode()) if there else (site.root / name).unlink()
        known(server)
        with Client(server.port) as client:
            for name in random.Random(there).sample(names, 100):
                answer = client.get("/" + name)
                assert (answer.status, answer.body == name.encode()) == ((200, True) if there else (404, False))
    if is_native(server):
        assert all(may_be_absent(server, b"/" + name.encode()) for name in names)


def test_whatever_comes_and_goes_each_name_is_answered_as_it_is(
    site: Site, live: Serve, known: Known, wait_until: WaitUntil
) -> None:
    rng = random.Random(5)
    server = live(site.root)
    names = [f"{directory}{name}" for directory in ("", "a/", "a/b/", "c d/") for name in ("x", "y z", "index.html")]
    there: set[str] = set()
    with Client(server.port) as client:
        for _ in range(25):
            for name in rng.sample(names, rng.randint(1, 6)):
                if name in there:
                    (site.root / name).unlink()
                else:
                    site.write(name, name.encode())
                there ^= {name}
            if rng.random() < 0.3:
                flips = server.content.counters.flips
                server.reload()
                wait_until(lambda flips=flips: server.content.counters.flips > flips)
            known(server)
            for name in names:
                status = client.get("/" + name.replace(" ", "%20")).status
                assert status == (200 if name in there else 404), name
            for directory in ("a", "a/b", "c d"):
                status = client.get("/" + directory.replace(" ", "%20")).status
                assert status == (301 if f"{directory}/index.html" in there else 404), directory


def test_a_directory_that_went_is_redirected_to_no_more(site: Site, live: Serve, known: Known) -> None:
    server = live(site.root)
    with Client(server.port) as client:
        for _ in range(3):
            site.write("dir/index.html", b"index")
            known(server)
            for method in ("GET", "HEAD", "GET", "HEAD"):
                for query in ("", "?a=b"):
                    answer = client.get("/dir" + query, method=method)
                    assert (answer.status, answer["Location"]) == (301, f"/dir/{query}".encode())
            shutil.rmtree(site.root / "dir")
            known(server)
            assert [client.get(target).status for target in ("/dir", "/dir/", "/dir")] == [404] * 3
    by_lane = answered_by_lane(server)
    assert by_lane is None or by_lane >= 12


def test_a_directory_whose_index_a_request_finds_gone_is_redirected_to_no_more(
    site: Site, live: Serve, wait_until: WaitUntil
) -> None:
    site.write("dir/index.html", b"index")
    server = live(site.root, watch=False)
    index = server.site.live.resources[b"/dir/"]
    assert isinstance(index, Entry)
    with Client(server.port) as client:
        assert [client.get("/dir").status for _ in range(2)] == [301] * 2
        shutil.rmtree(site.root / "dir")
        server.store.drop(index)
        assert client.get("/dir/").status == 404
        wait_until(lambda: client.get("/dir").status == 404)
        wait_until(lambda: may_be_absent(server, b"/dir") or not is_native(server))


# --- the page -------------------------------------------------------------------------------------------------


def test_the_page_for_what_is_absent_comes_changes_and_goes(site: Site, live: Serve, known: Known) -> None:
    server = live(site.root)
    built_in = not_found(None).content
    with Client(server.port) as client:
        for page in (None, b"lost", b"lost, and longer", b"", None, b"again"):
            if page is None:
                (site.root / "404.html").unlink(missing_ok=True)
            else:
                publish(site.root / "404.html", page)
            known(server)
            for _ in range(2):
                answer = client.get("/nothing")
                assert (answer.status, answer.body) == (404, built_in if page is None else page)
    by_lane = answered_by_lane(server)
    assert by_lane is None or by_lane >= 6


# --- generations ----------------------------------------------------------------------------------------------


def release(site: Site, number: int) -> None:
    """Have the root be release `number`, which has a file of its own, and a page for 404."""
    directory = site.root.parent / f"release{number}"
    directory.mkdir()
    (directory / f"{number}.js").write_bytes(b"%d" % number)
    (directory / "404.html").write_bytes(b"not in %d" % number)
    link = site.root.parent / "next"
    link.symlink_to(directory)
    link.rename(site.root.parent / "current")


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_what_no_release_has_that_is_kept_is_absent(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil, keep: int
) -> None:
    release(site, 1)
    server = live(site.root.parent / "current", keep_generations=keep)
    with Client(server.port) as client:
        for number in range(2, 6):
            assert client.get(f"/{number}.js").status == 404
            release(site, number)
            becomes(client, f"/{number}.js", b"%d" % number)
            for old in range(1, number + 1):
                answer = client.get(f"/{old}.js")
                is_kept = old >= number - keep
                assert (answer.status, answer.body) == ((200, b"%d" % old) if is_kept else (404, b"not in %d" % number))
        gone = [b"/%d.js" % old for old in range(1, 5 - keep)]
        if is_native(server):
            wait_until(lambda: all(may_be_absent(server, key) for key in gone))
            assert not may_be_absent(server, b"/5.js")


def test_what_only_a_release_had_whose_time_is_over_is_absent(
    site: Site, live: Serve, becomes: Becomes, wait_until: WaitUntil
) -> None:
    release(site, 1)
    server = live(site.root.parent / "current", keep_generations=1, keep_for_s=0.2)
    release(site, 2)
    with Client(server.port) as client:
        becomes(client, "/2.js", b"2")
        becomes(client, "/1.js", None)
    wait_until(lambda: may_be_absent(server, b"/1.js") or not is_native(server))


# --- beside an application ------------------------------------------------------------------------------------

ROUTES = """
from zcserve import servlet

@servlet("/shop/{name}", methods=["POST"])
def buy(request, name):
    return name

def get(request):
    return b"hello"
"""
MORE = """
from zcserve import servlet

@servlet("/new/{name:path}")
def new(request, name):
    return name
"""
THEIRS = {"/csp?hello", "/csp?missing", "/csp", "/shop/x", "/shop", "/app", "/app/x?y", "/%61pp/x", "/n%65w/x"}
PROGRAM = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"app"]
"""


def test_beside_servlets_and_mounts_all_that_is_theirs_is_found_and_the_rest_is_absent(
    site: Site, live: Serve, known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = site.root.parent / "mounted"
    code.mkdir()
    (code / "absent_beside.py").write_text(PROGRAM)
    monkeypatch.chdir(code)
    folder = write_servlets(site.root.parent, hello=ROUTES)
    site.write("dir/page", b"page")
    server = live(site.root, servlets=str(folder), mount=("/app=absent_beside:application",))
    expected = {
        "/csp?hello": 200, "/csp?missing": 404, "/csp": 404, "/shop/x": 405, "/shop": 404, "/app": 200, "/app/x?y": 200,
        "/apple": 404, "/dir/page": 200, "/dir/none": 404, "/new/x": 404, "/n%65w/x": 404, "/%61pp/x": 200,
    }  # fmt: skip

    def statuses(client: Client) -> dict[str, int]:
        return {target: client.get(target).status for target in expected}

    with Client(server.port) as client:
        for _ in range(2):
            assert statuses(client) == expected
        assert may_be_absent(server, b"/nothing") or not is_native(server)
        assert not any(may_be_absent(server, target.encode()) for target in expected if target in THEIRS)
        with Client(server.port) as other:
            before = answered_by_lane(server)
            for number in range(20):
                assert other.get(f"/nothing/{number}").status == 404
            assert before is None or answered_by_lane(server) == before + 20
        site.write("dir/none", b"now")
        known(server)
        write_servlet(folder, "more", MORE)
        assert statuses(client) == {**expected, "/dir/none": 200, "/new/x": 200, "/n%65w/x": 200}
        (folder / "more.py").unlink()
        (site.root / "dir" / "none").unlink()
        known(server)
        assert statuses(client) == expected
