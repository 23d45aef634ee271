"""What each verb is called, and the words that it takes: one table, from which the listener reads JSON, and a shell its
flags, help and completion.

It knows nothing of the server, and imports next to nothing: `zcserve ctl` is started once a second by a health check.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

Done: TypeAlias = dict[str, Any]


class VerbError(Exception):
    """A verb is refused. `status` is HTTP's; `accepted` is what would do."""

    def __init__(self, status: int, error: str, accepted: tuple[str, ...] = ()) -> None:
        super().__init__(error)
        self.status = status
        self.accepted = accepted

    def told(self) -> Done:
        """The answer's object."""
        return {"error": str(self), **({"accepted": list(self.accepted)} if self.accepted else {})}


class Word(NamedTuple):
    """What one word of a verb may be. A default of None: it must be given, unless `optional`.

    operand   a command line has it without a flag, and help calls it this: "PATH". At most one word of a verb
    is_lines  that operand names a file, whose lines are the list; - for standard input
    null      JSON's null is a value, too, which a command line says by this word: --drop
    null_help  what that means
    """

    type: type  # str, bool, int, float; list: of texts
    help: str
    default: Any = None
    optional: bool = True
    choices: tuple[str, ...] = ()
    operand: str = ""
    is_lines: bool = False
    null: str = ""
    null_help: str = ""

    def accept(self, name: str, value: object) -> Any:
        """The value, checked. Raises VerbError."""
        if self.null and value is None:
            return None
        wanted = (int, float) if self.type is float else (self.type,)
        fits = isinstance(value, wanted) and (self.type is bool or not isinstance(value, bool))
        if fits and self.type is list:
            fits = all(isinstance(item, str) for item in value)  # type: ignore[attr-defined]
        if not fits:
            kinds = f"{_TYPES[self.type]}{' or null' if self.null else ''}"
            raise VerbError(400, f"{name} must be {kinds}, not {json.dumps(value)[:100]}")
        if self.choices and value not in self.choices:
            near = _nearest(str(value), self.choices)
            raise VerbError(400, f"{name} cannot be {json.dumps(value)[:100]}: did you mean {near}?", self.choices)
        return value


_TYPES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", list: "a list of texts"}
NO_WORDS: Mapping[str, Word] = MappingProxyType({})


class Wording(NamedTuple):
    """How a verb is said.

    body_bytes_max  of its JSON
    items_max       of each list in it
    adds_up         what is told in parts does the same, and the answers are added up
    """

    name: str
    help: str
    words: Mapping[str, Word] = NO_WORDS
    body_bytes_max: int = 64 * 1024
    items_max: int = sys.maxsize
    adds_up: bool = False

    def read(self, body: bytes) -> dict[str, Any]:
        """The words of a request, with the defaults of those that are not there. Raises VerbError."""
        read = self.check(_object_of(body))
        for name, value in read.items():
            if isinstance(value, list) and len(value) > self.items_max:
                raise VerbError(400, f"{name} has {len(value)} items, and may have {self.items_max}: tell it in parts")
        return read

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The same of an object."""
        for name in given:
            if name not in self.words:
                known = tuple(self.words)
                hint = f": did you mean {_nearest(name, known)}?" if known else ", which takes none"
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


def _nearest(word: str, known: tuple[str, ...]) -> str:
    from zcserve.errors import nearest  # late: only a mistake needs it

    return nearest(word, known)


def _object_of(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        given = json.loads(body, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise VerbError(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise VerbError(400, 'the body must be a JSON object: {"word": value}')
    return given


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a name that stands in it twice says two things (RFC 8259 section 4)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise VerbError(400, f"{json.dumps(twice)[:100]} is said twice")
    return found


# A list comes as JSON, which the loop reads in one step: 3 ms for so much, some five thousand paths. A longer list is
# told in parts, which are worked off in their order.
LIST_BYTES_MAX = 256 * 1024
# A purge has each of its paths read before it begins: 2 us each, in one step of the loop, too.
PURGED_ITEMS_MAX = 2000
# And a pattern takes 0.15 ms to read, up to 5 where it is long and all of wildcards.
PINNED_ITEMS_MAX = 32
PINNED_BYTES_MAX = 4 * 1024
# As `--log-level` has them (config/table.py), which is a table that takes long to import.
LOG_LEVELS = ("debug", "info", "warning", "error")

_SITE = Word(str, "the site that is meant, by its name; else the first one")
_WAIT = {"wait": Word(bool, "answer when it has ended, and say how; else when it has begun", default=False)}

RELOAD = Wording(
    "reload", "read configuration and roots again, and flip to what is there; applications are loaded anew", _WAIT
)
UPGRADE = Wording("upgrade", "start the program anew, have it take over without a request lost, and end", _WAIT)
DRAIN = Wording(
    "drain",
    "answer all that comes, but let each answer be its connection's last, and be not ready",
    {"why": Word(str, "what /readyz says of it", default="")},
)
UNDRAIN = Wording("undrain", "serve as before")
PREPARE = Wording(
    "prepare",
    "load a release before the root leads to it: it answers what the live one lacks, and the flip takes no time",
    {
        "root": Word(
            str,
            "the directory of the release, an absolute path",
            optional=False,
            operand="DIR",
            null="drop",
            null_help="let go of what is prepared",
        ),
        "site": _SITE,
    },
)
PURGE = Wording(
    "purge",
    "look at content anew while it serves; or drop it at once, and load it when it is asked for",
    {
        "path": Word(str, "one path"),
        "paths": Word(list, "paths, each with its variants: /assets/site.css", operand="PATH"),
        "prefix": Word(str, "all paths that begin so: /assets/"),
        "glob": Word(str, "all that a pattern matches: *.css, /fonts/"),
        "tag": Word(str, "all files that rules give this tag"),
        "hard": Word(bool, "drop it at once; else it is compared with its file", default=False),
        "early": Word(bool, "not hard: answer when all is in doubt; else when it is compared", default=False),
        "site": _SITE,
    },
    LIST_BYTES_MAX,
    PURGED_ITEMS_MAX,
    adds_up=True,
)
WARM = Wording(
    "warm",
    "load files before they are asked for, in this order, as far as there is room",
    {"paths": Word(list, "paths as in a URL", optional=False, operand="FILE|-", is_lines=True), "site": _SITE},
    LIST_BYTES_MAX,
    adds_up=True,
)
PIN = Wording(
    "pin",
    "load what patterns match, and evict it no more, until this process ends; without words: which there are",
    {
        "add": Word(list, "patterns to be pinned: *.css, /fonts/", default=(), operand="GLOB"),
        "remove": Word(list, "patterns to be pinned no more", default=()),
        "site": _SITE,
    },
    PINNED_BYTES_MAX,
    PINNED_ITEMS_MAX,
)
LOGLEVEL = Wording(
    "loglevel",
    "report what is at least so grave; without a level: which it is",
    {"level": Word(str, "the least that is reported", choices=LOG_LEVELS, operand="LEVEL")},
)

# What is asked, and changes nothing.
EXPLAIN = Wording(
    "explain",
    "what would a request be answered with, and why?",
    {
        "url": Word(str, "http://host/path, or /path", optional=False, operand="URL"),
        "method": Word(str, "of the request", default="GET"),
        "header": Word(list, "fields of the request: 'Name: value'", default=()),
    },
)

HEAT = Wording(
    "heat",
    "which files are asked for most, of late?",
    {
        "site": Word(str, "of this site; else of all"),
        "top": Word(int, "so many, hottest first; else all, as they lie on the disk"),
    },
)

# All that change something; orders.py says what each does.
WORDINGS = (RELOAD, PREPARE, UPGRADE, DRAIN, UNDRAIN, PURGE, WARM, PIN, LOGLEVEL)
