"""`zcserve ctl COMMAND`: a command line -> a request, and its answer -> text and an exit code.

    0  done; `ready`: it is
    1  the node refuses, is not ready, or has done only some of it
    2  wrong use: nothing was asked
    3  the node cannot be reached, or does not answer in time

Whatever is for people goes through figures.py, and `--json` is the answer as it came.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from zcserve.admin.words import VerbError, Wording
from zcserve.ctl import arguments
from zcserve.ctl.client import Answer, Node, NodeError, ask
from zcserve.ctl.commands import COMMANDS, COMMON, METRICS, WAIT, Command
from zcserve.ctl.whereabouts import node_of, timeout_of
from zcserve.errors import UsageError

EXIT_DONE, EXIT_REFUSED, EXIT_WRONG_USE, EXIT_UNREACHABLE = range(4)
EXIT_INTERRUPTED = 130
PROGRAM = "zcserve ctl"


def main(argv: Sequence[str]) -> int:
    """Do what the words behind `zcserve ctl` say, and return the exit code."""
    try:
        code = _run(argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        return complain(PROGRAM, error, EXIT_WRONG_USE)
    except NodeError as error:
        return complain(PROGRAM, error, EXIT_UNREACHABLE)
    except BrokenPipeError:  # `| head` has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries once more at its end
        return EXIT_DONE
    except OSError as error:  # a full disk: what was printed is not whole
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return complain(PROGRAM, UsageError(f"standard output: {error.strerror or error}"), EXIT_REFUSED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def complain(program: str, error: Exception, code: int) -> int:
    """One line on standard error; the code."""
    from zcserve.ctl.figures import printable  # late: most commands go well

    if sys.stderr is not None:
        say(f"{program}: {printable(' '.join(str(error).splitlines()))}\n", sys.stderr)
    return code


def say(text: str, file: Any = None) -> None:
    """Write it, whatever the locale's encoding lacks, where there is something to write to."""
    if (file := file or sys.stdout) is None:
        return
    encoding = file.encoding or "utf-8"
    file.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _run(argv: Sequence[str]) -> int:
    given, rest = arguments.read(argv, COMMON, to_operand=True)
    if not rest:
        from zcserve.ctl.guide import overview  # late: a health check needs none

        say(overview())
        return EXIT_DONE
    name = rest[0]
    if (command := COMMANDS.get(name)) is None:
        from zcserve.errors import nearest

        raise UsageError(f"unknown command {name!r}: did you mean {nearest(name, COMMANDS)}? (zcserve ctl lists all)")
    words, operands = arguments.read(rest[1:], (*COMMON, *command.flags()))
    common = {flag.word for flag in COMMON}
    given |= {word: words.pop(word) for word in list(words) if word in common}
    if given.get("help"):
        from zcserve.ctl.guide import manual

        say(manual(command))
        return EXIT_DONE
    bodies = _bodies_of(command, words, operands)
    path = command.path
    if command.is_view and command.wording is not None:
        from urllib.parse import urlencode  # late: a health check asks without words

        path, bodies = f"{path}?{urlencode(words, doseq=True)}", [None]
    node = node_of(given, os.environ, timeout_of(given.get("timeout"), command.timeout_s))
    is_json = bool(given.get("json"))
    if command is WAIT:
        return _wait(node, command, is_json)
    if command is METRICS and is_json:
        raise UsageError("metrics are text; the same numbers as JSON: zcserve ctl stats --json")
    return _show(command, node, _ask_all(node, path, bodies), is_json)


def _ask_all(node: Node, path: str, bodies: list[bytes | None]) -> Answer:
    """Ask with each body in turn; the answer to all, or the first refusal."""
    done: dict[str, Any] = {}
    for body in bodies:
        answer = ask(node, path, body)
        if len(bodies) == 1 or answer.status != 200:
            return answer
        done = merged(done, json.loads(answer.body))
    return Answer(200, json.dumps(done).encode())


def merged(done: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """What was done in two parts of one list: numbers are added, lists go on, of all else the later counts."""
    both = dict(done)
    for key, value in more.items():
        is_summed = isinstance(value, int | float | list) and not isinstance(value, bool)
        both[key] = done[key] + value if is_summed and key in done else value
    return both


def _bodies_of(command: Command, words: dict[str, Any], operands: list[str]) -> list[bytes | None]:
    """The JSON to send, checked as the node does; None: nothing is told. More than one where a list is too long.

    Raises UsageError.
    """
    operand = command.operand()
    if operands and operand is None:
        raise UsageError(f"unexpected argument {operands[0]!r}: {command.name} takes none")
    if command.wording is None:
        return [None]
    if operands and operand is not None:
        name, word = operand
        if word.is_lines:
            operands = [line for file in operands for line in _lines_of(file)]
        elif word.type is not list and len(operands) > 1:
            raise UsageError(f"unexpected argument {operands[1]!r}: {command.name} takes one {word.operand}")
        if name in words:
            raise UsageError(f"{command.name} takes {word.operand} or --{word.null}, not both")
        words[name] = operands if word.type is list else operands[0]
    try:
        if operand is not None and operand[1].null and operand[0] not in words:
            raise VerbError(400, f"{command.name} needs {operand[1].operand} or --{operand[1].null}")
        command.wording.check(words)
    except VerbError as error:
        raise UsageError(f"{error} (zcserve ctl {command.name} --help)") from None
    return list(_in_parts(command.wording, words, operand[0] if operand is not None else ""))


def _in_parts(wording: Wording, words: dict[str, Any], name: str) -> Iterator[bytes]:
    """Objects of JSON of at most so many bytes and items each, between which the list `name` is divided."""
    body = json.dumps(words).encode()
    items: Any = words.get(name)
    is_list = isinstance(items, list)
    if len(body) <= wording.body_bytes_max and not (is_list and len(items) > wording.items_max):
        yield body
    elif is_list and len(items) > 1 and wording.adds_up:
        half = len(items) // 2
        yield from _in_parts(wording, words | {name: items[:half]}, name)
        yield from _in_parts(wording, words | {name: items[half:]}, name)
    else:
        most = f", and {wording.items_max} {name}" if is_list and wording.items_max < sys.maxsize else ""
        raise UsageError(f"that is {len(body)} bytes of JSON; {wording.name} takes {wording.body_bytes_max}{most}")


def _lines_of(path: str) -> list[str]:
    """The lines of a file that are not empty; - is standard input."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
        return [line for line in map(str.strip, data.decode().split("\n")) if line]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8; accepted: a path a line, percent-encoded") from None


def _wait(node: Node, command: Command, is_json: bool) -> int:
    from zcserve.ctl.waiting import Progress, wait  # late: a health check does not wait

    if is_json:
        is_ready = wait(node, command.path, lambda _, line: print(line.decode(errors="replace"), flush=True))
    else:
        progress = Progress()
        try:
            is_ready = wait(node, command.path, progress)
        finally:
            progress.end()
    return EXIT_DONE if is_ready else EXIT_REFUSED


def _show(command: Command, node: Node, answer: Answer, is_json: bool) -> int:
    is_fine = 200 <= answer.status < 300
    if command is METRICS and is_fine:
        say(answer.body.decode(errors="replace"))
        return EXIT_DONE
    if command.is_lines and is_fine:
        return _show_lines(answer.body, is_json)
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NodeError(f"{node.address} answers {answer.status}, and no JSON: is it an admin listener?")
    if is_json:
        say(answer.body.decode(errors="replace").rstrip("\n") + "\n")
    elif not is_fine and "error" in value:
        complain(PROGRAM, UsageError(_refusal(value)), EXIT_REFUSED)
    else:
        from zcserve.ctl.figures import table

        say(table(value) or f"{command.name}: done\n")
    is_whole = "error" not in value and not value.get("failed_total")  # a purge may have been cut short
    return EXIT_DONE if is_fine and is_whole else EXIT_REFUSED


def _show_lines(body: bytes, is_json: bool) -> int:
    """Lines of JSON, the last of which says that nothing is missing."""
    from zcserve.ctl.figures import columns

    try:
        rows = [json.loads(line) for line in body.splitlines()]
        is_whole = "files" in rows[-1]
    except (ValueError, IndexError, TypeError):
        is_whole = False
    if not is_whole:
        raise NodeError("the answer was cut short")
    if is_json:
        say(body.decode(errors="replace"))
    elif files := [row for row in rows if "path" in row]:
        say("".join(f"{line}\n" for line in columns(files)))
    else:
        say("no file was asked for yet\n")
    return EXIT_DONE


def _refusal(value: dict[str, Any]) -> str:
    accepted = value.get("accepted")
    known = f"; accepted: {', '.join(map(str, accepted))}" if isinstance(accepted, list) and accepted else ""
    return f"{value['error']}{known}"
