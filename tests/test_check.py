"""zcserve.check: what `--check` says of a configuration and a root, what it refuses, and that it leaves nothing."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import select
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.site import Serve, Site
from zcserve import Config, Server
from zcserve.cache import heat_lines
from zcserve.cache.compress import codecs
from zcserve.cache.entry import Entry
from zcserve.check import check
from zcserve.config.site import SiteTable
from zcserve.config.sources import load
from zcserve.errors import UsageError


def test_check_says_what_would_be_resident_and_what_is_not_served(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.write("small", bytes(1000))
    site.write("large", bytes(4 << 20))
    (site.root / "out").symlink_to("/")
    assert check(Config(root=site.root, memory=1 << 20)) == 0
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"root {site.root}: 2 files, 4.0 MiB",
        "would be resident: 1 file, 1000 B of a budget of 1.0 MiB; 1 stay out",
        "not served as they lie there: 1",
        "lanes: 1",
        "configuration is valid",
    ]
    assert "out: is a symlink that leads outside the root" in caplog.messages


def test_check_counts_variants_and_tells_what_would_get_some(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.write("a.css", bytes(2000))
    site.write("a.css.gz", gzip.compress(bytes(2000)))
    site.write("b.css", bytes(3000))
    site.write("small.css", bytes(10))
    assert check(Config(root=site.root, compress=True)) == 0
    told = capsys.readouterr().out
    variant = "with 1 variant, "
    assert re.search(rf"^root .*: 3 files {variant}", told, re.MULTILINE)
    assert re.search(rf"^would be resident: 3 files {variant}.*; 0 stay out$", told, re.MULTILINE)
    coded = "2 files" if len(codecs()) > 1 else "1 file"  # a.css lacks what is not gzip
    assert re.search(rf"^compress: {coded}, .*, would get variants besides$", told, re.MULTILINE)


def test_check_compares_a_sibling_with_its_file(
    site: Site, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    site.write("a.css", bytes(2000))
    site.write("a.css.gz", gzip.compress(b"something else"))
    assert check(Config(root=site.root)) == 0
    assert "not served as they lie there: 1" in capsys.readouterr().out
    assert any(message.startswith("a.css.gz: ") for message in caplog.messages)


def test_check_says_where_the_index_takes_the_memory(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(60):
        site.write(f"{number}", bytes(3000))
    assert check(Config(root=site.root, memory=64 << 10)) == 0
    *_, eaten, _, _, _ = capsys.readouterr().out.splitlines()
    assert "--memory" in eaten


def test_check_warns_of_more_memory_than_there_is(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert check(Config(root=site.root, memory=1 << 50)) == 0
    assert any("memory" in message for message in caplog.messages)


def test_check_warns_of_a_setting_that_changes_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    assert check(Config(root=site.root, compress_dir=str(site.root))) == 0
    assert "--compress-dir is of no use without --compress" in caplog.messages


def test_check_names_what_does_not_load(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "servlets").mkdir()
    (tmp_path / "servlets/broken.py").write_text("import nothing_of_this_name")
    assert check(Config(root=site.root, servlets=str(tmp_path / "servlets"))) == 1
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told.startswith("does not load: ")
    assert "nothing_of_this_name" in told
    assert last == "configuration is not valid"


def test_check_serves_nothing_and_leaves_nothing_behind(site: Site) -> None:
    site.write("page", bytes(1000))
    before = set(threading.enumerate()), descriptors_of_ours(site.root)
    assert check(Config(root=site.root)) == 0
    assert (set(threading.enumerate()), descriptors_of_ours(site.root)) == before


def descriptors_of_ours(root: Path) -> list[str]:
    """Where descriptors lead that a server opens: its memory, its sockets, its root."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sorted(name for name in found if name.startswith(("/memfd:zcserve", "socket:", str(root))))


@pytest.mark.parametrize(
    "first", [{"pin": ("/video.bin", "/nothing/*")}, {"rules": ({"path": "/video.bin", "priority": 1},)}]
)
def test_check_counts_what_is_pinned_or_has_priority_first_as_a_start_does(
    site: Site,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    first: dict[str, Any],
) -> None:
    for number in range(40):
        site.write(f"s{number}", bytes(10_000))
    site.write("video.bin", bytes(240_000))
    flags: dict[str, Any] = {"memory": 600 << 10, "slab_bytes": 64 << 10, **first}
    assert check(Config(root=site.root, **flags)) == 0
    assert ("--pin /nothing/* matches no file" in caplog.messages) == ("pin" in first)
    told = re.search(r"would be resident: (\d+) files", capsys.readouterr().out)
    assert told is not None
    report = serve(site.root, **flags).content.report
    assert abs(int(told[1]) - report.resident_files) <= 2  # without the pin it is 40
    assert report.resident_files < 38


def test_check_counts_what_is_hot_first_as_a_start_does_and_says_that_heat_cannot_be_kept(
    site: Site, serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(40):
        site.write(f"s{number}", bytes(10_000))
    site.write("video.bin", bytes(240_000))
    file = tmp_path / "heat"
    lines = (heat_lines.file_line("default", b"/video.bin", 240_000, 9.0), heat_lines.last_line(1))
    file.write_bytes(b"".join([heat_lines.first_line(1e12), heat_lines.root_line("default", str(site.root)), *lines]))
    flags: dict[str, Any] = {"memory": 600 << 10, "slab_bytes": 64 << 10, "heat_file": str(file)}
    assert check(Config(root=site.root, **flags)) == 0
    told = re.search(r"would be resident: (\d+) files", capsys.readouterr().out)
    assert told is not None
    server = serve(site.root, **flags)
    video = server.site.live.resources[b"/video.bin"]
    assert isinstance(video, Entry)
    assert video.body is not None
    assert abs(int(told[1]) - server.content.report.resident_files) <= 2  # without its heat it is 40
    assert server.content.report.resident_files < 38
    assert check(Config(root=site.root, heat_file=str(tmp_path / "none" / "heat"))) == 0
    assert sum("cannot be written" in line for line in caplog.messages) == 1


def test_check_refuses_an_engine_that_is_not_built(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zcserve.net._lane", None)
    with pytest.raises(UsageError, match="native is not built here"):
        check(Config(root=site.root, engine="native"))
    assert check(Config(root=site.root, engine="auto")) == 0


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("absent/access.log", "No such file or directory"),
        (".", "Is a directory"),
        ("file/access.log", "Not a directory"),
        ("to-nowhere", "No such file or directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_check_says_that_the_access_log_cannot_be_written(
    site: Site, tmp_path: Path, log: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "to-nowhere").symlink_to(tmp_path / "nowhere/access.log")
    before = sorted(tmp_path.rglob("*"))
    path = str(tmp_path / log)
    assert check(Config(root=site.root, access_log=path)) == 1
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told == f"access_log: {path!r} cannot be opened: {why}"
    assert last == "configuration is not valid"
    assert sorted(tmp_path.rglob("*")) == before


def test_check_leaves_no_trace_of_an_access_log_that_can_be_written(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "there").write_bytes(b"a line\n")
    (tmp_path / "to-new").symlink_to(tmp_path / "new")
    before = {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    for log in ("fresh", "fifo", "there", "to-new"):
        assert check(Config(root=site.root, access_log=str(tmp_path / log))) == 0
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    assert not poll.poll(0)  # no HANG_UP: no writer has come and gone
    os.close(reader)
    assert {path: path.lstat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


def test_check_looks_at_each_site_and_at_the_room_that_those_before_it_leave(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.write("page", bytes(300_000))
    table = SiteTable(name="blog", hosts=("blog.example",), values={"root": site.root})
    lost = SiteTable(
        name="lost", hosts=("lost.example",), values={"root": tmp_path / "lost"}, find=lambda *_: "f:3:1: "
    )
    assert check(Config(root=site.root, memory=600_000, sites=(table,))) == 0
    assert [line.partition("; ")[2] for line in capsys.readouterr().out.splitlines() if "resident" in line] == [
        "0 stay out",
        "1 stay out",
    ]
    with pytest.raises(UsageError, match=r"^f:3:1: sites\.lost: root .* does not exist"):
        check(Config(root=site.root, sites=(table, lost)))
    capsys.readouterr()
    kept, capped = replace(table, memory_min=500_000), replace(table, memory_max=200_000)
    for one, out in ((kept, ["1 stay out", "0 stay out"]), (capped, ["0 stay out", "1 stay out"])):
        assert check(Config(root=site.root, memory=1_000_000 if one is capped else 700_000, sites=(one,))) == 0
        told = capsys.readouterr().out.splitlines()
        assert [line.partition("; ")[2] for line in told if "resident" in line] == out
    logged = replace(table, values={**table.values, "access_log": "absent/log"}, find=lambda *_: "f:9:1: ")
    assert check(Config(root=site.root, sites=(logged,))) == 1
    assert "f:9:1: sites.blog: access_log: 'absent/log' cannot be opened: No such" in capsys.readouterr().out
    greedy = replace(table, memory_min=64 << 20)
    with pytest.raises(UsageError, match="memory_min"):
        check(Config(root=site.root, memory=32 << 20, sites=(greedy,)))


def test_the_verdict_stands_behind_all_warnings_where_both_go_to_one_pipe(site: Site, tmp_path: Path) -> None:
    site.write("index.html")
    rules = "".join(f'[[rules]]\npath = "/none/{number}"\nset = {{ X-A = "1" }}\n' for number in range(200))
    (tmp_path / "web.toml").write_text(f'root = "{site.root}"\n{rules}')
    command = [sys.executable, "-m", "zcserve", "check", "--config", str(tmp_path / "web.toml")]
    told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout
    assert told.count("matches no file") == 200
    assert told.splitlines()[-1] == "configuration is valid"
    assert told.index("matches no file") < told.rindex("matches no file") < told.index(f"root {site.root}")


def test_a_root_of_the_file_that_is_missing_is_told_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text(f'port = 0\nroot = "{tmp_path}/nothing"\n')
    told = rf"^{file}:2:1: root '{tmp_path}/nothing' does not exist; accepted: a directory that is there"
    with pytest.raises(UsageError, match=told):
        check(load({}, {}, file))
    with pytest.raises(UsageError, match=told):
        Server(load({}, {}, file)).__enter__()


def test_check_counts_directories_that_answer_with_their_names(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.write("a/b/file")
    site.write("indexed/index.html")
    assert check(Config(root=site.root, rules=({"path": "/a/**", "listing": True},))) == 0
    assert "listings: 2 directories without an index" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('mount = ["/a=x:y",\n  "api"]', ":2:1: mount: 'api' is not a mount; accepted: "),
        ('\nservlets = "/nowhere"', ":3:1: servlets: '/nowhere' is not a directory"),
        ('[sites.b]\nroot = "ROOT"\nhosts = "b"\nmount = "api=x:y"', ":5:1: mount: 'api=x:y': 'api' is not a path"),
    ],
)
def test_what_is_wrong_with_applications_of_a_file_has_its_place(
    site: Site, tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "web.toml"
    file.write_text(f'root = "{site.root}"\n{text}'.replace("ROOT", str(site.root)))
    for begin in (check, lambda config: Server(config).__enter__()):
        with pytest.raises(UsageError) as caught:
            begin(load({"port": 0}, {}, file))
        assert str(caught.value).startswith(f"{file}{told}")


def test_what_is_wrong_with_the_root_of_a_site_says_what_is_accepted(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text(f'[sites.b]\nroot = "{tmp_path}/nothing"\nhosts = "b"\n')
    told = rf"^{file}:2:1: sites.b: root '{tmp_path}/nothing' does not exist; accepted: a directory that is there"
    for begin in (check, lambda config: Server(config).__enter__()):
        with pytest.raises(UsageError, match=told):
            begin(load({"port": 0}, {}, file))


def test_a_log_of_the_file_that_cannot_be_written_has_its_place(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "web.toml"
    file.write_text(f'root = "{site.root}"\naccess_log = "/nowhere/log"\n')
    assert check(load({}, {}, file)) == 1
    assert f"{file}:2:1: access_log: '/nowhere/log' cannot be opened" in capsys.readouterr().out
