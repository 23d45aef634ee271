"""Files as they were read, and whether they still hold that: Python's sources, and which of a folder's they import.

What is read is compiled from what was read. Python's own .pyc files are neither read nor written.
"""

from __future__ import annotations

import ast
import linecache
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import decode_source
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

from zcserve.cache.entry import identity_of

# A file's times are those of its file system's clock: a few milliseconds apart, two seconds on FAT. What was written so
# recently may be written again without another time, so until then its content is looked at, too.
SETTLED_NS = 2_000_000_000


class Seen:
    """What a path held when it was read, and whether it still does. A path with nothing behind it holds None."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._path = str(path)
        self._identity, _ = _look_at(self._path)  # before the content: what is written meanwhile is another one
        self.content = self._read()
        self._settled = False

    def _read(self) -> Any:
        raise NotImplementedError

    def changed(self) -> bool:
        """One os.stat, and another look at the content for as long as a change need not show in its identity."""
        identity, written_ns = _look_at(self._path)
        if identity != self._identity:
            return True
        if not self._settled:
            settled = time.time_ns() - written_ns > SETTLED_NS
            if self._read() != self.content:
                return True
            self._settled = settled
        return False


def _look_at(path: str) -> tuple[bytes | None, int]:
    """The identity of what is at `path`, and when it was written (nanoseconds since 1970); None and 0 for nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None, 0
    return identity_of(status), status.st_ctime_ns


class Listing(Seen):
    """The names of the *.py files in a directory."""

    content: list[str] | None

    def _read(self) -> list[str] | None:
        try:
            names = os.listdir(self.path)
        except OSError:
            return None
        return sorted(name for name in names if name.endswith(".py") and os.path.isfile(self.path / name))


class File(Seen):
    """A Python file as it was read."""

    content: bytes | None

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except OSError:
            return None

    def show_lines(self) -> None:
        """Have tracebacks and `inspect` show these lines for the file."""
        linecache.cache.pop(self._path, None)
        with suppress(SyntaxError, ValueError, LookupError):  # not in the encoding that it names
            lines = decode_source(self.content or b"").splitlines(keepends=True)
            # An entry without a time is never compared with the file.
            linecache.cache[self._path] = (len(lines), None, lines, self._path)


class SourceFile(File):
    """A file that is compiled. `imports`: the top-level names with a leading "_" that it imports anywhere."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.imports: frozenset[str] = frozenset()
        self._code: CodeType | None = None
        with suppress(Exception):  # `code` raises it
            tree = ast.parse(self.content or b"", self._path)
            self.imports = frozenset(_private_imports(tree))
            self._code = self._compiled(tree)  # not the text once more: its warnings would be shown twice

    def _compiled(self, what: ast.Module | bytes) -> CodeType:
        code: CodeType = compile(what, self._path, "exec", dont_inherit=True)
        return code

    def code(self) -> CodeType:
        """The code, whose lines tracebacks show from now on. Raises whatever is wrong with the file."""
        content = self.path.read_bytes() if self.content is None else self.content  # raises again why it cannot be read
        self.show_lines()
        return self._code if self._code is not None else self._compiled(content)


def _private_imports(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        yield from (name.partition(".")[0] for name in names if name.startswith("_"))


SourceFiles: TypeAlias = frozenset[SourceFile]


def with_imports(name: str, sources: Mapping[str, SourceFile]) -> SourceFiles:
    """The source `name` and those that it imports, and those that they import."""
    found: set[SourceFile] = set()
    waiting = [name]
    while waiting:
        source = sources.get(waiting.pop())
        if source is not None and source not in found:
            found.add(source)
            waiting.extend(source.imports)
    return frozenset(found)
