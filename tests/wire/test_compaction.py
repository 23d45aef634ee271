"""Bodies are moved while they are asked for: what is hot arrives whole and right all the while, on both engines."""

from __future__ import annotations

import random
import threading

import pytest

from tests.support.client import Client
from tests.support.eviction import PAIRS, entry_of, within_budget
from tests.support.site import Serve, Site
from zcserve.cache.index import ENTRY_BYTES

SET_BYTES = 1 << 19
SIZES = (1000, 3900, 700)
FILES = sum(SET_BYTES // size for size in SIZES)
# Room for one set, with its heads and the hot eighth of the one before.
MEMORY = FILES * ENTRY_BYTES + SET_BYTES * 3 // 2


SHIFTS_MAX = 5


@pytest.mark.parametrize(("policy", "engine"), PAIRS)
def test_while_the_working_set_shifts_and_bodies_are_moved_every_byte_is_right(
    site: Site, serve: Serve, engine: str, policy: str
) -> None:
    pool = random.Random(1).randbytes(100_000)
    sets: list[dict[str, bytes]] = []
    for size in SIZES:
        sets.append({})
        for number in range(SET_BYTES // size):
            start = number * 29 % (len(pool) - size)
            content = pool[start : start + size]
            site.write(f"{size}/{number % 20}/{number}", content)
            sets[-1][f"/{size}/{number % 20}/{number}"] = content
    server = serve(site.root, memory=MEMORY, engine=engine, evict=policy)
    faults: list[str] = []
    hot = dict(list(sets[0].items())[::8])
    ended = threading.Event()
    last = sets[0]

    def hammer(seed: int) -> None:
        rng = random.Random(seed)
        try:
            with Client(server.port) as client:
                while not ended.is_set():
                    wanted = hot
                    for target in rng.sample(list(wanted), 15):
                        answer = client.get(target)
                        if (answer.status, answer.body) != (200, wanted[target]):
                            faults.append(target)
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=hammer, args=(seed,)) for seed in range(2)]
    with within_budget(server), Client(server.port) as client:
        for thread in threads:
            thread.start()
        try:
            for shift, present in enumerate(sets * SHIFTS_MAX):
                if shift >= len(sets) and server.store.moves:
                    break  # on a busy machine the hot ones may all have been evicted in order, which leaves no holes
                targets = random.Random(2).sample(list(present), len(present))
                faults += [target for target in targets if client.get(target).body != present[target]]
                last = present
                hot = dict(list(present.items())[::8])
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert faults == []
    assert server.store.moves > 0
    resident = sum(len(content) for target, content in last.items() if entry_of(server, target).body is not None)
    # LRU keeps 0.92 to 0.97 of the last set; SIEVE and S3-FIFO keep some of the hot ones before it, too: 0.79 to 0.84.
    assert resident > 0.65 * SET_BYTES
