"""zcserve.foreground: what a process does once for its server, and how it ends; a process of its own for each test."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BEGIN = """
import gc, os, resource, signal, sys
from zcserve.foreground import SWITCH_INTERVAL_S, Foreground
environ = {}
process = Foreground(environ)

def send(number):
    os.kill(os.getpid(), number)
    for _ in range(1000):  # a handler is called between two instructions
        pass
"""


def ended(program: str) -> tuple[int, str]:
    """The exit code of a process, and what it has printed."""
    process = subprocess.run(
        [sys.executable, "-c", BEGIN + program], stdout=subprocess.PIPE, text=True, timeout=60, cwd=ROOT
    )
    return process.returncode, process.stdout


def test_a_process_without_one_before_it_has_all_descriptors_and_short_turns_of_its_threads() -> None:
    code, said = ended(
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "print(soft == hard, abs(sys.getswitchinterval() - SWITCH_INTERVAL_S) < 1e-6, process.predecessor)"
    )
    assert (code, said.split()) == (0, ["True", "True", "None"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_running", [True, False])
def test_the_second_signal_ends_the_process_and_the_first_where_the_server_ends_already(
    number: int, is_running: bool
) -> None:
    times = 2 if is_running else 1
    program = f"""
def stop():
    print("stop", flush=True)
    return {is_running}

process.hear(stop, lambda: print("forbid", flush=True), {{}})
for _ in range({times}):
    send({number:d})
print("goes on")
"""
    assert ended(program) == (128 + number, "stop\nforbid\n")


def test_other_signals_call_what_they_are_told() -> None:
    program = """
process.hear(lambda: True, lambda: None, {signal.SIGHUP: lambda: print("reload"), signal.SIGUSR1: lambda: print("log")})
for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
    send(number)
"""
    assert ended(program) == (0, "log\nreload\n")


def test_what_was_made_is_out_of_the_collectors_sight_until_the_end() -> None:
    code, said = ended(
        "process.settle(); print(gc.get_freeze_count() > 1000); process.unsettle(); print(gc.get_freeze_count())"
    )
    assert (code, said.split()) == (0, ["True", "0"])


@pytest.mark.parametrize(("is_closed", "said"), [(True, "the interpreter ends\n"), (False, "")])
def test_the_interpreter_does_not_wait_for_a_thread_that_hangs(is_closed: bool, said: str) -> None:
    program = f"""
import threading
from zcserve.cache import closing
closing.start()
threading.Thread(target=threading.Event().wait, daemon={is_closed}).start()
process.leave(is_closed={is_closed}, generations=())
print("the interpreter ends")
"""
    assert ended(program) == (0, said)
