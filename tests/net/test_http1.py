"""zcserve.net.http1: the order of one connection, without a connection: bytes in an inbox, answers in an output, and an
owner that notes what it is told."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import zcserve
from tests.support.connection_side import bytes_of
from tests.support.house import ABSENT, COLD, CONTENT, GET, LAST, House, statuses
from tests.support.memory import body_of, large_body_of
from tests.support.places import Place, Places
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.root import Root
from zcserve.errors import HttpError
from zcserve.forwarded import Proxies, Trusted
from zcserve.net import calling
from zcserve.net.calling import CALLS_MAX
from zcserve.net.counts import Tally
from zcserve.net.http1 import Http1
from zcserve.net.output import Output
from zcserve.net.owner import Stop
from zcserve.net.stay import PLAIN_MAX
from zcserve.site.exchange import Answer
from zcserve.site.reply import Give, Reply
from zcserve.site.site import Site

POST = b"POST /page HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /page HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
APP = b"GET /app HTTP/1.1\r\nHost: test\r\n\r\n"
RANGES = GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1,4-5\r\n\r\n")


class Client:
    """A client's requests on their way through `Http1`; it stands for the owner as well."""

    def __init__(self, here: House, made: Answer | None = None, *, peer: str = "192.0.2.7") -> None:
        self.here = here
        self.place = Place(made)
        self.told: list[object] = []
        self.output = Output(Tally())
        self.http = Http1(here.service, self, self.output, peer, lambda: ((peer, 4), ("192.0.2.1", 80)))

    def comes(self, data: bytes) -> Stop:
        """Why `fill` stopped, with more bytes in the inbox."""
        self.http.inbox += data
        return self.http.fill()

    def sent(self) -> bytes:
        """What was put into the output since the last call."""
        segments = b"".join(map(bytes_of, self.output.segments))
        self.output.segments.clear()
        return segments

    def statuses(self) -> list[int]:
        return [int(piece[:3]) for piece in self.sent().split(b"HTTP/1.1 ")[1:]]

    def next_round(self) -> None:
        self.here.loop.rounds += 1

    def resumed(self) -> None:
        self.told.append("resumed")

    def proceed(self, stop: Stop) -> None:
        self.told.append(stop)

    def end(self) -> None:
        self.told.append("end")

    def fail(self) -> None:
        self.told.append("fail")


House_ = Callable[..., House]


def with_application(here: House, made: Answer | None = None) -> Client:
    client = Client(here, made)
    here.service.sites[0].application = Places(client.place)
    return client


# --- which request is next --------------------------------------------------------------------------------------------


def test_complete_requests_are_answered_in_order_and_the_rest_stays(house: House_) -> None:
    client = Client(house())
    assert client.comes(GET + ABSENT + GET + GET[:9]) is Stop.BYTES
    assert client.statuses() == [200, 404, 200]
    assert (client.http.inbox, client.here.service.requests) == (GET[:9], 3)
    assert client.comes(GET[9:]) is Stop.BYTES
    assert (client.statuses(), client.http.inbox) == ([200], b"")


def test_a_hit_is_a_use_of_the_entry(house: House_) -> None:
    client = Client(house())
    entry = client.here.service.sites[0].live.resources[b"/page"]
    assert isinstance(entry, Entry)
    client.here.loop.tick = 7
    client.comes(GET)
    assert (entry.uses, entry.tick) == (1, 7)


def test_each_request_is_for_the_site_that_it_names(house: House_, tmp_path: Path) -> None:
    here = house()
    client = Client(here)
    client.comes(GET)
    other = Generation(Root(tmp_path))
    here.service.serve(
        (*here.service.sites, Site(1, other, name="other", names=frozenset((b"b.example", b"*.b.example"))))
    )
    there = GET.replace(b"Host: test", b"Host: B.example.:80")
    absolute = there.replace(b"/page", b"http://test/page")
    client.comes(GET + there + absolute + GET.replace(b"/page", b"http://x.b.example/page") + GET)
    assert client.statuses() == [200, 200, 404, 200, 404, 200]
    here.service.serve((here.service.sites[1],))
    client.comes(GET + there + POST + GET.replace(b"/page", b"nothing"))
    assert client.statuses() == [421, 404, 421, 400]


def test_a_body_for_a_name_that_no_site_has_is_read_and_the_connection_goes_on(house: House_) -> None:
    here = house(unknown_host="421", hosts=("a.example",))
    client = Client(here)
    client.comes(POST + b"hello" + GET + GET.replace(b"1.1\r\nHost: test", b"1.0\r\nConnection: keep-alive"))
    sent = client.sent().partition(b"HTTP/1.1 200 ")
    assert sent[0].count(b"HTTP/1.1 421 Misdirected Request\r\n") == 2
    assert b"Connection: close" not in sent[0]
    assert sent[1]


def test_a_turn_has_its_share_of_requests_however_they_come(house: House_) -> None:
    client = Client(house(pipeline_max=2))
    assert client.comes(GET * 5) is Stop.SHARE
    assert (client.statuses(), client.http.inbox) == ([200, 200], GET * 3)
    assert client.comes(b"") is Stop.SHARE  # in the same turn
    assert client.statuses() == []
    client.next_round()
    assert client.comes(b"") is Stop.SHARE
    client.next_round()
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200, 200, 200]


def test_nothing_is_answered_behind_the_last_request(house: House_) -> None:
    client = Client(house())
    assert client.comes(LAST + GET) is Stop.END
    assert (client.statuses(), client.http.inbox, client.http.says_no_more) == ([200], GET, True)


@pytest.mark.parametrize("what", ["not resident", "an application's"])
def test_what_must_be_waited_for_stops_what_is_behind_it(house: House_, what: str) -> None:
    client = with_application(house())
    assert client.comes((COLD if what == "not resident" else APP) + GET) is Stop.LOAD
    assert (client.sent(), client.http.inbox, client.told) == (b"", GET, [])
    assert client.http.is_applications_turn is (what != "not resident")
    if what == "not resident":
        assert client.http.wait is not None
        client.here.fetcher.done[0](body_of(b"loaded"))
    else:
        assert client.http.wait is None
        (exchange,) = client.place.exchanges
        assert [value for name, value in exchange.head.lines if name == b"Host"] == [b"test"]
        exchange.finish(Reply(200, (), b"made"))
        client.here.hear()
    assert client.told == ["resumed"]
    client.http.go_on()
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200, 200]
    assert client.here.service.requests == 2


def test_a_large_body_goes_out_before_what_follows_is_answered(house: House_) -> None:
    here = house()
    page = here.service.sites[0].live.resources[b"/page"]
    assert isinstance(page, Entry)
    page.body = large_body_of(CONTENT)
    client = Client(here)
    assert client.comes(GET + GET) is Stop.SHARE
    assert (client.statuses(), client.http.inbox, client.output.about) == ([200], GET, (b"GET", b"/page"))


@pytest.mark.parametrize(
    ("comes", "plain"),
    [
        (GET * 3, 3),
        (GET.replace(b"/page", b"/page?v=1") + GET.replace(b"GET", b"HEAD"), 2),
        (GET + ABSENT + GET, 1),
        (GET + RANGES, 0),
        (GET + POST + b"12345" + GET * 2, 2),
    ],
    ids=["pages", "query and HEAD", "absent between", "ranges", "a body between"],
)
def test_it_counts_plain_hits_in_a_row(house: House_, comes: bytes, plain: int) -> None:
    client = Client(house())
    for _ in range(PLAIN_MAX):
        client.comes(comes)
    assert client.http.plain == (plain if plain not in (2, 3) or POST in comes else plain * PLAIN_MAX)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b" nothing HTTP/1.1\r\nHost: test\r\n\r\n", b" /page HTTP/1.1\r\n\r\n"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_what_is_not_understood_is_told_and_ends_the_connection(house: House_, method: bytes, rest: bytes) -> None:
    client = Client(house())
    assert client.comes(GET + method + rest + GET) is Stop.END
    sent = client.sent()
    assert sent.count(b"HTTP/1.1 ") == 2
    head, _, content = sent.partition(b"HTTP/1.1 400 ")[2].partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert (content == b"") is (method == b"HEAD")
    assert client.http.says_no_more is False


def test_an_answer_of_503_is_told_in_the_log_with_its_reason(house: House_, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(house())
    assert client.http.refuse(HttpError(503, "there is no room", close=True), b"POST ") is Stop.END
    assert b"Retry-After: " in client.sent()
    assert "answered 503, there is no room" in caplog.text


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_request_is_answered_when_its_body_is_complete(house: House_) -> None:
    client = Client(house())
    assert client.comes(POST + b"12") is Stop.BODY
    assert client.sent() == b""
    assert client.comes(b"345" + GET) is Stop.BYTES
    assert client.statuses() == [405, 200]


def test_a_body_that_is_too_long_ends_the_connection_unread(house: House_) -> None:
    client = Client(house(body_bytes_max=4))
    assert client.comes(POST + b"12345" + GET) is Stop.END
    assert client.statuses() == [413]


def test_chunks_count_like_requests(house: House_) -> None:
    client = Client(house(pipeline_max=4))
    assert client.comes(CHUNKED + b"1\r\nx\r\n" * 5 + b"0\r\n\r\n" + GET) is Stop.SHARE
    assert client.sent() == b""
    assert client.comes(b"") is Stop.SHARE  # no more in this turn
    assert client.sent() == b""
    client.next_round()
    assert client.comes(b"") is Stop.SHARE
    client.next_round()
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [405, 200]


@pytest.mark.parametrize(
    ("line", "comes", "stop", "statuses"),
    [
        (b"GET /page", b"", Stop.BODY, [100]),
        (b"GET /page", b"12345", Stop.BYTES, [200]),  # it did not wait
        (b"POST /page", b"", Stop.END, [405]),  # the final answer, and the body may come or not
    ],
)
def test_a_client_that_waits_for_a_word_before_its_body_gets_one(
    house: House_, line: bytes, comes: bytes, stop: Stop, statuses: list[int]
) -> None:
    client = Client(house())
    head = line + b" HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    assert client.comes(head + comes) is stop
    assert client.statuses() == statuses


def test_a_body_must_keep_its_pace(house: House_) -> None:
    client = Client(house(body_timeout_s=2.0, body_rate_min=1))
    client.comes(POST)
    receiving = client.http.receiving
    assert receiving is not None
    assert receiving.due() == client.here.loop.now + 2
    client.here.loop.now += 2
    assert not receiving.suffices()
    client.comes(b"12")
    assert receiving.suffices()
    client.comes(b"345")
    assert client.http.receiving is None  # it is over


def test_an_application_has_the_body_whole_and_it_counts_until_the_answer_is_out(house: House_) -> None:
    client = with_application(house(), Reply(200, (), b"made"))
    assert client.comes(POST.replace(b"/page", b"/app") + b"12") is Stop.BODY
    assert client.comes(b"345") is Stop.BYTES
    (exchange,) = client.place.exchanges
    assert exchange.body == b"12345"
    assert client.statuses() == [200]
    assert client.here.service.bodies.held == 0  # though the application keeps it


# --- an application's turn --------------------------------------------------------------------------------------------


def test_an_application_is_called_so_often_in_a_turn_and_files_are_answered_all_the_same(
    house: House_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "CALLS_S", 60.0)
    client = with_application(house(pipeline_max=10 * CALLS_MAX), Reply(200, (), b"made"))
    client.here.loop.calling.left = 60.0
    assert client.comes(GET + APP * (CALLS_MAX + 1) + GET) is Stop.TURN
    assert client.statuses() == [200] * (1 + CALLS_MAX)
    assert client.http.inbox == APP + GET
    assert client.here.service.requests == 1 + CALLS_MAX
    client.next_round()
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200, 200]
    assert len(client.place.exchanges) == CALLS_MAX + 1


def test_a_request_with_a_body_waits_for_its_turn_when_the_body_is_there(house: House_) -> None:
    client = with_application(house(), Reply(200, (), b"made"))
    client.here.loop.calling.left = 0.0
    assert client.comes(POST.replace(b"/page", b"/app") + b"12345" + GET) is Stop.TURN
    assert client.place.exchanges == []
    client.here.loop.calling.left = 60.0
    client.next_round()
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200, 200]


# --- answers that are waited for --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "status"), [(COLD, 503), (APP, 504)])
def test_what_takes_too_long_has_another_answer_and_the_next_request_its_own(
    house: House_, request_: bytes, status: int
) -> None:
    client = with_application(house())
    client.comes(request_ + GET)
    assert client.http.expire()
    assert client.http.go_on() is None
    client.comes(b"")
    assert client.statuses() == [status, 200]


@pytest.mark.parametrize("how", ["abandon", "close"])
def test_an_answer_that_is_not_wanted_any_more_reaches_no_owner(house: House_, how: str) -> None:
    client = with_application(house())
    client.comes(APP + GET)
    (exchange,) = client.place.exchanges
    left: list[str] = []
    exchange.abandoned = lambda: left.append("left")
    getattr(client.http, how)()
    assert left == ["left"]
    exchange.finish(Reply(200, (), b"late"))
    client.here.hear()
    assert client.told == []
    assert not client.http.is_applications_turn
    if how == "close":
        assert client.http.inbox == b""
        client.http.resumed()
        client.http.fail()
        assert client.told == []


def test_an_owner_hears_of_a_step_that_raised(house: House_) -> None:
    client = Client(house())
    client.http.fail()
    assert client.told == ["fail"]


@pytest.mark.parametrize("body", [b"", b"12345"])
def test_what_the_front_had_answered_by_the_application_is_not_asked_again(house: House_, body: bytes) -> None:
    client = with_application(house())
    post = POST.replace(b"/page", b"/app")
    client.http.inbox = (post + body if body else APP) + GET
    client.http.take(Reply(200, (), b"made"))
    assert client.http.go_on() is None
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200, 200]
    assert (client.place.exchanges, client.here.service.requests) == ([], 2)


# --- answers that come piece by piece ---------------------------------------------------------------------------------


class Pieces:
    """A stream that gives a piece when the test says so."""

    def __init__(self) -> None:
        self.gives: list[Give] = []
        self.closed = 0

    def pull(self, give: Give) -> None:
        self.gives.append(give)

    def close(self) -> None:
        self.closed += 1


def begun(house: House_, **settings: Any) -> tuple[Client, Pieces]:
    stream = Pieces()
    client = with_application(house(**settings), Reply(200, (), stream))
    assert client.comes(APP + GET) is Stop.STREAM
    return client, stream


def test_each_piece_of_a_stream_is_asked_for_and_its_end_is_logged(house: House_) -> None:
    client, stream = begun(house)
    assert client.sent().endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert client.here.log == []
    assert not client.http.is_applications_turn
    assert client.http.pull()
    assert client.http.is_applications_turn
    stream.gives[0](b"some")
    assert client.told == [Stop.STREAM]
    client.http.pull()
    stream.gives[1](b"")
    assert (client.told, client.here.log, stream.closed) == ([Stop.STREAM, Stop.SHARE], [(200, 4)], 1)
    assert client.sent() == b"4\r\nsome\r\n0\r\n\r\n"
    assert not client.http.pull()  # nothing comes piece by piece any more
    assert client.comes(b"") is Stop.BYTES
    assert client.statuses() == [200]


def test_a_stream_whose_piece_takes_too_long_is_cut(house: House_, caplog: pytest.LogCaptureFixture) -> None:
    client, _ = begun(house, app_timeout_s=7.0)
    client.http.pull()
    assert not client.http.expire()
    assert "GET /app: its stream was cut, it gave no piece within --app-timeout (7 s)" in caplog.text


def test_a_stream_is_closed_with_its_connection(house: House_) -> None:
    client, stream = begun(house)
    client.http.pull()
    client.http.close()
    stream.gives[0](b"late")
    assert (stream.closed, client.told) == (1, [])


# --- which client asks ------------------------------------------------------------------------------------------------


def logged_clients(here: House) -> list[str]:
    clients: list[str] = []
    here.service.log = lambda client, *_: clients.append(client)
    return clients


def test_a_trusted_proxy_says_which_client_asks_and_of_each_request_anew(house: House_) -> None:
    here = house()
    here.service.proxies = Proxies(Trusted(("192.0.2.7",)))
    clients = logged_clients(here)
    client = Client(here)
    told = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.4\r\n\r\n")
    assert client.comes(told + GET) is Stop.BYTES
    assert clients == ["198.51.100.4", "192.0.2.7"]
    assert (client.http.client, client.http.origin is not None) == ("192.0.2.7", False)
    client.comes(told)
    assert client.http.origin is not None
    client.comes(b"nonsense\r\n\r\n")
    assert clients[-1] == "192.0.2.7"  # what is not understood is the peer's


def test_another_peer_is_not_believed(house: House_) -> None:
    here = house()
    here.service.proxies = Proxies(Trusted(("192.0.2.7",)))
    clients = logged_clients(here)
    told = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 198.51.100.4\r\n\r\n")
    Client(here, peer="192.0.2.8").comes(told)
    assert clients == ["192.0.2.8"]


# --- what an answer costs ---------------------------------------------------------------------------------------------


SERVER_CODE = str(Path(zcserve.__file__).parent) + os.sep


def calls_for(here: House, request: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many functions of the server run for one more request of a connection. The clocks stand still meanwhile, so
    that no timer fires, no second begins and no turn is long; and no garbage is collected, which may call finalizers.
    """
    here.service.log = None
    now = here.loop.now
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now)
    _, transport = here.connect()
    for _ in range(3):  # what is remembered is there then
        transport.comes = request
        here.turn(transport)
    calls = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(SERVER_CODE)

    transport.comes = request
    gc.disable()
    sys.setprofile(note)
    try:
        here.turn(transport)
    finally:
        sys.setprofile(None)
        gc.enable()
        monkeypatch.undo()
    assert transport.sent.count(b"HTTP/1.1 ") == 4
    return calls


@pytest.mark.parametrize(
    ("line", "field", "more"),
    [
        (b"HEAD /page", b"", 0),
        (b"GET /page?v=1", b"", 0),
        (b"GET /page", b"If-None-Match: *\r\n", 15),
        (b"GET /page", b"Range: bytes=0-3\r\n", 18),
        (b"GET /absent", b"", 11),
        (b"OPTIONS /page", b"", 7),
        (b"DELETE /page", b"", 6),
    ],
)
def test_what_waits_for_nothing_takes_few_calls_more_than_a_page(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch, line: bytes, field: bytes, more: int
) -> None:
    here = house()
    request = line + b" HTTP/1.1\r\nHost: test\r\n" + field + b"\r\n"
    assert calls_for(here, request, monkeypatch) <= calls_for(here, GET, monkeypatch) + more


def test_a_head_whose_target_is_none_gets_no_content(house: Callable[..., House]) -> None:
    here = house()
    _, transport = here.connect(b"HEAD nothing HTTP/1.1\r\nHost: test\r\n\r\n")
    here.turn(transport)
    assert statuses(transport) == [400]
    assert transport.sent.endswith(b"\r\n\r\n")
