"""Where content lies while it is resident, and how much of it there may be.

The store owns the memory (slab.py, pages.py) and the order of eviction (a policy: evictor.py and beside it), and keeps
what the kernel has committed, and an estimate of what the entries themselves cost, within one budget. Any thread may
call it: one lock guards all. The loop needs the lock for nothing that a hit does.

Room is made before content is read: `place` and `reserve` evict until the new body fits, and answer None when it
cannot, because all bodies are being sent. What was evicted is freed when the last reference to it is
gone; entries that a connection waits to send are passed over. The fast lane lets go of what it does
not send within a turn of the loop, and is waited for, so that not even for that turn more is committed than may be;
hence room is made in the loaders' threads, never in the loop's.

What is pinned (`--pin`) is never given to the policy, so it can only be dropped. It makes room like any other, and
like any other it stays on disk when there is none. Nothing is evicted for a body that does not fit beside it anyway.

Nor is anything evicted while it is cheaper to move bodies together (compact.py): what was evicted leaves holes, and
memory comes back by the page. A little room is kept for that, which nothing else may use.

That the kernel gives no memory (RLIMIT_FSIZE counts for memfds, descriptors and memory end) says nothing of a file:
what was to be resident is sent from disk, and the log says why.

A store's memory may be handed to another process (upgrade.py). From `freeze` on the old process changes nothing in it,
and puts what is new beside it, where there is room. The new process takes it over (takeover.py).
"""

from __future__ import annotations

import errno
import resource
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

from zcserve.cache import closing
from zcserve.cache.compact import Compactor
from zcserve.cache.entry import Body, Entry, Packed, Paged
from zcserve.cache.evictor import LeastRecentlyUsed, Policy
from zcserve.cache.memfd import PAGE_BYTES, round_up, write
from zcserve.cache.opened import Opened
from zcserve.cache.pages import Extent, Pages
from zcserve.cache.pinned import Held, Pin, nothing
from zcserve.cache.room import Room
from zcserve.cache.s3fifo import S3Fifo
from zcserve.cache.shares import Share, Shares
from zcserve.cache.sieve import Sieve
from zcserve.cache.slab import Slabs
from zcserve.cache.takeover import Memory, Takeover
from zcserve.cache.under_way import UnderWay
from zcserve.config.units import size_text
from zcserve.errors import UsageError
from zcserve.events import Event
from zcserve.log import Log

_log = Log(__name__)

POLICIES: Mapping[str, type[Policy]] = {"lru": LeastRecentlyUsed, "sieve": Sieve, "s3-fifo": S3Fifo}

# A sweep goes on to this share of what is not pinned, so that the next few bodies find room without one.
LOW_WATERMARK = 0.98
# A body larger than this share of the budget would cost more hits than it brings: it is sent from disk.
LARGEST_SHARE = 0.5
# Bodies sent in place may hold this share of the descriptors: the others are for clients.
DESCRIPTOR_SHARE = 0.5
# What the fast lane has not let go of within this time, a turn of the loop many times over, it is sending.
LET_GO_S = 0.05
# Slabs are at most this share of the budget, so that a small budget is not one slab.
SLAB_SHARE = 1 / 16
# Bodies are moved so many bytes at a time: some hundred, in half a millisecond or less.
MOVE_BYTES = 64 * 1024
# How often the log says that the kernel gives no memory.
REFUSAL_TOLD_EVERY_S = 60.0
# A descriptor that was shed is waited for so long: a close takes microseconds, but for a file system that hangs.
SHED_WITHIN_S = 0.01


class RefusedError(Exception):
    """The kernel gives no memory for a body."""


def _file_bytes_max() -> int | None:
    """RLIMIT_FSIZE, or None for no limit."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit if limit != resource.RLIM_INFINITY else None


def _check_file_bytes_max(slab_bytes: int) -> None:
    limit = _file_bytes_max()
    if limit is not None and limit < slab_bytes:
        raise UsageError(
            f"the process may have files of {size_text(limit)} at most (ulimit -f, LimitFSIZE=), and a slab of memory "
            f"has {size_text(slab_bytes)}: raise the limit, or lower --slab-bytes"
        )


def _holds_descriptor(body: Body | None) -> bool:
    return isinstance(body, Paged) and body.holds_descriptor


def _may_shed(entry: Entry) -> bool:
    body = entry.body
    return body is not None and _holds_descriptor(body) and not body.pins


class _Refusals:
    """Says, now and then, why something stays on disk."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def tell(self, error: OSError) -> None:
        """The kernel gave no memory, for this error."""
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + REFUSAL_TOLD_EVERY_S
        why: object = error
        if error.errno == errno.EFBIG:
            why = (
                f"the process may have files of {size_text(_file_bytes_max() or 0)} (ulimit -f, LimitFSIZE=), "
                "which counts for memory, too, and for all large files together that came since the start"
            )
        _log.warning("no memory for more files, they are sent from disk: %s", why)


class Store:
    """Bodies in memory, at most `budget` bytes of them.

    `policy` is one of POLICIES and says what goes when they are too many. What never does, those say that make it
    resident (`Pin`): only they know of which site it is.

    takeover    memory of the process before this one
    held        what is pinned and resident
    shares      what each site has of it
    under_way   what is being loaded into it
    evicted     event: an entry's body left the store, or moved, in any thread. True: the subscriber (a fast lane)
                refers to it still, and is about to let go of it
    is_sending  event: asks whether a subscriber is in the middle of sending an entry's body

    Raises UsageError where the process may not have files as long as a slab, and OSError.
    """

    def __init__(
        self,
        budget: int,
        *,
        slab_bytes: int,
        small_body_bytes_max: int,
        policy: str = "lru",
    ) -> None:
        self.budget = budget
        self.small_body_bytes_max = small_body_bytes_max
        self.evictions = 0
        self.evicted: Event[Entry] = Event()
        self.is_sending: Event[Entry] = Event()
        block_bytes_max = small_body_bytes_max + 4096  # a head is never longer than this
        self._slabs = Slabs(max(min(slab_bytes, int(budget * SLAB_SHARE)), block_bytes_max))
        _check_file_bytes_max(self._slabs.slab_bytes)
        self._compactor = Compactor(self._slabs)
        self._pages = Pages()
        self._room = Room(budget, self._slabs, self._pages, block_bytes_max)
        self.held = Held()
        self.opened = Opened()
        self._holders = 0  # bodies that hold a descriptor of their own
        self._frozen = False
        self.starting = False  # memory that the kernel does not give is an error now, but for RLIMIT_FSIZE
        self._refusals = _Refusals()
        self._lock = threading.Lock()
        self.under_way = UnderWay(self._lock)
        self.shares = Shares(self._lock, POLICIES[policy])
        self.takeover = Takeover(self._lock, self._slabs, self._pages, self._room)

    @property
    def overhead(self) -> int:
        """Bytes of the entries and indexes of all sites."""
        return self._room.overhead

    def count_index(self, site: int, index_bytes: int, *, at_least: bool = False) -> None:
        """As `Room.count_index`. Any thread may call it."""
        with self._lock:
            self._room.count_index(site, index_bytes, at_least)

    def room_of(self, site: Pin, reserved: int = 0) -> int:
        """Bytes that may become resident of a site without an eviction, where so many are `reserved`."""
        return self.shares.spare(site, self._room.limit - self.committed - reserved)

    @property
    def frozen(self) -> bool:
        """Whether nothing is made resident, since another process is taking the memory over."""
        return self._frozen

    @property
    def committed(self) -> int:
        """Bytes of memory that bodies and heads take now, in whole pages. Not in the loop's thread: what has died is
        taken back first."""
        while self.take_back():
            pass
        return self._room.committed

    @property
    def taken(self) -> int:
        """As `committed`, with what has died and was not taken back: this waits for no lock."""
        return self._room.committed

    @property
    def pinned_bytes(self) -> int:
        """Bytes of what is pinned and resident."""
        return self.held.bytes

    @property
    def resident(self) -> int:
        """How many representations are resident."""
        return len(self.shares) + len(self.held)

    @property
    def evictable(self) -> int:
        """Bytes that bodies may take which are not pinned."""
        return self._room.ceiling - self.held.bytes

    @property
    def moves(self) -> int:
        """How many times a body was moved, to make room."""
        return self._compactor.moves

    @property
    def largest(self) -> int:
        """The largest body, in bytes, that is ever made resident."""
        return int(self.budget * LARGEST_SHARE)

    def place(
        self, batch: Sequence[tuple[Entry, bytes, bytes]], *, evict: bool = True, is_pinned: Pin = nothing
    ) -> bool:
        """Make small bodies (entry, head, content) resident together, copied into slabs.

        False: there is no room for all of them and none can be made; then none is.
        """
        with self._lock:
            try:
                return self._place(batch, evict, is_pinned)
            except OSError as error:
                self._refuse(error)
                return False

    def _place(self, batch: Sequence[tuple[Entry, bytes, bytes]], evict: bool, is_pinned: Pin) -> bool:
        # A block may begin in a page, or end in one, that the kernel has taken back: one page more than its bytes.
        length = sum(len(head) + len(content) for _, head, content in batch)
        if batch and not self._make_room(round_up(length) + PAGE_BYTES, evict, is_pinned):
            return False
        bodies = self._slabs.write([(head, content) for _, head, content in batch], Packed)
        if len(batch) > 1 and self._room.committed > self._room.limit:
            del bodies  # spread over many fragments, they took many such pages
            self._reclaim()
            return False
        for (entry, _, _), body in zip(batch, bodies, strict=True):
            self._admit(entry, body, is_pinned)
        return True

    def reserve(self, size: int, *, evict: bool = True, is_pinned: Pin = nothing) -> Extent | None:
        """Pages for a large body of `size` bytes, to be filled by `fill`. None as in `place`."""
        with self._lock:
            try:
                self._pages.check(size, _file_bytes_max())  # nothing is evicted in vain
                # The lock was free while the lane was waited for: the store may have been frozen.
                if self._frozen or not self._make_room(round_up(size), evict, is_pinned) or self._frozen:
                    return None
                return self._pages.allocate(size)
            except OSError as error:
                self._refuse(error)
                return None

    def fill(self, extent: Extent, piece: memoryview, at: int) -> None:
        """Write a piece of a body `at` its place in pages that `reserve` gave. Raises RefusedError."""
        try:
            write(self._pages.fd, piece, extent.offset + at)
        except OSError as error:
            self._refuse(error)
            raise RefusedError from None

    def _refuse(self, error: OSError) -> None:
        if self.starting and error.errno != errno.EFBIG:
            raise error
        self._refusals.tell(error)

    @property
    def pages_fd(self) -> int:
        """The memfd that extents lie in."""
        return self._pages.fd

    def admit(self, entry: Entry, body: Body, is_pinned: Pin = nothing) -> None:
        """Make `body` the entry's resident body, from now on subject to eviction, unless it is pinned."""
        with self._lock:
            self._admit(entry, body, is_pinned)

    def _admit(self, entry: Entry, body: Body, is_pinned: Pin) -> None:
        if entry.body is None and not self.under_way.is_late(entry):
            entry.body = body
            self._holders += _holds_descriptor(body)
            if isinstance(body, Packed):
                self._compactor.came(entry, body.slab)
            elif isinstance(body, Paged) and isinstance(body.keeper, Extent):
                body.keeper.sharers += 1
                self._pages.pardon(body.keeper)
            share = self.shares.charge(entry, is_pinned)
            self._sort(entry, share, is_pinned)
            self._keep_within(share, 0, evict=True)  # another thread may have brought something meanwhile

    def _sort(self, entry: Entry, share: Share, is_pinned: Pin) -> None:
        if is_pinned(entry):
            share.pinned += self.held.add(entry)
        else:
            share.policy.add(entry)

    def repin(self, entry: Entry, is_pinned: Pin) -> None:
        """What is pinned has changed: an entry that is resident is evicted from now on when its time comes, or never.
        Any thread may call it."""
        with self._lock:
            if entry.body is not None and is_pinned(entry) != (entry in self.held):
                share = self.shares.of_entry(entry)
                share.pinned -= self.held.discard(entry)
                share.policy.discard(entry)
                self._sort(entry, share, is_pinned)

    def _forget(self, entry: Entry) -> None:
        """A body is not resident any more. Nothing else makes it so."""
        body, entry.body = entry.body, None
        last = True
        if isinstance(body, Packed):
            self._compactor.left(body.slab)
        elif isinstance(body, Paged):
            self._holders -= body.holds_descriptor
            if isinstance(body.keeper, Extent):
                body.keeper.sharers -= 1
                last = not body.keeper.sharers
        self.shares.give_back(entry, body).pinned -= self.held.discard(entry)
        if self.evicted(entry) and last:
            if isinstance(body, Packed):
                self._slabs.condemn(body.block)
            elif isinstance(body, Paged) and isinstance(body.keeper, Extent):
                self._pages.condemn(body.keeper)

    def drop(self, entry: Entry) -> None:
        """Forget an entry's body: the entry left the index."""
        self.drop_all((entry,))

    def drop_all(self, entries: Collection[Entry]) -> None:
        """As `drop`, some hundred entries at most, for the lock is held meanwhile. Their memory is not taken back."""
        for entry in entries:
            self.opened.drop(entry)
        of_entry = self.shares.of_entry
        with self._lock:
            for entry in entries:
                if entry.body is not None:
                    of_entry(entry).policy.discard(entry)
                    self._forget(entry)

    def may_hold_descriptor(self, *, evict: bool) -> bool:
        """Whether one more body may hold a descriptor of its own, or another is evicted for it (`evict`)."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        with self._lock:
            spare = self._holders < soft * DESCRIPTOR_SHARE
        return spare or (evict and self.shed_descriptor())

    def shed_descriptor(self) -> bool:
        """Close a file that stays on disk, or evict the least recently used body that holds a descriptor of its own
        (`--in-place`), whatever the policy; False where there is none, or all are being sent."""
        if self.opened.shed():
            return True
        with self._lock:
            victim = min(filter(_may_shed, self.shares.entries()), key=attrgetter("tick"), default=None)
            if victim is None:
                return False
            self.shares.of_entry(victim).policy.discard(victim)
            self._forget(victim)
        closing.wait(time.monotonic() + SHED_WITHIN_S)
        return True

    def _make_room(self, length: int, evict: bool, site: Pin) -> bool:
        share = self.shares.of_site(site)
        if not self._keep_within(share, length, evict):
            return False
        if self._frozen:
            return self._room.fits(length)
        if not evict:
            length += self.shares.owed(share)
        deadline = 0.0
        self._reclaim()
        while not self._room.fits(length):
            if self._room.has_dead and self._reclaim():
                continue  # before anything is evicted
            if not self._room.will_fit(length) and not self._sweep(length, evict, share):
                return False
            deadline = deadline or time.monotonic() + LET_GO_S
            self._room.await_lane(length, deadline, self._lock, self._reclaim)
        return True

    def _keep_within(self, share: Share, length: int, evict: bool) -> bool:
        """Evict what is of a share itself until it may have `length` more bytes; whether it may."""
        while not share.may_have(length):
            vain = not evict or self._fixed or not share.may_ever_have(length)
            victim = None if vain else share.policy.pop(self.is_sending)
            if victim is None:
                return False
            self._evict(victim)
        return True

    def _evict(self, victim: Entry) -> None:
        self.evictions += 1
        self._forget(victim)
        self._reclaim()

    def _sweep(self, length: int, evict: bool, share: Share) -> bool:
        """Move bodies together, or evict, until `length` more bytes fit; whether they do."""
        spare = self.evictable
        if length > spare:
            return False
        reserve = int(spare * (1 - LOW_WATERMARK))
        # While holes are left that are worth it, no further than needed.
        while not self._room.will_fit(length + (0 if self._compactor.due else reserve)):
            if self._compact():
                continue
            victim = self.shares.pop(share, self.is_sending) if evict and not self._fixed else None
            if victim is None:
                break
            self._evict(victim)
        return self._room.will_fit(length)

    def _compact(self) -> bool:
        """Move some bodies together, where that is worth it, when the lane has let go of those before; if any were."""
        if not self._compactor.due:
            return False
        self._room.await_lane(0, time.monotonic() + LET_GO_S, self._lock, self._reclaim)
        if self._fixed:
            return False
        committed_max = self._room.limit - self._pages.committed
        return bool(self._compactor.step(MOVE_BYTES, committed_max, self.is_sending, self.evicted))

    @property
    def _fixed(self) -> bool:
        """Whether nothing may be given back, since another process has the memory, too."""
        return self._frozen or self._slabs.has_adopted

    def take_back(self) -> bool:
        """Take back some of the memory that was dropped and is referred to no more; whether there is more of it. Each
        body that comes takes some back, too, and as much as it needs."""
        with self._lock:
            return self._reclaim() and self._room.has_dead

    def _reclaim(self) -> bool:
        """Whether anything may be taken back."""
        if not self._frozen:
            self._room.reclaim()
        return not self._frozen

    def close(self) -> None:
        """Give everything back. No body may be sent from after this."""
        self.opened.close()
        with self._lock:
            self._pages.close()

    # --- with another process (upgrade.py) --------------------------------------------------------------------

    def freeze(self) -> Memory:
        """Change nothing in what is there from now on, and give the memory to hand on: new small bodies go to slabs
        of their own, all else stays as it is. Not in the loop's thread: the lock is held while room is made."""
        with self._lock:
            self._frozen = True
            slabs = self._slabs.seal()
            return Memory(tuple(slab.fd for slab in slabs.values()), self._pages.fd, tuple(slabs))

    def thaw(self) -> None:
        """Go on: the process that took the memory over is gone."""
        with self._lock:
            self._pages.pass_over()
            self._slabs.unseal()
            self._frozen = False
