"""What `zcserve ctl` says of itself."""

from __future__ import annotations

from zcserve.admin.words import Word, Wording
from zcserve.ctl.commands import COMMANDS, COMMON, TOP, verb
from zcserve.ctl.guide import manual, manual_of_top, overview


def test_all_commands_and_what_each_does_are_listed_and_the_exit_codes() -> None:
    text = " ".join(overview().split())
    for command in COMMANDS.values():
        assert f" {command.name} " in text
        assert command.help in text
    assert "3 the node cannot be reached" in text
    assert "./ctl" in text


def test_a_command_has_its_words_and_the_flags_of_all() -> None:
    words = {"paths": Word(list, "which ones", optional=False, operand="PATH"), "hard": Word(bool, "at once")}
    text = " ".join(manual(verb(Wording("purge", "forget", words))).split())
    assert text.startswith("usage: zcserve ctl purge PATH... [flags] forget PATH which ones --hard at once")
    assert all(f" {flag.flag} " in text for flag in COMMON)
    assert all(f" {flag.flag} " in manual_of_top() for flag in TOP)
