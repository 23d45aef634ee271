"""The way of a path: which names the kernel looks up, in which directories (path_resolution(7))."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

_LINKS_MAX = 40  # as in the kernel


def way_of(fd: int | None, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Every (directory, name) that the kernel looks up for `path` from the directory `fd` (None: the present one).

    It ends where the way does: with what it leads to, or with the first name that does not exist. The descriptors are
    good until the next step.
    """
    try:
        here = os.open(b".", os.O_PATH | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return
    try:
        steps = _steps(path)
        links = 0
        while steps and links <= _LINKS_MAX:
            step = steps.pop()
            if step not in (b"/", b".."):
                yield here, step
            there = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            if stat.S_ISLNK(os.fstat(there).st_mode):
                try:
                    steps += _steps(os.readlink(b"", dir_fd=there))
                finally:
                    os.close(there)
                links += 1
            else:
                os.close(here)
                here = there
    except OSError:
        pass  # so it ends here; its last name was told
    finally:
        os.close(here)


def _steps(path: bytes) -> list[bytes]:
    """The names of a path, last first; an absolute one begins with b"/"."""
    steps = [step for step in reversed(path.split(b"/")) if step not in (b"", b".")]
    return [*steps, b"/"] if path.startswith(b"/") else steps
