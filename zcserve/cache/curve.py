"""What more memory would give: the hit ratio of every memory size at once, estimated while the server runs.

A cache that drops the least recently used holds, at any size, the same list cut at another place. So an access hits
in every memory that is at least as large as its *reuse distance*: the bytes of the distinct resources that were used
since its last use, its own included. The share of accesses with a distance of at most M is the hit ratio of M bytes
(Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970).

Following every access would cost more than serving it, so both halves are sampled, each in the way that fits it:

- **The bytes used since** a moment come from a sample of *keys*, as in SHARDS (Waldspurger et al., "Efficient MRC
  Construction with SHARDS", FAST'15, the variant of fixed size): a key is *followed* or not by its hash, and when more
  than `samples_max` are, the rule is made stricter and some are forgotten. It is never relaxed: what is followed was
  followed from its first use on. Objects in SHARDS are of one size. Here one of `unit` bytes or more is always followed
  and counts for its size, a smaller one with a chance of size/unit, and it counts for `unit`: else the few large files
  that happen to be in the sample or not decide everything.
- **How often a distance occurs** comes from a sample of *accesses*: one of `every` is *measured*. SHARDS takes the
  distances of the followed keys for this, too, and then a popular key weighs by chance nothing or many times what it
  should. With 8,192 samples its correction (SHARDS-adj) still left a greatest error of 0.04 to 0.14 on Zipf traces
  of exponents 0.6 to 1.2, over memories from a thousandth of all bytes; this leaves less than 0.02. It can be had
  here because every entry keeps the tick of its last use anyway (cache/evictor.py), evicted or not.

`adapt` keeps both shares where they cost little: by `every`, by following fewer keys, and where few keys take most of
the requests (a small and very busy site) by `pause`. Distances of less than the bytes of so many ticks come out short.

The curve is live: when `half_life` accesses were measured, all that was counted until then counts half from then on.
The order of use is not aged, so that a rare reuse is still seen with its whole distance.

The followed keys stand in the order of use in slots, each with its tick and what it counts for; what moved on leaves
its slot empty. A block of slots has its sum, so "the bytes used since" is a bisection and two short sums, done in C.
Memory is fixed: 2 MB, and 3 for a moment when the slots are compacted.

The loop's alone, not for several threads. It must not know what is resident, which policy runs, or what a key is.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, repeat

HASH_SPAN = 1 << 32
# The paper's "8K". The bytes used since are right to about 1/sqrt(number of samples among them).
SAMPLES_MAX = 8192
# What is followed in a second is limited first by following fewer keys, but not fewer than these.
SAMPLES_MIN = 256
# 1.2 us and 2.8 us each: together 0.6% of a core.
FOLLOWED_PER_S_MAX = 2500
MEASURED_PER_S_MAX = 1000
# Four minutes at the greatest rate, 44 minutes at 100 measured accesses a second. By then chance alone makes 0.001.
HALF_LIFE = 1 << 18

_BLOCK_BITS = 7
_BLOCK = 1 << _BLOCK_BITS
# Buckets of bytes: 32 to each doubling (2 to 3% wide), exact below 64, up to 2^50.
_STEP_BITS = 5
_DISTANCE_MAX = (1 << 50) - 1


def _bucket(distance: int) -> int:
    shift = max(0, distance.bit_length() - _STEP_BITS - 1)
    return (shift << _STEP_BITS) + (distance >> shift)


def _bounds(bucket: int) -> tuple[int, int]:
    """The least distance in the bucket, and that of the next."""
    shift = max(0, (bucket >> _STEP_BITS) - 1)
    low = (bucket - (shift << _STEP_BITS)) << shift
    return low, low + (1 << shift)


class MissRatioCurve:
    """Estimated hit and miss ratios of least-recently-used memories of every size.

    unit   accesses to a resource are to be followed if `hash32 * unit < size << 32`, with the unsigned 32-bit murmur3
           hash of its key (`mmh3.hash(key, signed=False)`); it only grows
    pause  ticks (cache/evictor.py) after which a followed resource is told again, however often it was used in between
    every  one of so many accesses is to be measured, with gaps as `gap` draws them
    """

    def __init__(self, samples_max: int = SAMPLES_MAX, half_life: int = HALF_LIFE, every: int = 1) -> None:
        self.unit = 1
        self.pause = 1
        self.every = every
        self._samples_max = samples_max
        self._half_life = half_life
        self._slots: dict[int, int] = {}  # hash -> slot; in the order of use, as the slots are
        slots = (2 * samples_max // _BLOCK + 1) * _BLOCK
        self._sizes = [0] * slots
        self._counted = [0] * slots  # the sizes, `unit` at least; 0 in an empty slot
        self._ticks = [0] * slots
        self._sums = [0] * (slots // _BLOCK)
        self._next = 0
        self._histogram = array("d", bytes(8 * (_bucket(_DISTANCE_MAX) + 1)))  # accesses by distance
        self._accesses = 0.0
        self._faded_after = 0  # accesses measured since the last halving
        self._followed = 0  # since the last `adapt`
        self._measured = 0

    def is_sampled(self, hash32: int, size: int) -> bool:
        """Whether accesses to a resource are followed now."""
        return hash32 * self.unit < size << 32

    def gap(self) -> int:
        """How many accesses from a measured one to the next: at random, since requests may come in rounds."""
        return random.randrange(1, 2 * self.every)

    def follow(self, hash32: int, size: int, tick: int) -> None:
        """A resource of `size` bytes was used at `tick`. Where that is before the last call's, which two threads told
        of, it counts as the same.

        Nothing happens within `pause` ticks of the last time. What is not to be followed (any more) is forgotten.
        """
        if self._next:
            tick = max(tick, self._ticks[self._next - 1])
        slot = self._slots.get(hash32)
        if slot is not None and tick - self._ticks[slot] < self.pause and size == self._sizes[slot]:
            return
        self.forget(hash32)
        if not self.is_sampled(hash32, size):
            return
        self._followed += 1
        if self._next == len(self._sizes):
            self._compact()
        slot = self._slots[hash32] = self._next
        counted = max(size, self.unit)
        self._sizes[slot] = size
        self._counted[slot] = counted
        self._ticks[slot] = tick
        self._sums[slot >> _BLOCK_BITS] += counted
        self._next += 1
        if len(self._slots) > self._samples_max:
            self._thin()

    def measure(self, size: int, last_tick: int) -> None:
        """An access to any resource: its size, and the tick of its use before, 0 if there was none.

        A first use is a miss in any memory. To be called before the access is followed.
        """
        self._measured += 1
        self._accesses += self.every
        if last_tick:
            distance = min(self._used_since(last_tick) + size, _DISTANCE_MAX)
            self._histogram[_bucket(distance)] += self.every
        self._faded_after += 1
        if self._faded_after >= self._half_life:
            self._fade()

    def forget(self, hash32: int) -> None:
        """The resource is gone: it takes no room in any memory."""
        if (slot := self._slots.pop(hash32, None)) is not None:
            self._sums[slot >> _BLOCK_BITS] -= self._counted[slot]
            self._counted[slot] = 0

    def adapt(self, seconds: float) -> None:
        """About once a second, with the seconds since the last call: sample less or more, as the rate asks for."""
        followed_max = FOLLOWED_PER_S_MAX * seconds
        if self._followed > followed_max and len(self._slots) > SAMPLES_MIN:
            self._thin()
        elif self._followed > followed_max:
            self.pause *= 4  # it has a long way: from a microsecond to a second
        elif self.pause > 1 and 4 * self._followed < followed_max:
            self.pause //= 2
        if self._measured > MEASURED_PER_S_MAX * seconds:
            self.every *= 2
        elif self.every > 1 and 4 * self._measured < MEASURED_PER_S_MAX * seconds:
            self.every //= 2
        self._followed = self._measured = 0

    @property
    def accesses(self) -> int:
        """How many accesses the curve is drawn from, those of long ago at a half, a quarter and so on."""
        return round(self._accesses)

    @property
    def samples(self) -> int:
        """How many resources are followed."""
        return len(self._slots)

    def hit_ratio(self, memory_bytes: int) -> float:
        """The share of accesses that find their body in so many bytes: a first use finds none. 0.0 if there were no
        accesses."""
        return self.points([memory_bytes])[0][1]

    def points(self, memories: Iterable[int]) -> list[tuple[int, float]]:
        """(bytes, hit ratio) of each of the memories, from one pass over the histogram."""
        below = list(accumulate(self._histogram, initial=0.0))
        points = []
        for memory in memories:
            within = min(max(memory, 0), _DISTANCE_MAX)
            bucket = _bucket(within)
            low, high = _bounds(bucket)
            hits = below[bucket] + self._histogram[bucket] * (within + 1 - low) / (high - low)
            points.append((memory, hits / self._accesses if self._accesses else 0.0))
        return points

    def _used_since(self, tick: int) -> int:
        """Bytes of the distinct resources used after `tick`, those not followed included by estimate."""
        slot = bisect_right(self._ticks, tick, 0, self._next)
        block = (slot >> _BLOCK_BITS) + 1
        return sum(self._counted[slot : block << _BLOCK_BITS]) + sum(self._sums[block:])

    def _thin(self) -> None:
        """Raise `unit` so far that about an eighth of the followed keys goes, and one at least."""
        goes_at = {hash32: self._sizes[slot] * HASH_SPAN / max(1, hash32) for hash32, slot in self._slots.items()}
        some = sorted(list(goes_at.values())[::16])
        self.unit = int(some[len(some) // 8]) + 1
        for hash32, unit in goes_at.items():
            if unit < self.unit:
                self.forget(hash32)
        self._compact()

    def _compact(self) -> None:
        """Move the followed keys together at the front (they fill at most half of the slots) and count them anew."""
        kept = list(self._slots.values())
        empty = [0] * (len(self._sizes) - len(kept))
        self._slots = dict(zip(self._slots, range(len(kept)), strict=True))
        self._next = len(kept)
        self._ticks = [*map(self._ticks.__getitem__, kept), *empty]
        self._sizes = [*map(self._sizes.__getitem__, kept), *empty]
        self._counted = [*map(max, self._sizes[: len(kept)], repeat(self.unit)), *empty]
        self._sums = [sum(self._counted[at : at + _BLOCK]) for at in range(0, len(self._counted), _BLOCK)]

    def _fade(self) -> None:
        """Let all that was counted count half."""
        self._histogram = array("d", [count / 2 for count in self._histogram])
        self._accesses /= 2
        self._faded_after = 0
