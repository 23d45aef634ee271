"""Iterators of servlets as streams: the client sets the pace, and what fails or goes away ends it; on both engines.

In each of the three places where a servlet may run: the loop, a thread, the asyncio thread.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.site import Serve, Site
from tests.support.stage import EVENTS, JOURNAL, StageClient, write_servlets
from tests.support.waiting import WaitUntil
from zcserve import Config, Server
from zcserve.config.table import Engine

WHERES = ("loop", "thread", "async", "async-from-loop", "iterator-in-task")
# An asynchronous iterator that a function in the loop made cannot be asked before its answer is promised.
BEGUN_LATE = ("async-from-loop",)

# A function `pieces(request)` in all five forms; {steps} is the generator's body, in which PAUSE gives the loop a turn.
FORMS = """
def generate(request):
{steps}

async def generate_async(request):
{async_steps}

@servlet("/loop")
def in_loop(request):
    return generate(request)

@servlet("/thread", thread=True)
def in_thread(request):
    return generate(request)

@servlet("/async")
async def in_task(request):
    async for piece in generate_async(request):
        yield piece

@servlet("/async-from-loop")
def from_loop(request):
    return generate_async(request)

@servlet("/iterator-in-task")
async def iterator_in_task(request):
    return generate(request)

@servlet("/fine")
def fine(request):
    return b"fine"
"""


def forms(steps: str) -> str:
    body = "".join(f"    {line}\n" for line in steps.strip("\n").split("\n"))
    return FORMS.replace("{steps}", body).replace("{async_steps}", body)


# As many pieces as are asked for; each is counted when it is made, and the end is told.
ENDLESS = forms("""
try:
    for n in itertools.count(1):
        JOURNAL.append(f"piece {n}")
        yield b"%08d" % n + b"." * (1 << 16)
finally:
    JOURNAL.append("closed")
""")
PIECE_BYTES = 8 + (1 << 16)


@pytest.fixture
def endless(live: Serve, site: Site, tmp_path: Path) -> Server:
    site.write("page", b"page")
    return live(site.root, servlets=str(write_servlets(tmp_path, endless=ENDLESS)))


def rest(wait_until: WaitUntil) -> int:
    """How many pieces were made, once no more are: while ten other requests are answered."""
    seen = [-1]

    def rests() -> bool:
        seen.append(len(JOURNAL))
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(rests)
    return len(JOURNAL)


@pytest.mark.parametrize("where", WHERES)
def test_a_client_that_does_not_read_is_made_no_pieces_for(endless: Server, wait_until: WaitUntil, where: str) -> None:
    with StageClient(endless.port, receive_buffer=4096) as slow, StageClient(endless.port) as other:
        slow.ask(f"/{where}")
        wait_until(lambda: JOURNAL)
        made = rest(wait_until)
        assert made < 200  # what the sockets hold, where a generator without a brake would make thousands
        for _ in range(5):
            assert [other.get(target).body for target in ("/fine", "/page")] == [b"fine", b"page"]
        assert len(JOURNAL) == made
        slow.read_head()
        for n in range(1, made + 50):
            chunk = slow.read_chunk()
            assert (int(chunk[:8]), len(chunk)) == (n, PIECE_BYTES)
        assert len(JOURNAL) >= made + 49
        assert "closed" not in JOURNAL
    wait_until(lambda: JOURNAL[-1] == "closed")
    assert JOURNAL.count("closed") == 1


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_goes_away_closes_the_generator(
    endless: Server, wait_until: WaitUntil, where: str, reset: bool
) -> None:
    with StageClient(endless.port) as client:
        client.ask(f"/{where}")
        client.read_head()
        client.read_chunk()
        if reset:
            client.reset()
        else:
            client.close()
    wait_until(lambda: JOURNAL[-1] == "closed")
    with StageClient(endless.port) as client:
        assert client.get("/fine").body == b"fine"
    assert JOURNAL.count("closed") == 1


@pytest.mark.parametrize("where", WHERES)
def test_a_head_request_closes_the_generator(endless: Server, wait_until: WaitUntil, where: str) -> None:
    with StageClient(endless.port) as client:
        for n in range(1, 4):
            response = client.get(f"/{where}", method="HEAD")
            assert response["Transfer-Encoding"] == b"chunked"
            assert client.get("/fine").body == b"fine"
            # A generator that was not begun has nothing to close.
            wait_until(lambda n=n: JOURNAL.count("closed") == n or where in BEGUN_LATE)
    assert len(JOURNAL) <= 6  # one piece each, to see whether it fails


@pytest.mark.parametrize("engine", ["python", "native"])
def test_a_server_ends_while_it_sends(site: Site, tmp_path: Path, wait_until: WaitUntil, engine: Engine) -> None:
    if engine == "native":
        pytest.importorskip("zcserve.net._lane")
    folder = str(write_servlets(tmp_path, endless=ENDLESS))
    with ExitStack() as clients:
        with Server(Config(root=site.root, port=0, engine=engine, servlets=folder)) as server:
            for where in WHERES:
                client = clients.enter_context(StageClient(server.port, receive_buffer=4096))
                client.ask(f"/{where}")
                client.read_head()
            rest(wait_until)
        assert "0\r\n\r\n" not in client.read_to_end()[-5:].decode("latin-1")


# --- pieces as they come --------------------------------------------------------------------------------------

STEPS = """
@servlet("/thread", thread=True)
def in_thread(request):
    for n in range(3):
        assert EVENTS[f"thread {n}"].wait(WAIT_S)
        yield f"piece {n}"

@servlet("/async")
async def in_task(request):
    for n in range(3):
        while not EVENTS[f"async {n}"].is_set():
            await asyncio.sleep(0.001)
        yield f"piece {n}"
"""


def test_a_piece_is_sent_when_it_is_made(live: Serve, site: Site, tmp_path: Path) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, steps=STEPS)))
    with StageClient(server.port) as thread, StageClient(server.port) as task:
        clients = {"thread": thread, "async": task}
        for where, client in clients.items():
            client.ask(f"/{where}")
        for n in range(3):
            for where, client in clients.items():
                EVENTS[f"{where} {n}"].set()
                if not n:
                    client.read_head()
                assert client.read_chunk() == f"piece {n}".encode()
        for client in clients.values():
            assert client.read_chunk() == b""


def test_what_is_behind_a_stream_waits_for_its_end(live: Serve, site: Site, tmp_path: Path) -> None:
    site.write("page", b"page")
    server = live(site.root, servlets=str(write_servlets(tmp_path, steps=STEPS)))
    request = b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n"
    with StageClient(server.port) as client:
        client.send(b"".join(request % target for target in (b"page", b"thread", b"page", b"async", b"page")))
        assert client.read().body == b"page"
        for where in ("thread", "async"):
            for n in range(3):
                EVENTS[f"{where} {n}"].set()
            assert client.read().body == b"piece 0piece 1piece 2"
            assert client.read().body == b"page"


def test_a_stream_may_last_longer_than_any_timeout_of_requests(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil
) -> None:
    timeouts = {"head_timeout_s": 0.1, "idle_timeout_s": 0.1, "body_timeout_s": 0.1, "write_timeout_s": 0.1}
    server = live(site.root, servlets=str(write_servlets(tmp_path, steps=STEPS)), **timeouts)
    with StageClient(server.port) as client:
        client.ask("/thread")
        EVENTS["thread 0"].set()
        client.read_head()
        client.read_chunk()
        for _ in range(2):
            with StageClient(server.port) as idle:
                assert idle.get("/absent").status == 404
                assert idle.at_end()  # as the idle do, after their time
        EVENTS["thread 1"].set()
        EVENTS["thread 2"].set()
        assert list(iter(client.read_chunk, b"")) == [b"piece 1", b"piece 2"]


# --- failures -------------------------------------------------------------------------------------------------

LATE: dict[str, tuple[str, str]] = {
    "an exception": ("raise ValueError('late')", "ValueError: late"),
    "an exit": ("sys.exit(3)", "SystemExit: 3"),
    "a wrong piece": ("yield 5", "TypeError: a piece of content must be bytes or str, not int"),
    "an answer": ("raise HttpError(404, 'too late')", "too late"),
}


@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("where", WHERES)
def test_a_failure_after_the_first_piece_cuts_the_answer_short(
    live: Serve,
    site: Site,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wait_until: WaitUntil,
    where: str,
    what: str,
) -> None:
    failure, told = LATE[what]
    source = forms(f"yield 'first'\n{failure}")
    server = live(site.root, servlets=str(write_servlets(tmp_path, late=source)))
    for lines in ((), ("Connection: close",)):
        caplog.clear()
        with StageClient(server.port) as client, StageClient(server.port) as other:
            client.ask(f"/{where}", *lines)
            client.read_head()
            assert client.read_chunk() == b"first"
            with pytest.raises(EOFError):
                client.read_chunk()
            assert other.get("/fine").body == b"fine"
        wait_until(lambda: told in caplog.text)
        errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(errors) == 1
        assert f"GET /{where}" in errors[0].getMessage()
        assert "servlets/late.py:" in errors[0].getMessage()


@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("where", [where for where in WHERES if where not in BEGUN_LATE])
def test_a_failure_before_the_first_piece_is_an_answer(
    live: Serve, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str, what: str
) -> None:
    failure, told = LATE[what]
    source = forms(f"yield b''\n{failure}")
    server = live(site.root, servlets=str(write_servlets(tmp_path, early=source)))
    with StageClient(server.port) as client:
        for _ in range(3):
            assert client.get(f"/{where}").status == (404 if what == "an answer" else 500)
            assert client.get("/fine").body == b"fine"
    assert what == "an answer" or told in caplog.text


def test_in_http_1_0_a_failure_is_told_from_an_end_by_the_log_alone(
    live: Serve, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, late=forms("yield 'first'\nraise ValueError"))))
    for where in WHERES:
        with StageClient(server.port) as client:
            client.ask(f"/{where}", version="1.0")
            assert client.read().body == b"first"
        wait_until(lambda where=where: f"GET /{where}" in caplog.text)


def test_a_generator_whose_end_fails_has_been_sent(
    live: Serve, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    source = forms("try:\n    while True:\n        yield b'piece'\nfinally:\n    raise ValueError('at the end')")
    server = live(site.root, servlets=str(write_servlets(tmp_path, ends=source)))
    for where in WHERES:
        caplog.clear()
        with StageClient(server.port) as client:
            client.ask(f"/{where}")
            client.read_head()
            client.read_chunk()
        wait_until(lambda: "at the end" in caplog.text)
    with StageClient(server.port) as client:
        assert client.get("/fine").body == b"fine"


# --- clients that do not wait ---------------------------------------------------------------------------------

WAITING = """
@servlet("/async")
async def in_task(request):
    JOURNAL.append("begun")
    try:
        await asyncio.sleep(WAIT_S)
    except asyncio.CancelledError:
        JOURNAL.append("cancelled")
        raise

@servlet("/async-stream")
async def stream(request):
    yield b"first"
    JOURNAL.append("begun")
    try:
        await asyncio.sleep(WAIT_S)
    except asyncio.CancelledError:
        JOURNAL.append("cancelled")
        raise
    yield b"never"

@servlet("/thread", thread=True)
def in_thread(request):
    JOURNAL.append("begun")
    assert EVENTS["go"].wait(WAIT_S)
    JOURNAL.append("done")
    return b"unwanted"

@servlet("/fine")
def fine(request):
    return b"fine"
"""


@pytest.mark.parametrize("where", ["async", "async-stream"])
def test_a_client_that_goes_away_cancels_the_coroutine(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, waiting=WAITING)))
    with StageClient(server.port) as client:
        client.ask(f"/{where}")
        wait_until(lambda: JOURNAL == ["begun"])
        client.reset()
    wait_until(lambda: JOURNAL == ["begun", "cancelled"])
    with StageClient(server.port) as client:
        assert client.get("/fine").body == b"fine"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_thread_whose_client_went_away_ends_in_its_time(
    live: Serve, site: Site, tmp_path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    server = live(site.root, servlets=str(write_servlets(tmp_path, waiting=WAITING)))
    with StageClient(server.port) as client:
        client.ask("/thread")
        wait_until(lambda: JOURNAL == ["begun"])
        client.reset()
    wait_until(lambda: server.service.count() == 0)
    EVENTS["go"].set()
    wait_until(lambda: JOURNAL == ["begun", "done"])
    with StageClient(server.port) as client:
        assert client.get("/thread").body == b"unwanted"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
