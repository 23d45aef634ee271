"""An example of docs/examples, copied, checked and served by both engines, and what it is asked.

A row is one request and what its answer must be. What `zcserve explain` says of it is held against each answer, and so
is each `$ curl` of the example's README.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.support.client import Client, Response
from tests.support.command import CHECKOUT, Command
from tests.support.engines import ENGINES
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.explain import explanation_of
from zcserve.net.explanation import request_of

# Status and fields.
Explained = tuple[int, list[tuple[bytes, bytes]]]

EXAMPLES = CHECKOUT / "docs" / "examples"
MADE_WITHIN_S = 60.0
# Where the examples' READMEs have their servers.
SHOWN = re.compile(r"^http://127\.0\.0\.1:8080(?=/)")
# Packages that are not installed, and what the machine's other processes have taken.
OF_THE_MACHINE = ("pip install 'zcserve[compress]'", "(Too many open files", "is not watched", "edits are not seen")
_URL = re.compile(r"(?:([A-Z]+) )?(\S+)")


class Row(NamedTuple):
    """One request, and what is said of its answer.

    says       the sentence that it stands for
    request    "/path" or "http://host/path", behind a method that is not GET
    status     of the answer
    fields     of the answer, by their names; None: it has no such field
    body       of the answer: bytes, or the file of the example that has them; None: any
    sends      further fields of the request
    content    the request's content
    explained  whether `zcserve explain` says the same; not what applications answer
    """

    says: str
    request: str
    status: int = 200
    fields: Mapping[str, str | None] = {}
    body: bytes | str | None = None
    sends: tuple[str, ...] = ()
    content: bytes = b""
    explained: bool = True

    @property
    def parts(self) -> tuple[str, str]:
        """Method and URL."""
        match = _URL.fullmatch(self.request)
        assert match is not None, self.request
        return match[1] or "GET", match[2]


class Example:
    """A copy of the example, in which it is run. Its configuration is site.toml."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        shutil.copytree(EXAMPLES / name, directory, symlinks=True)

    def make(self, *words: str) -> None:
        """What is too much to be kept in the repository."""
        subprocess.run([sys.executable, "make.py", *words], cwd=self.directory, check=True, timeout=MADE_WITHIN_S)

    def start(self, engine: str, *flags: str) -> Command:
        """`zcserve --config site.toml` as its README says, on any port; not yet ready."""
        argv = ("--config", "site.toml", "--port", "0", "--engine", engine, *flags)
        return Command(argv, {}, self.directory.parent / f"stdout-{engine}", cwd=self.directory)

    def faults(self, rows: Sequence[Row]) -> list[str]:
        """What each engine answers otherwise than rows, README and `zcserve explain` say; the current directory is the
        example's."""
        with ExitStack() as stack:
            servers = {engine: self.start(engine) for engine in ENGINES}
            for server in servers.values():
                stack.callback(server.end)
            for server in servers.values():
                server.wait_ready()
            config = load({}, {}, Path("site.toml"))
            said = [(row, explained(config, row)) for row in (*rows, *self.shown())]
            found = [
                f"{engine}: {fault}" for engine, server in servers.items() for fault in self._faults(server.port, said)
            ]
            found += [f"{engine}: {line}" for engine, server in servers.items() for line in warnings(server)]
        return found

    def shown(self) -> list[Row]:
        """What the README has `curl` say."""
        return list(shown_in((self.directory / "README.md").read_text()))

    def _faults(self, port: int, rows: Sequence[tuple[Row, Explained | None]]) -> Iterator[str]:
        asker = Asker(port)
        for row, explained in rows:
            for turn in ("first", "then"):  # the fast lane learns what it is asked
                answer = asker.ask(row)
                wrong = [*self._wrong(row, answer), *(_otherwise(answer, explained) if explained else ())]
                if wrong:
                    yield f"{row.says} [{row.request}, {turn}]: {'; '.join(wrong)}"
        asker.close()

    def _wrong(self, row: Row, answer: Response) -> Iterator[str]:
        if answer.status != row.status:
            yield f"{answer.status} instead of {row.status}"
        for name, value in row.fields.items():
            got = b", ".join(answer.all(name)).decode("latin-1") if answer.all(name) else None
            if value is None or got is None:
                if got is not value:
                    yield f"{name} is {got!r} instead of {value!r}"
            elif not re.fullmatch(".*".join(map(re.escape, value.split("..."))), got):
                yield f"{name} is {got!r} instead of {value!r}"
        expected = (self.directory / row.body).read_bytes() if isinstance(row.body, str) else row.body
        if expected is not None and answer.body != expected:
            yield f"the body is {answer.body[:60]!r} instead of {expected[:60]!r}"


# The fixtures `holds` and `example`.
Holds = Callable[[Example, Sequence[Row]], None]
GetExample = Callable[[str], Example]


class Asker:
    """Asks a server on one connection, and on another one where that was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = Client(port)

    def ask(self, row: Row) -> Response:
        """The answer to a row's request."""
        method, url = row.parts
        length = (f"Content-Length: {len(row.content)}",) if row.content else ()
        self._client.send(request_of(url, method, [*row.sends, *length]) + row.content)
        answer = self._client.read(method=method)
        if answer["Connection"] == b"close":
            self._client.close()
            self._client = Client(self._port)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def explained(config: Config, row: Row) -> Explained | None:
    """What `zcserve explain` says of a row; None: nothing, since an application may answer."""
    if not row.explained:
        return None
    method, url = row.parts
    told = explanation_of(config, url, method, row.sends)
    if told.status in (404, 405) and any("application" in note for note in told.notes):
        return None
    if any("password is not checked" in note for note in told.notes) and row.status == 401:
        return None
    return told.status, [(name.lower().encode(), value.encode()) for name, value in told.fields]


def _otherwise(answer: Response, explained: Explained) -> Iterator[str]:
    status, fields = explained
    got = [field for field in answer.fields if field[0] != b"date"]
    if (status, fields) != (answer.status, got):
        lost, more = [one for one in fields if one not in got], [one for one in got if one not in fields]
        yield f"explain says {status} and {lost}, the answer is {answer.status} and has {more}"


def warnings(server: Command) -> list[str]:
    """What it said since its start that an operator is to see to, but for what this machine alone lacks."""
    grave = [line for line in server.lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
    return [line for line in grave if not any(words in line for words in OF_THE_MACHINE)]


def shown_in(text: str) -> Iterator[Row]:
    """Each `$ curl` of a page, and the status line and fields below it."""
    for command, answer in re.findall(r"^    \$ (curl .*)\n((?:    [^$\n].*\n)+)", text, re.MULTILINE):
        status, *lines = [line.strip() for line in answer.splitlines()]
        fields: dict[str, str | None] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            fields[name] = value
        yield _asked(command)._replace(status=int(status.split()[1]), fields=fields)


def _asked(command: str) -> Row:
    """A row of what `curl` sends; it has no other options than these in the READMEs."""
    method, url, sends, content = "", "", [], b""
    words = iter(shlex.split(command)[1:])
    for word in words:
        match word:
            case "-i":
                pass
            case "-I":
                method = "HEAD"
            case "-X":
                method = next(words)
            case "-H":
                sends.append(next(words))
            case "--compressed":
                sends.append("Accept-Encoding: deflate, gzip, br, zstd")
            case "-r":
                sends.append(f"Range: bytes={next(words)}")
            case "-u":
                user = b64encode(next(words).encode()).decode()
                sends.append(f"Authorization: Basic {user}")
            case "-d":
                method, content = method or "POST", next(words).encode()
                sends.append("Content-Type: application/x-www-form-urlencoded")
            case _:
                assert SHOWN.match(word), command
                url = SHOWN.sub("", word)
    return Row(f"README: {command}", f"{method or 'GET'} {url}", sends=tuple(sends), content=content)
