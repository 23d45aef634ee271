"""JSON of other machines: what two readers may take for two things is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zcserve import fleet
from zcserve.fleet.strict_json import JsonError, read


@pytest.mark.parametrize("value", [None, True, 1, -1.5, "é\n", [], {}, {"a": [{"a": 1}, {"a": 2}]}])
def test_what_is_written_is_read(value: object) -> None:
    assert read(json.dumps(value).encode(), 100) == value
    assert read(json.dumps(value, ensure_ascii=False, indent=1).encode(), 100) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no JSON: line 1, column 1: "),
        (b"{}\n{}", "is no JSON: line 2, column 1: "),
        (b"{'a': 1}", "is no JSON: line 1, column 2: "),
        (b"\xff", "is no JSON: byte 0 is no UTF-8"),
        (b'"\xc3"', "is no JSON: byte 1 is no UTF-8"),
        (b'"\xed\xa0\x80"', "is no JSON: byte 1 is no UTF-8"),
        (b"\xef\xbb\xbf{}", "is no JSON: line 1, column 1: "),
        ('"a"'.encode("utf-16"), "is no JSON: byte 0 is no UTF-8"),
        (b'{"b": 1, "a": {"c": 1, "d": 2, "c": 1}}', "is no JSON: 'c' comes twice"),
        (b'{"\\u0061": 1, "a": 1}', "is no JSON: 'a' comes twice"),
        (b'{"\\n\xc3\xa9": 1, "\\n\xc3\xa9": 1}', "is no JSON: '\\n\\xe9' comes twice"),
        (b"[NaN]", "is no JSON: NaN is no number"),
        (b"[Infinity]", "is no JSON: Infinity is no number"),
        (b"[-Infinity]", "is no JSON: -Infinity is no number"),
        (b"[" * 100_000, "is no JSON: it is nested too deeply"),
        (b'{"a":' * 100_000, "is no JSON: it is nested too deeply"),
        (b"9" * 10_000, "is no JSON: a number in it is too long"),
        (b" " * 1_000_001, "1,000,001 bytes, and at most 1,000,000"),
    ],
)
def test_what_is_not_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(JsonError) as caught:
        read(data, 1_000_000)
    assert str(caught.value).startswith(why)


# They read what has a digest that is known, and pieces of a manifest that a pattern has found.
OF_KNOWN_TEXT = {"kept_listing.py", "manifest_scan.py"}


def test_no_module_of_the_fleet_reads_json_by_another_reader() -> None:
    """Python's own raises RecursionError, which is no ValueError, at a thousand brackets: whatever answers, or has
    written to the disk, could end an agent or a command by that."""
    top = Path(fleet.__file__).parent
    readers = {path.name for path in top.rglob("*.py") if "json.load" in path.read_text()}
    assert readers == {"strict_json.py", *OF_KNOWN_TEXT}
