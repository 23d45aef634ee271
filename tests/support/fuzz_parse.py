"""Fuzzing the lane's parser against the general lane's: `python -m tests.support.fuzz_parse --seconds 60`.

The law: what the lane takes for a plain request, the general lane takes for the same request, and what conditions and
ranges come to in the lane, they come to in the general lane. What the lane refuses, it merely hands over: that is never
an error.

Inputs are mutations of a corpus (tests/fuzz/corpus) and made-up requests (grammar.py). Those that the lane accepts are
mutated further, since only acceptance can be wrong; those that broke the law are kept in the corpus with --keep.
Without coverage from the compiler, depth comes from starting at heads that are nearly accepted. Run it in the
sanitizers' build, too (tools/sanitize.py does).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import mmh3

from tests.support.grammar import Maker
from zcserve import Config
from zcserve.cache.entry import Entry
from zcserve.errors import HttpError
from zcserve.net.fastlane import judge
from zcserve.net.fields import Fields
from zcserve.net.negotiate import decide
from zcserve.net.request import Parser

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
# Small limits, so that mutations reach them.
LIMITS: dict[str, Any] = {"head_bytes_max": 1500, "head_fields_max": 25, "target_bytes_max": 200}
# Accepted inputs that are mutated further.
POOL_MAX = 2000
RANGES_MAX = 16
MADE_EVERY = 4  # inputs: one made up, the others mutated


class BrokenError(Exception):
    """An input about which the lanes do not agree."""

    def __init__(self, data: bytes, why: str) -> None:
        super().__init__(f"{why}: {data!r}")
        self.data = data


class Law:
    """A lane and a parser of the same limits. Of `inputs`, both took `accepted`."""

    def __init__(self, log_on: bool = False) -> None:
        from zcserve.net._lane import Lane

        config = Config(root=Path(tempfile.gettempdir()), ranges_max=RANGES_MAX, **LIMITS)
        self.lane = Lane(config, log_on, judge)
        self.parser = Parser(config, log_fields=log_on)
        self.inputs = self.accepted = 0
        self._file = Entry(b"/", b"", 1000, 1_000_000_000)  # one second of grammar.py's
        self._file.etag = b'"tag"'

    def check(self, data: bytes) -> bool:
        """Whether the lane accepts `data`. Raises BrokenError."""
        self.inputs += 1
        by_lane = self.lane.parse(data)
        try:
            parsed = self.parser.parse(data, 0)
        except HttpError:
            parsed = None
        if by_lane is None:
            return False
        if parsed is None:
            raise BrokenError(data, "only the lane takes")
        method, target, fields, end = parsed
        if by_lane != (end + fields.body, method, target, fields.mode) or len(data) < end + fields.body:
            raise BrokenError(data, f"the lane sees {by_lane}, the parser {parsed} in")
        if fields.body < 0 or fields.expects or (fields.body and method in (b"GET", b"HEAD")):
            raise BrokenError(data, "the lane does not look at all that is asked for in")
        self._check_decision(data, method, fields)
        self.accepted += 1
        return True

    def _check_decision(self, data: bytes, method: bytes, fields: Fields) -> None:
        """Whether the conditions and ranges of a head come to the same. Raises BrokenError."""
        entry = self._file
        by_lane = self.lane.decide(data, entry.etag, entry.modified, entry.size, int(time.time()))
        by_twin = decide(fields, entry, is_get=method == b"GET", ranges_max=RANGES_MAX)
        if by_lane is not None and by_lane != (by_twin.status, *(by_twin.ranges or ((0, 0),))[0]):
            raise BrokenError(data, f"the lane decides {by_lane}, its twin {by_twin} of")


def corpus() -> list[bytes]:
    """What is kept."""
    return [file.read_bytes() for file in sorted(CORPUS.glob("*.bin"))]


def run(seed: int, *, seconds: float | None = None, count: int | None = None) -> Law:
    """Fuzz for a time or a number of inputs. Raises BrokenError."""
    rng = random.Random(seed)
    maker = Maker(rng, [b"/", b"/a", b"/a/b.html", b"/a%20b"], [b'"tag"', b'"other"'], mischief=0.01)
    pool = deque(corpus(), POOL_MAX)
    law = Law(log_on=bool(seed % 2))
    for data in pool:
        law.check(data)
    end = time.monotonic() + seconds if seconds is not None else None
    done = 0
    while (count is None or done < count) and (end is None or done % 256 or time.monotonic() < end):
        mutate = done % MADE_EVERY and pool
        data = maker.spoil(pool[rng.randrange(len(pool))]) if mutate else maker.request()
        done += 1
        if law.check(data):
            pool.append(data)
    return law


def main() -> int:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--keep", action="store_true", help="put an input that breaks the law into the corpus")
    chosen = options.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    try:
        law = run(chosen.seed, seconds=chosen.seconds)
    except BrokenError as error:
        print(f"the law is broken: {error}")
        if chosen.keep:
            (CORPUS / f"broken-{mmh3.hash_bytes(error.data).hex()[:8]}.bin").write_bytes(error.data)
        return 1
    print(f"{law.inputs} inputs, {law.accepted} accepted by both lanes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
