"""zcserve.program: a process that is started with what it is given, waited for, and ended."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.processes import is_alive
from zcserve.program import Program, close_inherited

WITHIN_S = 20.0


def test_a_program_is_started_with_what_it_is_given() -> None:
    ours, theirs = socket.socketpair()
    kept = os.dup(1)
    with ours:
        code = f"import os; os.write({theirs.fileno()}, os.environ['WORD'].encode()); os.fstat({kept})"
        program = Program([sys.executable, "-c", code], {"WORD": "this"}, [theirs.fileno()])
        theirs.close()
        ours.settimeout(WITHIN_S)
        assert ours.recv(9) == b"this"
        codes: list[int] = []
        codes.append(program.wait())
        assert codes == [1]  # the other descriptor was not there
        program.kill()  # has ended already
    os.close(kept)


@pytest.fixture
def start() -> Iterator[Callable[[str], Program]]:
    """`start(code)`: a program of Python; it is ended and waited for."""
    with ExitStack() as stack:

        def begin(code: str) -> Program:
            program = Program([sys.executable, "-S", "-c", code], {}, [])
            stack.callback(program.kill)
            return program

        yield begin


@pytest.mark.parametrize(
    ("code", "expected"), [("pass", 0), ("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 15)", -15)]
)
def test_the_exit_code_tells_how_it_ended(start: Callable[[str], Program], code: str, expected: int) -> None:
    assert start(code).wait() == expected


def test_a_program_that_is_killed_has_ended_and_one_that_was_waited_for_is_left_alone(
    start: Callable[[str], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = start("import time; time.sleep(600)")
    assert is_alive(program.pid)
    program.kill()
    assert program.wait() == -signal.SIGKILL
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _: killed.append(pid))
    program.kill()  # its number may be another process's by now
    assert killed == []


def test_signals_that_python_ignores_are_as_usual_in_the_program() -> None:
    ignored = signal.getsignal(signal.SIGPIPE), signal.getsignal(signal.SIGXFSZ)
    assert ignored == (signal.SIG_IGN, signal.SIG_IGN)
    # No Python: it would ignore them itself.
    program = Program(["/bin/sh", "-c", "kill -s PIPE $$; exit 4"], {}, [])
    assert program.wait() == -signal.SIGPIPE


def test_what_cannot_be_started_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        Program(["/nothing/of/this/name"], {}, [])


def test_what_a_program_inherited_by_mistake_is_closed_and_the_rest_stays() -> None:
    stray, kept, own = (os.open(os.devnull, os.O_RDONLY) for _ in range(3))
    os.set_inheritable(stray, True)
    os.set_inheritable(kept, True)
    others = {
        fd
        for fd in map(int, os.listdir("/proc/self/fd"))
        if fd > 2 and fd not in (stray, kept, own) and is_inheritable(fd)
    }
    close_inherited([kept, *others])
    assert [is_open(fd) for fd in (stray, kept, own)] == [False, True, True]
    assert all(is_open(fd) for fd in (0, 1, 2))
    os.close(kept)
    os.close(own)


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


def is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:  # the listing's own
        return False
