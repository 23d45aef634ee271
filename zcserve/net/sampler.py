"""What the miss-ratio curve (cache/curve.py) is told of what is served, by both lanes.

The fast lane notes by itself what is sampled, as the curve's rule says, and is asked for it once a second; it is asked,
too, before the general lane tells of a use of its own, since the curve wants them in order. Sampling begins when
something does not fit into memory: before that, more memory would change nothing, and sampling has a price.
"""

from __future__ import annotations

import mmh3

from zcserve.cache.curve import MissRatioCurve
from zcserve.cache.entry import Entry
from zcserve.cache.heads import HEAD_BYTES
from zcserve.net.fastlane import CODINGS
from zcserve.net.front import Front

# At first one of so many uses is measured; the curve finds its own rate then.
EVERY = 64
# Two sites' `/index.html` are two resources: each site's number, times this, is a part of theirs (2^32 divided by the
# golden ratio: neighbours are far apart). The lane has the same number.
SITE_STEP = 2654435769


class Sampler:
    """Tells one curve. The loop's alone."""

    def __init__(self, front: Front) -> None:
        self.curve = MissRatioCurve(every=EVERY)
        self._front = front
        self._seed = front.hash_seed  # both lanes number a resource alike
        self._gap = 1
        self._adapted_at = 0.0
        front.sample(self.curve)

    def note(self, entry: Entry, tick: int, site: int) -> None:
        """The general lane uses a representation of a site at this tick, which is not written yet."""
        self.drain()
        curve = self.curve
        size = HEAD_BYTES + entry.size
        last = max(entry.tick, self._front.note_use(entry, tick))  # either may have used it since
        self._gap -= 1
        if self._gap <= 0:
            self._gap = curve.gap()
            curve.measure(size, last)
        hash32 = mmh3.hash(entry.key, self._seed, signed=False) ^ CODINGS.index(entry.encoding)
        hash32 ^= self._front.sighted_as(site) * SITE_STEP & 0xFFFFFFFF
        if curve.is_sampled(hash32, size):
            curve.follow(hash32, size, tick)

    def drain(self) -> None:
        """Tell what the fast lane has noted."""
        for hash32, size, tick, last, followed, measured in self._front.take_sightings():
            if measured:
                self.curve.measure(size, last)
            if followed:
                self.curve.follow(hash32, size, tick)

    def each_second(self, now: float) -> None:
        """Have the curve find its rate, and the lane its rule."""
        self.drain()
        if self._adapted_at:
            self.curve.adapt(now - self._adapted_at)
        self._adapted_at = now
        self._front.sample(self.curve)
