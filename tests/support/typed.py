"""Runs the commands that a page has an operator type, in one shell, and compares what they print with the page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_FIGURE = r"\d[\d.,]*(?: (?:[KMG]iB|B|s|ms|us))?"


class Typed(NamedTuple):
    """A command, and the lines that the page says it prints."""

    command: str
    said: list[str]


def commands_of(text: str) -> list[Typed]:
    """What a page has typed: lines of an indented block that begin with `$ `, each with what it prints."""
    typed: list[Typed] = []
    for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("    $ "):
                typed.append(Typed(line[6:], []))
            elif block.startswith("    $ "):
                typed[-1].said.append(line[4:])
    return typed


def programs(folder: Path, **modules: str) -> None:
    """Make commands in `folder`: by name, the words behind this interpreter."""
    folder.mkdir()
    for name, words in modules.items():
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (folder / name).chmod(0o755)


def astray(
    typed: Iterable[Typed], folder: Path, places: Mapping[str, str], environ: Mapping[str, str], within_s: float
) -> list[str]:
    """Each command that prints something else than the page says, with what it printed, after all were run in `folder`.

    places   what stands for an address or a port of the page here
    environ  beside what this process has, without its settings of zcserve
    """
    typed = list(typed)
    script = "".join(f"echo '@@@'\n{command}\n" for command, _ in typed)
    for old, new in places.items():
        script = script.replace(old, new)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZCSERVE_")}
    with (folder / "out").open("w") as out:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=folder,
            env=inherited | dict(environ),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            shell.wait(within_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # a node that was not stopped
            shell.wait()
    printed = [part.splitlines() for part in (folder / "out").read_text().split("@@@\n")[1:]]
    assert len(printed) == len(typed)
    return [
        f"$ {command}\n" + "\n".join(lines)
        for (command, said), lines in zip(typed, printed, strict=True)
        if not _agrees(said, lines)
    ]


def _same(line: str) -> str:
    """A pattern: figures and times are each one's own, so is the engine, and ... is anything. An exit code is what it
    is."""
    parts = re.split(rf"(\.\.\.|native, 1 lane|exit code \d|{_FIGURE})", re.sub(r"\s+", " ", line.strip()))
    anything = {"...": ".*", "native, 1 lane": ".*"}
    return "".join(
        anything.get(part, part if part.startswith("exit") else _FIGURE) if at % 2 else re.escape(part)
        for at, part in enumerate(parts)
    )


def _agrees(said: list[str], printed: list[str]) -> bool:
    pattern = "".join(r"(.*\n)*" if line == "..." else _same(line) + r"\n" for line in said)
    return re.fullmatch(pattern, "".join(re.sub(r"\s+", " ", line.strip()) + "\n" for line in printed)) is not None
