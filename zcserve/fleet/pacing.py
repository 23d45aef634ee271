"""How fast and how often a source is asked: a cap on bytes per second, what to wait after a failure, what is too slow.

Nothing here has a clock or sleeps: the time is an argument, what is to be waited an answer. So each can be tried with
any times, and a simulator runs the same.
"""

from __future__ import annotations

from dataclasses import dataclass

# A full bucket has what the rate gives in so many seconds: connections that stood still may catch up by that much.
BURST_S = 0.25

# The first wait after a failure, and the longest, in seconds; each is a random share of it (AWS: "full jitter"), so
# that nodes that failed together do not ask together again. Curl's --retry begins with 1 s and doubles as well.
FIRST_WAIT_S, WAIT_MAX_S = 0.2, 20.0
# How often a file is asked for without progress before the run gives it up: 6 times take 6 s at most, 3 on average.
TRIES = 6

# A source that gives less than so many bytes in so many seconds stands still (curl: --speed-limit, --speed-time).
SLOW_BYTES, SLOW_S = 16 << 10, 20.0


class TokenBucket:
    """A cap on the bytes of all connections together.

    rate   bytes per second
    burst  bytes that may come at once after a pause
    """

    def __init__(self, rate: float, burst: float | None = None) -> None:
        if rate <= 0:
            raise ValueError(f"a rate of {rate} bytes per second never ends")
        self.rate = rate
        self.burst = rate * BURST_S if burst is None else burst
        self._left = self.burst
        self._at: float | None = None

    def take(self, count: int, now_s: float) -> float:
        """Note that `count` bytes have come; the seconds to wait before more may. Time that runs back counts as none:
        what is taken by several threads may come in another order."""
        if self._at is None or now_s > self._at:
            gained = 0.0 if self._at is None else (now_s - self._at) * self.rate
            self._left = min(self.burst, self._left + gained)
            self._at = now_s
        self._left -= count
        return max(0.0, -self._left / self.rate)


@dataclass(frozen=True, slots=True)
class Backoff:
    """What to wait before a source is asked again.

    tries    how often it is asked in all, as long as nothing comes
    first_s  the longest wait after the first failure, which doubles with each
    most_s   what it is at most
    """

    tries: int = TRIES
    first_s: float = FIRST_WAIT_S
    most_s: float = WAIT_MAX_S

    def wait_s(self, failures: int, chance: float) -> float | None:
        """Seconds to wait after so many failures (1 for the first), by a random number of [0, 1); None: give up."""
        if failures >= self.tries:
            return None
        return chance * min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))


class Pauses:
    """When a source may be asked again that has said so (Retry-After): what one file is told holds for all."""

    def __init__(self) -> None:
        self._until_s = 0.0

    def extend(self, seconds: float, now_s: float) -> None:
        self._until_s = max(self._until_s, now_s + seconds)

    def left_s(self, now_s: float) -> float:
        """Seconds that are still to be waited."""
        return max(0.0, self._until_s - now_s)


class Slowness:
    """Whether one object comes too slowly to wait for. Only time in which the source was waited for counts."""

    def __init__(self, bytes_min: int = SLOW_BYTES, window_s: float = SLOW_S) -> None:
        self._bytes_min = bytes_min
        self._window_s = window_s
        self._bytes = 0
        self._waited_s = 0.0

    def is_too_slow(self, count: int, waited_s: float) -> bool:
        """Note that `count` bytes have come after a wait of so many seconds; whether that is too slow."""
        self._bytes += count
        self._waited_s += waited_s
        if self._waited_s < self._window_s:
            return False
        is_slow = self._bytes < self._bytes_min
        self._bytes, self._waited_s = 0, 0.0
        return is_slow
