"""zcserve.threads: threads that are there, or whose lack is told in one line."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import zcserve
from zcserve import threads
from zcserve.errors import NoThreadError

WITHIN_S = 20.0
# Each of its children has used up what it has, and then may have a stack and a page more than the one before; the last
# has all that a thread takes.
LITTLE_ROOM = """
import os, resource, threading, time
from zcserve import threads
from zcserve.errors import NoThreadError

def limit(room):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, resource.RLIM_INFINITY))

def used_up():
    taken = []
    limit(0)
    for size in 512, 64, 32:
        try:
            while True:
                taken.append(bytes(size))
        except MemoryError:
            pass
    del taken[-600:]
    return taken

said = set()
stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
for room in [*range(stack, stack + (1 << 18), 1 << 12), stack + (16 << 20)]:
    child = os.fork()
    if not child:
        taken = used_up()
        limit(room)
        try:
            threads.start(lambda: os._exit(1), "zcserve-test")
        except NoThreadError:
            os._exit(0)
        time.sleep(60)
    said.add(os.waitpid(child, 0)[1])
print(*sorted(map(os.waitstatus_to_exitcode, said)))
"""
# Each line that makes an object may begin a collection, and each collection gives the GIL away, while threads end.
COLLECTED = """
import gc, threading, time
from zcserve import threads

class Yields:
    def __init__(self):
        self.me = self

    def __del__(self):
        time.sleep(0.00001)

def come_and_go():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

threading.Thread(target=come_and_go, daemon=True).start()
gc.set_threshold(1)
until = time.monotonic() + 0.5
while time.monotonic() < until:
    Yields()
    assert threads.frame_of(threading.get_ident())
gc.disable()
print("looked")
"""


def test_a_thread_runs_and_does_not_keep_the_process_from_ending() -> None:
    ran = threading.Event()
    thread = threads.start(ran.set, "zcserve-test")
    assert ran.wait(WITHIN_S)
    assert (thread.name, thread.daemon) == ("zcserve-test", True)
    thread.join(WITHIN_S)


def test_a_thread_that_cannot_be_had_is_wrong_use_and_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran = threading.Event()
    thread = threading.Thread(target=ran.set, name="zcserve-test", daemon=True)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(
        NoThreadError, match=r"^no thread can be had for zcserve-test \(can't start new thread\): raise"
    ):
        threads.begin(thread)
    with pytest.raises(NoThreadError, match="for zcserve-other"):
        threads.start(ran.set, "zcserve-other")
    monkeypatch.undo()
    threads.begin(thread)
    assert ran.wait(WITHIN_S)


def test_what_is_no_lack_of_threads_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: threading.Thread) -> None:
        raise MemoryError

    monkeypatch.setattr(threading.Thread, "start", broken)
    with pytest.raises(MemoryError):
        threads.start(print, "zcserve-test")


def test_a_thread_that_would_lack_memory_for_its_first_line_is_not_begun() -> None:
    """`Thread.start` would wait for it without end."""
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_ROOM],
        env=os.environ | {"PYTHONPATH": str(Path(zcserve.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=WITHIN_S * 3,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20)),
    )
    assert (done.stdout, done.stderr) == ("0 1\n", "")


def test_a_look_at_a_thread_that_a_collection_might_come_into_hangs_nothing() -> None:
    argv = [sys.executable, "-c", COLLECTED]
    environ = os.environ | {"PYTHONPATH": str(Path(zcserve.__file__).parents[1])}
    assert subprocess.run(argv, env=environ, stdout=subprocess.PIPE, timeout=WITHIN_S, check=True).stdout == b"looked\n"


def test_a_thread_that_has_ended_has_no_frame() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert threads.frame_of(thread.ident) is None
