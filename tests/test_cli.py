"""zcserve.cli: what a person types and what comes back. Nothing here needs a running server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import zcserve
from zcserve.cli import flags, main
from zcserve.config.keys import KEYS
from zcserve.config.table import Config
from zcserve.errors import UsageError

CHECKOUT = Path(zcserve.__file__).parents[1]


def run(*argv: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m zcserve` as a process of its own, with no ZCSERVE_ variable but those given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    return subprocess.run(
        [sys.executable, "-m", "zcserve", *argv],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(CHECKOUT)} | environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "zcserve --root DIR"),
        (["--prot", "80"], "unknown flag --prot; the nearest known is --port"),
        (["www", "--head-timeouts=3"], "unknown flag --head-timeouts; the nearest known is --head-timeout"),
        (["www", "--head-time", "3"], "unknown flag --head-time; the nearest known is --head-timeout"),
        (["-x"], "unknown flag -x"),
        (["www", "--port"], "--port: expected one argument"),
        (["www", "--port", "-1"], "--port: '-1' is not a whole number; accepted: a whole number, from 0"),
        (["www", "--port", "99999"], "--port: 99999 is out of range"),
        (["www", "--memory", "5X"], "--memory: '5X' is not a size; accepted: bytes, or a number with K, M"),
        (["www", "--listen", "80"], "--listen: '80' is not an address; accepted: HOST:PORT"),
        (["www", "--engine", "fast"], "--engine: 'fast' is unknown; accepted: one of auto, python, native"),
        (["www", "--cache-control", "a\nb"], r"--cache-control: 'a\nb' cannot be a header's value"),
        (["www", "--compress=1"], "--compress/--no-compress: ignored explicit argument"),
        (["www", "more"], "unexpected argument 'more'"),
        (["--root", "www", "other"], "two roots given"),
        (["--root="], "--root: '' is not a path"),
        (["--config", "absent.toml"], "cannot read the configuration file absent.toml: No such file"),
        (["--config", "absent\n.toml"], "cannot read the configuration file absent .toml: No such file"),
    ],
)
def test_wrong_use_is_one_line_on_stderr_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    argv: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ZCSERVE_")]:
        monkeypatch.delenv(name)
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("zcserve: ")
    assert err.count("\n") == 1
    assert expected in err


def test_a_wrong_key_of_the_file_and_a_wrong_variable_are_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "web.toml").write_text("memry = 1\n")
    done = run("www", "--config", "web.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "zcserve: web.toml:1:1: unknown key 'memry'; the nearest known is memory\n",
    )
    assert run("www", cwd=tmp_path, ZCSERVE_CONFIG="web.toml").stderr == done.stderr
    done = run("www", cwd=tmp_path, ZCSERVE_MEMRY="1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "ZCSERVE_MEMRY; the nearest known is ZCSERVE_MEMORY" in done.stderr


def test_a_line_that_is_no_toml_is_shown_with_a_mark_below_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "web.toml").write_text("port = 1\nspa = True\n")
    assert main(["--config", f"{tmp_path}/web.toml"]) == 2
    told = f"zcserve: {tmp_path}/web.toml:2:7: 'True': a switch is true or false, in small letters; write true"
    assert capsys.readouterr().err.splitlines() == [told, "    spa = True", "          ^"]


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_printed(tmp_path: Path, flag: str) -> None:
    done = run(flag, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"zcserve {zcserve.__version__}\n", "")


def test_help_lists_every_key_with_its_default(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path, COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for key in KEYS.values():
        before, _, after = text.partition(f" {key.option.help}")
        assert after
        assert key.flag in [word.rstrip(",") for word in before.split()[-2:]]
        assert key.name == key.flag[2:].replace("-", "_") or after.split("]")[0].endswith(f"[{key.name}")
    assert "(default 20s) [head_timeout_s]" in text
    assert run("-h", cwd=tmp_path, COLUMNS="200").stdout == done.stdout


@pytest.mark.parametrize("heavy", ["zcserve.server", "zcserve.cache", "zcserve.net", "mmh3", "logging"])
def test_importing_the_command_line_is_cheap(heavy: str) -> None:
    program = f"import sys, zcserve.cli; sys.exit({heavy!r} in sys.modules)"
    environ = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, timeout=60, check=False)
    assert done.returncode == 0


class Served:
    """Stands in for `zcserve.server`: keeps the configs it was given."""

    def __init__(self) -> None:
        self.checked: list[Config] = []
        self.ran: list[Config] = []
        self.error: Exception | None = None

    def check(self, config: Config) -> int:
        self.checked.append(config)
        return 1

    def Server(self, config: Config, reread: Callable[[], Config] | None) -> SimpleNamespace:
        assert reread is None or reread() == config
        return SimpleNamespace(run=lambda: self._run(config), ends_by=0.0)

    def _run(self, config: Config) -> int:
        if self.error is not None:
            raise self.error
        self.ran.append(config)
        return 0


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    fake = Served()
    monkeypatch.setitem(sys.modules, "zcserve.server", fake)
    monkeypatch.setattr(zcserve, "server", fake, raising=False)
    for name in list(os.environ):
        if name.startswith("ZCSERVE_"):
            monkeypatch.delenv(name)
    return fake


def test_a_root_is_served_given_either_way(served: Served) -> None:
    assert [main(["www"]), main(["--root", "www"]), main(["www", "--root", "www"])] == [0, 0, 0]
    assert served.ran == [Config(root=Path("www"))] * 3


def test_flags_become_a_config(served: Served) -> None:
    argv = (
        "www --listen :0 --listen unix:web.sock --memory 64M --index a.html --index b.html --compress"
        " --no-drop-cache --access-log - --access-log-format json --head-bytes-max 8K"
        " --head-timeout 500ms --grace 5"
    )
    assert main(argv.split()) == 0
    assert served.ran == [
        Config(
            root=Path("www"),
            listen=(":0", "unix:web.sock"),
            memory=64 << 20,
            index=("a.html", "b.html"),
            compress=True,
            drop_cache=False,
            access_log="-",
            access_log_format="json",
            head_bytes_max=8 << 10,
            head_timeout_s=0.5,
            grace_s=5.0,
        )
    ]


def test_a_flag_can_switch_off_what_the_file_switches_on(tmp_path: Path, served: Served) -> None:
    path = tmp_path / "web.toml"
    path.write_text('root = "www"\ncompress = true\nin_place = true\n')
    assert main(["--config", str(path), "--no-compress"]) == 0
    assert [(config.compress, config.in_place) for config in served.ran] == [(False, True)]


@pytest.mark.parametrize("flag", ["-t", "--check"])
def test_check_serves_nothing_and_returns_what_the_check_found(served: Served, flag: str) -> None:
    assert main([flag, "www"]) == 1
    assert served.checked == [Config(root=Path("www"))]
    assert served.ran == []


def test_what_the_server_finds_wrong_is_one_line_and_exit_code_2(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.error = UsageError("127.0.0.1:80: port taken\nby another")
    assert main(["www"]) == 2
    assert capsys.readouterr().err == "zcserve: 127.0.0.1:80: port taken by another\n"


def test_what_completes_flags_is_told_of_all_that_help_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = set(
        re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*(?=[ ,\n])", capsys.readouterr().out.partition("options:")[2])
    )
    found = {flag.flag for flag in flags()}
    assert found >= {"-t", "-V", "-h", "--check", "--config", "--no-watch", "--engine"}
    assert {flag for flag in found if flag not in listed} == set()
