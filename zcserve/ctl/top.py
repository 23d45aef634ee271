"""`zcserve top`: a node's numbers in a terminal, anew each second.

Plain escape sequences (ECMA-48), which every terminal of today knows: the other screen, a hidden cursor, lines that are
written over. Whatever ends it, the terminal is as before: `q`, Ctrl-C, a signal, an error. Where standard output is no
terminal it prints one frame and ends.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from zcserve.ctl import arguments, rates
from zcserve.ctl.client import Node, NodeError, ask
from zcserve.ctl.commands import STATS, TOP
from zcserve.ctl.rates import Stats
from zcserve.ctl.screen import frame
from zcserve.ctl.shell import EXIT_DONE, EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_WRONG_USE, complain, say
from zcserve.ctl.whereabouts import node_of, timeout_of
from zcserve.errors import UsageError

EVERY_S = 1.0
EVERY_S_MIN = 0.1
# A node that does not answer for so long is shown as such, and asked again.
ANSWERS_WITHIN_S = 5.0
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the other screen, no cursor, long lines are cut
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _TO_LINE_END, _TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"
_QUITS = (b"q", b"Q", b"\x03", b"\x04")
PROGRAM = "zcserve top"
# A frame where there is no terminal.
_PAPER = (200, 200)


class _RefusedError(Exception):
    """The node answers, and has no numbers for us."""


def main(argv: Sequence[str]) -> int:
    """Do what the words behind `zcserve top` say, and return the exit code (as of `zcserve ctl`)."""
    try:
        given, operands = arguments.read(argv, TOP)
        if given.get("help"):
            from zcserve.ctl.guide import manual_of_top

            say(manual_of_top())
            return EXIT_DONE
        if operands:
            raise UsageError(f"unexpected argument {operands[0]!r}; accepted: flags (a directory is served as ./top)")
        every_s = max(timeout_of(given.get("every"), EVERY_S), EVERY_S_MIN)
        node = node_of(given, os.environ, ANSWERS_WITHIN_S)
        if given.get("once") or sys.stdout is None or not sys.stdout.isatty():
            return _once(node, every_s)
        return _live(node, every_s)
    except UsageError as error:
        return complain(PROGRAM, error, EXIT_WRONG_USE)
    except NodeError as error:
        return complain(PROGRAM, error, EXIT_UNREACHABLE)
    except _RefusedError as error:
        return complain(PROGRAM, error, EXIT_REFUSED)
    except KeyboardInterrupt:
        return EXIT_DONE


def stats_of(node: Node) -> Stats:
    """What it says of itself. Raises NodeError, and _RefusedError where it does not."""
    answer = ask(node, STATS.path)
    try:
        value = json.loads(answer.body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NodeError(f"{node.address} answers {answer.status}, and no JSON: is it an admin listener?")
    if answer.status != 200:
        raise _RefusedError(str(value.get("error", f"it answers {answer.status}")))
    return value


def _once(node: Node, every_s: float) -> int:
    before, began = stats_of(node), time.monotonic()
    time.sleep(every_s)
    after = stats_of(node)
    is_one = rates.are_of_one_process(before, after)
    found = rates.between(before, after, time.monotonic() - began) if is_one else None
    width, height = shutil.get_terminal_size() if sys.stdout is not None and sys.stdout.isatty() else _PAPER
    say("".join(f"{line}\n" for line in frame(after, found, width, height)))
    return EXIT_DONE


def _live(node: Node, every_s: float) -> int:
    watch = _Watch(node)
    watch.look()  # what is wrong at first is told without a screen
    with _screen() as screen:
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:
                watch.look_again()
                due = max(due + every_s, time.monotonic())
            screen.draw(watch)
            if not screen.pause(due):
                return EXIT_DONE


class _Watch:
    """A node's numbers, and what changed since the last ones."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._taken_at = 0.0
        self.stats: Stats = {}
        self.rates: rates.Rates | None = None
        self.note = ""

    def look(self) -> None:
        """Take the numbers. Raises NodeError and _RefusedError."""
        before, taken_at = self.stats, self._taken_at
        self.stats = stats_of(self._node)
        self._taken_at = time.monotonic()
        is_one = bool(before) and rates.are_of_one_process(before, self.stats)
        self.rates = rates.between(before, self.stats, self._taken_at - taken_at) if is_one else None
        self.note = ""

    def look_again(self) -> None:
        """The same; what is wrong is shown beside the last numbers, and may pass: a restart, an upgrade."""
        try:
            self.look()
        except (NodeError, _RefusedError) as error:
            self.note = f"!! {error}; asked again"


class _Screen:
    """A terminal that is ours, and what wakes whoever waits for it."""

    def __init__(self, wakes: int) -> None:
        self._wakes = wakes
        self._poll = select.poll()
        self._poll.register(wakes, select.POLLIN)
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
        if self._keys >= 0:
            self._poll.register(self._keys, select.POLLIN)

    def draw(self, watch: _Watch) -> None:
        """Write a frame over the last one."""
        width, height = os.get_terminal_size(sys.stdout.fileno())
        lines = frame(watch.stats, watch.rates, width, height, watch.note)
        title, *others = lines or [""]
        text = "\r\n".join(f"{line}{_TO_LINE_END}" for line in (f"{_BOLD}{title}{_PLAIN}", *others))
        say(f"{_HOME}{text}{_TO_SCREEN_END}")
        sys.stdout.flush()

    def pause(self, until: float) -> bool:
        """Wait until then, or until the terminal has another size. False: it is to end."""
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left * 1000):
                data = os.read(fd, 64)
                if fd == self._wakes:
                    return signal.SIGWINCH in data or signal.SIGCONT in data
                if not data or any(key in data for key in _QUITS):
                    return False
        return True


@contextmanager
def _screen() -> Iterator[_Screen]:
    """The terminal, ours for so long. Signals wake `pause` by way of a pipe (signal.set_wakeup_fd)."""
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    modes = termios.tcgetattr(keys) if keys >= 0 else None
    wakes, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def enter() -> None:
        if keys >= 0:
            tty.setcbreak(keys)
        say(_ENTER)

    def leave() -> None:
        say(_LEAVE)
        sys.stdout.flush()
        if modes is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, modes)

    def stop(*_: Any) -> None:  # Ctrl-Z
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()

    meant = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT)
    before = {number: signal.signal(number, lambda *_: None) for number in meant}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, stop)
    old = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        enter()
        yield _Screen(wakes)
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(OSError, ValueError):  # the terminal may be gone
            leave()
        os.close(wakes)
        os.close(waker)
