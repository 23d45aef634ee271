"""zcserve.journal: each line has its level where standard error is systemd's journal, and no value gives it another."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zcserve.journal import LINE_BYTES_MAX, Gathering, is_journal, marked

# What journald does to a stream (journald-stream.c): a line ends at a newline, a NUL, or LineMax; of what stands before
# each the first <N> is its level, and LOG_INFO where there is none.
LINE_MAX = 48 * 1024
PROGRAM = """
import logging, sys
from zcserve import log
from zcserve.log import Block, Log

EVIL = "<0>evil\\n<0>evil\\0<0>evil"
with log.to_stderr("debug"):
    own, theirs = Log("zcserve.test"), logging.getLogger("application")
    for speaker in (own, theirs):
        speaker.debug("debug %s", EVIL)
        speaker.info("%s", EVIL)
        speaker.warning("warning %s", "x" * 40_000 + "<0>" * 10_000)
        speaker.error("error:\\n%s", Block(EVIL))
        try:
            raise ValueError(EVIL)
        except ValueError:
            speaker.exception("exception")
    theirs.critical("critical")
    log.say("banner <0>\\n<0>evil")
    print(EVIL, file=sys.stderr)
    print("pieces", end="", file=sys.stderr, flush=True)
    own.info("in between")
    print("<0>evil", file=sys.stderr)
    print("x" * 40_000 + "<0>evil" * 4_000, end="", file=sys.stderr, flush=True)
    print("<0>evil", end="", file=sys.stderr, flush=True)
"""


def as_journald_reads(stream: bytes) -> list[tuple[int, bytes]]:
    """The level and the text of each line."""
    found = []
    for line in re.split(rb"[\n\0]", stream):
        for at in range(0, len(line), LINE_MAX):
            piece = line[at : at + LINE_MAX]
            match = re.match(rb"<([0-7])>", piece)
            found.append((int(match[1]), piece[3:]) if match else (6, piece))
    return found


def said(argv: list[str], *, where: str = "its") -> bytes:
    """What a process writes to standard error, which it is told is the journal, or that another descriptor is."""
    end, other = os.pipe()
    status = os.fstat(other)
    inode = status.st_ino + (where != "its")
    environ = os.environ | {"JOURNAL_STREAM": f"{status.st_dev}:{inode}"}
    with subprocess.Popen([sys.executable, *argv], stderr=other, env=environ, cwd=Path(__file__).parents[1]) as process:
        os.close(other)
        with open(end, "rb") as stream:
            text = stream.read()
        process.wait(60)
    return text


def test_each_line_has_the_level_of_its_record_and_no_value_another() -> None:
    lines = as_journald_reads(said(["-c", PROGRAM]))
    levels = {level for level, _ in lines}
    assert levels == {2, 3, 4, 6, 7}  # 0 is none: what is evil says so
    words = {7: b" DEBUG ", 6: b" INFO ", 4: b" WARNING ", 3: b" ERROR ", 2: b" CRITICAL "}
    for level, text in lines:
        for of_level, word in words.items():
            if word in text:
                assert level == of_level, text
    traces = [level for level, text in lines if text.startswith(b"  ValueError")]
    assert traces == [3, 3]
    assert {level for level, text in lines if text.startswith((b"pieces<0>evil", b"banner", b"xxx"))} == {6}


def test_elsewhere_no_line_has_one() -> None:
    text = said(["-c", PROGRAM.replace("<0>", "")], where="another")
    assert b" WARNING warning" in text
    assert not re.search(rb"^<", text, re.MULTILINE)


def test_what_is_told_before_there_is_a_log_is_an_error(tmp_path: Path) -> None:
    argv = ["-m", "zcserve", "--root", str(tmp_path / "nothing"), "--port", "0"]
    assert said(argv).startswith(b"<3>zcserve: ")
    assert said(argv, where="another").startswith(b"zcserve: ")


def test_a_descriptor_is_the_journal_where_device_and_inode_say_so(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        status = os.fstat(file.fileno())
        here = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(file.fileno(), here)
        for text in ("", "1", f"{status.st_dev}:", f"{status.st_ino}:{status.st_dev}", f"{status.st_dev}:0"):
            assert not is_journal(file.fileno(), {"JOURNAL_STREAM": text})
        assert not is_journal(file.fileno(), {})
    assert not is_journal(-1, here)


@pytest.mark.parametrize("size", [LINE_BYTES_MAX - 4, LINE_BYTES_MAX - 3, LINE_BYTES_MAX - 2, 5 * LINE_BYTES_MAX])
@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_a_long_line_is_cut_between_letters_and_nothing_of_it_is_lost(size: int, letter: str) -> None:
    text = "a" + letter * (size // len(letter.encode()))
    *lines, rest = marked(f"{text}\n".encode(), logging.WARNING).split(b"\n")
    assert rest == b""
    assert all(line.startswith(b"<4>") and len(line) <= LINE_BYTES_MAX for line in lines)
    assert "".join([lines[0][3:].decode(), *(line[5:].decode() for line in lines[1:])]) == text


@pytest.mark.parametrize("size", [1, 7, LINE_BYTES_MAX - 3, LINE_BYTES_MAX])
def test_pieces_become_whole_lines_of_a_bounded_length(size: int) -> None:
    text = b"one\n\ntwo\0" + b"x" * 3 * LINE_BYTES_MAX + b"\nthree"
    gathering = Gathering()
    found = [gathering.take(text[at : at + size]) for at in range(0, len(text), size)]
    assert all(one.endswith(b"\n") for one in found if one)
    assert gathering.rest() == b"three\n"
    assert gathering.rest() == b""
    *lines, _ = b"".join(found).split(b"\n")
    assert lines[:2] == [b"one", b""]
    assert b"".join(lines[2:]) == b"two\0" + b"x" * 3 * LINE_BYTES_MAX
    assert max(map(len, lines)) <= LINE_BYTES_MAX + size
