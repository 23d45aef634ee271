"""Calls that fail: a library that is loaded before libc's makes the next call of a function fail, when told to.

`Faults` compiles it (where there is a C compiler) and tells it by a file that both have mapped, so that a running
server can be given a fault at any moment. What a fault hits is the function as the process calls it: CPython, the
compiled lane, ctypes.
"""

from __future__ import annotations

import errno
import mmap
import shutil
import struct
import subprocess
from pathlib import Path

# name -> its declaration in C, and the names of its arguments
CALLS: dict[str, tuple[str, str, str]] = {
    "pthread_create": ("int", "void *a, const void *b, void *c, void *d", "a, b, c, d"),
    "posix_spawn": ("int", "void *a, void *b, void *c, void *d, void *e, void *f", "a, b, c, d, e, f"),
    "socketpair": ("int", "int a, int b, int c, int *d", "a, b, c, d"),
    "memfd_create": ("int", "const char *a, unsigned b", "a, b"),
    "ftruncate64": ("int", "int a, long b", "a, b"),
    "eventfd": ("int", "unsigned a, int b", "a, b"),
    "epoll_create1": ("int", "int a", "a"),
    "epoll_ctl": ("int", "int a, int b, int c, void *d", "a, b, c, d"),
    "inotify_init1": ("int", "int a", "a"),
    "inotify_add_watch": ("int", "int a, const char *b, unsigned c", "a, b, c"),
    "open64": ("int", "const char *a, int b, int c", "a, b, c"),
    "openat64": ("int", "int a, const char *b, int c, int d", "a, b, c, d"),
    "read": ("long", "int a, void *b, unsigned long c", "a, b, c"),
    "preadv64v2": ("long", "int a, const void *b, int c, long d, int e", "a, b, c, d, e"),
    "pwritev64v2": ("long", "int a, const void *b, int c, long d, int e", "a, b, c, d, e"),
    "pwrite64": ("long", "int a, const void *b, unsigned long c, long d", "a, b, c, d"),
    "sendmsg": ("long", "int a, const void *b, int c", "a, b, c"),
    "send": ("long", "int a, const void *b, unsigned long c, int d", "a, b, c, d"),
    "sendfile64": ("long", "int a, int b, long *c, unsigned long d", "a, b, c, d"),
    "recv": ("long", "int a, void *b, unsigned long c, int d", "a, b, c, d"),
    "write": ("long", "int a, const void *b, unsigned long c", "a, b, c"),
}
_FAULT = struct.Struct("=iiii")  # calls that pass first, calls that fail then, errno, calls that have failed

_HEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
long syscall(long, ...);
int close(int);
void *mmap(void *, unsigned long, int, int, int, long);
enum { AT_FDCWD = -100, O_RDWR = 2, READ_WRITE = 3, SHARED = 1 };  /* their headers declare the calls below */
struct fault { int pass, fail, error, failed; };
static struct fault none[64], *faults = none;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TEST_FAULTS");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR) : -1;
    if (fd < 0) return;
    void *mapped = mmap(0, sizeof none, READ_WRITE, SHARED, fd, 0);
    if (mapped != (void *)-1) faults = mapped;
    close(fd);
}
static int strikes(struct fault *fault) {
    if (__atomic_load_n(&fault->fail, __ATOMIC_SEQ_CST) <= 0) return 0;
    if (__atomic_load_n(&fault->pass, __ATOMIC_SEQ_CST) > 0) {
        __atomic_sub_fetch(&fault->pass, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    __atomic_sub_fetch(&fault->fail, 1, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&fault->failed, 1, __ATOMIC_SEQ_CST);
    return 1;
}
"""
# A tail call, which vfork needs: it returns twice.
_CALL = """
{kind} {name}({parameters}) {{
    static {kind} (*real)({parameters});
    if (!real) real = ({kind} (*)({parameters}))dlsym(RTLD_NEXT, "{name}");
    if (strikes(faults + {number})) {{ {fail} }}
    return real({arguments});
}}
"""
# What the fast lane does not call by its name (net/lane/system.pxd).
_BY_NUMBER = {"SYS_recvfrom": "recv", "SYS_sendto": "send", "SYS_sendmsg": "sendmsg"}
_SYSCALL = """
#include <stdarg.h>
long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long is[6];
    va_list more;
    va_start(more, number);
    for (int i = 0; i < 6; i++) is[i] = va_arg(more, long);
    va_end(more);
    struct fault *fault = %s 0;
    if (fault && strikes(fault)) { errno = fault->error; return -1; }
    return real(number, is[0], is[1], is[2], is[3], is[4], is[5]);
}
"""


class Faults:
    """One server's, and its successors'."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "faults"
        self._path.write_bytes(bytes(_FAULT.size * 64))
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._numbers = {name: number for number, name in enumerate(CALLS)}
        self._library = directory / "faults.so"
        source = directory / "faults.c"
        numbers = (f"number == {call} ? faults + {self._numbers[name]} :" for call, name in _BY_NUMBER.items())
        wrappers = "".join(self._wrapper(name) for name in CALLS)
        source.write_text(_HEAD + wrappers + _SYSCALL % " ".join(numbers))
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert compiler is not None
        subprocess.run(
            [compiler, "-O2", "-w", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True, timeout=60
        )

    def _wrapper(self, name: str) -> str:
        kind, parameters, arguments = CALLS[name]
        error = f"(faults + {self._numbers[name]})->error"
        fail = f"return {error};" if name in ("pthread_create", "posix_spawn") else f"errno = {error}; return -1;"
        return _CALL.format(
            kind=kind, name=name, parameters=parameters, arguments=arguments, number=self._numbers[name], fail=fail
        )

    @staticmethod
    def can_be_made() -> bool:
        """Whether there is a C compiler."""
        return bool(shutil.which("cc") or shutil.which("gcc"))

    @property
    def environ(self) -> dict[str, str]:
        """What a process that is to have faults has in its environment."""
        return {"LD_PRELOAD": str(self._library), "TEST_FAULTS": str(self._path)}

    def fail(self, name: str, error: int = errno.EMFILE, *, after: int = 0, times: int = 1) -> None:
        """Have the next `times` calls fail, once `after` have passed."""
        _FAULT.pack_into(self._map, _FAULT.size * self._numbers[name], after, times, error, 0)

    def struck(self, name: str) -> int:
        """How many calls have failed since `fail`."""
        return int(_FAULT.unpack_from(self._map, _FAULT.size * self._numbers[name])[3])

    def clear(self) -> None:
        """Nothing fails any more."""
        self._map[:] = bytes(len(self._map))
