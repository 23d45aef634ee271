"""Everything at once: files are replaced, come and go, and are evicted; clients ask for them whole, in ranges, under
conditions, for what is absent, and for servlets; some give up in the middle. The log is turned over meanwhile, and
the root is loaded anew.

Nothing may be wrong in any answer (reading.py). In the log the requests that one lane answers are in order, and none is
missing of which the server has not said that it was dropped. What is answered 503 is counted, for a file may change too
often to be read, and the log has to say so. At the end all files are served in their last version.

A connection may go from one lane to another, and lanes' lines come into the log at different times. So the requests of
one connection are as many rising rows as there are lanes, at most, each put together from any places.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.soak.client import Connection, LostError, UnavailableError
from tools.soak.content import PART_BYTES_MIN, SIZES, WrongError, make, publish, size_of, target_of, whole_of
from tools.soak.crew import Crew, Facts, Found, Make, Step, shared_numbers
from tools.soak.reading import ANSWERS_MAX, Reading, may_be_absent, on_connections
from tools.soak.served import Served, serving

FILES, HOT = 210, 21
MEMORY = "4M"  # a third of the content
CONNECTIONS = 4  # of each client
WRITE_EVERY_S, TURN_EVERY_S, RELOAD_EVERY = 0.004, 3.0, 4
LAST_WITHIN_S = 60.0
TOLD_BEFORE_MAX = 5  # a request is answered 503 when its file was found changed four times
_TOLD_OF = re.compile(r" (/[^ ?]+?)(?:\?\S*)?: answered 503")

SERVLETS = """\
import time
from zcserve import servlet

def get(request):
    return b"hello from the loop"

def post(request):
    return request.body

@servlet("/thread", thread=True)
def wait(request):
    time.sleep(0.005)
    return b"hello from a thread"

@servlet("/kept", ttl=1)
def kept(request):
    return b"kept for a second " * 100

@servlet("/held")
def hold(request):
    until = time.monotonic() + 0.03
    while time.monotonic() < until:
        pass
    return b"held for a while"
"""
SAID = {
    "/csp?all": b"hello from the loop",
    "/thread": b"hello from a thread",
    "/kept": b"kept for a second " * 100,
    "/held": b"held for a while",
}


def _some(facts: Facts) -> int:
    """A file's number; few of them are asked for often."""
    return facts.random.randrange(HOT if facts.random.random() < 0.7 else FILES)


def _is_over(one: Connection) -> bool:
    return one.asked >= ANSWERS_MAX


# --- clients ----------------------------------------------------------------------------------------------------------


@on_connections(CONNECTIONS)
def plain(facts: Facts, reading: Reading, one: Connection) -> bool:
    """Whole files, one after the other or several at once. What is asked is counted in the query, for the log."""
    numbers = [_some(facts) for _ in range(16 if facts.random.random() < 0.1 else 1)]
    for place, number in enumerate(numbers, 1):
        is_last = place == len(numbers) and one.asked >= ANSWERS_MAX
        one.asked += 1
        one.get(f"{target_of(number)}?c={one.name}&n={one.asked}", *["Connection: close"] * is_last)
    for number in numbers:
        answer = one.answer()
        reading.whole(one, number, answer)
        facts.count("whole")
        facts.done[one.name] = facts.done.get(one.name, 0) + 1
    return answer.is_last


@on_connections(CONNECTIONS)
def ranges(facts: Facts, reading: Reading, one: Connection) -> bool:
    """One range, two of them, and one that is not there."""
    number = _some(facts)
    if may_be_absent(number):
        return False
    one.asked += 1
    end = size_of(number, 0)
    first = facts.random.randrange(end - PART_BYTES_MIN + 1)
    last = facts.random.randrange(first + PART_BYTES_MIN - 1, end)
    kind = facts.random.choice(("one", "one", "one", "open", "suffix", "two", "none"))
    words = {
        "one": f"{first}-{last}",
        "open": f"{first}-",
        "suffix": f"-{PART_BYTES_MIN}",
        "two": f"0-{PART_BYTES_MIN - 1},{first}-{last}",
        "none": "999999999-",
    }
    one.get(target_of(number), f"Range: bytes={words[kind]}")
    answer = one.answer()
    if kind == "none":
        if answer.status != 416:
            raise WrongError(f"{target_of(number)}: {answer.status} to a range that is not there")
    elif kind == "two" and answer.fields[b"content-type"].startswith(b"multipart/"):
        reading.parts(one, number, answer, 2)
    else:
        reading.part(one, number, answer)
    facts.count(f"range: {kind}")
    return answer.is_last or _is_over(one)


@on_connections(CONNECTIONS)
def conditions(facts: Facts, reading: Reading, one: Connection) -> bool:
    """Tags that were answered on the same connection, and HEAD."""
    number = _some(facts)
    one.asked += 1
    tag = one.tags.get(number)
    kind = facts.random.choice(("If-None-Match", "If-Match", "If-Range", "HEAD")) if tag else "first"
    lines = [f"{kind}: {tag.decode()}"] if tag and kind.startswith("If-") else []
    if kind == "If-Range":
        lines.append(f"Range: bytes=0-{PART_BYTES_MIN - 1}")
    one.get(target_of(number), *lines, method="HEAD" if kind == "HEAD" else "GET")
    answer = one.answer(is_head=kind == "HEAD")
    if kind == "HEAD":
        if answer.status != (404 if may_be_absent(number) and answer.status == 404 else 200):
            raise WrongError(f"{target_of(number)}: {answer.status} to HEAD")
    elif kind == "If-None-Match" and answer.status == 304:
        if answer.fields[b"etag"] != tag:
            raise WrongError(f"{target_of(number)}: 304 with {answer.fields[b'etag']!r}, not {tag!r}")
    elif kind == "If-Range" and answer.status == 206:
        if answer.fields[b"etag"] != tag:
            raise WrongError(f"{target_of(number)}: 206 of {answer.fields[b'etag']!r}, not {tag!r}")
        reading.part(one, number, answer)
    elif kind == "If-Match" and answer.status == 412:
        pass
    else:
        reading.whole(one, number, answer)
    facts.count(f"condition: {kind} {answer.status}")
    return answer.is_last or _is_over(one)


@on_connections(CONNECTIONS)
def absent(facts: Facts, reading: Reading, one: Connection) -> bool:
    """Paths that lead nowhere, new ones each time."""
    one.asked += 1
    one.get(f"/d0000/{facts.random.randrange(10**9)}.none")
    answer = one.answer()
    if answer.status != 404:
        raise WrongError(f"{answer.status} to a path that leads nowhere")
    facts.count("absent")
    return answer.is_last or _is_over(one)


@on_connections(CONNECTIONS)
def servlets(facts: Facts, reading: Reading, one: Connection) -> bool:
    """What Python answers: in the loop, in threads, kept, and with a body."""
    one.asked += 1
    target = facts.random.choice(("/csp?all", "/csp?all", "/csp?all", "/thread", "/kept", "/kept", "echo"))
    if facts.random.random() < 0.01:
        target = "/held"
    due = SAID.get(target) or facts.random.randbytes(facts.random.choice((1, 500, 20_000)))
    if target == "echo":
        one.get("/csp?all", method="POST", body=due)
    else:
        one.get(target)
    answer = one.answer()
    if (answer.status, answer.body) != (200, due):
        raise WrongError(f"{target}: {answer.status}, {answer.body[:40]!r}")
    facts.count(f"servlet: {target}")
    return answer.is_last or _is_over(one)


def aborting(facts: Facts, versions: Any) -> Step:
    """Clients that give up: at once, in a head, in an answer, with requests whose answers are not read."""

    def step(_: Facts) -> None:
        one = Connection(facts.port, "aborting")
        how = facts.random.choice(("at once", "in the head", "in the answer", "slowly", "pipelined", "half"))
        number = facts.random.choice([n for n in range(FILES) if n % len(SIZES) == len(SIZES) - 1])
        try:
            if how == "in the head":
                one.send(b"GET " + target_of(number).encode()[: facts.random.randrange(1, 18)])
            elif how == "pipelined":
                for _request in range(50):
                    one.get(target_of(_some(facts)))
            elif how != "at once":
                one.get(target_of(number))
            if how == "in the answer":
                one.read_some()
            elif how == "slowly":
                time.sleep(0.05)
            elif how == "half":
                one.end_sending()
                answer = one.answer()
                if answer.status == 200:
                    whole_of(number, answer.body)
        finally:
            one.close(reset=facts.random.random() < 0.5)
        facts.count(f"given up: {how}")

    return step


def writing(facts: Facts, given: Any) -> Step:
    """Replaces files, and lets some come and go."""
    root, versions = given
    newest = {number: max(1, versions[number]) for number in range(FILES)}

    def step(_: Facts) -> None:
        number = _some(facts)
        if may_be_absent(number) and versions[number]:
            versions[number] = 0
            (root / target_of(number)[1:]).unlink()
        else:
            newest[number] += 1
            publish(root, number, newest[number])
            versions[number] = newest[number]
        facts.counts["written"] = facts.counts.get("written", 0) + 1
        time.sleep(WRITE_EVERY_S)

    return step


CLIENTS: tuple[Make, ...] = (plain, plain, ranges, conditions, absent, servlets, aborting)


# --- the log ----------------------------------------------------------------------------------------------------------


@dataclass
class LogRead:
    """What the log of so many lanes says of the requests that are counted. `found`: how many, by connection; `late`:
    how many come behind later ones of their connection."""

    lanes: int
    lines: int = 0
    late: int = 0
    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _rows: dict[str, list[int]] = field(default_factory=dict)  # the last of each rising row, falling

    _LINE = re.compile(r'\S+ \S+ \S+ \[[^\]]+\] "(.*)" (?:\d{3}|-) (?:\d+|-) ".*" ".*"')
    _COUNTED = re.compile(r"\?c=([\w-]+)&n=(\d+) ")

    def read(self, path: Path) -> None:
        """Read a file of the log, which comes behind those that were read before; it is removed."""
        for line in path.read_text(errors="replace").splitlines():
            self.lines += 1
            if not self._LINE.fullmatch(line):
                self.faults.append(f"the log has {line[:120]!r}")
            elif counted := self._COUNTED.search(line):
                self._count(counted[1], int(counted[2]))
        path.unlink()

    def _count(self, name: str, number: int) -> None:
        """Put a request behind the highest last one below it, so that the rows are as few as can be."""
        self.found[name] += 1
        rows = self._rows.setdefault(name, [])
        place = next((at for at, last in enumerate(rows) if last < number), len(rows))
        if number in rows:
            self.faults.append(f"the log has {name} {number} twice")
        elif place == self.lanes:
            self.faults.append(f"the log has {name} {number} behind {', '.join(map(str, rows))}")
        self.late += place > 0
        rows[place : place + 1] = [number]

    def missing(self, done: dict[str, int]) -> int:
        """How many answers that were read are not in it."""
        return sum(max(0, count - self.found[name]) for name, count in done.items())


# --- the soak ---------------------------------------------------------------------------------------------------------


def run(workdir: Path, options: tuple[str, ...], lanes: int, seconds: float) -> tuple[Found, dict[str, Any]]:
    """Run for so long; what was found, and figures. Raises SoakError where the server does not do its part."""
    root, log = workdir / "root", workdir / "access.log"
    folder = workdir / "servlets"
    folder.mkdir()
    (folder / "all.py").write_text(SERVLETS)
    make(root, FILES, 1)
    versions = shared_numbers(FILES)
    versions[:] = [1] * FILES
    flags = ("--memory", MEMORY, "--servlets", str(folder), "--access-log", str(log), *options)
    read = LogRead(lanes)
    with serving(root, *flags) as served:
        clients = [*((make, versions) for make in CLIENTS), (writing, (root, versions))]
        with Crew(served.port, clients) as crew:
            files = _turns(served, log, crew, seconds, read)
        faults = _all_are_served(served.port, versions)
    for file in (*files, log):
        read.read(file)
    dropped = sum(int(found[1]) for found in served.said(r"(\d+) (?:records dropped|lines)"))
    missing = read.missing(crew.found.done)
    faults += read.faults[:20] + [line for line in served.lines if "Traceback" in line or " error " in line]
    told = served.said("answered 503, ")
    if crew.found.counts.get("503") and not told:
        faults.append("the log does not say why something was answered 503")
    if missing > dropped:
        faults.append(f"{missing} answers are missing in the log, {dropped} were said to be dropped")
    found = Found(crew.found.counts, crew.found.faults + faults, {})
    return found, {
        "log lines": read.lines,
        "late in the log": read.late,
        "missing in the log": missing,
        "said to be dropped": dropped,
        "503 in the log": [told_before(served.lines, one.string) for one in told],
    }


def told_before(lines: list[str], line: str) -> list[str]:
    """What the log says of the same file before this line, and the line."""
    found = _TOLD_OF.search(line)
    name = found[1] if found else line
    before = [one for one in lines[: lines.index(line)] if name in one]
    return [*before[-TOLD_BEFORE_MAX:], line]


def _turns(served: Served, log: Path, crew: Crew, seconds: float, read: LogRead) -> list[Path]:
    """Turn the log over and load the root anew until the time is over; the last file of the log is read later, since
    lines may still come into it."""
    until, number = time.monotonic() + seconds, 0
    last: list[Path] = []
    while time.monotonic() < until:
        crew.watch(min(TURN_EVERY_S, until - time.monotonic()))
        number += 1
        for file in last:
            read.read(file)
        last = [log.with_name(f"access.log.{number}")]
        os.rename(log, last[0])
        served.signal(signal.SIGUSR1)
        served.wait_until(log.exists, "the log is not opened anew")
        if number % RELOAD_EVERY == 0:
            served.signal(signal.SIGHUP)
    return last


def _all_are_served(port: int, versions: Any) -> list[str]:
    """Whether each file is served in its last version, once that had time."""
    until = time.monotonic() + LAST_WITHIN_S
    wrong: list[str] = []
    for number in range(FILES):
        while (told := _served_version(port, number)) != versions[number]:
            if time.monotonic() > until:
                wrong.append(f"file {number} stays at version {told}, and {versions[number]} was the last")
                break
            time.sleep(0.02)
    return wrong


def _served_version(port: int, number: int) -> int:
    one = Connection(port, "last")
    try:
        one.get(target_of(number))
        answer = one.answer()
        return whole_of(number, answer.body) if answer.status == 200 else 0
    except (LostError, UnavailableError):
        return -1
    finally:
        one.close()
