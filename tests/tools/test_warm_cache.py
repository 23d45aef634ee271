"""The warmer, against trees on disk, real servers, and a server that lies."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmh3
import pytest

from tools import warm_cache
from tools.warm_cache import class_of, connector, find, load_root, main, read_list, resolve
from zcserve import Config, Server
from zcserve.cache.root import Root
from zcserve.cache.tags import content_tag
from zcserve.cache.walk import walk
from zcserve.errors import UsageError

CHECKOUT = Path(warm_cache.__file__).parent.parent
PAGE = b"<!doctype html><p>hello</p>\n"

# Root may read everything, unless it gives that right up for the program that comes after it.
WITHOUT_PRIVILEGE = """\
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if ctypes.CDLL(None, use_errno=True).prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small site: an index, a directory with one, a file with a sibling, names that need encoding."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_bytes(PAGE)
    (root / "sub" / "index.html").write_bytes(b"below")
    (root / "style.css").write_bytes(b"p { color: red }\n" * 100)
    (root / "style.css.gz").write_bytes(gzip.compress(b"p { color: red }\n" * 100))
    (root / "a b.txt").write_bytes(b"spaced")
    (root / "100%.txt").write_bytes(b"percent")
    (root / "\xe4.svg").write_bytes(b"<svg/>")
    (root / "large.bin").write_bytes(bytes(range(256)) * 400)
    (root / "empty.json").write_bytes(b"")
    return root


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON report."""
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def run_program(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=False
    )


# --- words to things --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "html"),
        ("a.xhtml", "html"),
        ("A.CSS", "css"),
        ("a.mjs", "script"),
        ("a.wasm", "script"),
        ("a.svg", "image"),
        ("a.ico", "image"),
        ("a.woff2", "font"),
        ("a.eot", "font"),
        ("a.mp4", "video/audio"),
        ("a.mp3", "video/audio"),
        ("a.m3u8", "video/audio"),
        ("a.json", "data"),
        ("a.webmanifest", "data"),
        ("a.rss", "data"),
        ("a.csv", "data"),
        ("a.txt", "text"),
        ("a.pdf", "other"),
        ("a", "other"),
    ],
)
def test_a_file_is_counted_in_the_class_of_its_media_type(name: str, expected: str) -> None:
    assert class_of(name) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"/index.html", b"/index.html"),
        (b"index.html", b"/index.html"),
        (b"./sub/index.html", b"/sub/index.html"),
        (b"./a b.txt", b"/a%20b.txt"),
        (b"/", b"/index.html"),
        (b"/sub/", b"/sub/index.html"),
        (b"/sub", b"/sub/index.html"),
        (b"a b.txt", b"/a%20b.txt"),
        (b"/a%20b.txt", b"/a%20b.txt"),
        (b"100%.txt", b"/100%25.txt"),
        (b"/100%25.txt", b"/100%25.txt"),
        ("/\xe4.svg".encode(), b"/%C3%A4.svg"),
        (b"/%c3%a4.svg", b"/%C3%A4.svg"),
        (b"/style.css?v=3", b"/style.css"),
        (b"style.css.gz", b"/style.css.gz"),
        (b"http://example.org:8080/style.css?v=3#top", b"/style.css"),
        (b"https://example.org/a%20b.txt", b"/a%20b.txt"),
        (b"https://example.org", b"/index.html"),
        (b"/../style.css", b"/style.css"),
        (b"style.css.br", None),
        (b"nowhere.html", None),
        (b"/index.html/", b"/index.html"),
        (b"/%zz", None),
        (b"/%00", None),
        (b"\xff", None),
    ],
)
def test_a_line_of_the_list_names_a_file(tree: Path, line: bytes, expected: bytes | None) -> None:
    entry = find(walk(Root(tree), index=("index.html",)), line)
    assert (entry.key if entry is not None else None) == expected


def test_a_list_has_comments_and_blank_lines_and_any_line_ending(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"# first\n\n/a\r\n  /b c \n\t# not this\n/d#e")
    assert read_list(str(file)) == [b"/a", b"/b c", b"/d#e"]


def test_what_is_listed_twice_counts_once_where_it_stood_first(tree: Path) -> None:
    generation = walk(Root(tree), index=("index.html",))
    found, unknown = resolve(generation, [b"style.css", b"/", b"gone", b"/style.css?v=2", b"index.html"])
    assert [entry.key for entry in found] == [b"/style.css", b"/index.html"]
    assert unknown == ["gone"]


@pytest.mark.parametrize(
    "url",
    ["", "localhost:80", "ftp://h", "https://h", "http://", "http://h:x", "http://h:99999", "http://h/a", "http://h/?a",
     "http://u@h", "unix:", "http://[::1"],
)  # fmt: skip
def test_a_url_that_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        connector(url, 1.0)


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


# --- loading a root ---------------------------------------------------------------------------------------


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


def test_the_table_names_what_would_not_fit(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tree), "--memory", "64K"]) == 0
    out = capsys.readouterr().out
    assert "would not fit: 1\n  /large.bin: 100.0 KiB" in out
    assert out.splitlines()[2].split()[:3] == ["class", "files", "bytes"]
    assert "\nall " in out


def test_an_empty_root_is_all_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert "nothing to serve" in capsys.readouterr().out


def test_of_many_only_so_many_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes(40_000))
    assert main(["--root", str(tmp_path), "--memory", "16K", "--show", "2"]) == 0
    assert "would not fit: 5\n  /0.bin: 39.1 KiB\n  /1.bin: 39.1 KiB\n  and 3 more" in capsys.readouterr().out


def test_what_does_not_exist_but_is_listed_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (listing := tree.parent / "list").write_text("/index.html\n/gone\x1b.html\n")
    assert main(["--root", str(tree), "--list", str(listing)]) == 1
    assert r"listed, but not there: 1" + "\n  '/gone\\x1b.html'" in capsys.readouterr().out


def make_many(root: Path, count: int, size: int) -> list[str]:
    """`count` different pages of `size` bytes, which compress to about half; their names."""
    root.mkdir()
    for number in range(count):
        (root / f"{number:03}.html").write_text(random.Random(number).randbytes(size // 2).hex())
    return [f"/{number:03}.html" for number in range(count)]


@pytest.mark.parametrize("size", [3_000, 30_000], ids=["small", "large"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_listed_is_resident_when_not_all_fits(tmp_path: Path, size: int, compress: bool) -> None:
    names = make_many(tmp_path / "root", 60, size)
    listed = names[:20:-8]  # from the walk's end, which a plain load would not reach
    config = Config(root=tmp_path / "root", memory=25 * (size + 1_500) + 60 * 700, compress=compress)
    report = load_root(config, [name.encode() for name in listed])
    left_out = {one.path for one in report.left_out if not one.coding}
    assert left_out, "the budget holds everything: nothing is tested"
    assert not left_out & set(listed)
    assert report.committed <= report.budget


def test_a_list_that_does_not_fit_loses_its_end(tmp_path: Path) -> None:
    names = make_many(tmp_path / "root", 40, 30_000)[::-1]
    report = load_root(Config(root=tmp_path / "root", memory=400_000), [name.encode() for name in names])
    left_out = [one.path for one in report.left_out]
    assert 20 < len(left_out) < 40
    assert sorted(left_out) == sorted(names[-len(left_out) :])


def test_a_listed_file_larger_than_may_be_resident_displaces_nothing(tree: Path) -> None:
    report = load_root(Config(root=tree, memory=160 * 1024), [b"index.html", b"large.bin", b"style.css"])
    assert [one.path for one in report.left_out] == ["/large.bin"]


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


# --- asking a server --------------------------------------------------------------------------------------


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


def test_what_is_listed_is_asked_for_first(tree: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Server(Config(root=tree, port=0, access_log=str(log), access_log_format="json")) as server:
        listed = [b"large.bin", b"style.css", b"empty.json"]
        report = warm_cache.compare(Config(root=tree), server.url, listed, connections=1)
    assert report.right
    targets = [json.loads(line)["target"] for line in log.read_text().splitlines()]
    assert targets[:5] == ["/", "/large.bin", "/style.css", "/style.css", "/empty.json"]  # "/" is the probe


def test_a_tag_made_from_identity_is_accepted_for_what_is_too_large_to_hash(tree: Path) -> None:
    with Server(Config(root=tree, port=0, memory=64 << 10, hash_bytes_max=1000)) as server:
        assert warm_cache.compare(Config(root=tree, hash_bytes_max=1000), server.url, []).right
        report = warm_cache.compare(Config(root=tree), server.url, [])
    assert [(fault.path, fault.why[:8]) for fault in report.faults] == [
        ("/large.bin", "ETag is "),
        ("/style.css", "ETag is "),
    ]


# --- servers that lie -------------------------------------------------------------------------------------


def read_head(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(4096)
        if not piece:
            return b""
        data += piece
    return data


@contextmanager
def lying_server(answer: bytes, *, answers_max: int = 10**6, kept: bool = True) -> Iterator[str]:
    """Answers HEAD with an empty 200, and up to `answers_max` GETs with `answer`; an empty one closes. `kept` False
    closes after each. The URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = iter(range(answers_max))

    def talk(client: socket.socket) -> None:
        with client:
            while head := read_head(client):
                if head.startswith(b"HEAD"):
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                elif next(left, None) is None or not answer:
                    return
                else:
                    client.sendall(answer)
                    if not kept:
                        return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


TAG = content_tag(mmh3.mmh3_x64_128_digest(PAGE))
RIGHT = b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\nETag: %b\r\n\r\n%b" % (TAG, PAGE)


@pytest.mark.parametrize(
    ("answer", "kept", "expected"),
    [
        (RIGHT, True, None),
        (RIGHT, False, None),
        (RIGHT.replace(b"hello", b"HELLO"), True, "the content is not the file's"),
        (RIGHT[:-5], False, "23 bytes of content came of 28"),
        (RIGHT.replace(b"ETag", b"X-Tag"), True, "ETag is missing"),
        (RIGHT.replace(b"Content-Length", b"X-Length") + b"more", False, "Content-Length is missing"),
        (RIGHT.replace(b"28", b"99999999") + bytes(99), True, "Content-Length is 99999999"),
        (RIGHT.replace(b"ETag", b"Content-Encoding: br\r\nETag"), True, "Content-Encoding is br, expected none"),
        (RIGHT.replace(b"200", b"503"), True, "status 503, expected 200"),
        (RIGHT.replace(b"HTTP/1.1", b"nonsense"), True, "no whole answer"),
        (b"", True, "no whole answer: Remote end closed connection without response"),
    ],
)
def test_an_answer_that_is_not_the_file_is_found_out(
    tmp_path: Path, answer: bytes, kept: bool, expected: str | None
) -> None:
    (tmp_path / "a.html").write_bytes(PAGE)
    (tmp_path / "b.html").write_bytes(PAGE)
    with lying_server(answer, kept=kept) as url:
        report = warm_cache.compare(Config(root=tmp_path), url, [], connections=1)
    assert report.right == (expected is None)
    assert [fault.path for fault in report.faults] == ([] if expected is None else ["/a.html", "/b.html"])
    assert all((expected or "") in fault.why for fault in report.faults)


def test_a_server_that_stops_answering_is_not_asked_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(100):
        (tmp_path / f"{number:02}.html").write_bytes(PAGE)
    with lying_server(RIGHT, answers_max=30) as url:
        code, report = said(capsys, "--root", tmp_path, "--url", url, "--connections", "1")
    assert code == 1
    assert len(report["faults"]) == warm_cache.UNANSWERED_MAX
    assert report["not_asked"] == 100 - 30 - warm_cache.UNANSWERED_MAX


def test_a_server_that_takes_the_connection_and_says_nothing_does_not_answer(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["--root", str(tree), "--url", url, "--timeout", "50ms"]) == 2
    assert capsys.readouterr().err == f"warm_cache: {url} does not answer: no answer in time\n"


# --- the bar ----------------------------------------------------------------------------------------------


def test_the_bar_shows_on_a_terminal_alone_and_is_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        bar = warm_cache.Bar()
        bar(30, 60)
        bar.clear()
        expected = f"\r[{'#' * 15}{'.' * 15}]  50%  30 of 60\r\033[K" if terminal else ""
        assert capsys.readouterr().err == expected
