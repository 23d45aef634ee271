"""One request, from its parsed head to its answer.

    find --a file--> negotiate, conditions, ranges ------------> Reply
      |                 \\--not resident--> a loader reads it --> go on
      \\--the application's--> Reply, or an entry as above, or later -----> go on

An `Answering` knows no socket, no framing and not what state its connection is in: it gives a step to what began it
(the `Asker`), which decides how the reply is written, whether content follows and whether the connection goes on, and
writes the log. Where a step is None, a thread or an application works, and `Asker.resumed` tells when that is over;
then `go_on` gives the next step. It is asked for when the answer can be sent, and not before: so the choice is made
among what is there then, and errors are raised where those of `answer` are.

A plain hit needs no such object (`Http1.fill`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from zcserve.cache import spans
from zcserve.cache.entry import Body, ComposedEntry, DiskSpan, Entry
from zcserve.cache.fetcher import Fetched, Renewed, Wait
from zcserve.cache.index import Generation
from zcserve.errors import HttpError
from zcserve.http import has_content
from zcserve.net.admission import Gate, key_of
from zcserve.net.asker import Asker
from zcserve.net.exchanges import Exchanges
from zcserve.net.fields import Fields
from zcserve.net.leading import failed, look_up
from zcserve.net.received import Collect, Discard
from zcserve.net.representing import answer_of, not_acceptable
from zcserve.net.rewriting import Asked, Sent, find, find_led, place_of
from zcserve.paths import SentPath
from zcserve.site import reply
from zcserve.site.exchange import Answer, Exchange, Resource, Stored
from zcserve.site.listings import Listed, Made
from zcserve.site.reply import Reply
from zcserve.site.site import Site

if TYPE_CHECKING:
    from zcserve.net.service import Service

# How often a file may change under one request before the client is asked to come again.
RENEWALS_MAX = 3

Step: TypeAlias = Reply | None


class Answering:
    """One request. All in the loop's thread.

    wait      for what a loader reads
    """

    __slots__ = (
        "_asked", "_asker", "_exchanges", "_gate", "_next", "_place", "_renewals", "_service", "_site", "_stored",
        "fields", "method", "target", "wait",
    )  # fmt: skip

    def __init__(
        self, service: Service, site: Site, asker: Asker, method: bytes, target: bytes, fields: Fields
    ) -> None:
        self._service = service
        self._site = site
        self._asker: Asker | None = asker  # None when the answer is not wanted any more
        self.method = method
        self.target = target
        self.fields = fields
        self._asked: Asked | None = None
        self._exchanges = Exchanges()
        self.wait: Wait | None = None
        self._stored: Stored | None = None  # the entry that the application answers with
        self._renewals = 0
        self._place: tuple[SentPath, bytes | None] | None = None  # the target's path and query, where they were read
        self._gate: Gate | None = None  # of a site that asks for passwords
        self._next: Callable[[], Step] | None = None  # what to do with what was waited for

    # --- what the asker calls -----------------------------------------------------------------------------

    @property
    def is_with_application(self) -> bool:
        """Whether an application owes the answer."""
        return self._exchanges.is_pending

    @property
    def resource(self) -> Resource | None:
        """The application's, that answers the request; None: a file does, or nothing."""
        return self._asked.resource if self._asked is not None else None

    def find_resource(self) -> None:
        """Look for what the application has for this request (rewriting.py)."""
        self._place = place = place_of(self._site, self.method, self.target)
        if place is not None:
            self._asked = find(self._site, Sent(self.method, self.target, self.fields, place))

    def guard(self) -> None:
        """The site asks for passwords: look whether the path does, and what the request shows. After `find_resource`,
        before the body is read: no application reads the body of a request that names no user."""
        assert self._asker is not None
        self._place = self._place or place_of(self._site, self.method, self.target)
        self._gate = Gate(self._service.keeper, self._site, self._asker.client, self._asker.head(), self.fields)
        keys = [self._place[0].key] if self._place is not None else []  # without a path nothing that is served answers
        keys += [self._asked.path.key] if self._asked is not None else []
        if not self._gate.look(self.method, keys):
            self._asked = None

    def _admit(self, key: bytes, then: Callable[[], Step]) -> Step:
        """The step that comes `then`, once the request has shown what a path or a file asks for."""
        return then() if self._gate is None else self._gate.admit(key, then, self._resume, self.tell)

    @property
    def user(self) -> bytes:
        """Whose password was asked for, and was right; b"" where none was."""
        return self._gate.admission.user if self._gate is not None else b""

    def begin_body(self) -> Discard:
        """What takes the request's body: for the resource, or to be thrown away. Raises HttpError 413, 503."""
        service, config = self._service, self._service.config
        if self.resource is None:
            return Discard(self.fields.body, config.body_bytes_max, config.head_bytes_max)
        return self._exchanges.collect(self.resource, self.fields.body, service.bodies, config)

    def end_body(self, body: Discard) -> Step:
        """The answer, now that what `begin_body` gave has all of the body. Raises HttpError as `answer`."""
        if isinstance(body, Collect):
            self._exchanges.keep(body)
        return self.answer()

    def answer(self) -> Step:
        """The answer, now that the request is complete. Raises HttpError where the connection must end with it."""
        return self._answer_admitted() if self._gate is None else self._admit(self._gate.key, self._answer_admitted)

    def _answer_admitted(self) -> Step:
        """As `answer`, of a request that may have it."""
        if self._asked is not None:
            return self._ask(self._asked)
        return self._answer_without()

    def _answer_without(self) -> Step:
        """The answer where the application has none. Raises HttpError as `answer`."""
        try:
            return self._respond()
        except HttpError as error:
            if error.close:
                raise
            return self._site.refuse(error.status, (), error.reason)

    def give(self, answer: Answer) -> None:
        """The application has answered this request already, and may keep its body: `go_on` leads to its answer."""
        self._exchanges.give(answer, self.fields.body, self._service.bodies)
        self._next = self._take_answer

    def go_on(self) -> Step:
        """The next step after `Asker.resumed`. Raises HttpError as `answer`."""
        then, self._next = self._next, None
        assert then is not None
        return then()

    def expire(self) -> None:
        """What is waited for takes too long, and is not waited for any more: `go_on` leads to 503 for a file and to 504
        for an application (RFC 9110 sections 15.6.4 and 15.6.5)."""
        config = self._service.config
        if self.wait is not None:
            self._cease_to_wait()
            why = f"its file made no progress within --load-timeout ({config.load_timeout_s:g} s)"
            self._next = partial(self._unavailable, why)
        else:
            self.tell(f"answered 504, the application gave no answer within --app-timeout ({config.app_timeout_s:g} s)")
            self._exchanges.abandon()
            self._next = partial(self._failed, 504)

    def cancel(self) -> None:
        """The answer is not wanted any more, and no `resumed` comes. Harmless when repeated."""
        self._asker = self._next = None
        self._cease_to_wait()
        if self._gate is not None:
            self._gate.admission.cancel()
        self._exchanges.cancel()

    def end(self) -> None:
        """The answer is on its way. The application may keep its exchange, and thereby this object: nothing large hangs
        on it, and the body counts no more."""
        self._asker = self._stored = None
        self._exchanges.release()

    def fail(self) -> None:
        """A step of this request raised (net/loop.py)."""
        if self._asker is not None:
            self._asker.fail()

    def tell(self, what: str) -> None:
        """The log says that the answer failed."""
        self._service.failures.note(self.method, self.target, what)

    # --- waiting ------------------------------------------------------------------------------------------

    def _cease_to_wait(self) -> None:
        wait, self.wait = self.wait, None
        if wait is not None:
            self._service.fetcher.cancel(wait)

    def _resume(self, then: Callable[[], Step]) -> None:
        asker = self._asker
        if asker is not None:
            self._next = then
            try:
                asker.resumed()
            except Exception:  # this request is through by then, perhaps, and the asker at the next one
                asker.fail()
                raise

    # --- files --------------------------------------------------------------------------------------------

    def _respond(self) -> Step:
        """What files and rules lead to. Raises HttpError."""
        found = look_up(self._site, self.method, self.target, self._place, self.fields)
        if isinstance(found, Reply):
            return found
        return self._admit(key_of(found), partial(self.respond_found, found))

    def respond_found(self, found: Stored | Listed | tuple[Generation, Entry]) -> Step:
        """The answer of what `look_up` has found."""
        if isinstance(found, Listed):
            return self._list(found)
        if isinstance(found, Stored):
            return self._take_stored(found)
        return self.respond_entry(*found)

    def respond_entry(self, generation: Generation, base: Entry) -> Step:
        """The answer of what a target names."""
        service, fields = self._service, self.fields
        chosen = service.choose(generation, base, fields.accept)
        if chosen is None:
            return not_acceptable(self._site)
        body = chosen.body or service.fetcher.opened(chosen)
        self._teach(base)
        if body is not None:
            self._site.note_use(chosen, service.loop.tick)
            return self._represent(chosen, body)
        done = partial(self._on_fetched, partial(self._loaded, chosen))
        if isinstance(base, ComposedEntry):
            service.loop.call_soon(partial(done, Renewed()))  # only what has composed it can make it again
        else:
            self.wait = service.fetcher.fetch(generation, base, chosen, done)
        return None

    def _list(self, listed: Listed) -> Step:
        """The answer of a directory without an index."""
        listings = self._site.listings
        assert listings is not None
        entry = listings.find(listed)
        if entry is not None:
            return self._take_stored(self._stored_of(listed, entry))
        self.wait = listings.make(listed, partial(self._on_fetched, partial(self._on_listed, listed)))
        return None

    def _on_listed(self, listed: Listed, made: Made | None) -> Step:
        """Answer with a page that a thread has written. One that is old by now is written anew, but not for ever."""
        if made is None:
            return self._unavailable("the listing of its directory cannot be made")
        listings = self._site.listings
        assert listings is not None
        is_old = self._site.live.resources.get(listed.key) is not listed.listing
        if is_old and not listings.is_kept(listed, made) and self._renewals < RENEWALS_MAX:
            return self._anew()
        self._site.note_use(made.entry, self._service.loop.tick, was_resident=False)
        self._stored = self._stored_of(listed, made.entry)
        if listings.is_kept(listed, made):
            self._teach(made.entry)
        return self._represent(made.entry, made.body)

    def _stored_of(self, listed: Listed, entry: ComposedEntry) -> Stored:
        """A page; the front is taught what all requests for just this target get."""
        own = listed.is_lasting and self.target == listed.target
        return Stored(listed.generation, entry, fields=listed.fields, own=own)

    def _teach(self, base: Entry) -> None:
        """Have the front know what was made for just this target; nothing that asks for a password."""
        if self.user:
            return
        is_own = self._asked is None or self._asked.original is None
        if is_own and self._stored is not None and self._stored.own:
            self._service.loop.front.shelf(self._site.id).teach(self.target, base)

    def _represent(self, chosen: Entry, body: Body) -> Reply | None:
        """Conditions and ranges, now that the content is at hand."""
        answer = answer_of(self.fields, self.method, chosen, body, self._service.config.ranges_max, self._stored)
        return answer if not body.holds_descriptor or self._is_begun(answer) else None

    def _on_fetched(self, then: Callable[[Any], Step], result: Any) -> None:
        self.wait = None
        self._resume(partial(then, result))

    def _loaded(self, chosen: Entry, result: Fetched) -> Step:
        """Answer with what a thread brought."""
        if isinstance(result, Body):
            self._site.note_use(chosen, self._service.loop.tick, was_resident=False)
            return self._represent(chosen, result)
        return self._anew() if isinstance(result, Renewed) else self._unavailable()

    def _anew(self) -> Step:
        """Answer again: the file that was chosen is not what its entry says."""
        self._renewals += 1
        if self._renewals > RENEWALS_MAX:
            return self._unavailable()
        return self.answer() if self._stored is None else self._renew_stored(self._stored)

    def _unavailable(self, why: str = "its file cannot be read, or changes too often") -> Reply:
        """The content cannot be had for now."""
        self.tell(f"answered 503, {why}")
        return self._failed(503)

    def _failed(self, status: int) -> Reply:
        return failed(self._site, status, self.target, self.fields.origin)

    def _is_begun(self, answer: Reply) -> bool:
        """Whether the first piece of a file is at hand, if the answer has any: before the head is sent, so that there
        is another answer where the file cannot be read. Else a thread reads it."""
        span = answer.first_span() if has_content(self.method, answer.status) else None
        if span is None or spans.is_at_hand(span):
            return True
        done = partial(self._on_fetched, partial(self._begin, answer, span))
        self.wait = spans.read_in_thread(self._service.fetcher, span, done)
        return False

    def _begin(self, answer: Reply, span: DiskSpan, piece: memoryview | None) -> Step:
        """Answer with a file whose first piece a thread has read."""
        is_of_site = self.resource is None or self._stored is not None  # else the application named the very file
        if is_of_site and (piece is None or span.file.is_stale):
            return self._anew()
        if piece is None:
            return self._unavailable()
        answer.begin(span, piece)
        return answer

    # --- the application ----------------------------------------------------------------------------------

    def _ask(self, asked: Asked) -> Step:
        """Have the application answer; where a rewrite leads, too, nothing is called without what that asks for."""
        return self._admit(asked.path.key, partial(self._call, asked))

    def _call(self, asked: Asked) -> Step:
        asker = self._asker
        assert asker is not None
        head = asker.head() if self._gate is None else self._gate.admission.head
        answer = self._exchanges.begin(asked, asker, self.method, head, self.user, self._on_finished)
        self._service.loop.calling.called()
        return None if answer is None else self._take(answer)

    def _on_finished(self, exchange: Exchange, answer: Answer | None) -> None:
        """In any thread."""
        self._service.loop.call_soon(partial(self._finished, exchange, answer))

    def _finished(self, exchange: Exchange, answer: Answer | None) -> None:
        if self._exchanges.end(exchange, answer):
            self._resume(self._take_answer if answer is not None else self._declined)

    def _declined(self) -> Step:
        """Once it has loaded what is new, the application has nothing at this target: what a rule or a file has."""
        assert self._asked is not None
        assert self._place is not None
        was_led = self._asked.original is not None
        sent = Sent(self.method, self.target, self.fields, self._place)
        self._asked = None if was_led else find_led(self._site, sent)
        return self.answer()

    def _take_answer(self) -> Step:
        return self._take(self._exchanges.take())

    def _take(self, answer: Answer) -> Step:
        """An answer of the application."""
        if isinstance(answer, Stored):
            return self._take_stored(answer)
        return answer if isinstance(answer.content, bytes) or self._is_begun(answer) else None

    def _take_stored(self, stored: Stored) -> Step:
        """An entry of the cache, as if it had been asked for."""
        self._stored = stored
        return self.respond_entry(stored.generation, stored.entry)

    def _renew_stored(self, stored: Stored) -> Step:
        """What an application named has changed since, or what it made was evicted."""
        if isinstance(stored.entry, ComposedEntry):
            return self._ask(self._asked) if self._asked is not None else self._respond()
        fresh = stored.generation.resources.get(stored.entry.key)
        if not isinstance(fresh, Entry):
            return reply.not_found(None)
        stored.entry = fresh
        return self._take_stored(stored)
