"""Verbs: what a node can be told, as JSON objects whose words are known.

`POST /NAME` with `{"word": value, ...}` is `Verb.run`. A word that is unknown, or has a value of another type, is
refused by name, with the nearest that is known. What a verb did is its answer, an object, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zcserve.admin.node import Node
from zcserve.errors import nearest

Done: TypeAlias = dict[str, Any]
Finish: TypeAlias = Callable[[Done], None]


class VerbError(Exception):
    """A verb is refused. `status` is HTTP's; `accepted` is what would do."""

    def __init__(self, status: int, error: str, accepted: tuple[str, ...] = ()) -> None:
        super().__init__(error)
        self.status = status
        self.accepted = accepted

    def told(self) -> Done:
        """The answer's object."""
        return {"error": str(self), **({"accepted": list(self.accepted)} if self.accepted else {})}


@dataclass(frozen=True, slots=True)
class Word:
    """What one word of a verb may be. A default of None: it must be given, unless `optional`."""

    type: type  # str, bool, int, float; list: of texts
    help: str
    default: Any = None
    optional: bool = True
    choices: tuple[str, ...] = ()

    def accept(self, name: str, value: object) -> Any:
        """The value, checked. Raises VerbError."""
        wanted = (int, float) if self.type is float else (self.type,)
        fits = isinstance(value, wanted) and (self.type is bool or not isinstance(value, bool))
        if fits and self.type is list:
            fits = all(isinstance(item, str) for item in value)  # type: ignore[attr-defined]
        if not fits:
            raise VerbError(400, f"{name} must be {_TYPES[self.type]}, not {json.dumps(value)[:100]}")
        if self.choices and value not in self.choices:
            near = nearest(str(value), self.choices)
            raise VerbError(400, f"{name} cannot be {json.dumps(value)[:100]}: did you mean {near}?", self.choices)
        return value


_TYPES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", list: "a list of texts"}


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that a node can be told. Each may be said again: the second time does no harm.

    run  in the loop's thread, which it must not hold: (node, words, finish) -> the answer; None: `finish` has it later,
         called in the loop's thread. Raises VerbError
    body_bytes_max  of its JSON
    """

    name: str
    help: str
    run: Callable[[Node, dict[str, Any], Finish], Done | None]
    words: Mapping[str, Word] = field(default_factory=dict)
    body_bytes_max: int = 64 * 1024

    def read(self, body: bytes) -> dict[str, Any]:
        """The words of a request, with the defaults of those that are not there. Raises VerbError."""
        given = _object_of(body)
        for name in given:
            if name not in self.words:
                known = tuple(self.words)
                hint = f": did you mean {nearest(name, known)}?" if known else ", which takes none"
                raise VerbError(400, f"{json.dumps(name)[:100]} is no word of {self.name}{hint}", known)
        read = {}
        for name, word in self.words.items():
            if name in given:
                read[name] = word.accept(name, given[name])
            elif not word.optional:
                raise VerbError(400, f"{self.name} needs {name}: {word.help}", tuple(self.words))
            else:
                read[name] = word.default
        return read


def _object_of(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise VerbError(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise VerbError(400, 'the body must be a JSON object: {"word": value}')
    return given
