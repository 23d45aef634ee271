"""A line that tells how far something is."""

from __future__ import annotations

import sys

import pytest

from zcserve.progress import Meter


def words(done: int, total: int) -> str:
    return f"{done}/{total}"


@pytest.mark.parametrize("terminal", [False, True])
def test_it_shows_on_a_terminal_alone_and_is_taken_away(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    meter = Meter(words)
    meter(30, 60)
    meter.clear()
    assert capsys.readouterr().err == ("\r30/60\r\033[K" if terminal else "")


def test_it_is_not_written_again_before_it_can_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("zcserve.progress.time.monotonic", lambda: now)
    meter = Meter(words, after_s=1.0)
    for step_s in (0.0, 0.9, 0.2, 0.05, 0.06):
        now += step_s
        meter(int(1000 * now - 100_000), 2000)
    assert capsys.readouterr().err == "\r1100/2000\r1210/2000"


def test_what_ends_soon_or_has_no_total_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    soon, endless = Meter(words, after_s=60.0), Meter(words)
    soon(1, 2)
    endless(5, 0)
    soon.clear()
    endless.clear()
    assert capsys.readouterr().err == ""
