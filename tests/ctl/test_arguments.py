"""Command lines."""

from __future__ import annotations

from typing import Any

import pytest

from zcserve.ctl.arguments import read
from zcserve.ctl.commands import Flag
from zcserve.errors import UsageError

FLAGS = (
    Flag("--admin", "admin", "where", "ADDRESS"),
    Flag("--json", "json", "for programs"),
    Flag("--mode", "mode", "how", "soft|hard", None, str, ("soft", "hard")),
    Flag("--hard", "mode", "how", value="hard"),
    Flag("--limit", "limit", "most", "N", None, int),
    Flag("--share", "share", "of all", "NUMBER", None, float),
    Flag("--tag", "tag", "which", "TEXT", None, str, (), True),
)


@pytest.mark.parametrize(
    ("line", "values", "operands"),
    [
        ("", {}, []),
        ("/a /b", {}, ["/a", "/b"]),
        ("--admin x /a --json", {"admin": "x", "json": True}, ["/a"]),
        ("--admin=x=y", {"admin": "x=y"}, []),
        ("--admin= /a", {"admin": ""}, ["/a"]),
        ("--admin --json", {"admin": "--json"}, []),
        ("/a -- --json /b", {}, ["/a", "--json", "/b"]),
        ("- /a", {}, ["-", "/a"]),
        ("--hard --mode hard", {"mode": "hard"}, []),
        ("--limit -3 --share 0.5", {"limit": -3, "share": 0.5}, []),
        ("--tag a --tag=b", {"tag": ["a", "b"]}, []),
    ],
)
def test_what_is_read(line: str, values: dict[str, Any], operands: list[str]) -> None:
    assert read(line.split(), FLAGS) == (values, operands)


@pytest.mark.parametrize(
    ("line", "values", "rest"),
    [("--json ready --hard", {"json": True}, ["ready", "--hard"]), ("--json", {"json": True}, []), ("-", {}, ["-"])],
)
def test_up_to_the_first_operand(line: str, values: dict[str, Any], rest: list[str]) -> None:
    assert read(line.split(), FLAGS, to_operand=True) == (values, rest)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--jsn", "unknown flag --jsn; the nearest known is --json"),
        ("-x", "unknown flag -x; the nearest known is --"),
        ("--json=1", "--json takes no value, and has '1'"),
        ("/a --admin", "--admin needs a value: ADDRESS, where"),
        ("--limit 1.5", "--limit: '1.5' is not a whole number"),
        ("--share x", "--share: 'x' is not a number"),
        ("--mode hart", "--mode: 'hart' is unknown; accepted: one of soft, hard"),
        ("--hard --mode soft", "mode is given twice: 'hard' and 'soft'"),
    ],
)
def test_what_is_wrong_is_named(line: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line.split(), FLAGS)
    assert str(caught.value).startswith(told)
