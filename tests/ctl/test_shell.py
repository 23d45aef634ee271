"""`zcserve ctl`: what is printed, and the exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import zcserve
from tests.support.canned import CannedNode, answer
from tests.support.engines import ENGINES
from tests.support.site import Serve, Site
from tests.support.waiting import wait_until
from zcserve import Server
from zcserve.admin.words import PINNED_ITEMS_MAX, PURGED_ITEMS_MAX, Word, Wording
from zcserve.ctl import commands
from zcserve.ctl.shell import main, merged

CHECKOUT = Path(zcserve.__file__).parents[1]
LISTED = commands.verb(
    Wording(
        "warm",
        "load",
        {"paths": Word(list, "which", optional=False, operand="FILE|-", is_lines=True), "hard": Word(bool, "how")},
        200,
        adds_up=True,
    )
)
PURGED = commands.verb(
    Wording("purge", "forget", {"paths": Word(list, "which", operand="PATH"), "mode": Word(str, "", choices=("hard",))})
)
LEVEL = commands.verb(Wording("loglevel", "say less", {"level": Word(str, "which", operand="LEVEL")}))


@pytest.fixture
def ctl(
    socket_path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`ctl("ready")`: the exit code, standard output and standard error, asked of the node at `socket_path`."""
    monkeypatch.setenv("ZCSERVE_ADMIN", f"unix:{socket_path}")

    def run(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def more_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs with words of each kind, whatever there is."""
    for command in (LISTED, PURGED, LEVEL):
        monkeypatch.setitem(commands.COMMANDS, command.name, command)


def test_a_node_is_asked_and_told(node: Server, ctl: Callable[..., tuple[int, str, str]]) -> None:
    assert ctl("live") == (0, "alive  yes\n", "")
    code, out, err = ctl("ready")
    assert (code, err) == (0, "")
    assert out.startswith("ready")
    code, out, _ = ctl("--json", "ready")
    assert (code, json.loads(out)["is_ready"]) == (0, True)
    assert ctl("wait")[:2] == (0, "")
    code, out, _ = ctl("wait", "--json")
    assert (code, json.loads(out.splitlines()[-1])["is_ready"]) == (0, True)
    assert ctl("reload") == (0, "reloading  yes\n", "")
    wait_until(lambda: node.content.counters.flips > 0)


def test_all_that_a_node_can_be_told_can_be_said(
    node: Server,
    ctl: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="zcserve")  # and afterwards as before: the node is in this process

    def told(*argv: str) -> Any:
        code, out, err = ctl(*argv, "--json")
        assert (code, err) == (0, ""), argv
        return json.loads(out)

    assert told("purge", "/page", "/none", "--hard")["matched"] == 1
    assert told("purge", "--prefix", "/")["how"] == "soft"
    assert told("purge", "--glob", "*.css")["matched"] == 0
    paths = tmp_path / "paths"
    paths.write_text("/page\n")
    assert told("warm", str(paths))["resident"] == 1
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"/page\n/page\n")))
    assert told("warm", "-")["paths"] == 2
    assert told("pin", "/pa*")["pins"] == ["/pa*"]
    assert told("pin", "--remove", "/pa*")["pins"] == told("pin")["pins"] == []
    level = told("loglevel")["level"]
    assert told("loglevel", "error")["level"] == "error"
    assert told("loglevel", level)["before"] == "error"
    assert told("prepare", str(tmp_path))["share"] == 1.0
    assert told("prepare", "--drop")["root"] is None
    assert told("drain")["draining"]
    assert ctl("ready")[0] == 1
    assert not told("undrain")["draining"]
    assert ctl("ready")[0] == 0
    code, out, err = ctl("purge")
    assert (code, out) == (1, "")
    assert err.startswith("zcserve ctl: purge needs one of path")


def test_each_view_is_of_a_real_node(node: Server, ctl: Callable[..., tuple[int, str, str]]) -> None:
    for view in commands.VIEWS:
        code, _, err = ctl(view.name, *(("/page",) if view.operand() else ()))
        assert (code, err[:5]) == (0, "ready" if view is commands.WAIT else ""), view.name


def test_heat_is_a_table_or_the_lines_of_the_node(node: Server, ctl: Callable[..., tuple[int, str, str]]) -> None:
    assert ctl("heat") == (0, "no file was asked for yet\n", "")
    node.site.heat.add(b"/page", 3.0)
    code, out, err = ctl("heat", "--top", "1")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["site", "path", "bytes", "uses"],
        ["default", "/page", "6", "B", "3"],
    ]
    code, out, err = ctl("heat", "--site", "default", "--json")
    assert (code, json.loads(out.splitlines()[-1]), err) == (0, {"files": 1}, "")
    code, _, err = ctl("heat", "--site", "none")
    assert (code, err) == (1, "zcserve ctl: no site is called 'none'; accepted: default\n")
    code, _, err = ctl("heat", "--top", "many")
    assert code == 2


def test_heat_that_was_cut_short_is_no_answer(
    ctl: Callable[..., tuple[int, str, str]], canned: Callable[..., Any]
) -> None:
    node = canned({})
    for body in (b"", b'{"format": "zcserve heat"}\n', b'{"format": "zcserve heat"}\n{"files"', b"0"):
        node.answers["/heat?"] = b"HTTP/1.1 200 -\r\n\r\n" + body
        code, out, err = ctl("heat")
        assert (code, out) == (3, "")
        assert "cut short" in err


def test_a_request_is_explained_by_a_node(node: Server, ctl: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = ctl("explain", "/page?a=b&c", "--header", "Range: bytes=0-0", "--header", "A: b c", "--json")
    found = json.loads(out)
    assert (code, err, found["target"], found["status"], found["file"]) == (0, "", "/page?a=b&c", 206, "page")
    code, out, err = ctl("explain", "http://a.example/none", "--method", "HEAD")
    assert (code, err, out.split()[:2]) == (0, "", ["method", "HEAD"])
    assert "nothing is at this path" in out
    assert ctl("explain")[0] == 2
    assert ctl("explain", "none")[0] == 1


def test_a_node_that_ends_is_not_ready(
    canned: Callable[[Mapping[str, bytes]], CannedNode], ctl: Callable[..., tuple[int, str, str]]
) -> None:
    canned({"/readyz": answer({"is_ready": False, "phase": "draining"}, 503)})
    assert ctl("ready") == (1, "ready  no\nphase  draining\n", "")
    assert ctl("ready", "--json") == (1, '{"is_ready": false, "phase": "draining"}\n', "")


@pytest.mark.usefixtures("more_verbs")
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("redy", "unknown command 'redy': did you mean ready?"),
        ("ready now", "unexpected argument 'now': ready takes none"),
        ("ready --jsn", "unknown flag --jsn; the nearest known is --json"),
        ("ready --timeout soon", "'soon' is not a duration"),
        ("ready --admin nowhere", "'nowhere' is not an address"),
        ("metrics --json", "metrics are text"),
        ("warm", "warm needs paths: which (zcserve ctl warm --help)"),
        ("warm /none/such", "/none/such cannot be read: No such file"),
        ("loglevel a b", "unexpected argument 'b': loglevel takes one LEVEL"),
        ("prepare", "prepare needs DIR or --drop (zcserve ctl prepare --help)"),
        ("prepare / --drop", "prepare takes DIR or --drop, not both"),
        ("purge --mode soft", "--mode: 'soft' is unknown; accepted: one of hard"),
    ],
)
def test_wrong_use_is_one_line_and_asks_nothing(ctl: Callable[..., tuple[int, str, str]], line: str, told: str) -> None:
    code, out, err = ctl(*line.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"zcserve ctl: {told}")


def test_a_node_that_is_not_there_is_another_code(ctl: Callable[..., tuple[int, str, str]], socket_path: str) -> None:
    code, out, err = ctl("ready")
    assert (code, out) == (3, "")
    assert err.startswith(f"zcserve ctl: there is no socket {socket_path}")


@pytest.mark.usefixtures("more_verbs")
def test_words_are_sent_as_json_and_a_refusal_is_told(
    canned: Callable[[Mapping[str, bytes]], CannedNode], ctl: Callable[..., tuple[int, str, str]]
) -> None:
    node = canned({"/purge": answer({"purged": 2, "bytes": 2048}), "/loglevel": answer({"error": "no\x1b"}, 409)})
    assert ctl("purge", "/a", "--hard", "/b") == (0, "purged  2\nbytes   2.0 KiB\n", "")
    assert json.loads(node.asked[0].body) == {"paths": ["/a", "/b"], "mode": "hard"}
    assert ctl("loglevel", "x") == (1, "", "zcserve ctl: no\\x1b\n")
    assert json.loads(node.asked[1].body) == {"level": "x"}
    assert ctl("loglevel", "x", "--json") == (1, '{"error": "no\\u001b"}\n', "")


@pytest.mark.usefixtures("more_verbs")
def test_a_long_list_is_told_in_parts_in_its_order(
    canned: Callable[[Mapping[str, Any]], CannedNode], ctl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    node = canned({})
    node.answers["/warm"] = lambda asked: answer(
        {"paths": (count := len(json.loads(asked.body)["paths"])), "failed": [count], "is_all": True}
    )
    paths = [f"/{number}.html" for number in range(100)]
    file = tmp_path / "list"
    file.write_text("\n".join(paths) + "\n\n")
    code, out, _ = ctl("warm", str(file), "--hard", "--json")
    told = json.loads(out)
    assert (code, told["paths"], sum(told["failed"]), told["is_all"]) == (0, 100, 100, True)
    bodies = [json.loads(asked.body) for asked in node.asked]
    assert [path for body in bodies for path in body["paths"]] == paths
    assert all(body["hard"] for body in bodies)
    assert all(len(asked.body) <= 200 for asked in node.asked)
    file.write_text("/" + "a" * 200)
    assert ctl("warm", str(file))[0] == 2
    file.write_bytes(b"/\xff\n")
    assert "byte 1 is not UTF-8" in ctl("warm", str(file))[2]


def test_a_list_may_have_so_many_items_whatever_their_length(
    canned: Callable[[Mapping[str, Any]], CannedNode], ctl: Callable[..., tuple[int, str, str]]
) -> None:
    node = canned({"/purge": answer({"matched": 1})})
    code, out, _ = ctl("purge", *["/"] * (2 * PURGED_ITEMS_MAX + 1), "--json")
    assert (code, json.loads(out)) == (0, {"matched": len(node.asked)})
    counts = [len(json.loads(asked.body)["paths"]) for asked in node.asked]
    assert (max(counts) <= PURGED_ITEMS_MAX, sum(counts)) == (True, 2 * PURGED_ITEMS_MAX + 1)
    code, _, told = ctl("pin", *["*.css"] * (PINNED_ITEMS_MAX + 1))
    assert (code, f"{PINNED_ITEMS_MAX} add" in told) == (2, True)  # the answers of parts are no sum


def test_parts_are_added_up() -> None:
    assert merged({"a": 1, "b": [1], "c": "x", "d": True}, {"a": 2, "b": [2], "c": "y", "d": False, "e": 3}) == {
        "a": 3,
        "b": [1, 2],
        "c": "y",
        "d": False,
        "e": 3,
    }


def test_what_is_no_admin_listener_is_told(site: Site, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(site.root, engine=ENGINES[-1])
    assert main(["ready", "--admin", f"127.0.0.1:{server.port}"]) == 3
    assert "answers 404, and no JSON: is it an admin listener?" in capsys.readouterr().err


def test_what_there_is_is_listed_and_needs_no_node(ctl: Callable[..., tuple[int, str, str]]) -> None:
    assert ctl() == ctl("--help")
    assert ctl()[1].startswith("usage: zcserve ctl COMMAND")
    assert ctl("reload", "-h")[1].startswith("usage: zcserve ctl reload")


def test_it_imports_little_and_nothing_of_the_server(node: Server, socket_path: str) -> None:
    program = f"""if True:
        import sys
        from zcserve.command import main
        assert main(["ctl", "ready", "--admin", "unix:{socket_path}"]) == 0
        print(*sys.modules)
    """
    done = subprocess.run(
        # -S: an editable installation's finder, which `site` starts, imports more than the command
        [sys.executable, "-S", "-c", program],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    own = {name for name in loaded if name.startswith("zcserve.") and not name.startswith("zcserve.ctl")}
    assert own == {
        "zcserve.admin",
        "zcserve.admin.words",
        "zcserve.command",
        "zcserve.config",
        "zcserve.config.addresses",
        "zcserve.config.refusal",
        "zcserve.errors",
    }
    heavy = {"argparse", "dataclasses", "http", "inspect", "ipaddress", "logging", "pathlib", "threading", "tomllib"}
    assert not heavy & loaded


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [("| true", 0, ""), (">&-", 0, ""), ("> /dev/full", 1, "zcserve ctl: standard output: No space left on device\n")],
)
def test_an_output_that_takes_nothing_is_no_traceback(redirected: str, code: int, told: str) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m zcserve ctl {redirected}"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, told)


def test_what_could_not_be_done_for_all_is_told_with_exit_code_1(
    node: Server, ctl: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    paths = tmp_path / "paths"
    paths.write_text("/page\n/none\n")
    for flags in ((), ("--json",)):
        code, out, _ = ctl("warm", str(paths), *flags)
        assert (code, "/none" in out, "there is no such file" in out) == (1, True, True)
    paths.write_text("/page\n")
    assert ctl("warm", str(paths))[0] == 0


def test_a_reload_is_waited_for_when_that_is_told(
    node: Server, ctl: Callable[..., tuple[int, str, str]], site: Site
) -> None:
    assert ctl("reload")[:2] == (0, "reloading  yes\n")
    code, out, _ = ctl("reload", "--wait")
    assert (code, "reloaded    yes" in out) == (0, True)
    site.root.rename(site.root.with_name("away"))
    code, out, error = ctl("reload", "--wait", "--timeout", "20s")
    assert (code, out) == (1, "")
    assert error.startswith("zcserve ctl: the reload failed, the old content goes on: root")
    code, out, _ = ctl("reload", "--wait", "--json")
    assert (code, list(json.loads(out))) == (1, ["error"])
