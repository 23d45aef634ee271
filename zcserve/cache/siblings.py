"""Is a sibling what its name says: its base's bytes, in its coding?

A `.gz`, `.br` or `.zst` that is broken, or was made of another file, is delivered as a broken or as another page, and
no client can tell. So each sibling is decoded once, beside its base, before it is a variant of it. What was found is
kept in the variant (`SiblingVariant.judged`, `.fault`), together with the identity that the base had: a reload and an
upgrade keep it as long as both files are the same.

Decoding is bounded by what it is compared with. It goes piece by piece, and ends with the first byte that differs or is
one too many: a bomb of any size costs a piece of memory, and no more time than the base has bytes. A zstd frame whose
window is larger than 8 MiB is broken for the web (RFC 9659 section 3), and would take that window in memory here.

gzip can always be decoded. br and zstd need packages (the extra `compress`); a sibling in a coding that cannot be
decoded here is trusted, which the log says once. Everything here reads files, so it runs in threads.
"""

from __future__ import annotations

import importlib
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from typing import Any, Final

from zcserve.cache.compress import zstd_module
from zcserve.cache.crew import beat
from zcserve.cache.entry import Entry, SiblingVariant, identity_of, is_same_file
from zcserve.cache.naming import path_of
from zcserve.cache.root import Root
from zcserve.cache.tags import PIECE_BYTES
from zcserve.log import Log

_log = Log(__name__)

BROKEN: Final = "does not decode: served under its own name only"
OTHER: Final = "does not decode to its file's bytes: served under its own name only"
# What may be found; the manifest of an upgrade has the numbers.
FAULTS: Final = ("", BROKEN, OTHER)

# RFC 9659 section 3: 8 MiB.
_ZSTD_WINDOW_LOG_MAX = 23
# Siblings refused on demand that the log names in REFUSED_TOLD_EVERY_S; of more, only the number.
REFUSED_NAMED_MAX = 20
REFUSED_TOLD_EVERY_S = 60.0

Decoder = Callable[[Iterator[bytes]], Iterator[bytes]]


class BrokenError(Exception):
    """Not content in this coding, or only the beginning of it."""


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 1952: members, one after the other, and nothing behind them."""
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for piece in pieces:
        data, is_more = piece, True
        while is_more:
            if member.eof:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                out = member.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise BrokenError from None
            yield out
            data = member.unused_data if member.eof else member.unconsumed_tail
            is_more = bool(data) or (not member.eof and len(out) == PIECE_BYTES)
    if not member.eof:
        raise BrokenError


def _unzstd(zstd: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 8878: frames, one after the other."""
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG_MAX}
    frame = zstd.ZstdDecompressor(options=options)
    for piece in pieces:
        data, is_more = piece, True
        while is_more:
            if frame.eof:
                frame = zstd.ZstdDecompressor(options=options)
            try:
                yield frame.decompress(data, PIECE_BYTES)
            except zstd.ZstdError:
                raise BrokenError from None
            data = frame.unused_data if frame.eof else b""
            is_more = bool(data) or not (frame.eof or frame.needs_input)
    if not frame.eof:
        raise BrokenError


def _unbrotli(brotli: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """RFC 7932: one stream."""
    stream = brotli.Decompressor()
    try:
        for piece in pieces:
            yield (out := stream.process(piece, output_buffer_limit=PIECE_BYTES))
            while not stream.is_finished() and (out or not stream.can_accept_more_data()):
                yield (out := stream.process(b"", output_buffer_limit=PIECE_BYTES))
    except brotli.error:
        raise BrokenError from None
    if not stream.is_finished():
        raise BrokenError


def decoders() -> dict[bytes, Decoder]:
    """What can be decoded here, by content coding."""
    found: dict[bytes, Decoder] = {b"gzip": _gunzip}
    if (zstd := zstd_module()) is not None:
        found[b"zstd"] = partial(_unzstd, zstd)
    try:
        brotli = importlib.import_module("brotli")
    except ImportError:
        return found
    # Before brotli 1.2 there is no bound to what one piece decodes to.
    if hasattr(brotli.Decompressor, "can_accept_more_data"):
        found[b"br"] = partial(_unbrotli, brotli)
    return found


def find_fault(decode: Decoder, sibling: int, base: int) -> str:
    """Compare two open files: one of FAULTS. Raises OSError."""
    at = 0
    try:
        for piece in decode(_pieces(sibling)):
            if piece and os.pread(base, len(piece), at) != piece:
                return OTHER
            at += len(piece)
    except BrokenError:
        return BROKEN
    return OTHER if os.pread(base, 1, at) else ""


def _pieces(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, PIECE_BYTES, at):
        yield piece
        at += len(piece)
        beat()


class Judge:
    """Compares siblings with their bases, unless they are trusted. Thread-safe."""

    def __init__(self, *, trust: bool) -> None:
        self.trusts = trust
        self._decoders = {} if trust else decoders()
        self._told: set[bytes] = set()
        self._refused = 0
        self._refused_since = -inf

    def is_due(self, variant: Entry) -> bool:
        """Whether a variant is to be compared before it is sent, and can be."""
        return isinstance(variant, SiblingVariant) and not variant.judged and variant.encoding in self._decoders

    def judge(self, variant: SiblingVariant, sibling: int, base: Entry, base_fd: int) -> None:
        """Have a variant that is due know what comparing it with its base gives; both files are open. With a fault it
        is one no more. What changes meanwhile is left as it is. Raises OSError."""
        fault = find_fault(self._decoders[variant.encoding], sibling, base_fd)
        for entry, fd in ((variant, sibling), (base, base_fd)):
            if not is_same_file(identity_of(os.fstat(fd)), entry.identity):
                return
        if fault:
            base.change_variants(less=(variant,))  # first: what was judged is loaded without another look
        variant.fault = fault
        variant.judged = base.identity

    def judge_all(self, root: Root, entry: Entry) -> list[SiblingVariant]:
        """Judge the siblings of a file that are due; which are not its variants any more. Raises OSError."""
        due = [one for one in entry.variants if isinstance(one, SiblingVariant) and self.is_due(one)]
        if not due:
            return []
        base_fd, _ = root.open_file(path_of(entry))
        try:
            for variant in due:
                fd, _ = root.open_file(path_of(variant))
                try:
                    self.judge(variant, fd, entry, base_fd)
                finally:
                    os.close(fd)
        finally:
            os.close(base_fd)
        return [variant for variant in due if variant.fault]

    def tell_trusted(self, variants: Iterable[Entry]) -> None:
        """Say of which of these variants the coding cannot be decoded here, each coding once."""
        codings = {variant.encoding for variant in variants if isinstance(variant, SiblingVariant)}
        if not self.trusts and (news := codings - self._decoders.keys() - self._told):
            self._told |= news
            names = b" and ".join(sorted(news)).decode()
            _log.warning(
                "siblings in %s cannot be decoded here and are trusted: pip install 'zcserve[compress]'", names
            )

    def tell_refused(self, paths: Iterable[bytes]) -> None:
        """Siblings were refused when they were asked for: say so, unless many were just now."""
        now = time.monotonic()
        if now - self._refused_since > REFUSED_TOLD_EVERY_S:
            if self._refused > REFUSED_NAMED_MAX:
                _log.warning("and %d more siblings do not decode", self._refused - REFUSED_NAMED_MAX)
            self._refused, self._refused_since = 0, now
        for path in paths:
            self._refused += 1
            if self._refused <= REFUSED_NAMED_MAX:
                _log.warning("%s: %s", path.decode("utf-8", "backslashreplace"), OTHER)
