"""zcserve.config.table: defaults, and what two keys say together."""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from zcserve.config.addresses import TcpAddress, UnixAddress
from zcserve.config.option import option_of
from zcserve.config.table import Config
from zcserve.config.units import KIB, MIB
from zcserve.errors import UsageError


def test_a_config_of_a_root_alone_has_the_documented_defaults() -> None:
    config = Config(root=Path("www"))
    assert config == Config(root="www")
    assert config.root == Path("www")
    assert config.addresses() == (TcpAddress("127.0.0.1", 8080),)
    assert (config.memory, config.index, config.engine) == (512 * MIB, ("index.html",), "auto")
    assert (config.head_timeout_s, config.grace_s, config.small_body_bytes_max) == (20.0, 30.0, 16 * KIB)


def test_each_default_is_accepted_as_it_is() -> None:
    settable = [f for f in fields(Config) if f.metadata and f.name != "root"]  # tables are of the file alone
    defaults = {f.name: (option_of(f), f.default) for f in settable if f.default is not MISSING}
    assert len(defaults) == len(settable)
    for name, (option, default) in defaults.items():
        accepted = option.accept_as(name, default)
        assert (type(accepted), accepted) == (type(default), default), name


def test_type_checkers_let_a_root_be_text() -> None:
    assert str in get_args(get_type_hints(Config)["root"])


def test_a_config_cannot_be_changed() -> None:
    config = Config(root=Path("www"))
    with pytest.raises(FrozenInstanceError):
        config.port = 1  # type: ignore[misc]


def test_a_slab_must_hold_more_than_one_small_body() -> None:
    with pytest.raises(UsageError, match=r"slab_bytes: .* at least twice small_body_bytes_max"):
        Config(root=Path("www"), slab_bytes=64 * KIB, small_body_bytes_max=64 * KIB)


def test_listen_replaces_host_and_port() -> None:
    config = Config(root=Path("www"), host="::1", port=1, listen=("unix:a", ":2"))
    assert config.addresses() == (UnixAddress("a"), TcpAddress("", 2))
    assert Config(root=Path("www"), host="[::1]", port=1).addresses() == (TcpAddress("::1", 1),)
    assert Config(root=Path("www"), host="*").addresses() == (TcpAddress("", 8080),)
