"""The soaks: what they call wrong, and each of them for a second or two, in as many lanes as
tests are (tests/support/lanes.py)."""

from __future__ import annotations

import multiprocessing
import random
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.lanes import COUNT
from tools.soak import everything, flip, upgrades
from tools.soak.__main__ import main, parser
from tools.soak.client import Answer, Connection, UnavailableError
from tools.soak.content import WrongError, content, make, publish, size_of, target_of, version_of, whole_of
from tools.soak.crew import Crew, Facts, Found, Step
from tools.soak.everything import LogRead
from tools.soak.reading import Reading
from tools.soak.served import SoakError, serving

LANES = ("--lanes", str(COUNT))

# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_any_part_of_a_file_tells_its_version() -> None:
    whole = content(12, 34)
    assert len(whole) == size_of(12, 34)
    assert whole_of(12, whole) == 34
    for start in (0, 1, 31, 32, 77, 1000):
        assert version_of(12, whole[start : start + 64], start) == 34


@pytest.mark.parametrize(
    ("part", "start"),
    [
        (content(13, 34)[:200], 0),  # another file's
        (content(12, 34)[:100] + content(12, 35)[100:200], 0),  # of two versions
        (content(12, 34)[:200], 1),  # from another place
        (bytes(200), 0),  # zeros
        (content(12, 34)[:150] + bytes(50), 0),
    ],
)
def test_a_part_with_a_wrong_byte_is_seen(part: bytes, start: int) -> None:
    with pytest.raises(WrongError):
        version_of(12, part, start)


def test_a_whole_body_that_is_too_short_or_too_long_is_seen() -> None:
    for size in (size_of(12, 34) - 1, size_of(12, 34) + 1):
        with pytest.raises(WrongError, match="bytes, not"):
            whole_of(12, content(12, 34, size))


def test_before_a_503_stands_what_the_log_said_of_its_file() -> None:
    changed, other = "INFO updated: 1 changed, 0 gone: /d0/1.bin", "INFO updated: 1 changed, 0 gone: /d0/2.bin"
    refused = "WARNING GET /d0/1.bin?c=1-1&n=2: answered 503, its file cannot be read, or changes too often"
    lines = [changed] * 9 + [other, refused, changed]
    assert everything.told_before(lines, refused) == [changed] * 5 + [refused]


class _Nowhere(Connection):
    """A connection of which only what was answered is looked at."""

    def __init__(self) -> None:
        self.name = "1-1"
        self.seen: dict[int, int] = {}
        self.tags: dict[int, bytes] = {}


@pytest.fixture
def reading(facts: Facts) -> Reading:
    """Files up to version 5 are in place."""
    return Reading(facts, Counter(dict.fromkeys(range(20), 5)), 0)


@pytest.fixture
def facts() -> Facts:
    return Facts(1, 0, None, None, random.Random(1))  # type: ignore[arg-type]


def _answer(number: int, version: int, tag: bytes = b"a") -> Answer:
    return Answer(200, {b"etag": tag}, content(number, version))


def test_what_goes_back_on_a_connection_or_is_not_written_yet_is_seen(reading: Reading) -> None:
    one = _Nowhere()
    reading.whole(one, 1, _answer(1, 4, b"a"))
    reading.whole(one, 1, _answer(1, 6, b"b"))  # it is in place before that is noted
    with pytest.raises(WrongError, match="goes back from 6 to 5"):
        reading.whole(one, 1, _answer(1, 5, b"c"))
    with pytest.raises(WrongError, match="not written yet"):
        reading.whole(one, 2, _answer(2, 7))
    with pytest.raises(WrongError, match="two tags"):
        reading.whole(_Nowhere(), 1, _answer(1, 4, b"b"))
    with pytest.raises(WrongError, match="404"):
        reading.whole(one, 1, Answer(404, {}, b""))
    reading.whole(one, 9, Answer(404, {}, b""))  # comes and goes


def test_a_part_has_to_be_what_its_field_says(reading: Reading) -> None:
    one, whole = _Nowhere(), content(1, 4)
    fields = {b"etag": b"a", b"content-range": b"bytes 10-99/%d" % len(whole)}
    reading.part(one, 1, Answer(206, fields, whole[10:100]))
    for wrong in (whole[10:99], whole[11:101]):
        with pytest.raises(WrongError):
            reading.part(one, 1, Answer(206, fields, wrong))
    with pytest.raises(WrongError, match="200 to a range"):
        reading.part(one, 1, Answer(200, fields, whole))


def test_what_is_answered_503_is_counted_and_its_connection_is_replaced(facts: Facts) -> None:
    asked: list[str] = []

    def refused(one: Connection) -> bool:
        asked.append(one.name)
        raise UnavailableError

    facts.total = multiprocessing.Value("q", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        facts.port = listener.getsockname()[1]
        reading = Reading(facts, {}, 1)
        for _ in range(2):
            reading.use(refused)
        reading.use(lambda one: True)  # closes it
    assert (asked, facts.counts) == (["1-1", "1-2"], {"503": 2})


LOGGED = '127.0.0.1 - - [30/Nov/2026:02:00:00 +0000] "GET /a?c=1-2&n=%d HTTP/1.1" 200 10 "-" "-"\n'


def test_the_log_is_read_for_order_and_for_what_is_missing(tmp_path: Path) -> None:
    read = LogRead(1)
    for number, lines in enumerate(([1, 2, 3], [5, 4])):
        file = tmp_path / f"log.{number}"
        file.write_text("".join(LOGGED % line for line in lines) + "torn\n" * number)
        read.read(file)
    assert read.faults == ["the log has 1-2 4 behind 5", "the log has 'torn'"]
    assert (read.lines, read.missing({"1-2": 7, "1-3": 1})) == (6, 3)


@pytest.mark.parametrize(
    ("numbers", "late", "faults"),
    [
        ((4, 5, 1, 2, 6, 3, 7), 3, []),  # 1 to 3 are another lane's
        ((3, 2, 1), 2, ["the log has 1-2 1 behind 3, 2"]),
        ((1, 2, 2), 1, ["the log has 1-2 2 twice"]),
    ],
)
def test_a_connection_has_as_many_rising_rows_as_there_are_lanes(
    tmp_path: Path, numbers: tuple[int, ...], late: int, faults: list[str]
) -> None:
    read = LogRead(2)
    (tmp_path / "log").write_text("".join(LOGGED % number for number in numbers))
    read.read(tmp_path / "log")
    assert (read.late, read.faults) == (late, faults)


# --- with a server ----------------------------------------------------------------------------------------------------


def _right(found: tuple[Found, dict[str, Any]]) -> dict[str, int]:
    assert found[0].faults == []
    return found[0].counts


def test_everything_at_once_is_answered_rightly(tmp_path: Path) -> None:
    counts = _right(everything.run(tmp_path, LANES, COUNT, 0.7))
    kinds = {name.partition(":")[0] for name in counts}
    assert kinds == {"whole", "range", "condition", "absent", "servlet", "given up", "written"}


def test_a_flip_goes_forward_on_each_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flip, "AFTER_S", 0.2)
    assert _right(flip.run(tmp_path, LANES, 500, 2)).keys() == {"release 1", "release 2", "release 3"}


def test_an_upgrade_loses_no_request(tmp_path: Path) -> None:
    assert sum(_right(upgrades.run(tmp_path, LANES, 1000, 1)).values()) >= 1000


def _wrong(facts: Facts, given: Any) -> Step:
    def step(_: Facts) -> None:
        raise WrongError(given)

    return step


def test_what_a_client_finds_is_a_fault_and_a_client_that_ends_is_told(tmp_path: Path) -> None:
    crew = Crew(0, [(_wrong, "not what it has to be")])
    with pytest.raises(SoakError, match="a client has ended"), crew:
        crew.watch(60)
    assert len(crew.found.faults) == 20
    assert crew.found.faults[0].startswith("WrongError: not what it has to be (step:")


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(SoakError, match=r"has ended with 2: .*none"), serving(tmp_path / "none"):
        pass


def test_the_command_tells_figures_and_ends_with_1_for_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(everything, "run", lambda *_: (Found({"whole": 1234}, ["one"], {}), {"log lines": 5}))
    assert main(["everything", "--lanes", "3"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("everything, 3 lanes, 0 s, ")
    assert told[1:] == ["  log lines: 5", "  whole: 1,234", "FAULT: one"]
    assert parser().parse_args(["flip"]).files == 100_000


def test_files_are_put_in_place_whole(tmp_path: Path) -> None:
    make(tmp_path, 101, 1)
    publish(tmp_path, 100, 2)
    assert whole_of(100, (tmp_path / target_of(100)[1:]).read_bytes()) == 2
    assert whole_of(99, (tmp_path / target_of(99)[1:]).read_bytes()) == 1
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 101
