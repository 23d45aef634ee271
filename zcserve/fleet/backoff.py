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
# The same of what takes a person. A manifest is signed anew, or a server mended, within minutes or hours; and to ask
# once more moves a manifest.
REFUSED_FIRST_S = 300.0
REFUSED_LONGEST_S = 3600.0


def wait_s(tries: int, seed: str, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Seconds after the failure number `tries` (1 on): 1, 2, 4 ... 60, less up to half of it by `seed`."""
    longest = min(first_s * 2.0 ** min(tries - 1, 10), longest_s)
    return longest * (1 - 0.5 * spread(f"{seed} {tries}"))


def refused_wait_s(tries: int, seed: str) -> float:
    """The same where it takes a person: 300, 600 ... 3600."""
    return wait_s(tries, seed, REFUSED_FIRST_S, REFUSED_LONGEST_S)


def spread(seed: str) -> float:
    """A number from 0 to below 1, always the same for the same text, and evenly spread over texts."""
    return crc32(seed.encode()) / 2**32
