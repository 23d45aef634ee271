"""The command line: words in, an exit code out.

Flags, help and their order come from `config/table.py`; nothing about a key is written here. Whatever the
user did wrong is a UsageError and leaves as one line on stderr with exit code 2, without a usage dump or a
traceback. Where a file is no TOML, its line and a mark below the place follow.

The server is imported only when there is something to serve, so that -h, -V and a mistyped flag answer at
once. What is odd: argparse leaves values as text; `config/sources.py` understands them, so that errors are worded
alike for flags, environment and file.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from zcserve import __version__, threads
from zcserve.config.keys import KEYS, Key, shown_default
from zcserve.config.option import SWITCH, TEXTS
from zcserve.config.sources import ENV_CONFIG_FILE, load
from zcserve.config.table import Config
from zcserve.config.units import Auto
from zcserve.errors import NoThreadError, UsageError, nearest

if TYPE_CHECKING:
    from zcserve.ctl.commands import Flag

EXIT_WRONG_USE = 2
# So long a line about wrong use waits for a reader of standard error.
COMPLAINED_WITHIN_S = 0.5
# What applications have at exit (handlers, threads and processes of their own) gets what is left of --grace to end in,
# and no less than this.
EXIT_WITHIN_S = 1.0
# What a server has open before its first client, in round numbers: 19 without applications.
DESCRIPTORS_MIN = 24
# What each lane but the first has open besides, with one listener.
DESCRIPTORS_OF_A_LANE = 5


class _Own(NamedTuple):
    """A flag that is no key."""

    names: tuple[str, ...]
    help: str
    metavar: str = ""


_OWN_FLAGS = (
    _Own(("--config",), "read keys from this TOML file", "FILE"),
    _Own(("-t", "--check"), "check configuration and root, say what would be resident"),
    _Own(("-V", "--version"), "print the version and exit"),
    _Own(("-h", "--help"), "print this and exit"),
)

_EPILOG = f"""\
SIZE is a number of bytes, or has K, M, G or T behind it (powers of 1024): 512M. TIME is a number of seconds, or has
ms, s, m or h: 500ms, 10m. What is repeatable is given once for each value: --index index.html --index index.htm.

Every flag is also a TOML key and an environment variable: --head-timeout 20s, head_timeout = "20s",
ZCSERVE_HEAD_TIMEOUT=20s. Where its name in Python is another, that stands in brackets. Flags win over the
environment, the environment wins over the file; {ENV_CONFIG_FILE} names the file, as --config does.

A directory that is called check, explain, passwd, ctl, top or completion is served as ./ctl, or by --root."""


_USAGE = """zcserve [ROOT] [flags]
       zcserve check [ROOT] [flags]       the same as --check
       zcserve explain URL [flags]        what a request is answered with, and why
       zcserve passwd NAME                a line for a file of users, see [[auth]]
       zcserve ctl [COMMAND] [flags]      ask a node, and tell it
       zcserve top [flags]                its numbers, live
       zcserve node [flags]               the agent beside a node of a fleet
       zcserve completion bash|zsh|fish   a script that completes all of this"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


# What a plain checkout needs, and an installed zcserve brings along.
RUNTIME_PACKAGES = ("mmh3", "sortedcontainers")


def main(argv: list[str] | None = None) -> int:
    """Run zcserve with these arguments (without the program's name) and return the exit code.

    0 after an orderly stop, 2 for wrong use; anything else is what the server or the check returned. Without `argv` the
    process is the command's alone, its signals and standard descriptors too.
    """
    return _do(_run, sys.argv[1:] if argv is None else argv, owns_process=argv is None)


def check(argv: list[str], *, owns_process: bool = False) -> int:
    """The same with --check."""
    return _do(_run, ["--check", *argv], owns_process=owns_process)


def explain(argv: list[str], *, owns_process: bool = False) -> int:
    """Say what a request is answered with, with the arguments behind `zcserve explain`, and return the exit code."""
    return _do(_explain, argv, owns_process=owns_process)


def _do(run: Callable[[list[str]], tuple[int, float]], argv: list[str], *, owns_process: bool) -> int:
    code, ends_by = _answer(run, argv, owns_process=owns_process)
    if owns_process:
        _end_by(max(ends_by, time.monotonic() + EXIT_WITHIN_S), code)
    return code


def _answer(run: Callable[[list[str]], tuple[int, float]], argv: list[str], *, owns_process: bool) -> tuple[int, float]:
    """The exit code, and when (of `time.monotonic`) --grace is over."""
    try:
        if owns_process:
            _own_the_process()
        return run(argv)
    except UsageError as error:
        from zcserve.log import printable  # late, as all of the server

        told = printable(" ".join(str(error).splitlines()))
        _complain("\n    ".join((f"zcserve: {told}", *map(printable, error.excerpt))))
        return EXIT_WRONG_USE, 0.0
    except MemoryError:
        _complain("zcserve: there is not enough memory: raise `ulimit -v`, or lower --memory")
        return EXIT_WRONG_USE, 0.0


def _end_by(until: float, code: int) -> None:
    """Have the process end by then, whatever an application has left behind: a thread that the interpreter joins, a
    child that multiprocessing waits for, a lock that `logging` wants at exit."""

    def end() -> None:
        time.sleep(max(until - time.monotonic(), 0))
        _complain("zcserve: what an application does at exit, or a thread or a process of its own, does not end: ended")
        os._exit(code)

    with suppress(NoThreadError):  # as well as it goes
        threads.start(end, "zcserve-exit")


def _own_the_process() -> None:
    """Hear signals, and have something at the numbers 0 to 2: else a file or a client would get them, and what is meant
    for standard error."""
    from zcserve import signals

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            try:
                os.open(os.devnull, os.O_RDWR)
            except OSError:
                os.open("/", os.O_PATH)  # takes nothing
    try:
        signals.end_at_once()
    except OSError as error:
        raise UsageError(f"the command cannot start: {error}") from error


def _complain(line: str) -> None:
    """Write to standard error, if it takes anything: it may be closed, full, or have a reader that has stopped."""
    import select

    with suppress(OSError, ValueError):
        if sys.stderr is None:
            return
        with suppress(io.UnsupportedOperation):
            poll = select.poll()
            poll.register(sys.stderr, select.POLLOUT)
            if not poll.poll(COMPLAINED_WITHIN_S * 1000):
                return
        print(_as_error(line), file=sys.stderr, flush=True)


def _as_error(line: str) -> str:
    """A line as standard error has it: systemd's journal is told that it is an error."""
    import logging  # late, as all of the server

    from zcserve.journal import is_journal, marked

    return marked(line.encode(errors="backslashreplace"), logging.ERROR).decode() if is_journal(2, os.environ) else line


def _run(argv: list[str]) -> tuple[int, float]:
    """As `_answer`."""
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    given = vars(arguments)
    if given.pop("help", False):
        parser.print_help()
        return 0, 0.0
    if given.pop("version", False):
        print("zcserve", __version__)
        return 0, 0.0
    if unknown:
        raise UsageError(_about_unknown(unknown))
    is_check = given.pop("check", False)
    config = _configure(given)
    _check_descriptors(config)
    with _server_at_hand(config):
        import zcserve.server as server

        if is_check:
            return server.check(config), 0.0
        running = server.Server(config, partial(_configure, given) if _file_of(given) else None)
        return running.run(), running.ends_by


def _explain(argv: list[str]) -> tuple[int, float]:
    """As `_answer`."""
    from zcserve.ctl.commands import EXPLAIN  # late, with what asks

    parser = _parser("zcserve explain URL [flags]", "Say what a request is answered with, and why.", "URL")
    options = parser.add_argument_group("the request")
    for flag in EXPLAIN:
        if not flag.metavar:
            options.add_argument(flag.flag, dest=flag.word, action="store_true", help=flag.help)
        else:
            action = "append" if flag.is_repeatable else "store"
            options.add_argument(flag.flag, dest=flag.word, action=action, metavar=flag.metavar, help=flag.help)
    arguments, unknown = parser.parse_known_args(argv)
    given = vars(arguments)
    if given.pop("help", False):
        parser.print_help()
        return 0, 0.0
    if unknown:
        raise UsageError(_about_unknown(unknown, [flag.flag for flag in EXPLAIN], "one URL"))
    if "URL" not in given:
        raise UsageError("no URL given; accepted: zcserve explain http://host/path, or /path")
    asked = given.pop("URL"), given.pop("method", "GET"), given.pop("header", ())
    is_json = given.pop("json", False)
    for own in ("check", "version"):
        given.pop(own, None)
    config = _configure(given)
    with _server_at_hand(config):
        from zcserve.explain import show

        return show(config, *asked, is_json=is_json), 0.0


@contextmanager
def _server_at_hand(config: Config) -> Iterator[ModuleType]:
    """Import what serves, and have its log on standard error. Raises UsageError where that cannot be."""
    from zcserve import log  # late, as all of the server

    with ExitStack() as stack:
        try:
            stack.enter_context(log.to_stderr(config.log_level))
            import zcserve.server as server
        except ModuleNotFoundError as error:
            if error.name not in RUNTIME_PACKAGES:
                raise
            packages = " ".join(RUNTIME_PACKAGES)
            raise UsageError(f"the package {error.name} is not installed here: pip install {packages}") from None
        except OSError as error:
            raise UsageError(f"the server cannot start: {error}") from error
        yield server


def _check_descriptors(config: Config) -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    others = 0 if isinstance(config.lanes, Auto) else config.lanes - 1
    needed = DESCRIPTORS_MIN + DESCRIPTORS_OF_A_LANE * others
    if 0 <= most < needed:
        raise UsageError(
            f"the process may have {most} descriptors, and needs {needed} and one for each client: raise the "
            "limit (ulimit -n, LimitNOFILE=)"
        )


def _file_of(given: Mapping[str, Any]) -> str | None:
    """The TOML file that was named, if one was."""
    return given.get("config") or os.environ.get(ENV_CONFIG_FILE) or None


def _configure(given: dict[str, Any]) -> Config:
    """The Config of what was given on the command line, in the environment and in the file."""
    given = dict(given)
    toml_path = _file_of(given)
    given.pop("config", None)
    positional = given.pop("ROOT", None)
    if positional is not None and given.setdefault("root", positional) != positional:
        raise UsageError(f"two roots given, {positional!r} and --root {given['root']!r}; accepted: one")
    return load(given, os.environ, toml_path)


def _about_unknown(unknown: list[str], more: Sequence[str] = (), operand: str = "one root directory") -> str:
    """What to say of words that argparse could not place. A flag comes first: it explains the others."""
    flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    if flag is None:
        return f"unexpected argument {unknown[0]!r}; accepted: {operand} and flags"
    known = nearest(flag, [*(key.flag for key in KEYS.values()), *(own.names[-1] for own in _OWN_FLAGS), *more])
    return f"unknown flag {flag}; the nearest known is {known} (zcserve --help lists all)"


def flags() -> tuple[Flag, ...]:
    """All flags of the server, for what completes them."""
    from zcserve.ctl.commands import Flag  # late, with what asks

    found = []
    for key in KEYS.values():
        option = key.option
        if option.kind is SWITCH:
            found.append(Flag(key.flag, key.name, option.help))
            found.append(Flag(f"--no-{key.flag[2:]}", key.name, f"not: {option.help}", value=False))
        else:
            metavar = "|".join(option.choices) or option.metavar
            is_repeatable = option.kind is TEXTS
            found.append(Flag(key.flag, key.name, option.help, metavar, None, str, option.choices, is_repeatable))
    found += [Flag(name, own.names[-1][2:], own.help, own.metavar) for own in _OWN_FLAGS for name in own.names]
    return tuple(found)


def _parser(
    usage: str = _USAGE, description: str = "Serve a directory from memory.", operand: str = "ROOT"
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="zcserve",
        usage=usage,
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,  # an abbreviation in a unit file would break with the next new flag
        add_help=False,
    )
    parser.add_argument(operand, nargs="?", help="the same as --root" if operand == "ROOT" else "http://host/path")
    options = parser.add_argument_group("options")
    limits = parser.add_argument_group("limits")
    for key in KEYS.values():
        _add(limits if key.option.why else options, key)
    for own in _OWN_FLAGS:
        if own.metavar:
            options.add_argument(*own.names, metavar=own.metavar, help=own.help)
        else:
            options.add_argument(*own.names, action="store_true", help=own.help)
    return parser


def _add(group: argparse._ArgumentGroup, key: Key) -> None:
    option = key.option
    metavar = "|".join(option.choices) or option.metavar
    notes = [f"default {text}"] if (text := shown_default(key)) else []
    if option.kind is TEXTS:
        notes.append("repeatable")
    text = f"{option.help} ({', '.join(notes)})" if notes else option.help
    if key.flag != "--" + key.name.replace("_", "-"):
        text += f" [{key.name}]"
    text = text.replace("%", "%%")
    if option.kind is SWITCH:
        group.add_argument(key.flag, dest=key.name, action=argparse.BooleanOptionalAction, help=text)
    else:
        action = "append" if option.kind is TEXTS else "store"
        group.add_argument(key.flag, dest=key.name, action=action, metavar=metavar, help=text)
