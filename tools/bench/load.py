"""Load: a workload turned into a run of a generator, and its output turned into numbers.

It must not know which server answers. wrk cannot ask for HEAD, as it waits for the body; `steady` (steady.c) sends any
requests that a load has. Odd about it: wrk calls nothing wrong but a status above 399, and ab a change of length
besides, so rounds.py compares bodies beforehand. An error makes the whole run invalid. Of a rate that `steady` keeps,
up to a hundredth of what was due is under way at the end and not answered; more is a rate that was not kept.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.bench.errors import BenchError
from tools.bench.peers import build, find_program, prepare
from tools.bench.steady import STEADY_SOURCE, in_run, parse_latency, plain, write_records
from tools.bench.workloads import Workload

# ab keeps a record of each request, made before the first: room for so many in each second.
AB_REQUESTS_PER_S_MAX = 250_000
OVERTIME_S = 120.0
LATE_SHARE = 0.01
LATENCY_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


@dataclass(frozen=True)
class Load:
    """What one run of a generator did; `errors` names what went wrong, empty when nothing did."""

    requests: int
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    errors: tuple[str, ...] = ()


def _number(pattern: str, output: str) -> float:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise BenchError(f"the generator's output has no {pattern!r}: {output.strip()[-200:]!r}")
    return float(found[1])


def _latency_ms(percent: int, output: str) -> float:
    # wrk pads a unit of one letter with a blank.
    found = re.search(rf"^ +{percent}% +([\d.]+)(us|ms|s|m|h) *$", output, re.MULTILINE)
    if found is None:
        raise BenchError(f"wrk's output has no latency at {percent}%: {output.strip()[-200:]!r}")
    return float(found[1]) * LATENCY_MS[found[2]]


def parse_wrk(output: str) -> Load:
    """Read what `wrk --latency` prints. Raises BenchError when that is no report of a run."""
    errors = []
    if found := re.search(r"Non-2xx or 3xx responses: (\d+)", output):
        errors.append(f"{found[1]} answers with an error status")
    if found := re.search(r"Socket errors: (.*)", output):
        errors.append(f"socket errors: {found[1]}")
    return Load(
        requests=int(_number(r"^ *(\d+) requests in ", output)),
        requests_per_s=_number(r"^Requests/sec: +([\d.]+)", output),
        p50_ms=_latency_ms(50, output),
        p99_ms=_latency_ms(99, output),
        errors=tuple(errors),
    )


def parse_ab(output: str) -> Load:
    """Read what `ab -k` prints; its latencies are whole milliseconds. Raises as `parse_wrk` does."""
    requests = int(_number(r"^Complete requests: +(\d+)", output))
    errors = []
    if failed := int(_number(r"^Failed requests: +(\d+)", output)):
        errors.append(f"{failed} failed requests")
    if found := re.search(r"^Non-2xx responses: +(\d+)", output, re.MULTILINE):
        errors.append(f"{found[1]} answers with an error status")
    found = re.search(r"^Keep-Alive requests: +(\d+)", output, re.MULTILINE)
    if found and int(found[1]) != requests:
        errors.append(f"{requests - int(found[1])} requests without keep-alive")
    return Load(
        requests=requests,
        requests_per_s=_number(r"^Requests per second: +([\d.]+)", output),
        p50_ms=_number(r"^ +50% +(\d+)", output),
        p99_ms=_number(r"^ +99% +(\d+)", output),
        errors=tuple(errors),
    )


def parse_steady(output: str) -> Load:
    """Read the line that steady.c prints. Raises as `parse_wrk` does."""
    found = parse_latency(output)
    late = found.unanswered > LATE_SHARE * found.requests
    errors = (f"{found.unanswered:,} requests were not answered in time",) if late else ()
    return Load(found.requests, found.requests_per_s, found.p50_ms, found.p99_ms, errors)


# A request is put together from few strings: the generator has one core, and must not be what is measured.
LUA = """\
local paths = {{}}
for line in io.lines({paths}) do paths[#paths + 1] = line end
local head, tail, count = {head}, {tail}, 0
math.randomseed({seed})
local function one()
  count = count + 1
  local path = paths[math.random(#paths)]
  return "GET " .. path .. head .. {cookie} .. tail
end
request = function()
  if {pipeline} == 1 then return one() end
  local batch = {{}}
  for i = 1, {pipeline} do batch[i] = one() end
  return table.concat(batch)
end
"""


def _quoted(text: str) -> str:
    """A Lua string; JSON's escapes are Lua's as long as only quotes, backslashes and line ends need one."""
    return json.dumps(text, ensure_ascii=False)


def lua_script(load: Workload, host: str, paths_file: Path, run: int) -> str:
    """A wrk script for `load`. Runs of different number have different cookies and other files at random."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in load.sent_headers)
    cookie = "Cookie: theme=dark; session=" if load.new_cookie else ""
    return LUA.format(
        paths=_quoted(str(paths_file)),
        head=_quoted(f" HTTP/1.1\r\nHost: {host}\r\n{lines}{cookie}"),
        tail=_quoted("\r\n\r\n" if load.new_cookie else "\r\n"),
        seed=run,
        cookie=f'string.format("{run:04x}%012x", count)' if load.new_cookie else '""',
        pipeline=load.pipeline,
    )


def _wrk(load: Workload, host: str, targets: tuple[str, ...], seconds: int, workdir: Path, run: int) -> list[str]:
    argv = [find_program("wrk"), "-t1", f"-c{load.connections}", f"-d{seconds}s", "--latency"]
    scripted = load.new_cookie or load.pipeline > 1 or len(targets) > 1
    if scripted:
        paths_file, script = workdir / "paths.txt", workdir / "load.lua"
        paths_file.write_text("\n".join(targets) + "\n")
        script.write_text(lua_script(load, host, paths_file, run))
        argv += ["-s", str(script)]
    else:
        for name, value in load.sent_headers:
            argv += ["-H", f"{name}: {value}"]
    return [*argv, f"http://{host}{targets[0]}"]


def _ab(load: Workload, host: str, targets: tuple[str, ...], seconds: int, workdir: Path, run: int) -> list[str]:
    # -n after -t, which sets a limit of its own.
    length = ["-t", str(seconds), "-n", str(AB_REQUESTS_PER_S_MAX * seconds)]
    argv = [find_program("ab"), "-q", "-c", str(load.connections), *length]
    if load.keep_alive:
        argv.append("-k")
    if load.method == "HEAD":
        argv.append("-i")
    for name, value in load.sent_headers:
        argv += ["-H", f"{name}: {value}"]
    return [*argv, f"http://{host}{targets[0]}"]


def _steady(load: Workload, host: str, targets: tuple[str, ...], seconds: int, workdir: Path, run: int) -> list[str]:
    port = host.rpartition(":")[2]
    program = build(STEADY_SOURCE, workdir)
    records = load.records or [plain(target, host) for target in targets]
    seed = 0 if load.requests else run
    # A name of its own: what goes on beside another load writes into the same directory.
    with tempfile.NamedTemporaryFile(dir=workdir, prefix="records-", delete=False) as file:
        write_records(Path(file.name), [in_run(one, run) for one in records])
    words = (port, load.connections, load.rate, seconds, seed, load.pipeline, file.name)
    return [str(program), *map(str, words)]


@dataclass(frozen=True)
class Generator:
    """How a load generator is called, understood, and asked for its version; `program` must be installed for it."""

    program: str
    command: Callable[[Workload, str, tuple[str, ...], int, Path, int], list[str]]
    parse: Callable[[str], Load]
    version_option: str


GENERATORS = {
    "wrk": Generator("wrk", _wrk, parse_wrk, "-v"),
    "ab": Generator("ab", _ab, parse_ab, "-V"),
    "steady": Generator("cc", _steady, parse_steady, "--version"),
}


def _failed(error: str) -> Load:
    return Load(0, 0.0, 0.0, 0.0, (error,))


@contextlib.contextmanager
def loading(
    load: Workload,
    port: int,
    targets: tuple[str, ...],
    *,
    seconds: int,
    core: int | None,
    workdir: Path,
    run: int,
    lowest: bool = False,
) -> Iterator[Callable[[], Load]]:
    """Drive 127.0.0.1:`port` for about `seconds` from a generator on `core` (None: all); the value waits for its end.

    `run` is a number that no other run against the same server has; with `lowest` the generator leaves the core to
    every other process that wants it. One that gives up makes a Load of no requests and an error; it is ended with
    the block.
    """
    generator = GENERATORS[load.generator]
    with subprocess.Popen(
        generator.command(load, f"127.0.0.1:{port}", targets, seconds, workdir, run),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=functools.partial(prepare, core, lowest=lowest),
    ) as process:
        try:
            yield functools.partial(_found, load.generator, process, seconds)
        finally:
            process.kill()


def _found(name: str, process: subprocess.Popen[str], seconds: int) -> Load:
    try:
        output, complaint = process.communicate(timeout=seconds + OVERTIME_S)
    except subprocess.TimeoutExpired:
        return _failed(f"{name} did not end")
    if process.returncode != 0:
        said = (output + complaint).strip().splitlines()
        return _failed(f"{name} failed: {said[-1] if said else process.returncode}")
    return GENERATORS[name].parse(output)


def run_load(
    load: Workload, port: int, targets: tuple[str, ...], *, seconds: int, core: int, workdir: Path, run: int
) -> Load:
    """`loading`, from its start to its end."""
    with loading(load, port, targets, seconds=seconds, core=core, workdir=workdir, run=run) as found:
        return found()
