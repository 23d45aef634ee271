"""The examples of docs/examples, each in a copy of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.examples import Example, GetExample, Holds, Row
from zcserve.command import main


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GetExample:
    """`example(name)`: a copy, made where it is to be made, and the working directory."""

    def copy(name: str) -> Example:
        found = Example(name, tmp_path / name)
        if (found.directory / "make.py").exists():
            found.make()
        monkeypatch.chdir(found.directory)
        return found

    return copy


@pytest.fixture
def holds(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Holds:
    """`holds(example, rows)`: `zcserve check` finds nothing, and both engines answer as the rows, the README and
    `zcserve explain` say."""

    def hold(example: Example, rows: Sequence[Row]) -> None:
        assert main(["check", "--config", "site.toml"]) == 0, capsys.readouterr()
        assert [record.getMessage() for record in caplog.records] == []
        assert set(re.findall(r"not served as they lie there: (\d+)", capsys.readouterr().out)) == {"0"}
        assert example.shown(), "the README shows nothing"
        faults = example.faults(rows)
        assert not faults, "\n".join(["", *faults])

    return hold
