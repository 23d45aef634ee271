"""`warm_cache fetch`: what it prints, for people and for programs, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.listed import read_files, write_files
from tests.support.releases import release_of
from tools.warm_cache import main
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.signing import Signer

CONTENTS = {"/index.html": b"<h1>one</h1>", "/a/100%25.css": b"body {}", "/a/b": b"b" * 3000}


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["fetch", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """With a source, and two manifests."""
    write_files(tmp_path / "site", CONTENTS)
    changed = CONTENTS | {"/index.html": b"<h1>two</h1>"}
    for number, contents in enumerate((CONTENTS, changed), 1):
        (tmp_path / f"{number}.json").write_bytes(release_of(contents, sequence=number).to_bytes())
    return tmp_path


def test_a_release_is_fetched_and_the_next_one_linked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--from", place / "site", "--to", place / "releases")
    code, out, err = said(capsys, place / "1.json", *arguments)
    assert (code, err) == (0, "")
    folder = Path(out.partition(":")[0])
    assert out.startswith(f"{folder}: 3 files, 2.9 KiB; 2.9 KiB came from {place / 'site'}; ")
    assert read_files(folder) == {"index.html": b"<h1>one</h1>", "a/100%.css": b"body {}", "a/b": b"b" * 3000}
    (place / "site" / "index.html").write_bytes(b"<h1>two</h1>")
    code, out, _ = said(capsys, place / "2.json", *arguments, "--keep", "0", "--rate", "1M", "--parallel", "1")
    assert code == 0
    assert f"12 B came from {place / 'site'}, 2 files linked; 1 old release removed; " in out
    assert not folder.exists()


def test_programs_are_told_an_object_a_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (place / "2.json", "--from", place / "site", "--to", place / "releases", "--json")
    code, out, err = said(capsys, *arguments)
    events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "bytes"]
    assert (code, err) == (1, "")
    assert (kinds[0], kinds[-1]) == ("begin", "failed")
    assert kinds.count("retry") == 2  # it may just be written: three times in all
    assert list(events[-1]["failures"]) == ["/index.html"]
    assert "has sha256 " in events[-1]["failures"]["/index.html"]
    (place / "site" / "index.html").write_bytes(b"<h1>two</h1>")
    code, out, _ = said(capsys, *arguments)
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["event"] for event in events if event["event"] != "bytes"] == [
        "begin",
        "kept",
        "received",
        "complete",
    ]
    assert events[-1]["moved"] == 12
    assert os.path.isdir(events[-1]["folder"])


def test_people_are_told_each_file_that_failed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "site" / "a" / "b").unlink()
    code, out, err = said(capsys, place / "1.json", "--from", place / "site", "--to", place / "releases")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "warm_cache: /a/b: is not there",
        "warm_cache: the release is not complete; the same command goes on where this one was",
    ]


@pytest.mark.parametrize(
    ("arguments", "said_of_it"),
    [
        (["--keep-for", "1h"], "has no effect without --keep"),
        (["--rate", "0"], "never ends"),
        (["--parallel", "0"], "--parallel"),
        (["--from", "ftp://h/"], "scheme that is not known"),
        (["--from", "none"], "does not exist"),
        (["--keys", "none"], "none"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], said_of_it: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--keys" in arguments:
        pytest.importorskip("cryptography")
    code, out, err = said(capsys, place / "1.json", "--from", place / "site", "--to", place / "releases", *arguments)
    assert (code, out) == (2, "")
    assert said_of_it in err
    assert err.count("\n") == 1


def test_a_manifest_that_is_not_signed_is_refused_where_there_are_keys(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cryptography")
    assert main(["keygen", str(place / "key")]) == 0
    capsys.readouterr()
    code, out, err = said(
        capsys, place / "1.json", "--from", place / "site", "--to", place / "r", "--keys", place / "key.pub"
    )
    assert (code, out) == (1, "")
    assert "1.json: " in err
    assert not (place / "r").exists()


def test_the_page_has_a_command_that_works(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    page = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
    section = page.partition("## Sources and release folders")[2].partition("\n## ")[0]
    ((command, answer),) = re.findall(r"^    \$ python tools/warm_cache.py (.*)\n    (.*)", section, re.MULTILINE)
    assert main(["keygen", str(place / "key")]) == 0
    command = command.replace("release.json", str(place / "1.json")).replace("keys/", str(place / "key.pub"))
    command = command.replace("https://build.example/www/", str(place / "site"))
    command = command.replace("/srv/releases", str(place / "releases"))
    signed = Signer.read(place / "key").sign(Manifest.read(place / "1.json"))
    (place / "1.json").write_bytes(signed.to_bytes())
    capsys.readouterr()
    assert main(shlex.split(command)) == 0
    words = re.compile(r"(?<![-/\w])[a-z]+(?![-/\w])")  # none of a path's
    assert set(words.findall(capsys.readouterr().out)) <= set(words.findall(answer))


def test_a_terminal_sees_how_far_it_is(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["fetch", str(place / "1.json"), "--from", str(place / "site"), "--to", str(place / "r")]) == 0
    assert "fetching" in terminal.getvalue()
    assert "KiB" in terminal.getvalue()
