"""zcserve.errors: what an error says, and what it may not be made of."""

from __future__ import annotations

import pytest

from zcserve.errors import HttpError, line_of, nearest, reason_of, words_of


class Mute(Exception):
    """One that fails even at saying what it is."""

    def __str__(self) -> str:
        raise RuntimeError


def test_an_http_error_says_what_it_is() -> None:
    assert (str(HttpError(404)), HttpError(404).reason) == ("404: Not Found", "Not Found")
    assert (str(HttpError(410, "sold")), HttpError(410, "sold").headers) == ("410: sold", ())
    assert HttpError(599).reason == "an error without a name"
    assert HttpError(401, headers={"A": "b"}).headers == (("A", "b"),)
    assert HttpError(401, headers=iter([("A", "b"), ("A", "c")])).headers == (("A", "b"), ("A", "c"))


def test_a_content_type_goes_with_json_alone() -> None:
    with pytest.raises(ValueError, match="goes with json="):
        HttpError(403, headers={"content-TYPE": "text/plain"})
    assert HttpError(403, headers={"content-TYPE": "a/json"}, json={}).json == {}


@pytest.mark.parametrize(
    ("error", "words", "line", "reason"),
    [
        (ValueError("a  b\nc"), "a  b\nc", "ValueError: a b c", "a  b\nc"),
        (ValueError(), "", "ValueError", "ValueError"),
        (Mute(), "", "Mute", "Mute"),
        (OSError(28, "no room"), "[Errno 28] no room", "OSError: [Errno 28] no room", "no room"),
        (OSError("only words"), "only words", "OSError: only words", "only words"),
        (SyntaxError("bad", ("f.py", 1, 1, "x")), "bad (f.py, line 1)", "SyntaxError: bad", "bad (f.py, line 1)"),
    ],
)
def test_an_error_is_told_in_words_in_a_line_and_by_its_reason(
    error: BaseException, words: str, line: str, reason: str
) -> None:
    assert (words_of(error), line_of(error), reason_of(error)) == (words, line, reason)


def test_the_nearest_word_is_the_likest_and_of_equals_the_one_that_begins_alike() -> None:
    assert nearest("--prot", ["--root", "--port"]) == "--port"
    assert nearest("--mont", ["--root", "--port", "--mount"]) == "--mount"
