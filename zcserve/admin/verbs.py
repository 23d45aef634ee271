"""Verbs: what a node can be told, as JSON objects whose words are known.

`POST /NAME` with `{"word": value, ...}` is `Verb.run`. A word that is unknown, or has a value of another type, is
refused by name, with the nearest that is known (words.py). What a verb did is its answer, an object, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from zcserve.admin.node import Node
from zcserve.admin.words import Done, VerbError, Wording

Finish: TypeAlias = Callable[[Done | VerbError], None]


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that a node can be told. Each may be said again: the second time does no harm.

    is_long  its answer may come later, unless its word `wait` says no: of such few are waited for at a time
    run      in the loop's thread, which it must not hold: (node, words, finish) -> the answer; None: `finish` has it
             later, called in the loop's thread. Raises VerbError
    """

    wording: Wording
    run: Callable[[Node, dict[str, Any], Finish], Done | None]
    is_long: bool = False
