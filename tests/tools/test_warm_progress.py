"""How far something is, on a terminal, with and without the library that draws it."""

from __future__ import annotations

import io
import sys

import pytest

from tools.warm.progress import shown


class Screen(io.StringIO):
    """Takes what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def seen(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is written to this standard error while something goes on."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", screen)
    with shown("reading") as progress:
        progress(2, 4)
        progress(4, 4)
    return screen.getvalue()


def test_the_houses_own_line_where_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    text = seen(Screen(), monkeypatch)
    assert "]  50%  2 of 4" in text
    assert text.endswith("\r\033[K")


def test_the_library_draws_it_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    text = seen(Screen(), monkeypatch)
    assert "reading" in text
    assert "4/4" in text


def test_nothing_is_written_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(io.StringIO(), monkeypatch) == ""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert seen(io.StringIO(), monkeypatch) == ""
