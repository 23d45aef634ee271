"""zcserve.config.option: what a key accepts, asked through the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zcserve.config.keys import KEYS, shown_default
from zcserve.config.table import Config
from zcserve.config.units import MIB, Auto
from zcserve.errors import UsageError


@pytest.mark.parametrize("name", [name for name in KEYS if name != "root"])
def test_every_default_is_accepted_in_its_own_type_and_as_it_is_shown(name: str) -> None:
    key = KEYS[name]
    assert key.option.accept(key.default) == key.default
    if key.default not in ("", ()):
        shown: object = shown_default(key)
        accepted = key.option.accept(shown)
        assert accepted == key.default
        assert type(accepted) is type(key.default)


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("root", "www", Path("www")),
        ("memory", "64M", 64 * MIB),
        ("port", "0", 0),
        ("compress", "yes", True),
        ("compress", "Off", False),
        ("idle_timeout_s", "500ms", 0.5),
        ("idle_timeout_s", 3, 3.0),
        ("index", "home.html", ("home.html",)),
        ("index", ["a.html", "b.html"], ("a.html", "b.html")),
        ("index", [], ()),
        ("grace_s", 0, 0.0),
        ("body_bytes_max", 0, 0),
        ("evict", "s3-fifo", "s3-fifo"),
        ("pin", "*.woff2", ("*.woff2",)),
        ("pin", ["/assets/*.css", "/fonts/"], ("/assets/*.css", "/fonts/")),
        ("ready_share", "95%", 0.95),
        ("ready_share", "0.5", 0.5),
        ("ready_share", 1, 1.0),
        ("lanes", " AUTO ", Auto(64)),
        ("lanes", "64", 64),
        ("cache_control", "public, max-age=60", "public, max-age=60"),
    ],
)
def test_a_value_is_kept_in_its_own_type(name: str, given: object, kept: object) -> None:
    values: dict[str, Any] = {"root": "www", name: given}
    assert getattr(Config(**values), name) == kept
    assert type(getattr(Config(**values), name)) in (type(kept), type(Path("")))


WRONG = [
    ("ready_share", "1.5", "0.95, or 95%, from 0 to 1"),
    ("ready_share", "most", "0.95, or 95%, from 0 to 1"),
    ("root", "", "a directory"),
    ("root", 5, "a directory"),
    ("listen", "nowhere", "HOST:PORT"),
    ("listen", ["127.0.0.1:80", 5], "a list of texts"),
    ("host", "a b", "a name, an IPv4 or IPv6 address"),
    ("host", "1.2.3", "a name, an IPv4 or IPv6 address"),
    ("host", "[::1", "a name, an IPv4 or IPv6 address"),
    ("port", -1, "from 0 to 65535"),
    ("port", 65536, "from 0 to 65535"),
    ("port", "http", "from 0 to 65535"),
    ("port", "+5", "from 0 to 65535"),
    ("port", True, "from 0 to 65535"),
    ("port", 80.0, "from 0 to 65535"),
    ("memory", "5X", "512M"),
    ("memory", 512, "from 4K"),
    ("memory", 1.5, "512M"),
    ("index", "a/b.html", "without a slash"),
    ("index", [""], "without a slash"),
    ("index", [".."], "without a slash"),
    ("compress", 1, "true or false"),
    ("compress", "maybe", "true or false"),
    ("evict", "fifo", "lru, sieve, s3-fifo"),
    ("evict", "LRU", "lru, sieve, s3-fifo"),
    ("pin", "", "*.woff2"),
    ("pin", ["/a", "/[z-a]"], "*.woff2"),
    ("pin", [5], "a list of texts"),
    ("cache_control", "no-store\r\nX: y", "visible ASCII"),
    ("cache_control", "no-store\n", "visible ASCII"),
    ("cache_control", " no-store", "visible ASCII"),
    ("cache_control", "no-störe", "visible ASCII"),
    ("cache_control", "\x7f", "visible ASCII"),
    ("access_log", "a\0b", "a file, or -"),
    ("access_log_format", "common", "combined, json"),
    ("log_level", "loud", "debug, info, warning, error"),
    ("engine", "c", "auto, python, native"),
    ("connections_max", 0, "from 1"),
    ("head_timeout_s", 0, "from 1ms"),
    ("head_timeout_s", -1.0, "from 1ms"),
    ("head_timeout_s", float("nan"), "from 1ms"),
    ("head_timeout_s", float("inf"), "from 1ms"),
    ("head_timeout_s", "1 week", "20s"),
    ("linger_timeout_s", -1, "from 0s"),
    ("lanes", 0, "a whole number or auto, from 1 to 64"),
    ("lanes", "65", "a whole number or auto, from 1 to 64"),
    ("lanes", "all", "a whole number or auto, from 1 to 64"),
    ("loader_threads", 0, "from 1 to 256"),
    ("slab_bytes", 1024, "from 64K"),
]


@pytest.mark.parametrize(("name", "value", "accepted"), WRONG)
def test_a_wrong_value_is_told_with_its_key_and_what_is_accepted(name: str, value: object, accepted: str) -> None:
    values: dict[str, Any] = {"root": "www", name: value}
    with pytest.raises(UsageError) as caught:
        Config(**values)
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert accepted in message.partition("accepted: ")[2]
    assert len(message.splitlines()) == 1


def test_a_long_wrong_value_is_cut_short_in_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        Config(root=Path("www"), host="x y" * 10_000)
    assert len(str(caught.value)) < 250
