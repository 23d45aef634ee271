"""What an operator sees: each change once, as lines, as JSON, or as a table on a terminal."""

from __future__ import annotations

import json
import math

import pytest

from tools.warm.views import Events, Lines, Table, view_of
from zcserve.fleet.census import Row

ROW = Row("n1", "live", 7, 0, 0.5, 1.25, "")
UNKNOWN = Row("n2", "unknown", 0, 0, 0.0, math.inf, "")


def show(view: Lines) -> None:
    view.table([ROW, UNKNOWN], 1.0)
    view.table([ROW._replace(lag_s=9.0), UNKNOWN], 2.0)  # only older: no news
    full = ROW._replace(error="disk \x1b[31mfull", retry_s=32.4)
    view.table([full, UNKNOWN], 3.0)
    view.table([full._replace(retry_s=8.0), UNKNOWN], 4.0)
    view.event("phase", "committing", phase="committing")
    view.close()


def test_lines_tell_each_change_once_and_play_with_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(Lines())
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["n1", "live", "7", "-", "50%", "1.2s"],
        ["n2", "unknown", "-", "-", "0%", "never"],
        ["n1", "live", "7", "-", "50%", "1.2s", "disk", "\\x1b[31mfull", "(tried", "again", "in", "32", "s)"],
        ["committing"],
    ]


def test_events_are_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    show(view_of(is_json=True))
    first, second, _, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {"event": "node", **ROW._asdict()}
    assert second["lag_s"] is None
    assert last == {"event": "phase", "text": "committing", "phase": "committing"}


def test_a_table_has_its_heads_and_the_last_rows(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    show(Table())
    out = capsys.readouterr().out
    assert "in memory" in out
    assert "disk \\x1b[31mfull" in out
    assert "committing" in out


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert type(view_of(is_json=False)) is Lines
    assert isinstance(view_of(is_json=True), Events)
