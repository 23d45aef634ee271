"""The compiled parts in a build that watches memory, or threads: `python tools/sanitize.py [--threads]`.

Copies the package into a temporary directory and builds it there; nothing in the checkout changes. Without `--threads`
it is built with -fsanitize=address,undefined, and the tests that drive it, and ten seconds of the parser's fuzzing, run
against that copy. With `--threads` it is built with -fsanitize=thread, and a server of that copy is flooded
(tests/support/flood.py): each report of a race is a failure. docs/lanes.md says what that finds and what it cannot.
Needs gcc (or what CC names) with its sanitizers, Cython, setuptools, and what the tests need.

Odd: the interpreter is not built with the sanitizer, so the runtime is preloaded; Python's own allocator is
bypassed (PYTHONMALLOC), or it would hide what is written behind the end of an object, and what a thread reads after
another has freed it; and leaks are not looked for, since the interpreter frees nothing at its end: the tests see by
weak references what the lane lets go.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
TESTS = (
    "tests/net/test_grammar.py",
    "tests/net/test_lane.py",
    "tests/net/test_lane_conditions.py",
    "tests/net/test_lane_leads.py",
    "tests/net/test_lane_mapped.py",
    "tests/net/test_lane_parts.py",
    "tests/net/test_lane_quick.py",
    "tests/net/test_lane_scan.py",
    "tests/net/test_lane_uses.py",
    "tests/net/test_fastlane.py",
    "tests/net/test_sampler.py",
    "tests/wire/test_differential.py",
    "tests/wire/test_first_sight.py",
    "tests/wire/test_lane_conditions_wire.py",
    "tests/wire/test_leads.py",
    "tests/wire/test_pending_laws.py",
    "tests/wire/test_proxies.py",
    "tests/cache/test_walk.py",
    "tests/cache/test_walk_laws.py",
    "tests/fuzz",
)
MEMORY = "-fsanitize=address,undefined"
THREADS = "-fsanitize=thread"
FLAGS = {
    MEMORY: f"-O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=undefined {MEMORY}",
    THREADS: f"-O1 -g -fno-omit-frame-pointer {THREADS}",
}
# libubsan as far as it is there, and libstdc++, without which libasan cannot see exceptions.
LIBRARIES = {MEMORY: ("libasan.so", "libubsan.so", "libstdc++.so"), THREADS: ("libtsan.so",)}
FUZZ_SECONDS = 10
FLOOD_SECONDS = 20
# Races that must be found: (unit, what stands there, what is written instead). A letter is put without telling that it
# is whole; what is withdrawn is freed while a lane may read it.
PLANTED = {
    "letters": ("mail.pxd", "release(&place.number, at + 1)", "place.number = at + 1"),
    "epochs": ("lanes.pxd", "load(&lanes.stations[i].seen) < epoch", "load(&lanes.stations[i].seen) < 0 * epoch"),
}
NOT_AT_RANDOM = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)


def build(copy: Path, sanitizer: str, planted: str | None) -> None:
    """The package with watched compiled parts, in `copy`, perhaps with a race. Raises SystemExit where that fails."""
    ignore = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(CHECKOUT / "zcserve", copy / "zcserve", ignore=ignore)
    shutil.copytree(CHECKOUT / "tests", copy / "tests", ignore=ignore)
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(CHECKOUT / name, copy)
    if planted is not None:
        plant(copy / "zcserve/net/lane", *PLANTED[planted])
    flags = {"ZCSERVE_BUILD_FLAGS": FLAGS[sanitizer], "LDFLAGS": sanitizer, "ZCSERVE_BUILD_NATIVE": "1"}
    made = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--cython-line-directives"],
        cwd=copy,
        env=os.environ | flags,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise SystemExit(f"the build failed:\n{made.stdout}{made.stderr}")


def plant(units: Path, name: str, right: str, wrong: str) -> None:
    """Have a race in a copy. Raises SystemExit where the text is not there any more that it is made from."""
    text = (units / name).read_text()
    if text.count(right) != 1:
        raise SystemExit(f"{name} has no {right!r} any more: plant another race (PLANTED)")
    (units / name).write_text(text.replace(right, wrong))


def runtime(sanitizer: str) -> str:
    """What LD_PRELOAD must name. Raises SystemExit where the compiler has no such sanitizer."""
    compiler = os.environ.get("CC", "gcc").split()
    found = []
    for name in LIBRARIES[sanitizer]:
        path = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        if os.path.isabs(path):
            found.append(path)
        elif name == LIBRARIES[sanitizer][0]:
            raise SystemExit(f"{compiler[0]} has no {name}: install its sanitizers")
    return " ".join(found)


def watched(sanitizer: str) -> dict[str, str]:
    """What a process of the copy has in its environment."""
    return {"LD_PRELOAD": runtime(sanitizer), "PYTHONMALLOC": "malloc", "PYTHONDONTWRITEBYTECODE": "1"}


def test(copy: Path, tests: Sequence[str], fuzz_seconds: float) -> int:
    """Run tests of a copy that watches memory, and the fuzzing beside them; the exit code is the first that is not
    0."""
    environ = os.environ | watched(MEMORY)
    environ |= {
        "PYTHONPATH": str(copy),
        # A server's thread that aborts the process must say so in the test's output.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:detect_stack_use_after_return=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "ZCSERVE_SANITIZED": "1",
    }
    commands = [[sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]]
    if fuzz_seconds:
        commands.append([sys.executable, "-m", "tests.support.fuzz_parse", "--seconds", str(fuzz_seconds)])
    codes = [process.wait() for process in [subprocess.Popen(command, cwd=copy, env=environ) for command in commands]]
    return next((code if code > 0 else 1 for code in codes if code), 0)


def flood(copy: Path, lanes: int, seconds: float) -> int:
    """Flood servers of a copy that watches threads, with each format of the log; 1 where there was a race, or a server
    did not keep its word."""
    # libtsan of gcc 12 refuses some random places. Where a container forbids this, they stay so.
    ctypes.CDLL(None).personality(NOT_AT_RANDOM)
    # Descriptors order nothing: the lanes do not rely on it, and the sanitizer would take all sockets for one.
    options = f"log_path={copy}/race io_sync=0 exitcode=0 history_size=4"
    environ = watched(THREADS) | {"TSAN_OPTIONS": options}
    given = [f"--environ={name}={value}" for name, value in environ.items()]
    failed = False
    for log_format in ("combined", "json"):
        command = [sys.executable, "-m", "tests.support.flood", "--seconds", str(seconds), "--lanes", str(lanes)]
        failed |= subprocess.run([*command, "--log-format", log_format, *given], cwd=copy).returncode != 0
    for report in sorted(copy.glob("race.*")):
        failed = True
        print(report.read_text(errors="replace"))
    return int(failed)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the exit code is 0 where nothing was found."""
    options = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    options.add_argument("tests", nargs="*", default=TESTS, help="what pytest is given instead of the lane's tests")
    options.add_argument("--fuzz-seconds", type=float, default=FUZZ_SECONDS)
    options.add_argument("--threads", action="store_true", help="watch threads, beneath a flood")
    options.add_argument("--lanes", type=int, default=3, help="of the server that is flooded")
    options.add_argument("--planted", choices=PLANTED, help="have a race in the copy: the run is to fail")
    options.add_argument("--flood-seconds", type=float, default=FLOOD_SECONDS, help="for each format of the log")
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="zcserve-sanitize-") as directory:
        copy = Path(directory)
        build(copy, THREADS if chosen.threads else MEMORY, chosen.planted)
        if chosen.threads:
            code = flood(copy, chosen.lanes, chosen.flood_seconds)
        else:
            code = test(copy, chosen.tests, chosen.fuzz_seconds)
    if not code:
        print("the sanitizer of threads found nothing" if chosen.threads else "the sanitizers found nothing")
    return code


if __name__ == "__main__":
    sys.exit(main())
