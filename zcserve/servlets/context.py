"""What servlets and applications of one server share, and how their failures are told.

A failure is told twice: to the client as a 500 with an id, and to the log with the same id and the traceback. Where
the site has a page for 500, the id is in the field X-Error-Id. An
`HttpError` is no failure but an answer, unless its fields or its content cannot be sent. `--dev` shows the traceback to
the client as well.
"""

from __future__ import annotations

import secrets
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

from zcserve.config.table import Config
from zcserve.errors import HttpError, reason_of
from zcserve.http import FieldLines
from zcserve.log import Log
from zcserve.net.failures import Failures
from zcserve.net.front import Shelf
from zcserve.net.leading import failed, fields_of_failure, key_asked
from zcserve.phrases import PHRASES
from zcserve.servlets.outcomes import Outcomes
from zcserve.servlets.response import JSON_FIELDS, checked_fields, encode_json
from zcserve.servlets.streams import SILENT_PAUSE_S, SILENT_TURNS_MAX
from zcserve.servlets.workers import AsyncThread, Pool
from zcserve.site.reply import HTML_FIELDS, Reply, new_page
from zcserve.site.site import Site

_log = Log(__name__)

# Enough that no two failures of a day have the same, and few enough to be read out on the telephone.
ID_BYTES = 4


class RequestLine(Protocol):
    """A request, as the log names it."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...


@dataclass(slots=True)
class Context:
    """What they are given. `site` is the one that they belong to, `shelf` what the front knows of it, nothing before it
    is served. `call_soon` runs a call in the loop's thread; there `call_later` runs a call after some seconds.
    `under_way` holds each call and stream in the asyncio thread until it has ended, whether it is still wanted or
    not; any thread may change it."""

    config: Config
    site: Site
    pool: Pool
    tasks: AsyncThread
    call_soon: Callable[[Callable[[], object]], None]
    call_later: Callable[[float, Callable[[], object]], None]
    failures: Failures
    outcomes: Outcomes = field(default_factory=Outcomes)
    shelf: Shelf = field(default_factory=Shelf)
    under_way: set[object] = field(default_factory=set)

    def again(self, silent: int, call: Callable[[], object]) -> None:
        """Run a step of an iterator again that had nothing to say `silent` times in a row. In the loop's thread."""
        if silent < SILENT_TURNS_MAX:
            self.call_soon(call)
        else:
            self.call_later(SILENT_PAUSE_S, call)

    def busy(self, asked: RequestLine, why: object) -> Reply:
        """503, and a line that says why. In the loop's thread."""
        self.failures.note(asked.method, asked.target, f"answered 503, {why}")
        return failed(self.site, 503, asked.target)

    def fail(self, what: str, asked: RequestLine, error: BaseException) -> Reply:
        """The answer where `what` ("servlets/hello.py:3", "mount /app") raised `error`."""
        answer, error = _judged(error)
        if answer is not None:
            if answer.status >= 500:
                _log.warning("%s: %d: %s", what, answer.status, _reason_of(error) or reason_of(error))
            return answer
        self.outcomes.note_error()
        number = secrets.token_hex(ID_BYTES)
        _log.error("%s failed, error %s at %s:", what, number, _request_of(asked), exc_info=error)
        trace = "".join(traceback.format_exception(error)) if self.config.dev else ""
        return self.failure_page(f"error {number}", trace, asked.target, ((b"X-Error-Id", number.encode()),))

    def failure_page(self, said: str, trace: str, target: bytes, told: FieldLines = ()) -> Reply:
        """500 at a target, with a traceback for developers. The site's own page cannot say what `said` does, so `told`
        are fields that do."""
        more = fields_of_failure(self.site, target)
        page = self.site.error_page(500, key_asked(target))
        if page is not None and not self.config.dev:
            return Reply(500, (*HTML_FIELDS, *more, *told), page)
        shown = f"<pre>{escape(trace)}</pre>" if self.config.dev else ""
        return new_page(500, more, f"<p>{escape(said)}</p>{shown}")

    def cut_short(self, what: str, asked: RequestLine, error: BaseException) -> None:
        """`what` raised when its answer had begun: all that can be done is to end it early."""
        self.outcomes.note_error()
        _log.error("%s failed at %s; its answer was cut short:", what, _request_of(asked), exc_info=error)


def _judged(error: BaseException) -> tuple[Reply | None, BaseException]:
    """What an error is answered with, None for a failure, and what it is. An `HttpError` with fields or content that
    cannot be sent is a failure, which tells of both."""
    try:
        return _answer_of(error), error
    except Exception as wrong:
        wrong.__cause__ = error
        return None, wrong


def _answer_of(error: BaseException) -> Reply | None:
    """The answer that an `HttpError` is; None for a failure. A servlet may have made it of anything: a status that is
    none, or a subclass that says neither, is a failure. Raises what `checked_fields` and `encode_json` raise."""
    status = getattr(error, "status", None) if isinstance(error, HttpError) else None
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    status = int(status)
    pairs = getattr(error, "headers", ())
    fields = checked_fields(pairs)
    said = getattr(error, "json", None)
    if said is None:
        reason = _reason_of(error)
        return new_page(status, fields, f"<p>{escape(reason)}</p>" if reason != PHRASES.get(status) else "")
    kind, nosniff = JSON_FIELDS
    first = () if any(name.lower() == b"content-type" for name, _ in fields) else (kind,)
    return Reply(status, (*first, *fields, nosniff), encode_json(said))


def _reason_of(error: BaseException) -> str:
    return str(getattr(error, "reason", ""))


def _request_of(asked: RequestLine) -> str:
    return f"{asked.method.decode('latin-1')} {asked.target.decode('latin-1')}"
