"""zcserve.config.tables: tables of the file that are no keys, and where what is wrong in them stands."""

from __future__ import annotations

import tomllib

import pytest

from zcserve.config.tables import Source, Table, tables_of
from zcserve.errors import UsageError

TEXT = '[[rules]]\npath = "/a"\n\n[[rules]]\n  path = ["/b", 1]\n  sett = {}\n'


def tables() -> tuple[Table, ...]:
    return tables_of(tomllib.loads(TEXT)["rules"], ("rules",), Source("site.toml", TEXT))


def positive(value: object) -> object:
    if value == 1:
        raise UsageError("1 is wrong")
    return value


def test_a_table_is_a_mapping_of_its_words() -> None:
    first, second = tables()
    assert dict(first) == {"path": "/a"}
    assert second["path"] == ["/b", 1]
    assert first == Table({"path": "/a"}, ("other", 7))


def test_what_stands_in_it_has_a_file_a_line_and_a_column() -> None:
    _, second = tables()
    assert second.where() == "site.toml:4:1: rules[1]"
    assert second.where("path", 1) == "site.toml:5:17: rules[1].path[1]"
    assert second.where("absent") == "site.toml:4:1: rules[1].absent"


def test_a_table_from_no_file_is_named() -> None:
    (table,) = tables_of([{"path": "/a"}], ("sites", "blog", "rules"))
    assert table.where("path") == "sites.blog.rules[0].path"


def test_an_unknown_word_is_told_with_the_nearest_known() -> None:
    first, second = tables()
    first.require(("path", "set"))
    with pytest.raises(UsageError) as error:
        second.require(("path", "set"))
    assert str(error.value) == ("site.toml:6:3: rules[1].sett: unknown word 'sett'; the nearest known is set")


def test_a_word_of_others_is_told_with_what_is_written_here() -> None:
    table = Table({"Max-Age": 1}, ("rules", 0))
    with pytest.raises(UsageError, match=r"^rules\[0\]\.Max-Age: unknown word 'Max-Age'; write set = 1$"):
        table.require(("set", "max"), {"max_age": "set = 1"})


def test_of_a_word_that_is_no_typo_all_that_are_known_are_told() -> None:
    with pytest.raises(UsageError, match=r"unknown word 'sett'; accepted: path, force, query$"):
        tables()[1].require(("path", "force", "query"))


def test_a_wrong_value_is_told_with_its_place() -> None:
    _, second = tables()
    assert second.checked("path", positive, 0) == "/b"
    with pytest.raises(UsageError, match=r"^site.toml:5:17: rules\[1\].path\[1\]: 1 is wrong$"):
        second.checked("path", positive, 1)


@pytest.mark.parametrize("value", [{"path": "/a"}, "text", [1], 5])
def test_what_is_no_list_of_tables_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"rules: .*accepted: tables that begin with \[\[rules\]\]"):
        tables_of(value, ("rules",))
