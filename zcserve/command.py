"""The first word of a command line: a program for operators, or else something to serve.

Each is imported only when it is meant: `zcserve ctl ready` takes a third of the time that the server's flags take.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """As `cli.main`; a command line that begins with a program's name is its own.

    So a directory with such a name is served as ./ctl, or by --root. `check` and `explain` are the server's own, and
    take its flags.
    """
    words = sys.argv[1:] if argv is None else argv
    match words[0] if words else "":
        case "ctl":
            from zcserve.ctl import shell

            return shell.main(words[1:])
        case "top":
            from zcserve.ctl import top

            return top.main(words[1:])
        case "completion":
            from zcserve import cli
            from zcserve.ctl import completion

            return completion.main(words[1:], cli.flags())
        case "node":
            from zcserve.fleet import node_command

            return node_command.main(words[1:])
        case "passwd":
            from zcserve.auth import passwd

            return passwd.main(words[1:])
        case "check" | "explain" as name:
            from zcserve import cli

            ask = cli.check if name == "check" else cli.explain
            return ask(list(words[1:]), owns_process=argv is None)
        case word if word.isalpha() and not os.path.lexists(word) and (meant := _meant(word)):
            from zcserve.ctl.shell import EXIT_WRONG_USE, complain
            from zcserve.errors import UsageError

            told = (
                f"{word!r} is neither a command nor a directory here: did you mean zcserve {meant}? (--help lists all)"
            )
            return complain("zcserve", UsageError(told), EXIT_WRONG_USE)
        case _:
            from zcserve import cli

            return cli.main(None if argv is None else list(argv))


def _meant(word: str) -> str:
    """The command that a word is a typo of, or one of `zcserve ctl` that stands without its ctl; "" for neither."""
    from zcserve.ctl.commands import COMMANDS, PROGRAMS
    from zcserve.errors import alike

    return f"ctl {word}" if word in COMMANDS else alike(word, PROGRAMS)
