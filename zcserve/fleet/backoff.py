"""How long it is before something that failed is tried again: twice as long each time, and not at the same moment on
every node.

There is no randomness in it, so that a machine with the same events does the same: what spreads nodes is their name.
"""

from __future__ import annotations

from zlib import crc32

# The first wait, and the longest, in seconds. A server that is started anew takes about one; a node whose origin was
# away for an hour asks it again within a minute of its return.
FIRST_S = 1.0
LONGEST_S = 60.0


def wait_s(tries: int, seed: str) -> float:
    """Seconds after the failure number `tries` (1 on): 1, 2, 4 ... 60, less up to half of it by `seed`."""
    longest = min(FIRST_S * 2.0 ** min(tries - 1, 10), LONGEST_S)
    return longest * (1 - 0.5 * spread(f"{seed} {tries}"))


def spread(seed: str) -> float:
    """A number from 0 to below 1, always the same for the same text, and evenly spread over texts."""
    return crc32(seed.encode()) / 2**32
