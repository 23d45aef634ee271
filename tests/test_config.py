"""zcserve.config: text to values, the table's validation, and which source of a value wins."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from zcserve.config import (
    KEYS,
    Address,
    Config,
    Key,
    TcpAddress,
    UnixAddress,
    load,
    nearest,
    parse_duration,
    parse_glob,
    parse_listen,
    parse_size,
    reference,
    shown_default,
)
from zcserve.errors import UsageError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


# --- text to values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("16K", 16 * KIB),
        ("16k", 16 * KIB),
        ("16KB", 16 * KIB),
        ("16KiB", 16 * KIB),
        ("64 KiB", 64 * KIB),
        ("512M", 512 * MIB),
        (" 512M ", 512 * MIB),
        ("1.5G", 1536 * MIB),
        ("0.25K", 256),
        ("2T", 2 << 40),
        ("0.1K", 102),  # down to whole bytes
    ],
)
def test_a_size_is_bytes_or_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1", "-5M", "5X", "1.5", "1.5B", ".5K", "1.K", "1e3", "1_000", "0x10", "5MM", "\u0665", "inf"],
)
def test_what_is_not_a_size_is_named_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a size; accepted: bytes, or .* K, M, G or T") as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20", 20.0),
        ("20s", 20.0),
        ("20 s", 20.0),
        ("20S", 20.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1.5m", 90.0),
        ("2h", 7200.0),
        ("0", 0.0),
    ],
)
def test_a_duration_is_seconds_or_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "s", "-1", "-1s", "1d", "1m30s", "1,5", "nan", "inf", "1e3", "20 sec", "\u0665"])
def test_what_is_not_a_duration_is_named_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration; accepted: seconds, or a number with ms, s, m or h"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("www.example.org:80", TcpAddress("www.example.org", 80)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("[::]:80", TcpAddress("::", 80)),
        ("[0:0:0:0:0:0:0:1]:65535", TcpAddress("::1", 65535)),
        ("[fe80::1%eth0]:80", TcpAddress("fe80::1%eth0", 80)),
        (":8080", TcpAddress("", 8080)),
        ("*:8080", TcpAddress("", 8080)),
        ("unix:/run/web.sock", UnixAddress("/run/web.sock")),
        ("unix:web.sock", UnixAddress("web.sock")),
        ("unix:/run/a:80", UnixAddress("/run/a:80")),
    ],
)
def test_a_listen_address_is_tcp_or_unix(text: str, address: Address) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:-1",
        "localhost: 80",
        "127.0.0.1:80:80",
        "127.0.0.256:80",
        "127.1:80",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[]:80",
        "[localhost]:80",
        "[127.0.0.1]:80",
        "[::g]:80",
        "[::1%]:80",
        "[::1%a\0b]:80",
        "ex ample:80",
        "-x:80",
        "http://localhost:80",
        "unix:",
        "unix:/a\0b",
        "unix:/" + "x" * 107,
    ],
)
def test_what_is_not_a_listen_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="accepted: "):
        parse_listen(text)


@pytest.mark.parametrize("text", ["127.0.0.1:8080", "[::1]:80", "*:80", "unix:/run/web.sock"])
def test_an_address_prints_as_it_is_written(text: str) -> None:
    assert str(parse_listen(text)) == text


@pytest.mark.parametrize(
    ("glob", "matched", "not_matched"),
    [
        ("/index.html", ["/index.html"], ["/a/index.html", "/index_html", "/index.html.bak"]),
        ("/assets/*.css", ["/assets/site.css", "/assets/.css"], ["/assets/a/site.css", "/b/assets/site.css"]),
        ("assets/*.css", ["/assets/site.css"], ["/b/assets/site.css"]),
        ("*.woff2", ["/a.woff2", "/fonts/b/a.woff2"], ["/a.woff", "/a.woff2/b"]),
        ("logo.svg", ["/logo.svg", "/img/logo.svg"], ["/img/my-logo.svg"]),
        ("/fonts/", ["/fonts/a", "/fonts/b/a"], ["/fonts", "/fonts2/a", "/b/fonts/a"]),
        ("/", ["/a", "/b/a"], []),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/a/bz", "/z", "/b/a/z"]),
        ("**/a/*", ["/a/b", "/c/a/b", "/c/d/a/b"], ["/a/b/c"]),
        ("/a**", ["/a", "/ab/c"], ["/b/a"]),
        ("/page-?.html", ["/page-1.html", "/page-\u00fc.html"], ["/page-.html", "/page-10.html", "/page-/.html"]),
        ("/[a-c!]", ["/a", "/c", "/!"], ["/d", "/ab"]),
        ("/[!a-c]", ["/d", "/^"], ["/a", "//"]),
        ("/a[+-9]b", ["/a0b", "/a.b"], ["/a/b"]),
        ("/[]^&[]", ["/]", "/^", "/&", "/["], ["/a"]),
        ("/a[b", ["/a[b"], ["/ab"]),
        ("/a[]", ["/a[]"], ["/a"]),
        ("/100% (new)+.txt", ["/100% (new)+.txt"], ["/100% new.txt"]),
        ("/A", ["/A"], ["/a"]),
        ("/a\nb*", ["/a\nbc\nd"], []),
    ],
)
def test_a_glob_is_matched_with_a_whole_path(glob: str, matched: list[str], not_matched: list[str]) -> None:
    pattern = parse_glob(glob)
    assert [path for path in matched if not pattern.fullmatch(path)] == []
    assert [path for path in not_matched if pattern.fullmatch(path)] == []


@pytest.mark.parametrize("glob", ["", "a\0b", "/[z-a]"])
def test_what_is_not_a_glob_is_refused(glob: str) -> None:
    with pytest.raises(UsageError, match=r"is not a pattern.*; accepted: a pattern such as /assets/\*\.css"):
        parse_glob(glob)


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("memry", ["root", "memory", "port"], "memory"),
        ("--prot", ["--root", "--port"], "--port"),
        ("zzz", ["root"], "root"),
    ],
)
def test_the_nearest_word_is_the_one_meant(word: str, known: list[str], expected: str) -> None:
    assert nearest(word, known) == expected


# --- the table --------------------------------------------------------------------------------------------


def test_a_config_of_a_root_alone_has_the_documented_defaults() -> None:
    config = Config(root=Path("www"))
    assert config == Config(root="www")
    assert config.root == Path("www")
    assert config.addresses() == (TcpAddress("127.0.0.1", 8080),)
    assert (config.memory, config.index, config.engine) == (512 * MIB, ("index.html",), "auto")
    assert (config.head_timeout_s, config.grace_s, config.small_body_bytes_max) == (20.0, 30.0, 16 * KIB)


def test_type_checkers_let_a_root_be_text() -> None:
    assert str in get_args(get_type_hints(Config)["root"])


def test_a_config_cannot_be_changed() -> None:
    config = Config(root=Path("www"))
    with pytest.raises(FrozenInstanceError):
        config.port = 1  # type: ignore[misc]


def test_every_field_has_a_key_and_every_limit_a_reason() -> None:
    assert list(KEYS) == [f.name for f in fields(Config)]
    assert len({key.flag for key in KEYS.values()}) == len(KEYS)
    limits = [key for key in KEYS.values() if key.name.endswith(("_max", "_min", "_timeout_s"))]
    assert len(limits) >= 15
    assert all(key.option.why for key in limits)


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
        ("cache_control", "public, max-age=60", "public, max-age=60"),
    ],
)
def test_a_value_is_kept_in_its_own_type(name: str, given: object, kept: object) -> None:
    values: dict[str, Any] = {"root": "www", name: given}
    assert getattr(Config(**values), name) == kept
    assert type(getattr(Config(**values), name)) in (type(kept), type(Path("")))


WRONG = [
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


def test_a_slab_must_hold_more_than_one_small_body() -> None:
    with pytest.raises(UsageError, match=r"slab_bytes: .* at least twice small_body_bytes_max"):
        Config(root=Path("www"), slab_bytes=64 * KIB, small_body_bytes_max=64 * KIB)


def test_listen_replaces_host_and_port() -> None:
    config = Config(root=Path("www"), host="::1", port=1, listen=("unix:a", ":2"))
    assert config.addresses() == (UnixAddress("a"), TcpAddress("", 2))
    assert Config(root=Path("www"), host="[::1]", port=1).addresses() == (TcpAddress("::1", 1),)
    assert Config(root=Path("www"), host="*").addresses() == (TcpAddress("", 8080),)


# --- where values come from -------------------------------------------------------------------------------


def write(directory: Path, text: str) -> Path:
    path = directory / "zcserve.toml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'root = "file"\nport = 1\nmemory = "1M"\ngrace_s = 1\n')
    config = load({"port": "3"}, {"ZCSERVE_PORT": "2", "ZCSERVE_MEMORY": "2M", "HOME": "/"}, path)
    assert (config.root, config.port, config.memory, config.grace_s) == (Path("file"), 3, 2 * MIB, 1.0)


def test_toml_holds_native_values_and_text_alike(tmp_path: Path) -> None:
    native = write(
        tmp_path,
        'root = "w"\nmemory = 1048576\ncompress = true\nhead_timeout_s = 2.5\nindex = ["a"]\nlisten = ":1"\n',
    )
    first = load({}, {}, native)
    texts = write(
        tmp_path,
        'root = "w"\nmemory = "1M"\ncompress = "on"\nhead_timeout_s = "2500ms"\nindex = "a"\nlisten = [":1"]',
    )
    assert load({}, {}, texts) == first
    assert (first.memory, first.compress, first.head_timeout_s, first.index) == (MIB, True, 2.5, ("a",))


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.flag)
def test_a_file_and_the_environment_take_the_flags_own_words(tmp_path: Path, key: Key) -> None:
    text = shown_default(key) or {"--type": "ts=text/plain", "--proxy-headers": "unix:"}.get(key.flag, "unix:w")
    word = key.flag[2:].replace("-", "_")
    flagged = load({"root": "w", key.name: text}, {}, None)
    assert load({"root": "w"} if word != "root" else {}, {}, write(tmp_path, f'{word} = "{text}"\n')) == flagged
    assert load({"root": "w"} if word != "root" else {}, {f"ZCSERVE_{word.upper()}": text}, None) == flagged


@pytest.mark.parametrize("word", ["head_timeout", "head_timeout_s"])
def test_a_unit_need_not_stand_in_the_name_too(tmp_path: Path, word: str) -> None:
    assert load({"root": "w"}, {}, write(tmp_path, f'{word} = "1m"')).head_timeout_s == 60
    assert load({"root": "w"}, {}, write(tmp_path, f"{word} = 2.5")).head_timeout_s == 2.5
    assert load({"root": "w"}, {f"ZCSERVE_{word.upper()}": "500ms"}, None).head_timeout_s == 0.5


def test_a_list_in_the_environment_is_separated_by_commas() -> None:
    config = load({"root": "w"}, {"ZCSERVE_LISTEN": ":1, unix:/run/a", "ZCSERVE_INDEX": "a"}, None)
    assert config.listen == (":1", "unix:/run/a")
    assert config.index == ("a",)


def test_a_comma_in_parentheses_separates_nothing() -> None:
    config = load({"root": "w"}, {"ZCSERVE_MOUNT": "/a=m:create(1, x='y'),/b=m:b, /c=m:c()"}, None)
    assert config.mount == ("/a=m:create(1, x='y')", "/b=m:b", "/c=m:c()")


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({"root": "w"}, {"ZCSERVE_PORT": "", "ZCSERVE_LISTEN": ""}, None).port == 8080


@pytest.mark.parametrize(
    "environ",
    [
        {"ZCSERVE_SERVICE_HOST": "10.0.0.1", "ZCSERVE_SERVICE_PORT": "80", "ZCSERVE_SERVICE_PORT_HTTP": "80"},
        {"ZCSERVE_PORT": "tcp://10.0.0.1:80"},
        {"ZCSERVE_PORT_80_TCP": "tcp://10.0.0.1:80", "ZCSERVE_PORT_80_TCP_ADDR": "10.0.0.1"},
        {"ZCSERVE_CONFIG": "elsewhere.toml"},
        {"ZCSERVE_TEST_ENGINE": "native", "ZCSERVE_BUILD_STRICT": "1"},
        {"zcserve_port": "1", "ZCSERVE": "1"},
    ],
)
def test_variables_meant_for_others_are_left_alone(environ: dict[str, str]) -> None:
    assert load({"root": "w"}, environ, None) == Config(root=Path("w"))


def test_a_port_given_higher_up_replaces_listen_from_further_down(tmp_path: Path) -> None:
    path = write(tmp_path, 'root = "w"\nlisten = [":1"]\n')
    assert load({"port": "2"}, {}, path).addresses() == (TcpAddress("127.0.0.1", 2),)
    assert load({}, {"ZCSERVE_HOST": "::1"}, path).addresses() == (TcpAddress("::1", 8080),)
    assert load({"port": "2", "listen": [":3"]}, {}, path).addresses() == (TcpAddress("", 3),)
    assert load({"memory": "1M"}, {}, path).addresses() == (TcpAddress("", 1),)


def test_no_root_at_all_says_how_to_give_one() -> None:
    with pytest.raises(UsageError, match="zcserve --root DIR"):
        load({}, {}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memry = 1", "unknown key 'memry'; the nearest known is memory"),
        ("head-timeout = 1", "unknown key 'head-timeout'; the nearest known is head_timeout"),
        ("head_timeout = 1\nhead_timeout_s = 1", "head_timeout and head_timeout_s are the same key; accepted: one"),
        ("head_timeout = 'soon'", "head_timeout: 'soon' is not a duration"),
        ("[limits]\nport = 1", "unknown key 'limits'"),
        ("port = 1\nmemory = \nhost = 'x'", "line 2: "),
        ("port = 1\nindex = ['a'", "line 2: "),
        ("port = 1\nport = 2", "line 2: "),
        ("port = true", "port: True is a boolean, not a whole number; accepted: a whole number, from 0 to"),
        ("port = 80.5", "port: 80.5 is a float, not a whole number"),
        ("port = [80]", "port: [80] is an array, not a whole number"),
        ("host = 5", "host: 5 is an integer, not text"),
        ("memory = 1979-05-27", "is a date, not a size"),
        ("memory = {a = 1}", "is a table, not a size"),
        ("index = [1]", "index: (1,) holds more than texts"),
        ("compress = 1", "compress: 1 is an integer, not a switch"),
        ("head_timeout_s = -1", "head_timeout_s: -1 is out of range"),
        ("head_timeout_s = nan", "head_timeout_s: nan is out of range"),
    ],
)
def test_a_wrong_file_is_told_with_its_name_and_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load({"root": "w"}, {}, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_cannot_be_read_or_decoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*absent\.toml: No such file"):
        load({"root": "w"}, {}, tmp_path / "absent.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# \xff")
    with pytest.raises(UsageError, match=r"latin\.toml: byte 2 is not UTF-8"):
        load({"root": "w"}, {}, path)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ZCSERVE_MEMRY": "1M"}, "variable ZCSERVE_MEMRY; the nearest known is ZCSERVE_MEMORY"),
        ({"ZCSERVE_PORT": "x"}, "ZCSERVE_PORT: 'x' is not a whole number"),
        ({"ZCSERVE_COMPRESS": "maybe"}, "ZCSERVE_COMPRESS: 'maybe' is not a switch; accepted: true or false"),
        (
            {"ZCSERVE_HEAD_TIMEOUT": "1s", "ZCSERVE_HEAD_TIMEOUT_S": "1s"},
            "ZCSERVE_HEAD_TIMEOUT and ZCSERVE_HEAD_TIMEOUT_S are the same key; accepted: one of them",
        ),
        ({"ZCSERVE_HEAD_TIMEOUT_S": "x"}, "ZCSERVE_HEAD_TIMEOUT_S: 'x' is not a duration"),
        ({"ZCSERVE_LISTEN": ":1,,:2"}, "ZCSERVE_LISTEN: '' is not an address"),
    ],
)
def test_a_wrong_variable_is_told_with_its_name(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load({"root": "w"}, environ, None)
    assert message in str(caught.value)


def test_a_wrong_flag_is_told_as_it_was_typed() -> None:
    with pytest.raises(UsageError, match=r"^--head-timeout: 'soon' is not a duration; accepted: "):
        load({"root": "w", "head_timeout_s": "soon"}, {}, None)


# --- reference --------------------------------------------------------------------------------------------


def test_the_reference_has_one_table_row_for_every_key() -> None:
    lines = reference().splitlines()
    for key in KEYS.values():
        rows = [line for line in lines if line.startswith(f"| `{key.flag}` |")]
        assert len(rows) == 1
        assert rows[0].count("|") == (6 if key.option.why else 4)
        assert key.option.why in rows[0]
