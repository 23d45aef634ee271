"""The application of the admin listener: from a path to a route, and from its answer to a reply.

What goes wrong is JSON, too: `{"error": "...", "accepted": [...]}`. What changes something is in the log, with who said
it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

from zcserve.admin.guard import Guard
from zcserve.admin.node import Node
from zcserve.admin.verbs import Verb
from zcserve.admin.words import Done, VerbError
from zcserve.errors import nearest
from zcserve.http import FieldLines
from zcserve.log import Log, printable
from zcserve.paths import SentPath
from zcserve.phrases import PHRASES
from zcserve.rules.compiled import Rules
from zcserve.site.exchange import Answer, Exchange, Quick, Resource
from zcserve.site.reply import Reply

_log = Log(__name__)

NO_STORE: FieldLines = ((b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff"))
JSON_FIELDS: FieldLines = ((b"Content-Type", b"application/json"), *NO_STORE)
_CHALLENGE: FieldLines = ((b"WWW-Authenticate", b'Bearer realm="zcserve"'),)
# Clients that wait for what a verb does: each keeps its place (door.py), and most of these are to be free.
WAITING_MAX = 32
# What the log has of what a verb was told.
TOLD_CHARACTERS_MAX = 300


def json_reply(value: object, status: int = 200, fields: FieldLines = ()) -> Reply:
    """A reply with a value as JSON, on one line. What UTF-8 has no form for (half of a surrogate pair, a byte of a name
    on disk) is escaped as JSON has it."""
    text = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")
    return Reply(status, (*JSON_FIELDS, *fields), text + b"\n")


def refused(status: int, fields: FieldLines, reason: str) -> Reply:
    """As `Site.refuse`: what is wrong, in one line of JSON."""
    if status == 405:
        methods = ("GET", "HEAD", "POST", "OPTIONS")
        told = {"error": "no path takes this method", "accepted": methods}
        return json_reply(told, status, ((b"Allow", ", ".join(methods).encode()),))
    return json_reply({"error": reason or PHRASES.get(status, str(status))}, status, fields)


class Route(Protocol):
    """What is at a path.

    is_open  whether it may be had without the token
    """

    path: str
    is_open: bool

    def get(self, node: Node, exchange: Exchange) -> Reply:
        """Answer a GET or HEAD. In the loop's thread, which it must not hold. Raises VerbError."""


class Admin:
    """An `Application` (site/exchange.py)."""

    def __init__(self, node: Node, guard: Guard, routes: Iterable[Route], verbs: Iterable[Verb]) -> None:
        self._resources: dict[bytes, Resource] = {}
        for route in routes:
            self._resources[route.path.encode()] = _Shown(node, guard, route)
        waiting: set[Exchange] = set()
        for verb in verbs:
            self._resources[b"/" + verb.wording.name.encode()] = _Told(node, guard, verb, waiting)
        self._unknown = _Unknown(guard, [path.decode() for path in self._resources])

    def find(self, path: SentPath, query: bytes | None, *, websocket: bool = False) -> Resource | None:
        """As `Application.find`."""
        return self._resources.get(path.key, self._unknown)

    def look_up(self, method: bytes, target: bytes) -> Quick | None:
        """As `Application.look_up`: nothing is the fast lane's."""
        return None

    def may_have(self, key: bytes) -> bool:
        """As `Application.may_have`."""
        return True

    def forget(self, keys: Collection[bytes]) -> None:
        """As `Application.forget`."""

    def own_with(self, rules: Sequence[Rules]) -> None:
        """As `Application.own_with`: no front stands before it."""


class _Guarded:
    """A `Resource` whose errors are JSON."""

    body_bytes_max = 0
    methods: tuple[str, ...] = ("GET", "HEAD")
    is_open = False

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def respond(self, exchange: Exchange) -> Answer | None:
        """As `Resource.respond`."""
        method = exchange.method.decode("latin-1")
        try:
            is_open = self.is_open or method == "OPTIONS"
            self._guard.check(exchange.head.lines, changes=method == "POST", is_open=is_open)
            if method in self.methods:
                return self.answer(exchange)
            allow = ((b"Allow", ", ".join((*self.methods, "OPTIONS")).encode()),)
            if method == "OPTIONS":
                return Reply(204, allow)
            return json_reply(
                {"error": f"{printable(method)} is not for this path", "accepted": self.methods}, 405, allow
            )
        except VerbError as error:
            return json_reply(error.told(), error.status, _CHALLENGE if error.status == 401 else ())
        except Exception as error:  # an operator's request must not end anything
            _log.exception("admin: %s %s failed", printable(method), printable(exchange.target.decode("latin-1")))
            return json_reply({"error": f"{type(error).__name__}: the log has more"}, 500)

    def answer(self, exchange: Exchange) -> Answer | None:
        """To a method that is one of `methods`."""
        raise NotImplementedError


class _Unknown(_Guarded):
    def __init__(self, guard: Guard, paths: list[str]) -> None:
        super().__init__(guard)
        self._paths = paths

    def answer(self, exchange: Exchange) -> Answer | None:
        path = printable(exchange.path.key.decode("latin-1"))
        raise VerbError(404, f"{path} is unknown: did you mean {nearest(path, self._paths)}?", tuple(self._paths))


class _Shown(_Guarded):
    """What can be looked at."""

    def __init__(self, node: Node, guard: Guard, route: Route) -> None:
        super().__init__(guard)
        self._node = node
        self._route = route
        self.is_open = route.is_open

    def answer(self, exchange: Exchange) -> Answer | None:
        return self._route.get(self._node, exchange)


class _Told(_Guarded):
    """What can be told."""

    methods = ("POST",)

    def __init__(self, node: Node, guard: Guard, verb: Verb, waiting: set[Exchange]) -> None:
        """`waiting` are those of all verbs whose answer comes later."""
        super().__init__(guard)
        self._node = node
        self._verb = verb
        self._waiting = waiting
        self.body_bytes_max = verb.wording.body_bytes_max

    def answer(self, exchange: Exchange) -> Answer | None:
        verb, client = self._verb, exchange.client
        name = verb.wording.name
        given = verb.wording.read(exchange.body)
        if verb.is_long and given.get("wait", True) and len(self._waiting) >= WAITING_MAX:
            raise VerbError(409, f"{WAITING_MAX} clients wait for verbs already: ask again when one is done")
        said = _shortened(given)
        is_begun = False

        def finish(done: Done | VerbError) -> None:
            status, told = (done.status, done.told()) if isinstance(done, VerbError) else (200, done)
            _log.info("admin: %s %s by %s: %s", name, said, client, _shortened(told))
            if is_begun:
                self._waiting.discard(exchange)
                exchange.finish(json_reply(told, status))

        done = verb.run(self._node, given, finish)
        is_begun = True
        if done is None:
            self._waiting.add(exchange)
            exchange.abandoned = lambda: self._waiting.discard(exchange)
            return None
        finish_now = json_reply(done)
        _log.info("admin: %s %s by %s: %s", name, said, client, _shortened(done))
        return finish_now


def _shortened(value: dict[str, Any]) -> str:
    told = json.dumps(value, ensure_ascii=False)
    told = told if len(told) <= TOLD_CHARACTERS_MAX else told[:TOLD_CHARACTERS_MAX] + "..."
    return printable(told)
