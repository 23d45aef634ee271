"""zcserve.net.access_log: facts of requests in two formats, and a file that may be rotated away."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve.config.table import Config
from zcserve.journal import LINE_BYTES_MAX
from zcserve.net import access_log
from zcserve.net.access_log import AccessLog, Behind, Record, as_combined, as_json
from zcserve.net.fields import Fields
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser

SECOND = 1_000_000_000  # 2001-09-09T01:46:40Z


def fields_of(*lines: bytes, version: bytes = b"1.1") -> Fields:
    head = b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    parsed = Parser(Config(root=Path()), log_fields=True).parse(head, 0)
    assert parsed is not None
    return parsed[2]


def record(
    fields: Fields | None,
    target: bytes = b"/a?b",
    method: bytes = b"GET",
    behind: Behind = access_log.NOTHING,
    user: bytes = b"",
) -> Record:
    return SECOND, "127.0.0.1", method, target, fields, 200, 1234, 0, behind, user


BROWSER = (b"User-Agent: Mozilla/5.0 (X11)", b"Referer: http://a/")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (fields_of(*BROWSER), '"GET /a?b HTTP/1.1" 200 1234 "http://a/" "Mozilla/5.0 (X11)"'),
        (fields_of(version=b"1.0"), '"GET /a?b HTTP/1.0" 200 1234 "-" "-"'),
        (fields_of(b'User-Agent: a"b\\c\t\xe9'), r'"GET /a?b HTTP/1.1" 200 1234 "-" "a\x22b\x5cc\x09\xe9"'),
        (None, '"-" 200 1234 "-" "-"'),
    ],
)
def test_the_combined_format_is_apaches(fields: Fields | None, expected: str) -> None:
    assert as_combined(record(fields)) == f"127.0.0.1 - - [09/Sep/2001:01:46:40 +0000] {expected}\n"


def test_a_user_is_one_word_of_the_line() -> None:
    line = as_combined(record(fields_of(), user='a "b"\r\n- [é'.encode()))
    assert line.startswith(r"127.0.0.1 - a\x20\x22b\x22\x0d\x0a-\x20[\xc3\xa9 [09/Sep")
    assert json.loads(as_json(record(fields_of(), user="é".encode())))["user"] == "é"
    assert "user" not in json.loads(as_json(record(fields_of())))
    assert as_combined(record(fields_of(), user=b"-")).startswith(r"127.0.0.1 - \x2d [")
    assert as_combined(record(fields_of())).startswith("127.0.0.1 - - [")


def test_a_line_of_json_has_the_same_facts() -> None:
    line = as_json(record(fields_of(*BROWSER)))
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2001-09-09T01:46:40Z",
        "peer": "127.0.0.1",
        "method": "GET",
        "target": "/a?b",
        "version": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "referer": "http://a/",
        "user_agent": "Mozilla/5.0 (X11)",
    }


def test_what_stands_behind_a_line_has_an_order_and_six_digits() -> None:
    behind = (b'a"\\b', b"id-1", 0.00000049)
    assert as_combined(record(None, behind=behind)).endswith(r' "-" "-" "a\x22\x5cb" "id-1" 0.000000' + "\n")
    assert as_combined(record(None, behind=(b"", None, 61.5))).endswith(' "-" "-" "-" 61.500000\n')
    line = as_json(record(None, behind=behind))
    assert line.endswith(r', "host": "a\"\\b", "request_id": "id-1", "duration": 0.000000}' + "\n")
    assert json.loads(line)["host"] == 'a"\\b'


def test_one_of_several_is_logged_and_each_error(path: Path) -> None:
    log = AccessLog(str(path), "json", Prefixes(), every=4)
    for number in range(10):
        note(log, b"/%d" % number)
        log.record("127.0.0.1", b"GET", b"/error", None, 400, 1)
    log.close()
    assert [target for target in targets_in(path) if target != "/error"] == ["/0", "/4", "/8"]
    assert (len(targets_in(path)), log.left_out) == (13, 7)


@pytest.mark.parametrize("form", [as_combined, as_json])
@pytest.mark.parametrize(
    "value", [b'"', b'" 200 1 "', b"\\", b"\xff\xfe", b"\xe2\x80\xa8", b"\t", b"\xc2\x85", b"\x7f\n\r"]
)
def test_no_value_can_forge_a_line_or_a_field(form: Any, value: bytes) -> None:
    fields = fields_of()
    forged = Fields()
    for name in Fields.__slots__:
        setattr(forged, name, getattr(fields, name))
    forged.referer = forged.user_agent = value
    line = form(record(forged, target=b"/" + value))
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert line.isascii()
    if form is as_json:
        assert json.loads(line)["status"] == 200
    else:
        assert re.fullmatch(r'\S+ - - \[[^]]+\] "[^"]*" 200 1234 "[^"]*" "[^"]*"\n', line)


# --- the file ---------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def log(path: Path) -> Iterator[AccessLog]:
    opened = AccessLog(str(path), "json", Prefixes())
    yield opened
    opened.close()  # once more, where the test has done so


def targets_in(path: Path) -> list[str]:
    return [json.loads(line)["target"] for line in path.read_text().splitlines()] if path.exists() else []


def note(log: AccessLog, target: bytes) -> None:
    log.record("127.0.0.1", b"GET", target, None, 200, 1)


def test_closing_writes_what_is_left(log: AccessLog, path: Path) -> None:
    for n in range(1000):
        note(log, b"/%d" % n)
    log.close()
    assert targets_in(path) == [f"/{n}" for n in range(1000)]


def test_records_are_written_without_being_asked(log: AccessLog, path: Path, wait_until: WaitUntil) -> None:
    note(log, b"/a")
    wait_until(lambda: targets_in(path) == ["/a"])


def test_a_log_is_continued_not_begun_anew(path: Path) -> None:
    for target in (b"/a", b"/b"):
        log = AccessLog(str(path), "json", Prefixes())
        note(log, target)
        log.close()
    assert targets_in(path) == ["/a", "/b"]


def test_a_file_that_was_rotated_away_is_opened_anew(log: AccessLog, path: Path, wait_until: WaitUntil) -> None:
    note(log, b"/before")
    old = path.rename(path.with_suffix(".1"))
    log.reopen()
    wait_until(path.exists)
    note(log, b"/after")
    log.close()
    assert (targets_in(old), targets_in(path)) == (["/before"], ["/after"])


def test_it_is_opened_anew_though_records_never_cease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line that is written brings another: the queue does not become empty."""
    monkeypatch.setattr("zcserve.outlet.FILE_BYTES", 1)
    old = path.with_suffix(".1")
    log: AccessLog
    count = 0

    def flood(record: Record) -> str:
        nonlocal count
        count += 1
        if count == 10:
            path.rename(old)
            log.reopen()
        if count < 1000 and not (old.exists() and path.exists()):
            note(log, b"/more")
        return as_json(record)

    monkeypatch.setattr(access_log, "as_json", flood)
    log = AccessLog(str(path), "json", Prefixes())
    note(log, b"/first")
    assert log.close()
    assert 10 <= count < 100
    assert len(targets_in(old)) + len(targets_in(path)) == count


def test_when_it_cannot_be_opened_anew_the_old_file_goes_on(
    log: AccessLog, path: Path, wait_until: WaitUntil, caplog: pytest.LogCaptureFixture
) -> None:
    old = path.rename(path.with_suffix(".1"))
    path.mkdir()
    log.reopen()
    wait_until(lambda: "Is a directory" in caplog.text)
    note(log, b"/after")
    log.close()
    assert targets_in(old) == ["/after"]


def test_records_are_dropped_rather_than_memory_and_it_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_log, "WAITING_BYTES_MAX", 0)
    log = AccessLog(str(path), "combined", Prefixes())
    for _ in range(3):
        note(log, b"/a")
    with caplog.at_level(logging.ERROR):
        log.close()
    assert "3 records dropped" in caplog.text
    assert targets_in(path) == []


def test_what_a_full_disk_has_not_taken_by_the_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full", "combined", Prefixes())
    note(log, b"/a")
    log.close()
    assert "1 records dropped at the end" in caplog.text
    assert "written again" not in caplog.text


def test_a_record_that_cannot_be_written_is_not_the_last(
    path: Path, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = True

    def fails(record: Record) -> str:
        if failing:
            raise MemoryError
        return as_json(record)

    monkeypatch.setattr(access_log, "FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(access_log, "as_json", fails)
    log = AccessLog(str(path), "json", Prefixes())
    note(log, b"/lost")
    wait_until(lambda: "records are lost" in caplog.text)
    failing = False
    note(log, b"/kept")
    wait_until(lambda: targets_in(path) == ["/kept"])
    log.close()


def test_the_log_may_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("-", "combined", Prefixes())
    note(log, b"/a")
    log.close()
    assert '"-" 200 1 "-" "-"' in capsys.readouterr().out
    print("still open")


def test_in_the_journal_each_line_is_information_and_none_is_so_long_that_journald_cuts_it() -> None:
    program = """
from zcserve.config.table import Config
from zcserve.net.access_log import AccessLog
from zcserve.net.prefixes import Prefixes
from zcserve.net.request import Parser
fields = Parser(Config(root="."), log_fields=True).parse(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", 0)[2]
log = AccessLog("-", "combined", Prefixes())
for method, target in ((b"GET", b"/" + bytes([128]) * 9_000 + b"<0>" * 9_000), (b"<0>" * 18_000, b"/")):
    log.record("192.0.2.1", method, target, fields, 404, 0)
log.lines(b"of a lane\\n" * 2)
log.close()
"""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    environ = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, stdout=writer, env=environ, cwd=Path(__file__).parents[2]) as process:
        os.close(writer)
        with open(reader, "rb") as stream:
            lines = stream.read().splitlines()
        assert process.wait(20) == 0
    assert len(lines) == 2 * 2 + 2
    assert all(line.startswith(b"<6>") and len(line) <= LINE_BYTES_MAX for line in lines)
    assert lines[-2:] == [b"<6>of a lane"] * 2


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AccessLog(str(tmp_path / "absent" / "log"), "combined", Prefixes())
