"""One file under two names, so that what did not change between two releases is not moved again.

Hard link first, reflink where that cannot be had, a copy last. A hard link gives the file a new ctime, at which the
server reads it once to see that its content is what it was (zcserve/cache/doubt.py). A reflink or a copy
leaves the old name alone, but is a new file: the server reads it, too, and has its content in memory a second time, as
long as both releases are there. So a release of which little has changed takes little memory with hard links,
and twice the memory with reflinks; and 10,000 links take less time than as many reflinks (docs/fleet.md has figures).
"""

from __future__ import annotations

import errno
import fcntl
import os

from zcserve.fleet.below import FILE_MODE

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
# Here, between these two or for these names, it cannot be done; a copy can.
_NOT_SO = frozenset(
    (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)
)
COPY_BYTES = 1 << 24

HARD_LINK, REFLINK, COPY = "linked", "reflinked", "copied"


class Sharer:
    """Gives files second names. What a file system has refused once is not tried again, but for EMLINK: that is of one
    file."""

    def __init__(self, ways: tuple[str, ...] = (HARD_LINK, REFLINK, COPY)) -> None:
        """`ways` in the order in which they are tried."""
        self._ways = list(ways)

    def share(self, directory: int, name: bytes, to_directory: int, to_name: bytes) -> str:
        """Give the file `name` the name `to_name`, which is free, in another directory; how it was done. Raises
        OSError: FileNotFoundError where the file has gone."""
        for way in (*self._ways,):
            try:
                if way == HARD_LINK:
                    os.link(name, to_name, src_dir_fd=directory, dst_dir_fd=to_directory, follow_symlinks=False)
                else:
                    _copy(directory, name, to_directory, to_name, clone=way == REFLINK)
            except OSError as error:
                if error.errno not in _NOT_SO or way == self._ways[-1]:
                    raise
                if error.errno != errno.EMLINK:
                    self._ways.remove(way)
            else:
                return way
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def _copy(directory: int, name: bytes, to_directory: int, to_name: bytes, *, clone: bool) -> None:
    """With the times of the file, as a link has them."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
    try:
        to_fd = os.open(to_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE, dir_fd=to_directory)
        try:
            if clone:
                fcntl.ioctl(to_fd, _FICLONE, fd)
            else:
                while os.copy_file_range(fd, to_fd, COPY_BYTES):
                    pass
            status = os.fstat(fd)
            os.utime(to_fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        except BaseException:
            os.unlink(to_name, dir_fd=to_directory)
            raise
        finally:
            os.close(to_fd)
    finally:
        os.close(fd)
