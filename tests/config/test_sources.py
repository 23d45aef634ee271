"""zcserve.config.sources: which source of a value wins, and how a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from zcserve.config.addresses import TcpAddress
from zcserve.config.keys import KEYS, Key, of_no_use, shown_default
from zcserve.config.sources import load, look_up
from zcserve.config.table import Config
from zcserve.config.units import MIB
from zcserve.errors import UsageError, nearest

# What keys accept that do not take any text.
ODD = {"--hosts": "a.example", "--type": "ts=text/plain", "--proxy-headers": "unix:", "--access-log-fields": "host"}


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
    text = shown_default(key) or ODD.get(key.flag, "unix:w")
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


def test_listen_given_higher_up_replaces_host_and_port_from_further_down(tmp_path: Path) -> None:
    path = write(tmp_path, 'root = "w"\nport = 2\nhost = "::1"\n')
    config = load({"listen": [":3"]}, {"ZCSERVE_PORT": "4"}, path)
    assert config == load({"listen": [":3"]}, {}, write(tmp_path, 'root = "w"\n'))
    assert not list(of_no_use(config))
    assert list(of_no_use(load({"listen": [":3"], "port": "2"}, {}, path)))


def test_no_root_at_all_says_how_to_give_one() -> None:
    with pytest.raises(UsageError, match="zcserve --root DIR"):
        load({}, {}, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memry = 1", "zcserve.toml:1:1: unknown key 'memry'; the nearest known is memory"),
        ("head-timeout = 1", "unknown key 'head-timeout'; the nearest known is head_timeout"),
        ("head_timeout = 1\nhead_timeout_s = 1", "head_timeout and head_timeout_s are the same key; accepted: one"),
        ("head_timeout = 'soon'", "head_timeout: 'soon' is not a duration"),
        ("[limits]\nport = 1", "unknown key 'limits'"),
        ("port = 1\nmemory = \nhost = 'x'", "zcserve.toml:2:10: the value is missing; write it behind the ="),
        ("port = 1\nindex = ['a'", "zcserve.toml:2:9: the list that begins here has no end"),
        ("port = 1\nport = 2", "zcserve.toml:2:1: port stands at 1:1 already"),
        ("port = true", "port: true is a boolean, not a whole number; accepted: a whole number, from 0 to"),
        ("port = 80.5", "port: 80.5 is a float, not a whole number"),
        ("port = [80]", "port: [80] is an array, not a whole number"),
        ("host = 5", "host: 5 is an integer, not text"),
        ("memory = 1979-05-27", "is a date, not a size"),
        ("memory = {a = 1}", "is a table, not a size"),
        ("index = [1]", "index: 1 is an integer, not text"),
        ("compress = 1", "compress: 1 is an integer, not a switch"),
        ("head_timeout_s = -1", "head_timeout_s: -1 is out of range"),
        ("head_timeout_s = nan", "head_timeout_s: nan is out of range"),
    ],
)
def test_a_wrong_file_is_told_with_its_name_and_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load({"root": "w"}, {}, path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_cannot_be_read_or_decoded_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*absent\.toml: No such file"):
        load({"root": "w"}, {}, tmp_path / "absent.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes("port = 1\n# ü ".encode() + b"\xe9")
    with pytest.raises(UsageError, match=r"latin\.toml:2:5: byte 0xe9 is not UTF-8; accepted: a TOML file in UTF-8"):
        load({"root": "w"}, {}, path)
    path.write_bytes("port = 1".encode("utf-16"))
    with pytest.raises(UsageError, match=r"latin\.toml:1:1: this is UTF-16; accepted: a TOML file in UTF-8"):
        load({"root": "w"}, {}, path)


def test_the_mark_of_an_editor_at_the_beginning_is_no_part_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_bytes(b"\xef\xbb\xbfport = 1\r\n")
    assert load({"root": "w"}, {}, path).port == 1
    path.write_bytes(b"\xef\xbb\xbfprot = 1\r\n")
    with pytest.raises(UsageError, match=r"marked\.toml:1:1: unknown key 'prot'"):
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


def test_some_keys_of_a_file_are_found_whatever_else_it_says(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text('admin = "unix:/a"\nnothing_of_the_kind = 1\nmemory = "5X"\n')
    assert look_up(("admin", "admin_token_file"), file) == {"admin": "unix:/a"}
    file.write_text("admin = 3\n")
    with pytest.raises(UsageError, match="admin: 3 is"):
        look_up(("admin",), file)


def test_a_root_that_is_missing_is_told_with_its_place_in_the_file_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text("port = 1\n")
    with pytest.raises(UsageError, match=r'web\.toml:1:1: no root given: .*; accepted: root = "DIR" there, above'):
        load({}, {}, file)
    assert load({"root": "w"}, {}, file).places == {"port": f"{file}:1:1: "}
    file.write_text('port = 1\nroot = "nothing"\n')
    config = load({}, {}, file)
    assert str(config.refuse_root(UsageError("no"))).startswith(f"{file}:2:1: no; accepted: a directory that is there")
    assert load({}, {"ZCSERVE_ROOT": "w"}, file).named("root") == "--root"
    assert config.named("root") == f"{file}:2:1: root:"
    assert config == load({"root": "nothing", "port": 1}, {})
