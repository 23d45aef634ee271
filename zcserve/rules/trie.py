"""Many patterns, asked for all that match a path, in a time that depends on the path and not on their number.

Exact patterns stand in a dict. The others are a trie by segments, in which a node has children for literals, and one
for a placeholder. A path may be at several nodes of a depth at once, but at no two that mix literals and placeholders
in the same way: their literals differ, and the path has one of them. Of one mixture of a pattern's text before and
behind its star, too, a path can have only one. So a look-up takes at most as many steps for each segment as there are
such mixtures, which are bounded (`SHAPES_MAX`), however many patterns there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from zcserve.rules.patterns import Pattern, Splat, segments_of

# Sites have up to ten. What 10,000 generated rules have in common is that a program made them in a few forms.
SHAPES_MAX = 128

T = TypeVar("T")

# What two patterns have in common that match the same paths.
Identity = tuple[bytes, tuple[bytes | None, ...], Splat | None]


def identity_of(pattern: Pattern) -> Identity:
    """What two patterns share that match the same paths of the same hosts, whatever their placeholders are called."""
    return pattern.host, pattern.segments, pattern.splat


class Shapes:
    """The ways in which patterns mix literals, placeholders and a star, counted while patterns are read."""

    def __init__(self) -> None:
        self._known: set[object] = set()

    def take(self, shape: object) -> bool:
        """Whether there is room for a pattern of this shape."""
        if len(self._known) < SHAPES_MAX:
            self._known.add(shape)
        return shape in self._known


class _Node(Generic[T]):
    """What is known of paths that begin with certain segments: what ends here, what takes the rest, what follows."""

    __slots__ = ("affixed", "end", "literal", "placeholder", "rest")

    def __init__(self) -> None:
        self.literal: dict[bytes, _Node[T]] | None = None
        self.placeholder: _Node[T] | None = None
        self.end: T | None = None
        self.rest: T | None = None
        # By the lengths of what stands before the star and behind it, then by these texts.
        self.affixed: dict[tuple[int, int], dict[tuple[bytes, bytes], tuple[Splat, T]]] | None = None

    def child(self, segment: bytes | None) -> _Node[T]:
        """The node for a further segment of a pattern, made where there is none."""
        if segment is None:
            self.placeholder = self.placeholder or _Node()
            return self.placeholder
        if self.literal is None:
            self.literal = {}
        child = self.literal.get(segment)
        if child is None:
            child = self.literal[segment] = _Node()
        return child

    def put_splat(self, splat: Splat, value: T) -> None:
        """Have `value` found for paths of which `splat` takes the rest."""
        if splat.is_plain:
            self.rest = value
            return
        if self.affixed is None:
            self.affixed = {}
        lengths = len(splat.prefix), len(splat.suffix)
        self.affixed.setdefault(lengths, {})[splat.prefix, splat.suffix] = splat, value

    def find_rest(self, key: bytes, at: int, found: list[T]) -> None:
        """Add what takes `key` from `at`, where the path behind this node's segments begins."""
        if self.rest is not None:
            found.append(self.rest)
        if self.affixed is None:
            return
        end = len(key) - key.endswith(b"/")
        for (before, behind), texts in self.affixed.items():
            if at + before + behind <= len(key):
                hit = texts.get((key[at : at + before], key[end - behind : end]))
                if hit is not None and hit[0].value(key[at:]) is not None:
                    found.append(hit[1])


class _Paths(Generic[T]):
    """The patterns of one host, or of any."""

    __slots__ = ("_exact", "_root")

    def __init__(self) -> None:
        self._exact: dict[bytes, T] = {}
        self._root: _Node[T] | None = None

    def put(self, pattern: Pattern, value: T) -> None:
        if pattern.is_exact:
            self._exact[b"/".join(filter(None, pattern.segments))] = value
            return
        if self._root is None:
            self._root = _Node()
        node = self._root
        for segment in pattern.segments:
            node = node.child(segment)
        if pattern.splat is None:
            node.end = value
        else:
            node.put_splat(pattern.splat, value)

    def find(self, key: bytes, found: list[T]) -> None:
        """Add the values of all patterns that match a key."""
        exact = self._exact.get(key[1:-1] if key.endswith(b"/") else key[1:])
        if exact is not None:
            found.append(exact)
        if self._root is None:
            return
        nodes = [self._root]
        at = 1
        for segment in segments_of(key):
            below: list[_Node[T]] = []
            for node in nodes:
                if node.rest is not None or node.affixed is not None:
                    node.find_rest(key, at, found)
                if node.literal is not None and (child := node.literal.get(segment)) is not None:
                    below.append(child)
                if node.placeholder is not None:
                    below.append(node.placeholder)
            if not below:
                return
            nodes = below
            at += len(segment) + 1
        for node in nodes:
            node.find_rest(key, at, found)
            if node.end is not None:
                found.append(node.end)


class Patterns(Generic[T]):
    """A value for each of many patterns; does not change once it is made."""

    def __init__(self, items: Iterable[tuple[Pattern, T]]) -> None:
        """Of patterns that match the same paths (`identity_of`) the last one's value is kept."""
        self._by_host: dict[bytes, _Paths[T]] = {}
        for pattern, value in items:
            self._by_host.setdefault(pattern.host, _Paths()).put(pattern, value)
        self._of_any_host: _Paths[T] = self._by_host.get(b"", _Paths())

    @property
    def hosts(self) -> frozenset[bytes]:
        """The hosts that patterns name."""
        return frozenset(self._by_host.keys() - {b""})

    def find(self, key: bytes, host: bytes = b"") -> list[T]:
        """The values of all patterns that match, in no order. `host` is in lower case, without a port."""
        found: list[T] = []
        self._of_any_host.find(key, found)
        if host and (paths := self._by_host.get(host)) is not None:
            paths.find(key, found)
        return found
