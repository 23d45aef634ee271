"""zcserve.net.access_logs: one log for each file that the server or a site names, and whose a lane's line is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import WaitUntil
from zcserve import Config
from zcserve.config.site import LOGS_MAX, SiteTable
from zcserve.errors import UsageError
from zcserve.net import access_logs
from zcserve.net.access_logs import OFF, SERVERS, AccessLogs, mark_of, not_logged, open_logs
from zcserve.net.prefixes import Prefixes

Make = Callable[..., AccessLogs]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made: list[AccessLogs] = []
    monkeypatch.chdir(tmp_path)

    def make(own: str = "own", **settings: Any) -> AccessLogs:
        made.append(AccessLogs(Config(root=tmp_path, access_log=own, **settings), Prefixes()))
        return made[-1]

    yield make
    for logs in made:
        assert logs.close()


def write(logs: AccessLogs, path: str, status: int) -> None:
    line = logs.writer_of(path) or logs.record
    assert line is not None
    line("::1", b"GET", b"", None, status, 1)


def test_sites_that_name_the_same_file_share_its_log_however_they_write_its_path(make: Make, tmp_path: Path) -> None:
    logs = make()
    for path in ("blog", "./blog", str(tmp_path / "blog"), "shop", "./own", "own", ""):
        logs.open(path)
    assert logs.number_of("blog") == logs.number_of(str(tmp_path / "blog")) == logs.number_of("./blog") == 1
    assert (logs.number_of("shop"), logs.number_of("./own"), logs.number_of("")) == (2, SERVERS, OFF)
    assert logs.writer_of("own") is logs.writer_of("./own") is None  # the server's
    assert logs.writer_of("") is not_logged
    for path, status in (("blog", 201), ("", 202), ("./blog", 203), ("own", 204), ("shop", 205)):
        write(logs, path, status)
    assert logs.close()
    assert [(tmp_path / name).read_text().count("\n") for name in ("own", "blog", "shop")] == [1, 2, 1]


def test_lines_of_lanes_go_where_their_marks_say(make: Make, tmp_path: Path) -> None:
    logs = make()
    logs.open("blog")
    logs.open("shop")
    blog, shop = (mark_of(logs.number_of(name)) for name in ("blog", "shop"))
    assert len(blog) == len(shop) == access_logs.MARK_BYTES
    assert mark_of(SERVERS) == b""
    logs.lines(b"one\n")
    logs.lines(b"two\n" + blog + b"a\n" + blog + b"b\n" + shop + b"c\nthree\n" + blog + b"d\n")
    assert logs.close()
    assert [(tmp_path / name).read_text() for name in ("own", "blog", "shop")] == [
        "one\ntwo\nthree\n",
        "a\nb\nd\n",
        "c\n",
    ]


def test_without_a_log_of_the_server_only_sites_have_lines(make: Make, tmp_path: Path) -> None:
    logs = make("")
    assert logs.record is None
    logs.open("blog")
    assert logs.writer_of("") is not_logged
    logs.lines(b"\n" + mark_of(logs.number_of("blog")) + b"a\n")
    assert logs.close()
    assert (tmp_path / "blog").read_text() == "a\n"


def test_a_log_that_no_site_names_any_more_has_late_lines_until_logs_are_reopened(
    make: Make, tmp_path: Path, wait_until: WaitUntil
) -> None:
    logs = make()
    for name in ("blog", "shop"):
        logs.open(name)
    logs.name(["own", "shop"])
    write(logs, "blog", 201)
    for name in ("own", "blog", "shop"):
        os.rename(tmp_path / name, tmp_path / f"{name}.1")
    logs.reopen()
    wait_until(lambda: (tmp_path / "own").exists() and (tmp_path / "shop").exists())
    wait_until(lambda: " 201 " in (tmp_path / "blog.1").read_text())
    logs.lines(mark_of(1) + b"later\n")
    assert logs.lost == 1
    logs.open("blog")  # a site names it again
    assert logs.number_of("blog") == 3
    write(logs, "blog", 203)
    assert logs.close()
    assert not (tmp_path / "blog").read_text().count("later")
    assert " 203 " in (tmp_path / "blog").read_text()


def test_so_many_files_are_open_and_no_more(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_logs, "LOGS_MAX", 2)
    logs = make()
    logs.open("a")
    logs.open("b")
    logs.open("./a")
    with pytest.raises(UsageError, match="one of more than 2 files that are open"):
        logs.open("c")
    logs.name(["a"])
    logs.reopen()
    logs.open("c")


def test_more_files_than_may_be_open_are_refused_with_the_configuration(tmp_path: Path) -> None:
    tables = [
        SiteTable(name=f"s{n}", hosts=(f"s{n}.example",), values={"root": tmp_path, "access_log": f"{n}.log"})
        for n in range(LOGS_MAX + 1)
    ]
    Config(root=tmp_path, sites=tuple(tables[:-1]))
    with pytest.raises(UsageError, match="sites name more than 64 files"):
        Config(root=tmp_path, sites=tuple(tables))


def test_a_log_that_cannot_be_opened_is_told_with_its_site(tmp_path: Path) -> None:
    path = str(tmp_path / "absent" / "log")
    table = SiteTable(name="blog", hosts=("blog.example",), values={"root": tmp_path, "access_log": path})
    config = Config(root=tmp_path, access_log=str(tmp_path / "own"), sites=(table,))
    with pytest.raises(UsageError, match=r"sites\.blog: access_log: .* cannot be opened: No such file"):
        open_logs(config, Prefixes())
    assert open_logs(Config(root=tmp_path), Prefixes()) is None


def test_what_is_left_out_and_lost_is_counted_of_all(make: Make) -> None:
    logs = make(access_log_sample=10)
    logs.open("blog")
    for _ in range(20):
        write(logs, "blog", 200)
        write(logs, "own", 200)
    logs.left_out_by_lanes = 5
    assert (logs.left_out, logs.lost) == (41, 0)
