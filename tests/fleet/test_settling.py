"""syncfs: done, or an error."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zcserve.fleet.settling import settle


def test_a_file_system_is_settled_and_a_closed_descriptor_is_an_error(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    settle(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        settle(fd)
    assert caught.value.errno == errno.EBADF
