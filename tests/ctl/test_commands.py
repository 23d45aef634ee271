"""Flags from the words of verbs."""

from __future__ import annotations

from zcserve.admin.words import WORDINGS, Word, Wording
from zcserve.ctl.commands import COMMANDS, COMMON, VIEWS, verb

PURGE = verb(
    Wording(
        "purge",
        "forget",
        {
            "paths": Word(list, "which", operand="PATH"),
            "glob": Word(str, "what matches"),
            "mode": Word(str, "how", default="soft", choices=("soft", "hard")),
            "limit": Word(int, "how many"),
            "deep": Word(bool, "all below", default=False),
            "keep_pins": Word(bool, "but what is pinned", default=True),
            "tags": Word(list, "which have it"),
        },
    )
)


def test_each_word_is_a_flag_but_the_operand() -> None:
    found = {flag.flag: (flag.word, flag.metavar, flag.value, flag.is_repeatable) for flag in PURGE.flags()}
    assert found == {
        "--glob": ("glob", "TEXT", None, False),
        "--mode": ("mode", "soft|hard", None, False),
        "--soft": ("mode", "", "soft", False),
        "--hard": ("mode", "", "hard", False),
        "--limit": ("limit", "N", None, False),
        "--deep": ("deep", "", True, False),
        "--no-keep-pins": ("keep_pins", "", False, False),
        "--tags": ("tags", "TEXT", None, True),
    }
    assert PURGE.operand() == ("paths", PURGE.wording.words["paths"] if PURGE.wording else None)


def test_what_may_be_null_has_a_flag_that_says_so() -> None:
    root = Word(str, "which", optional=False, operand="DIR", null="drop", null_help="none")
    command = verb(Wording("prepare", "load", {"root": root}))
    assert [(flag.flag, flag.word, flag.value, flag.help) for flag in command.flags()] == [
        ("--drop", "root", None, "none")
    ]
    assert command.operand() == ("root", root)


def test_there_is_a_command_for_each_wording_and_each_view() -> None:
    assert list(COMMANDS) == [*(view.name for view in VIEWS), *(wording.name for wording in WORDINGS)]


def test_no_flag_of_a_verb_means_something_for_all_of_them_nor_is_there_a_second_operand() -> None:
    common = {flag.flag for flag in COMMON} | {flag.word for flag in COMMON}
    for command in COMMANDS.values():
        assert not common & ({flag.flag for flag in command.flags()} | {flag.word for flag in command.flags()})
        if command.wording is not None:
            assert sum(bool(word.operand) for word in command.wording.words.values()) <= 1
