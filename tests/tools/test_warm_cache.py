"""The command as a whole: flags, exit codes, JSON, over trees on disk and real servers of them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.lying import PAGE
from tools import warm_cache
from tools.warm_cache import main
from zcserve import Config, Server

CHECKOUT = Path(warm_cache.__file__).parent.parent

# Root may read everything, unless it gives that right up for the program that comes after it.
WITHOUT_PRIVILEGE = """\
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON report."""
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def run_program(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=False
    )


def test_a_command_is_not_looked_through_for_circles_while_it_is_imported_and_when_it_ends() -> None:
    code = """\
import gc, json, runpy, sys
thresholds = []
gc.callbacks.append(lambda phase, info: thresholds.append(gc.get_threshold()[0]) if phase == "start" else None)
sys.argv = ["tools/warm_cache.py", "diff", "absent.json", "absent.json"]
try:
    runpy.run_path("tools/warm_cache.py", run_name="__main__")
except SystemExit as end:
    print(json.dumps([end.code, sum(one < 10_000 for one in thresholds), gc.get_freeze_count() > 10_000]))
"""
    ran = run_program("-c", code)
    exit_code, often, is_frozen = json.loads(ran.stdout)
    assert (exit_code, is_frozen) == (2, True), ran.stderr
    assert often < 20  # by what runs it, before its first line: else there are some hundred


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--root"),
        (["--root", "{tree}/absent"], "does not exist"),
        (["--root", "{tree}/index.html"], "is not a directory"),
        (["--root", "{tree}", "--memory", "much"], "is not a size"),
        (["--root", "{tree}", "--list", "{tree}/absent"], "cannot be read"),
        (["--root", "{tree}", "--config", "{tree}/absent"], "cannot read"),
        (["--root", "{tree}", "--bogus"], "--bogus"),
        (["--root", "{tree}", "--connections", "2"], "without --url"),
        (["--root", "{tree}", "--timeout", "2s"], "without --url"),
        (["--root", "{tree}", "--show", "-1"], "--show"),
        (["--root", "{tree}", "--url", "nowhere"], "--url"),
        (["--root", "{tree}", "--url", "http://h", "--memory", "1M"], "with --url"),
        (["--root", "{tree}", "--url", "http://h", "--no-compress"], "with --url"),
        (["--root", "{tree}", "--url", "http://h", "--connections", "0"], "1 to 1000"),
        (["--root", "{tree}", "--url", "http://h", "--timeout", "soon"], "is not a duration"),
        (["--root", "{tree}", "--url", "http://h", "--timeout", "0"], "out of range"),
        (["--root", "{tree}", "--url", "unix:{tree}/absent"], "does not answer"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main([argument.format(tree=tree) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert expected in err
    assert err.count("\n") == 1
    assert not out


def test_a_root_that_fits_is_resident_and_counted_by_class(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = said(capsys, "--root", tree)
    assert code == 0
    assert report["right"] is True
    assert report["left_out"] == report["not_served"] == report["unknown"] == []
    rows = {row["name"]: row for row in report["classes"]}
    assert {name: row["files"] for name, row in rows.items()} == {
        "html": 2, "css": 2, "image": 1, "data": 1, "text": 2, "other": 1,
    }  # fmt: skip
    assert all(row["resident_files"] == row["files"] for row in rows.values())
    assert rows["other"]["resident_bytes"] == rows["other"]["bytes"] == 256 * 400
    # Small and large files go different ways through the loader; both are timed.
    assert all(row["seconds"] > 0 for row in rows.values())


def test_compress_counts_the_variants_it_makes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "long.js").write_bytes(b"let a = 1;\n" * 1000)
    _, plain = said(capsys, "--root", tree)
    _, made = said(capsys, "--root", tree, "--compress")
    files = [{row["name"]: row["files"] for row in report["classes"]}["script"] for report in (plain, made)]
    assert files[0] == 1 < files[1]


@pytest.mark.parametrize("listed", ["", "secret.css\n"], ids=["unlisted", "listed"])
def test_a_file_that_cannot_be_read_is_named_once(tree: Path, listed: str) -> None:
    (tree / "secret.css").write_bytes(b"p {}")
    (tree / "secret.css").chmod(0)
    (listing := tree.parent / "list").write_text(listed)
    command = ("-c", WITHOUT_PRIVILEGE, CHECKOUT / "tools" / "warm_cache.py", "--root", tree, "--list", listing)
    done = run_program(*command, "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["not_served"] == [{"path": "secret.css", "why": "Permission denied"}]
    assert {row["name"]: row["not_served"] for row in report["classes"]}["css"] == 1
    assert report["right"] is False


def test_a_file_that_the_walk_refuses_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "out.html").symlink_to("/etc/hostname")
    assert main(["--root", str(tree)]) == 1
    assert "not served as it lies there: 1\n  out.html: is a symlink" in capsys.readouterr().out


@pytest.mark.parametrize("command", [("tools/warm_cache.py",), ("-m", "tools.warm_cache")], ids=["file", "module"])
def test_it_runs_from_a_plain_checkout(tree: Path, command: tuple[str, ...]) -> None:
    done = run_program(*command, "--root", tree)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"root {tree}: walked in ")


def test_it_finds_the_package_from_any_directory(tree: Path) -> None:
    program = CHECKOUT / "tools" / "warm_cache.py"
    done = subprocess.run(
        [sys.executable, str(program), "--help"], capture_output=True, text=True, timeout=60, cwd=tree, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Exit codes:" in done.stdout


@pytest.mark.parametrize("memory", [1 << 29, 40 << 10], ids=["resident", "from disk"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_server_of_the_same_tree_is_right(
    tree: Path, capsys: pytest.CaptureFixture[str], memory: int, compress: bool
) -> None:
    with Server(Config(root=tree, port=0, memory=memory, compress=compress)) as server:
        code, report = said(capsys, "--root", tree, "--url", server.url)
    assert code == 0, report
    assert report["faults"] == []
    # Eight files and a sibling, two directories with an index, and one redirect to such.
    assert {row["name"]: row["requests"] for row in report["classes"]} == {
        "html": 4, "css": 2, "image": 1, "data": 1, "text": 2, "other": 3,
    }  # fmt: skip
    assert (
        sum(row["bytes"] for row in report["classes"] if row["name"] == "other")
        == 256 * 400 + (tree / "style.css.gz").stat().st_size
    )


def test_the_summary_says_that_all_is_right(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(Config(root=tree, listen=(f"unix:{tree.parent}/socket",))) as server:
        assert main(["--root", str(tree), "--url", server.url, "--connections", "1"]) == 0
    assert capsys.readouterr().out.endswith("all right\n")


def change(name: str, content: bytes) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)

    return edit


@pytest.mark.parametrize(
    ("edit", "path", "coding", "why"),
    [
        (change("index.html", PAGE.replace(b"h", b"H", 1)), "/index.html", "", "ETag is"),
        (change("index.html", PAGE + b"more"), "/index.html", "", "Content-Length is 28, the file has 32"),
        (change("large.bin", bytes(256 * 400)), "/large.bin", "", "ETag is"),
        (change("style.css.gz", gzip.compress(b"p { color: red }\n" * 100, 1)), "/style.css", "gzip", "is"),
        (change("large.bin.gz", gzip.compress(bytes(range(256)) * 400)), "/large.bin", "gzip", "status 406"),
        (change("new.html", b"new"), "/new.html", "", "status 404, expected 200"),
        (change("new/index.html", b""), "/new", "", "expected 301 to /new/"),
    ],
    ids=["edited", "longer", "large", "sibling", "sibling unknown", "unknown", "directory unknown"],
)  # fmt: skip
def test_a_tree_changed_since_the_server_loaded_it_is_named(
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[Path], None],
    path: str,
    coding: str,
    why: str,
) -> None:
    served = tree.parent / "served"
    shutil.copytree(tree, served)
    edit(tree)
    os.utime(tree / "style.css.gz")
    with Server(Config(root=served, port=0)) as server:
        code, report = said(capsys, "--root", tree, "--url", server.url)
        text_code = main(["--root", str(tree), "--url", server.url])
    assert code == text_code == 1
    assert report["right"] is False
    faults = {(fault["path"], fault["coding"]): fault["why"] for fault in report["faults"]}
    assert why in faults[path, coding]
    # Nothing else differs but the directory that has this file for an index, or the file in the new one, or the sibling
    # under its own name.
    assert {one for one, _ in faults} - {path} <= {"/", "/new/", "/new/index.html", f"{path}.gz"}
    assert f"{path} ({coding})" if coding else path in capsys.readouterr().out


def test_a_file_changed_while_the_server_holds_it_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(Config(root=tree, port=0, watch=False)) as server:
        (tree / "a b.txt").write_bytes(b"SPACED")
        code, report = said(capsys, "--root", tree, "--url", server.url)
    assert code == 1
    assert [fault["path"] for fault in report["faults"]] == ["/a%20b.txt"]


def test_a_server_that_takes_the_connection_and_says_nothing_does_not_answer(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["--root", str(tree), "--url", url, "--timeout", "50ms"]) == 2
    assert capsys.readouterr().err == f"warm_cache: {url} does not answer: no answer in time\n"
