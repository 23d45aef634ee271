"""zcserve.servlets.application: a target leads to what answers it, and what was loaded belongs together."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.begun import Begun
from tests.support.connection_side import Asked, Got, Side
from tests.support.importing import importing
from tests.support.result_kitchen import Kitchen, content_of
from tests.support.stage import EVENTS, JOURNAL, write_servlet, write_servlets
from tests.support.waiting import WaitUntil, is_readable
from zcserve.cache.entry import Entry
from zcserve.cache.heads import encode_fields
from zcserve.cache.root import Root
from zcserve.cache.walk import walk
from zcserve.errors import UsageError
from zcserve.net.front import Front, Shelf
from zcserve.net.request import split_target
from zcserve.paths import SentPath
from zcserve.servlets import loading
from zcserve.servlets.application import (
    QUICK_TARGET_BYTES_MAX,
    REFRESHES_MAX,
    Broken,
    Refreshing,
    Servlet,
    Servlets,
)
from zcserve.servlets.freshness import SURE_S, Freshness
from zcserve.servlets.response import JSON_FIELDS, Response
from zcserve.servlets.results import LOOK_EVERY_S, Keeping
from zcserve.site.exchange import HeadLines, Owned, Quick, Resource, Stored
from zcserve.site.reply import HTML_FIELDS, Reply

PAGE = """
def get(request):
    return "page"

@servlet("/page")
def own(request):
    return "own"

@servlet("/hello/{name}")
def hello(request, name):
    return f"hello {name}"
"""
WRITE = """
@servlet("/write", methods=["POST", "PUT"])
def write(request):
    return request.body
"""


class Told(Front, Shelf):
    """A front that notes what it is told of a site."""

    def __init__(self) -> None:
        self.consulted: list[tuple[Callable[[bytes, bytes], Quick | None] | None, Owned]] = []
        self.forgotten = 0
        self.doubted: list[bool] = []  # whether the events were there still

    def shelf(self, number: int) -> Shelf:
        return self

    def consult(self, look_up: Callable[[bytes, bytes], Quick | None] | None, owned: Owned) -> None:
        self.consulted.append((look_up, owned))

    def forget_quick(self) -> None:
        self.forgotten += 1

    def doubt(self) -> None:
        notice = self.consulted[-1][1].notice
        self.doubted.append(notice >= 0 and is_readable(notice))


class House:
    """An application that has been started, of a site with a few files; the loop is turned by hand."""

    def __init__(self, side: Side, keeping: Keeping | None = None, front: Told | None = None) -> None:
        self.side = side
        self.is_closed = False
        self.front = front if front is not None else Told()
        self.servlets = Servlets(
            side.context.config,
            side.site,
            call_soon=side.calls.put,
            front=self.front,
            keeping=keeping,
            failures=side.context.failures,
        )

    def find(self, target: str, *, websocket: bool = False) -> Resource | None:
        sent, query = split_target(target.encode())
        return self.servlets.find(SentPath(sent), query, websocket=websocket)

    def asked(self, target: str, **more: Any) -> Asked:
        """A request under way."""
        resource = self.find(target)
        assert resource is not None, target
        return self.side.exchange(target, **more).sent_to(resource)

    def ask(self, target: str, **more: Any) -> Got:
        """A request's whole answer."""
        return self.asked(target, **more).read()

    def quick(self, target: str, method: bytes = b"GET") -> Quick | None:
        return self.servlets.look_up(method, target.encode())

    def occupy(self, name: str) -> None:
        """Have the pool's only thread work until the event of that name is set."""
        busy = threading.Event()
        self.servlets.context.pool.submit(lambda: (busy.set(), EVENTS[name].wait(20))[0])
        assert busy.wait(20)

    def close(self) -> None:
        """End as a server does; harmless when repeated."""
        if self.is_closed:
            return
        self.is_closed = True
        for event in list(EVENTS.values()):
            event.set()
        self.servlets.close()
        self.side.close()


Build = Callable[..., House]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_servlets(tmp_path, page=PAGE, write=WRITE)


@pytest.fixture
def build(tmp_path: Path, folder: Path) -> Iterator[Build]:
    houses: list[House] = []
    root = tmp_path / "root"
    (root / "docs").mkdir(parents=True)
    (root / "docs" / "a b.txt").write_text("file")

    def build(**config: Any) -> House:
        side = Side(root, **{"servlets": str(folder), **config})
        side.site.serve(walk(Root(root), index=("a b.txt",)))
        houses.append(House(side))
        houses[-1].servlets.start()
        return houses[-1]

    yield build
    for house in houses:
        house.close()


@pytest.fixture
def house(build: Build) -> House:
    return build()


@pytest.fixture
def mount(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with an application of WSGI that tells where it is mounted, and two of ASGI, one that cannot begin."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"mounted at " + environ["SCRIPT_NAME"].encode()]

    async def lives(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        for _ in range(2):
            message = await receive()
            JOURNAL.append(message["type"])
            await send({"type": message["type"] + ".complete"})

    async def unable(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.failed", "message": "no luck"})

    module = ModuleType("mounted_by_test_application")
    vars(module).update(application=application, lives=lives, unable=unable)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


# --- what a target leads to -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "content"),
    [
        ("/csp?page", b"page"),
        ("/csp?page&k=v", b"page"),
        ("/csp?p%61ge", b"page"),
        ("/page", b"own"),
        ("/page?k=v", b"own"),
        ("//./p%61ge", b"own"),
        ("/hello/bob", b"hello bob"),
        ("/hello/a%20%C3%A9?k", "hello a é".encode()),
    ],
)
def test_a_target_leads_to_a_servlet_by_its_name_or_its_path(house: House, target: str, content: bytes) -> None:
    assert house.ask(target).content == content


def test_what_leads_nowhere_is_nothing(house: House) -> None:
    for target in ("/", "/csp", "/csp?", "/csp?k=v&page", "/csp?absent", "/write/", "/hello/", "/hello/a%00b"):
        assert house.find(target) is None, target


def test_a_path_without_parameters_is_looked_up_once_and_others_are_not_kept(house: House) -> None:
    assert house.find("/page") is house.find("/page?k=v")
    assert house.find("/hello/a") is not house.find("/hello/a")


def test_a_path_below_a_mount_leads_to_its_application(build: Build, mount: str) -> None:
    house = build(mount=(f"/app={mount}:application", f"/app/deep={mount}:application"))
    assert house.ask("/app").content == b"mounted at /app"
    assert house.ask("/app/deep/er").content == b"mounted at /app/deep"
    assert house.ask("/app/a%00b").content == b"mounted at /app"
    assert house.find("/apple") is None
    assert house.ask("/page").content == b"own"


def test_what_a_mount_may_have_lies_below_it_and_a_servlet_may_come_for_any_path(build: Build, mount: str) -> None:
    mounted = (f"/app={mount}:application",)
    paths = (b"/app", b"/app/x", b"/apple", b"/", b"/x")
    application = build(mount=mounted, servlets="").servlets
    assert [application.may_have(path) for path in paths] == [True, True, False, False, False]
    with_servlets = build(mount=mounted).servlets
    assert all(with_servlets.may_have(path) for path in paths)


def test_the_more_a_path_says_of_a_servlet_or_a_mount_the_sooner_it_answers(
    build: Build, folder: Path, mount: str
) -> None:
    pattern = "@servlet('{}')\ndef it(request, rest=''):\n    return '{}'\n"
    for name, path in {"all": "/{rest:path}", "equal": "/app/{rest:path}", "exact": "/app/deep/exact"}.items():
        write_servlet(folder, name, pattern.format(path, name))
    house = build(mount=(f"/app/deep={mount}:application", f"/app={mount}:application"))
    assert house.ask("/elsewhere").content == b"all"
    assert house.ask("/app/shallow").content == b"equal"
    assert house.ask("/app").content == b"mounted at /app"
    assert house.ask("/app/deep/page").content == b"mounted at /app/deep"
    assert house.ask("/app/deep/exact").content == b"exact"


def test_without_a_folder_there_are_mounts_alone(build: Build, mount: str) -> None:
    house = build(servlets="", mount=(f"/app={mount}:application",))
    assert house.ask("/app/x").content == b"mounted at /app"
    assert house.find("/csp?page") is None
    assert house.quick("/csp?page") is None
    house.servlets.reload()
    assert house.ask("/app/x").content == b"mounted at /app"
    assert house.servlets.describe() == f"mounted /app={mount}:application"


def test_a_websocket_is_refused_where_something_is(build: Build, folder: Path, mount: str) -> None:
    house = build(mount=(f"/app={mount}:application",))
    refusal = house.find("/page", websocket=True)
    assert refusal is not None
    assert house.find("/app/x", websocket=True) is refusal
    assert house.find("/absent", websocket=True) is None
    assert house.side.ask(refusal, "/page").status == 501
    write_servlet(folder, "page", "")
    assert house.find("/page", websocket=True) is refusal, "it waits for no load"
    assert house.find("/absent", websocket=True) is None


# --- methods ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "methods"),
    [("/page", "GET, HEAD, OPTIONS"), ("/write", "OPTIONS, POST, PUT"), ("/hello/x", "GET, HEAD, OPTIONS")],
)
def test_other_methods_are_told_which_there_are(house: House, target: str, methods: str) -> None:
    got = house.ask(target, method="DELETE")
    assert (got.status, got["Allow"]) == (405, [methods])
    got = house.ask(target, method="OPTIONS")
    assert (got.status, got["Allow"], got.content) == (200, [methods], b"")


def test_a_servlet_may_answer_options_itself_and_gets_its_body(house: House, folder: Path) -> None:
    write_servlet(
        folder, "own", "@servlet('/own', methods=['OPTIONS'])\ndef it(request):\n    return request.body + b'!'\n"
    )
    assert house.ask("/own", method="OPTIONS", body=b"asked").content == b"asked!"
    got = house.ask("/own")
    assert (got.status, got["Allow"]) == (405, ["OPTIONS"])


def test_a_body_is_read_up_to_the_limit_whatever_answers(build: Build, folder: Path) -> None:
    write_servlet(folder, "broken", "1 / 0\n")
    house = build(servlet_body_bytes_max=17)
    found = [house.find("/page"), house.find("/csp?broken")]
    write_servlet(folder, "page", PAGE + "# edited\n")
    found.append(house.find("/page"))
    assert [type(each) for each in found] == [Servlet, Broken, Refreshing]
    assert [each.body_bytes_max for each in found if each is not None] == [17] * 3


# --- what comes of a call ---------------------------------------------------------------------------------------

CALLS = """
@servlet("/loop")
def in_loop(request):
    return "loop"

@servlet("/pool", thread=True)
def in_pool(request):
    JOURNAL.append("pool")
    return "pool"

@servlet("/tasks")
async def in_tasks(request):
    JOURNAL.append("tasks")
    while request.query:
        await asyncio.sleep(0.01)
    return "tasks"

@servlet("/cancelled")
async def cancelled(request):
    raise asyncio.CancelledError

@servlet("/fails")
def fails(request):
    raise LookupError("here")

@servlet("/torn", thread=True)
def torn(request):
    yield "first"
    raise LookupError("there")

@servlet("/send/{file:path}")
def send(request, file):
    return Response(status=203, headers={"X-A": "b"}).send_file("/" + file)

@servlet("/nul")
def nul(request):
    return Response().send_file("/a\\0b")

@servlet("/surrogate")
def surrogate(request):
    return Response().send_file("/\\ud800")

@servlet("/kept", ttl=60)
def kept(request):
    JOURNAL.append("kept")
    return f"kept {len(JOURNAL)}"
"""


@pytest.fixture
def calls(build: Build, folder: Path) -> House:
    write_servlet(folder, "calls", CALLS)
    return build(servlet_threads=1, servlet_queue_max=1)


@pytest.mark.parametrize("place", ["loop", "pool", "tasks"])
def test_an_answer_comes_at_once_or_later(calls: House, place: str) -> None:
    asked = calls.asked(f"/{place}")
    assert (asked.made is not None) == (place == "loop")
    assert asked.read().content == place.encode()


def test_a_failure_names_the_servlets_line_and_the_request(calls: House, caplog: pytest.LogCaptureFixture) -> None:
    got = calls.ask("/fails?k=v")
    assert got.status == 500
    assert "servlets/calls.py:" in caplog.messages[0]
    assert caplog.messages[0].endswith("at GET /fails?k=v:")


def test_a_stream_that_fails_is_cut_short_and_told_so(calls: House, caplog: pytest.LogCaptureFixture) -> None:
    got = calls.ask("/torn")
    assert (got.status, got.content, got.whole) == (200, b"first", False)
    assert caplog.messages[0].startswith("servlets/calls.py:")
    assert caplog.messages[0].endswith("failed at GET /torn; its answer was cut short:")


def test_where_no_thread_is_free_and_as_many_wait_as_may_it_is_503(calls: House) -> None:
    calls.occupy("go")
    first = calls.asked("/pool")
    assert calls.ask("/pool").status == 503
    EVENTS["go"].set()
    assert first.read().content == b"pool"


def test_a_call_that_its_client_has_left_is_not_made_and_not_told(
    calls: House, caplog: pytest.LogCaptureFixture
) -> None:
    calls.occupy("go")
    left, other = calls.asked("/pool"), calls.asked("/tasks?forever")
    calls.side.turn_until(lambda: JOURNAL == ["tasks"])
    left.exchange.abandon()
    other.exchange.abandon()
    last = calls.asked("/pool")  # there is a place again
    EVENTS["go"].set()
    assert last.read().content == b"pool"
    assert JOURNAL == ["tasks", "pool"]
    assert calls.ask("/tasks").content == b"tasks"  # behind the one that was cancelled
    assert calls.side.calls.empty()
    assert (left.made, other.made) == (None, None)
    assert not caplog.messages


def test_a_coroutine_that_gives_itself_up_has_failed(calls: House) -> None:
    assert calls.ask("/cancelled").status == 500


def test_a_file_of_the_site_is_sent_with_status_and_fields(calls: House) -> None:
    for target in ("/send/docs/a%20b.txt", "/send/./docs//a%20b.txt"):
        stored = calls.asked(target).outcome()
        assert isinstance(stored, Stored)
        assert stored.entry is calls.side.site.hit(b"/docs/a%20b.txt")
        assert stored.generation is calls.side.site.live
        assert (stored.status, stored.fields, stored.own) == (203, ((b"X-A", b"b"),), False)


@pytest.mark.parametrize("target", ["/send/absent", "/send/docs", "/nul", "/surrogate"])
def test_a_file_that_is_not_there_is_the_sites_404(calls: House, target: str) -> None:
    calls.side.site.live.error_pages = {404: b"the site's own page"}
    got = calls.ask(target)
    assert (got.status, got.content) == (404, b"the site's own page")


def test_without_a_cache_to_keep_results_in_a_servlet_with_a_ttl_is_called_each_time(calls: House) -> None:
    assert calls.servlets.results is None
    assert [calls.ask("/kept").content for _ in range(2)] == [b"kept 1", b"kept 2"]


# --- the fast lane's short way ----------------------------------------------------------------------------------


def freshness_of(house: House) -> Freshness:
    found = house.servlets.freshness
    assert found is not None
    return found


def quick_of(house: House, target: str, method: bytes = b"GET") -> Quick:
    quick = house.quick(target, method)
    assert quick is not None
    return quick


def test_what_runs_in_the_loop_may_be_called_by_the_lane(build: Build) -> None:
    house = build(servlet_body_bytes_max=100, servlet_bodies_max=70)
    target = "/hello/bob?k=v"
    quick = quick_of(house, target)
    assert quick.params == {"name": "bob"}
    assert quick.where.startswith("servlets/page.py:")
    assert quick.body_bytes_max == 70
    assert quick.sure_s == SURE_S
    request = quick.request(b"GET", target.encode(), HeadLines(b"HTTP/1.1"), "", b"", quick.params)
    assert quick.function(request) == "hello bob"
    assert quick.fields == encode_fields(HTML_FIELDS)


def test_what_is_returned_to_the_lane_is_content_of_a_200_or_an_answer(house: House) -> None:
    quick = quick_of(house, "/page")
    assert quick.finish(b"GET", "text") == (encode_fields(HTML_FIELDS), b"text")
    assert quick.finish(b"GET", {"a": 1}) == (encode_fields(JSON_FIELDS), b'{"a":1}')
    made = quick.finish(b"GET", Response("made", 201))
    assert isinstance(made, Reply)
    assert (made.status, made.content) == (201, b"made")
    stream = quick.finish(b"GET", iter(["piece"]))
    assert isinstance(stream, Reply)
    assert stream.is_stream
    assert isinstance(quick.finish(b"GET", Response().send_file("/docs/a%20b.txt")), Reply)  # 404: a file's own name
    assert isinstance(quick.finish(b"GET", Response().send_file("/docs/a b.txt")), Stored)
    with pytest.raises(TypeError):
        quick.finish(b"GET", None)


def test_what_fails_in_the_lane_is_told_with_the_request(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def torn() -> Iterator[bytes]:
        yield b"first"
        raise LookupError("torn")

    quick = quick_of(house, "/page?k=v")
    answer = quick.fail(b"HEAD", LookupError("why"))
    assert isinstance(answer, Reply)
    assert answer.status == 500
    asked = house.side.exchange()
    made = quick.finish(b"GET", torn())
    asked.take(made if not isinstance(made, tuple) else Reply(200))
    assert (asked.read().whole) is False
    assert [message.partition(" at ")[2] for message in caplog.messages] == [
        "HEAD /page?k=v:",
        "GET /page?k=v; its answer was cut short:",
    ]


NOT_QUICK: dict[str, tuple[str, bytes]] = {
    "nothing is there": ("/absent", b"GET"),
    "no servlet has the name": ("/csp?absent", b"GET"),
    "the servlet has no such method": ("/page", b"PUT"),
    "it runs in a thread": ("/pool", b"GET"),
    "it is a coroutine": ("/tasks", b"GET"),
    "its results are kept": ("/kept", b"GET"),
    "it is an application's": ("/app/x", b"GET"),
    "it does not load": ("/csp?broken", b"GET"),
    "it is no target": ("page", b"GET"),
    "it is no path": ("/pa#ge", b"GET"),
}


def test_all_else_the_lane_does_not_call(build: Build, folder: Path, mount: str) -> None:
    write_servlet(folder, "calls", CALLS)
    write_servlet(folder, "broken", "1 / 0\n")
    house = build(mount=(f"/app={mount}:application",))
    for why, (target, method) in NOT_QUICK.items():
        assert house.quick(target, method) is None, why
    assert house.quick("/page") is not None


def test_the_lane_does_not_remember_long_targets(house: House) -> None:
    target = "/page?"
    target += "k" * (QUICK_TARGET_BYTES_MAX - len(target))
    assert house.quick(target) is not None
    assert house.quick(target + "k") is None


def test_a_file_goes_before_a_servlet_for_requests_that_read(house: House, folder: Path) -> None:
    write_servlet(
        folder, "docs", "@servlet('/docs/a b.txt', methods=['GET', 'POST'])\ndef it(request):\n    return ''\n"
    )
    house.ask("/docs/a%20b.txt")
    assert house.quick("/docs/a%20b.txt") is None
    assert house.quick("/docs/a%20b.txt", b"POST") is not None


def test_what_the_lane_was_told_is_true_until_the_folder_changes(house: House, folder: Path) -> None:
    quick, other = quick_of(house, "/page"), quick_of(house, "/write", b"POST")
    assert quick.is_fresh()
    assert not is_readable(quick.notice)
    told = house.front.forgotten
    write_servlet(folder, "page", PAGE.replace('"own"', '"new"'))
    assert is_readable(quick.notice)
    assert not quick.is_fresh()
    assert not quick.is_fresh(), "it must be asked for by find, which has it loaded"
    assert house.front.forgotten == told + 1
    assert other.is_fresh()
    assert house.quick("/page") is None
    assert house.quick("/write", b"POST") is not None
    assert house.ask("/page").content == b"new"
    again = quick_of(house, "/page")
    assert again.is_fresh()
    assert not is_readable(again.notice)


def test_what_other_lanes_were_told_is_doubted_before_the_events_are_read(house: House, folder: Path) -> None:
    """They look for events by themselves, and find none from then on."""
    assert house.ask("/page").content == b"own"
    house.front.doubted.clear()
    write_servlet(folder, "page", PAGE.replace('"own"', '"new"'))
    assert house.ask("/page").content == b"new"
    assert house.front.doubted[0]


def test_what_is_loaded_may_be_told_to_the_lane_before_a_request_has_looked(house: House, folder: Path) -> None:
    quick = quick_of(house, "/page")
    write_servlet(folder, "page", PAGE.replace('"own"', '"new"'))
    assert not quick.is_fresh()
    freshness_of(house).refresh(lambda: JOURNAL.append("loaded"))
    house.side.turn_until(lambda: JOURNAL)
    assert quick_of(house, "/page").is_fresh()


def test_what_a_symlink_leads_to_is_looked_at_each_time_since_no_event_tells_of_it(
    house: House, folder: Path, tmp_path: Path
) -> None:
    assert quick_of(house, "/page").notice >= 0
    (folder / "page.py").rename(tmp_path / "elsewhere.py")
    (folder / "page.py").symlink_to(tmp_path / "elsewhere.py")
    assert house.ask("/page").content == b"own"
    quick = quick_of(house, "/page")
    assert quick.notice == -1
    assert quick.is_fresh()
    write_servlet(tmp_path, "elsewhere", PAGE.replace('"own"', '"new"'))
    assert not quick.is_fresh()
    assert house.ask("/page").content == b"new"


def test_where_files_change_the_lane_asks_again(house: House) -> None:
    told = house.front.forgotten
    house.servlets.forget([b"/page"])
    assert house.front.forgotten == told + 1


def test_the_front_is_told_which_paths_may_have_an_answer(build: Build, folder: Path, mount: str) -> None:
    house = build(mount=(f"/app/deep={mount}:application",))
    ((look_up, owned),) = house.front.consulted
    assert look_up == house.servlets.look_up
    assert owned.segments is not None
    assert set(owned.segments) == {b"csp", b"page", b"hello", b"write", b"app"}
    assert owned.sure_s == SURE_S
    assert owned.is_fresh is not None
    assert owned.is_fresh()
    write_servlet(folder, "all", "@servlet('/{name}')\ndef it(request, name):\n    return name\n")
    assert is_readable(owned.notice)
    assert not owned.is_fresh()
    assert house.ask("/anything").content == b"anything"
    assert house.front.consulted[-1][1].segments is None, "each path may be a servlet's"


@pytest.mark.parametrize(("prefix", "segments"), [("/", None), ("/app", {b"app"})])
def test_without_a_folder_the_front_is_told_of_mounts(
    build: Build, mount: str, prefix: str, segments: set[bytes] | None
) -> None:
    house = build(servlets="", mount=(f"{prefix}={mount}:application",))
    ((look_up, owned),) = house.front.consulted
    assert (look_up, owned) == (None, Owned(segments))


def test_a_mount_of_all_may_own_each_path(build: Build, mount: str) -> None:
    assert build(mount=(f"/={mount}:application",)).front.consulted[-1][1].segments is None


# --- edit and refresh -------------------------------------------------------------------------------------------


def test_an_edit_is_loaded_before_what_it_may_concern_is_answered_and_all_else_goes_on(
    house: House, folder: Path
) -> None:
    page, write = house.find("/page"), house.find("/write")
    write_servlet(folder, "page", "JOURNAL.append('loading')\n" + PAGE.replace('"own"', '"new"'))
    assert isinstance(house.find("/page"), Refreshing)
    assert isinstance(house.find("/csp?page"), Refreshing)
    assert isinstance(house.find("/absent"), Refreshing), "it may be there when all is loaded"
    assert house.find("/write") is write
    first, second, absent = house.asked("/page"), house.asked("/page"), house.asked("/absent")
    assert (first.made, second.made, absent.made) == (None, None, None)
    assert [first.read().content, second.read().content, absent.read().status] == [b"new", b"new", 404]
    assert JOURNAL == ["loading"], "once for all"
    assert house.find("/page") not in (page, None)
    assert house.ask("/page").content == b"new"


def test_what_waits_for_a_load_and_is_answered_later_is_answered_once(house: House, folder: Path) -> None:
    write_servlet(folder, "calls", CALLS)
    asked = house.asked("/pool")
    assert asked.read().content == b"pool"


def test_a_request_whose_client_leaves_while_it_loads_is_not_answered(house: House, folder: Path) -> None:
    write_servlet(folder, "page", PAGE + "JOURNAL.append('loading')\nassert EVENTS['go'].wait(WAIT_S)\n")
    left, stays = house.asked("/hello/x"), house.asked("/page")
    house.side.turn_until(lambda: JOURNAL)
    left.exchange.abandon()
    EVENTS["go"].set()
    assert stays.read().content == b"own"
    assert left.made is None


def test_a_file_that_never_rests_is_loaded_so_often_and_then_answered_as_it_is(house: House, folder: Path) -> None:
    restless = "JOURNAL.append('loading')\nwith open(__file__, 'a') as file:\n    file.write('# again\\n')\n"
    write_servlet(folder, "page", restless + PAGE.replace('"own"', '"new"'))
    assert house.ask("/page").content == b"new"
    assert len(JOURNAL) == 1 + REFRESHES_MAX


def test_what_never_loaded_is_a_500_until_a_file_comes_that_mends_it(build: Build, folder: Path) -> None:
    write_servlet(folder, "needs", "from _help import TEXT\ndef get(request):\n    return TEXT\n")
    house = build()
    got = house.ask("/csp?needs")
    assert got.status == 500
    assert b"the servlet needs does not load: see the log" in got.content
    assert b"_help" not in got.content, "the traceback is for developers"
    (fault,) = house.servlets.broken()
    assert fault.startswith("servlets/needs.py:")
    assert house.servlets.describe() == f"3 in {folder}, 1 of them broken"
    (folder / "_help.py").write_text("TEXT = 'mended'\n")
    assert house.ask("/csp?needs").content == b"mended"
    assert house.servlets.broken() == []
    assert house.servlets.describe() == f"3 in {folder}"


@pytest.mark.parametrize("dev", [False, True])
def test_the_last_good_version_goes_on_but_in_development(build: Build, folder: Path, dev: bool) -> None:
    house = build(dev=dev)
    write_servlet(folder, "page", PAGE + "from _help import TEXT\n")
    got = house.ask("/page")
    assert (got.status, b"_help" in got.content) == ((500, True) if dev else (200, False))
    assert house.ask("/write", method="POST", body=b"x").content == b"x"
    (folder / "_help.py").write_text("TEXT = 'mended'\n")
    assert isinstance(house.find("/page"), Refreshing), "whatever comes may mend it"
    assert house.ask("/page").content == b"own"


def test_a_load_that_takes_long_is_waited_for_until_it_is_late(
    house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TOLD_AFTER_S", 0.05)
    quick = quick_of(house, "/page")
    write_servlet(folder, "page", "assert EVENTS['go'].wait(WAIT_S)\n" + PAGE.replace('"own"', '"new"'))
    first = house.asked("/page")
    assert first.made is None
    assert not quick.is_fresh()
    assert first.read().content == b"own"
    assert isinstance(house.find("/page"), Servlet), "what comes while it is late does not wait"
    assert quick.is_fresh()
    freshness_of(house).refresh(lambda: JOURNAL.append("loaded"))
    EVENTS["go"].set()
    house.side.turn_until(lambda: JOURNAL == ["loaded"])
    assert house.ask("/page").content == b"new"
    monkeypatch.undo()  # what is loaded from now on is not late, however busy the machine is
    write_servlet(folder, "page", PAGE)
    assert isinstance(house.find("/page"), Refreshing), "the next load is waited for again"


def test_what_waits_goes_on_whenever_a_servlet_of_a_load_is_late(
    house: House, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TOLD_AFTER_S", 0.03)
    for name in ("first", "second"):
        write_servlet(folder, name, f"assert EVENTS['{name}'].wait(WAIT_S)\n" + PAGE.replace("/", f"/{name}/"))
    freshness_of(house).refresh(lambda: JOURNAL.append("while the first is late"))
    house.side.turn_until(lambda: JOURNAL == ["while the first is late"])
    freshness_of(house).refresh(lambda: JOURNAL.append("while the second is late"))
    EVENTS["first"].set()
    house.side.turn_until(lambda: len(JOURNAL) == 2)
    freshness_of(house).refresh(lambda: JOURNAL.append("loaded"))
    assert house.find("/second/page") is None
    EVENTS["second"].set()
    house.side.turn_until(lambda: len(JOURNAL) == 3)
    assert house.ask("/second/page").content == b"own"


def test_a_reload_loads_all_anew_and_one_that_is_asked_for_meanwhile_comes_behind_it(
    house: House, folder: Path
) -> None:
    write_servlet(folder, "page", PAGE + "JOURNAL.append('loading')\nassert EVENTS['go'].wait(WAIT_S)\n")
    EVENTS["go"].set()
    assert house.ask("/page").content == b"own"
    EVENTS["go"].clear()
    del JOURNAL[:]
    house.servlets.reload()
    house.side.turn_until(lambda: JOURNAL == ["loading"])
    house.servlets.reload()
    house.servlets.reload()
    consulted = len(house.front.consulted)
    EVENTS["go"].set()
    house.side.turn_until(lambda: len(house.front.consulted) == consulted + 2)
    freshness_of(house).refresh(lambda: JOURNAL.append("at rest"))
    house.side.turn_until(lambda: "at rest" in JOURNAL)
    assert JOURNAL == ["loading", "loading", "at rest"]


def test_a_reload_loads_applications_anew_too(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{}']\n"
    with importing(tmp_path, monkeypatch) as here:
        monkeypatch.chdir(here.directory)
        here.write("PKG.py", source.format("old"))
        house = build(mount=(f"/app={here.name}:application",), mount_reload=False)
        assert house.ask("/app").content == b"old"
        here.write("PKG.py", source.format("new"))
        assert house.ask("/app").content == b"old"
        house.servlets.reload()
        house.side.turn_until(lambda: house.ask("/app").content == b"new")


# --- results that are kept --------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, folder: Path) -> Iterator[tuple[House, Kitchen]]:
    """An application with a cache to keep results in."""
    write_servlet(folder, "calls", CALLS)
    kitchen = Kitchen(tmp_path, servlets=str(folder))
    front = Told()
    keeping = Keeping(kitchen.loader, kitchen.fetcher, kitchen.timers, front)
    house = House(kitchen.side, keeping, front)
    house.servlets.start()
    yield house, kitchen
    house.close()
    kitchen.close()


def content_of_kept(house: House) -> bytes:
    stored = house.asked("/kept").outcome()
    assert isinstance(stored, Stored)
    assert stored.own
    assert isinstance(stored.entry, Entry)
    return content_of(stored.entry)


def test_a_servlet_with_a_ttl_is_called_once_until_a_file_goes_before_it_or_its_own_file_changes(
    kept: tuple[House, Kitchen], folder: Path, tmp_path: Path
) -> None:
    house, _ = kept
    assert [content_of_kept(house), content_of_kept(house)] == [b"kept 1"] * 2
    assert house.asked("/kept", method="POST").answer().status == 405
    write_servlet(folder, "calls", CALLS + "# edited\n")
    assert content_of_kept(house) == b"kept 2"
    results = house.servlets.results
    assert results is not None
    (tmp_path / "kept").write_text("a file")
    house.side.site.serve(walk(Root(tmp_path), index=()))
    house.servlets.forget([b"/kept"])
    house.side.turn_until(lambda: not len(results))


def test_while_results_are_kept_the_folder_is_looked_at_though_no_request_asks(
    kept: tuple[House, Kitchen], folder: Path
) -> None:
    house, kitchen = kept
    assert content_of_kept(house) == b"kept 1"
    consulted = len(house.front.consulted)
    write_servlet(folder, "calls", CALLS + "# edited\n")
    now = time.monotonic()
    within_s = kitchen.timers.timeout(now)
    assert 0 < within_s < LOOK_EVERY_S + 0.1
    kitchen.timers.fire(now + within_s)
    house.side.turn_until(lambda: len(house.front.consulted) > consulted)
    results = house.servlets.results
    assert results is not None
    house.side.turn_until(lambda: not len(results))


def test_no_result_is_kept_behind_the_end(kept: tuple[House, Kitchen]) -> None:
    house, kitchen = kept
    assert content_of_kept(house) == b"kept 1"
    assert kitchen.store.resident == 1
    house.close()
    assert kitchen.store.resident == 0


# --- begin, end, and check --------------------------------------------------------------------------------------


def test_all_that_it_has_is_given_back_at_the_end(tmp_path: Path, folder: Path, wait_until: WaitUntil) -> None:
    side = Side(tmp_path, servlets=str(folder))
    begun = Begun()
    house = House(side)
    house.servlets.start()
    wait_until(lambda: "zcserve-loading" not in begun.left())
    threads = [name for name in begun.left() if name.startswith("zcserve")]
    loads = "zcserve-servlet-1"  # and one is for servlets; none that is needed later could be refused then
    assert threads == ["zcserve-async", loads, "zcserve-servlet-1", "zcserve-watch"]
    assert house.ask("/page").content == b"own"
    write_servlet(folder, "page", PAGE.replace('"own"', '"new"'))
    assert house.ask("/page").content == b"new"
    assert "anon_inode:inotify" in begun.left()
    house.servlets.close()
    wait_until(lambda: not begun.left())
    side.close()


def test_applications_begin_and_end_with_it(tmp_path: Path, mount: str) -> None:
    JOURNAL.clear()
    house = House(Side(tmp_path, mount=(f"/app={mount}:lives",)))
    assert JOURNAL == []
    house.servlets.start()
    assert JOURNAL == ["lifespan.startup"]
    house.close()
    assert JOURNAL == ["lifespan.startup", "lifespan.shutdown"]


def test_the_loops_thread_is_watched_whichever_thread_starts_it(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    write_servlet(folder, "slow", "def get(request):\n    assert EVENTS['told'].wait(WAIT_S)\n    return 'slow'\n")
    house = House(Side(tmp_path, servlets=str(folder), servlet_slow_s=0.03))
    starts = threading.Thread(target=house.servlets.start)
    starts.start()
    starts.join()
    house.side.turn_until(lambda: house.side.calls.empty())
    tells = threading.Thread(target=lambda: (wait_until(lambda: caplog.messages), EVENTS["told"].set()))
    tells.start()
    assert house.ask("/csp?slow").content == b"slow"
    tells.join()
    assert "assert EVENTS['told'].wait(WAIT_S)" in caplog.messages[0]
    house.close()


def test_what_cannot_be_had_leaves_nothing_open(tmp_path: Path, mount: str, wait_until: WaitUntil) -> None:
    side = Side(tmp_path, mount=(f"/app={mount}:absent",))
    begun = Begun()
    with pytest.raises(UsageError, match="has no absent") as raised:  # whose traceback refers to all that was made
        House(side)
    wait_until(lambda: not begun.left())
    assert raised.tb is not None
    side.close()


def test_an_application_that_cannot_begin_is_told_and_all_can_be_closed(
    tmp_path: Path, mount: str, wait_until: WaitUntil
) -> None:
    side = Side(tmp_path, mount=(f"/app={mount}:unable",))
    begun = Begun()
    house = House(side)
    with pytest.raises(UsageError, match="no luck"):
        house.servlets.start()
    house.servlets.close()
    wait_until(lambda: not begun.left())
    side.close()
