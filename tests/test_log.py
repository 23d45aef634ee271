"""zcserve.log: records that nothing from outside can forge."""

from __future__ import annotations

import io
import logging
import re
import time
from typing import Any

import pytest

from zcserve import log as module
from zcserve.cache.reading import ChangedError
from zcserve.errors import UsageError, reason_of
from zcserve.log import RECENT_CHARACTERS_MAX, RECENT_MAX, Block, Formatter, Log, printable, recent

EVIL = 'a\nERROR zcserve: forged\r\x1b[31m\x7f\x85\u2028\u202e\udcff"\\é'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ('plain "text" \\ é', 'plain "text" \\ é'),
        ("a\nb\r\t\0", "a\\nb\\r\\t\\x00"),
        ("\x1b[31m\x7f\x9b", "\\x1b[31m\\x7f\\x9b"),
        ("\u2028\u202e\ufeff\udcff", "\\u2028\\u202e\\ufeff\\udcff"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_value_of_a_message_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    Log("zcserve.test").warning("%s: %s, %d of %.1f s, %r", EVIL, OSError(EVIL), 3, 0.5, None)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.isprintable()
    assert message.startswith("a\\nERROR zcserve: forged\\r\\x1b[31m")
    assert message.endswith(", 3 of 0.5 s, 'None'")
    assert (record.name, record.levelname) == ("zcserve.test", "WARNING")


def test_a_record_names_the_place_that_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("zcserve.test")
    log.error("here")
    try:
        raise ValueError
    except ValueError:
        log.exception("and here")
    assert [record.funcName for record in caplog.records] == ["test_a_record_names_the_place_that_logged"] * 2


def test_a_traceback_is_escaped_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError(EVIL)
    Log("zcserve.test").error("failed", exc_info=error)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.exc_text is not None
    assert all(line.isprintable() for line in record.exc_text.split("\n"))


def test_what_is_not_wanted_costs_no_text() -> None:
    class Dear:
        def __str__(self) -> str:
            raise AssertionError

    log = Log("zcserve.test.quiet")
    log.logger.setLevel(logging.ERROR)
    log.warning("%s", Dear())


def test_only_the_first_line_of_a_record_begins_without_a_blank() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Formatter("%(levelname)s %(message)s"))
    other = logging.getLogger("of.an.application")
    ours = Log("zcserve.test.forged")
    for logger in (other, ours.logger):
        logger.handlers, logger.propagate = [handler], False
    forms: list[tuple[str, Any]] = [("%s", EVIL), ("at:\n%s", Block(EVIL))]
    for form, value in forms:
        for logger in (other, ours):  # type: ignore[assignment]
            try:
                raise ValueError(EVIL)
            except ValueError:
                logger.exception(form, value)
    lines = out.getvalue().removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert sum(not line.startswith(" ") for line in lines) == 4
    assert not [line for line in lines if re.match("ERROR zcserve: forged", line)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (FileNotFoundError(2, "No such file or directory", "/a"), "No such file or directory"),
        (OSError(), "OSError"),
        (OSError("told in words"), "told in words"),
        (TimeoutError(), "TimeoutError"),
        (MemoryError(), "MemoryError"),
        (UsageError("a flag"), "a flag"),
        (ChangedError(), "it changes while it is read"),
        (type("MuteError", (Exception,), {"__str__": None})(), "MuteError"),
    ],
    ids=repr,
)
def test_a_reason_is_never_empty(error: Exception, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    assert reason_of(error) == reason
    Log("zcserve.test").warning("failed: %s", error)
    (record,) = caplog.records
    assert record.getMessage().removeprefix("failed: ")


def test_a_logger_that_dictconfig_has_disabled_logs(caplog: pytest.LogCaptureFixture) -> None:
    log = Log("zcserve.test.disabled")
    log.logger.disabled = True  # as disable_existing_loggers does, which is its default
    log.warning("here")
    assert caplog.messages == ["here"]


def test_the_last_warnings_are_kept_on_one_line_each() -> None:
    began = time.time()
    log = Log("zcserve.test")
    log.info("not this")
    for number in range(RECENT_MAX + 5):
        log.warning("number %d of %s\nand more", number, "a\nb")
    log.error("x" * 2 * RECENT_CHARACTERS_MAX)
    told = recent()
    assert len(told) == RECENT_MAX
    assert told[-2][1:] == ("warning", f"number {RECENT_MAX + 4} of a\\nb")
    assert told[-1][1:] == ("error", "x" * RECENT_CHARACTERS_MAX)
    assert began <= told[0].time <= told[-1].time


def test_the_least_level_of_a_library_is_that_of_its_logger(caplog: pytest.LogCaptureFixture) -> None:
    log, logger = Log("zcserve.somewhere"), logging.getLogger("zcserve")
    before = logger.level
    try:
        module.set_level("error")
        log.warning("not told")
        assert module.level() == "error"
        module.set_level("debug")
        log.debug("told")
        assert module.level() == "debug"
        assert caplog.messages == ["told"]
    finally:
        logger.setLevel(before)
