"""Patterns for the paths of redirects, as Netlify and Cloudflare Pages write them: how one is read, what it takes.

    /about                   this path
    /news/:year/:slug        a placeholder takes one whole segment, whatever it holds
    /blog/*                  a splat takes all that follows, also nothing: /blog, /blog/, /blog/2024/a
    /blog-*, /docs/*.html    letters may stand before it in its segment, and text (no placeholder) behind it
    https://old.example/*    only for requests to this host; scheme and port count for nothing

A pattern is read as the path of a request is (`http.canonical_path`): percent-decoded once, doubled slashes collapsed,
dot segments removed; so `/c%C3%A9line`, `/céline` and `/x//../céline` are one. `%2A` and `%3A` are a star and a colon
that stand for themselves, and so is a colon behind a letter or a digit (`/wiki/Talk:Main`).

A slash at the end counts for nothing, in a pattern and in a path, as Netlify has it; where a splat takes the end, its
value has the slash (/blog/a/ -> "a/"). Letters count as they are. What a splat takes has no dot segments: to `/x*`,
the path /x.. is none that it matches, so that no target can lead upwards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from zcserve import http
from zcserve.rules.where import RuleError

# Cloudflare Pages takes lines of 1,000 characters; a request's target has 8,000 bytes at most.
PATTERN_CHARACTERS_MAX = 1000

SPLAT = "splat"

NAME = r"[A-Za-z][A-Za-z0-9_]*"
# A colon behind a letter or a digit is a colon; another one before a letter begins a placeholder.
PLACEHOLDER = re.compile(rf"(?<![A-Za-z0-9]):({NAME})")
_WHOLE = re.compile(rf":({NAME})")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)

DOTS = (b".", b"..")


@dataclass(frozen=True, slots=True)
class Splat:
    """The star of a pattern: what stands before it in its segment, and behind it to the path's end; canonical."""

    prefix: bytes = b""
    suffix: bytes = b""

    @property
    def is_plain(self) -> bool:
        """Whether it takes the whole rest of a path."""
        return not (self.prefix or self.suffix)

    def value(self, rest: bytes) -> bytes | None:
        """What the star takes of `rest`, the path behind the whole segments and a slash; None for no match."""
        trimmed = rest.removesuffix(b"/") if self.suffix else rest
        end = len(trimmed) - len(self.suffix)
        if end < len(self.prefix) or not (rest.startswith(self.prefix) and trimmed.endswith(self.suffix)):
            return None
        taken = trimmed[len(self.prefix) : end]
        first, last = taken.partition(b"/")[0], taken.rpartition(b"/")[2]
        return None if first in DOTS or last in DOTS else taken


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    text      as written
    host      as `http.host_name` gives it; b"" for any
    segments  whole segments, canonical; None for a placeholder
    splat     what takes the rest of the path behind them
    names     the placeholders', in their order
    """

    text: str
    host: bytes
    segments: tuple[bytes | None, ...]
    splat: Splat | None
    names: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        """Whether it takes one path, with or without a slash at its end."""
        return self.splat is None and not self.names

    @property
    def shape(self) -> tuple[object, ...]:
        """How it mixes literal segments, placeholders and a splat. Of one shape, a path has one set of literals."""
        mask = tuple(segment is None for segment in self.segments)
        return (mask, self.splat and (len(self.splat.prefix), len(self.splat.suffix)))

    @property
    def captures(self) -> frozenset[str]:
        """The names of what it takes from a path."""
        return frozenset((*self.names, SPLAT) if self.splat else self.names)

    @property
    def head(self) -> bytes:
        """What all keys that it matches begin with."""
        head: list[bytes] = []
        for segment in self.segments:
            if segment is None:
                return b"/" + b"".join(part + b"/" for part in head)
            head.append(segment)
        return b"/" + b"/".join([*head, self.splat.prefix] if self.splat and self.splat.prefix else head)

    def match(self, key: bytes) -> dict[str, bytes] | None:
        """What it takes from a key, by name and percent-decoded; None where it does not match."""
        found = segments_of(key)
        depth = len(self.segments)
        if len(found) < depth or (self.splat is None and len(found) > depth):
            return None
        pairs = list(zip(self.segments, found, strict=False))
        if any(own is not None and own != other for own, other in pairs):
            return None
        values = [other for own, other in pairs if own is None]
        taken = {name: http.percent_decoded(value) for name, value in zip(self.names, values, strict=True)}
        if self.splat is not None:
            value = self.splat.value(key[1 + sum(len(segment) + 1 for segment in found[:depth]) :])
            if value is None:
                return None
            taken[SPLAT] = http.percent_decoded(value)
        return taken


def segments_of(key: bytes) -> list[bytes]:
    """The segments of a key; a slash at its end makes none."""
    path = key[1:-1] if key.endswith(b"/") else key[1:]
    return path.split(b"/") if path else []


def parse_pattern(text: str) -> Pattern:
    """The pattern that `text` writes. Raises RuleError with what is wrong, and what to write."""
    if len(text) > PATTERN_CHARACTERS_MAX:
        raise _error(f"{text[:40]!r}... has more than {PATTERN_CHARACTERS_MAX} characters")
    host, path = _host_and_path(text)
    _refuse_odd(text, path)
    segments: list[bytes | None] = []
    names: list[str] = []
    splat: Splat | None = None
    pieces = path.split("/")
    for number, piece in enumerate(pieces):
        if "*" in piece:
            splat = _splat(text, pieces[number:])
            break
        for segment in _segments(text, piece):
            if isinstance(segment, str):
                names.append(segment)
                segments.append(None)
            elif segment == b"..":
                if segments and segments.pop() is None:
                    names.pop()
            else:
                segments.append(segment)
    _refuse_names(text, names, splat)
    return Pattern(text, host, tuple(segments), splat, tuple(names))


def _host_and_path(text: str) -> tuple[bytes, str]:
    absolute = _ABSOLUTE.fullmatch(text)
    if absolute is None:
        if not text.startswith("/"):
            raise _error(f"{text!r} is no pattern: it begins with a slash, or with https:// and a host")
        if text.startswith("//"):
            raise _error(f"{text!r} begins with two slashes, which could mean a host; write one, or https://")
        return b"", text
    written, path = absolute[1], absolute[2] or "/"
    if PLACEHOLDER.search(written) or "*" in written:
        raise _error(f"{text!r}: a host is matched as a whole, without placeholders and stars")
    encoded = written.encode("ascii", "replace")
    if not written or not written.isascii() or not http.is_host(encoded):
        raise _error(f"{text!r}: {written!r} is no host; names in other letters are written xn--...")
    return http.host_name(encoded), path


def _refuse_odd(text: str, path: str) -> None:
    if "?" in path:
        raise _error(f"{text!r}: a pattern has no query; parameters are matched by query (id=:id)")
    if "#" in path:
        raise _error(f"{text!r}: browsers keep what follows a # to themselves; a # in a path is written %23")
    if _BAD_PERCENT.search(path):
        raise _error(f"{text!r}: a percent sign is written %25")
    if "%00" in path or "\0" in path:
        raise _error(f"{text!r}: no path has a NUL")
    if path.count("*") > 1:
        raise _error(f"{text!r} has two stars; one takes all that follows, slashes, too")


def _segments(text: str, piece: str) -> list[bytes | str]:
    """What one piece between slashes stands for: a placeholder's name, or segments as bytes (`%2F` is a slash); `..`
    stays."""
    whole = _WHOLE.fullmatch(piece)
    if whole is not None:
        return [whole[1]]
    found = PLACEHOLDER.search(piece)
    if found is not None:
        raise _error(f"{text!r}: {found[0]} is not a whole segment, as a placeholder is; a colon is written %3A")
    decoded = _decoded(piece).split(b"/")
    return [http.encode_path(segment) for segment in decoded if segment not in (b"", b".")]


def _splat(text: str, pieces: list[str]) -> Splat:
    """The splat whose segment is the first of `pieces`, which are all that is left of the pattern."""
    before, _, behind = "/".join(pieces).partition("*")
    if PLACEHOLDER.search(before) or PLACEHOLDER.search(behind):
        raise _error(f"{text!r}: a placeholder is a whole segment before the star; a colon is written %3A")
    prefix, suffix = _decoded(before), re.sub(rb"/{2,}", b"/", _decoded(behind)).removesuffix(b"/")
    if b"/" in prefix or {*DOTS} & {*suffix.split(b"/")[1:]}:
        raise _error(f"{text!r}: no dot segments behind the star, and no %2F before it")
    return Splat(http.encode_path(prefix), http.encode_path(suffix))


def _decoded(text: str) -> bytes:
    try:
        return unquote_to_bytes(text)
    except UnicodeEncodeError:  # a lone surrogate, from TOML's escapes
        raise _error(f"{text!r} holds what is no character") from None


def _refuse_names(text: str, names: list[str], splat: Splat | None) -> None:
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise _error(f"{text!r}: :{twice} stands there twice")
    if SPLAT in names:
        raise _error(f"{text!r}: :{SPLAT} is the name of what a star takes" + (", and there is one" if splat else ""))


def _error(message: str) -> RuleError:
    return RuleError(message, "from")
