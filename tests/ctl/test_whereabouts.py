"""Which node is meant."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest

from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.ctl.client import Node
from zcserve.ctl.whereabouts import node_of, timeout_of
from zcserve.errors import UsageError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "web.toml").write_text(
        f'root = "www"\nnothing_of_the_kind = 3\nadmin = "127.0.0.1:9000"\nadmin_token_file = "{tmp_path}/token"\n'
    )
    (tmp_path / "bare.toml").write_text('root = "www"\n')
    (tmp_path / "token").write_text("of the file\nmore\n")
    (tmp_path / "other").write_text("another\n")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({"admin": "unix:/a"}, {}, Node(UnixAddress("/a"))),
        ({}, {"ZCSERVE_ADMIN": "unix:/b"}, Node(UnixAddress("/b"))),
        ({"admin": "unix:/a"}, {"ZCSERVE_ADMIN": "unix:/b"}, Node(UnixAddress("/a"))),
        ({"admin": ":80"}, {}, Node(TcpAddress("", 80))),
        ({"config": "web.toml"}, {}, Node(TcpAddress("127.0.0.1", 9000), "of the file")),
        ({}, {"ZCSERVE_CONFIG": "web.toml"}, Node(TcpAddress("127.0.0.1", 9000), "of the file")),
        ({"config": "web.toml", "token_file": "other"}, {}, Node(TcpAddress("127.0.0.1", 9000), "another")),
        ({"admin": ":80"}, {"ZCSERVE_ADMIN_TOKEN_FILE": "other"}, Node(TcpAddress("", 80), "another")),
        ({"config": "web.toml", "admin": "unix:/a"}, {}, Node(UnixAddress("/a"))),  # its mode guards it
    ],
)
def test_flags_win_over_the_environment_which_wins_over_the_file(
    files: Path, monkeypatch: pytest.MonkeyPatch, given: Any, environ: dict[str, str], expected: Node
) -> None:
    monkeypatch.chdir(files)
    assert node_of(given, environ) == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "nothing says which node; accepted: --admin"),
        ({"config": "bare.toml"}, "bare.toml has no key admin; accepted: --admin"),
        ({"config": "none.toml"}, "cannot read the configuration file none.toml"),
        ({"admin": "nowhere"}, "'nowhere' is not an address"),
        ({"admin": "fd:admin"}, "'fd:admin' is known to the node alone"),
        ({"admin": "127.0.0.1:0"}, "'127.0.0.1:0' is no address of a node"),
        ({"admin": ":80", "token_file": "none"}, "the token file 'none' cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_named(files: Path, monkeypatch: pytest.MonkeyPatch, given: Any, told: str) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(UsageError) as caught:
        node_of(given, {})
    assert str(caught.value).startswith(told)


def test_a_time_is_read_and_none_is_for_ever() -> None:
    assert [timeout_of(None, 3.0), timeout_of("500ms", 3.0), timeout_of("0", 3.0)] == [3.0, 0.5, inf]
