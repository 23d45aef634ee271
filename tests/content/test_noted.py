"""zcserve.content.noted: what changes while something else is made of the same files."""

from __future__ import annotations

from zcserve.content.noted import Noted


def test_what_is_laid_and_what_was_renewed_is_taken_once() -> None:
    noted = Noted()
    noted.lay([b"/b", b"/a"])
    noted.lay([b"/a"])
    noted.renewed[b"/c"] = None
    assert sorted(noted.take()) == [b"/a", b"/b", b"/c"]
    assert noted.take() == []
    assert not noted.renewed
