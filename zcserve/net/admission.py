"""What a request must show before it is answered: a name and a password, where a rule asks for them.

    the path asks for it           before the request's body is read, and before any file or application is looked for:
                                   so what is absent answers as what is there
    the file that answers does     once it is found: by a rewrite, a clean URL, the page of --spa

Both may, by two rules, and then the credentials must be right for both. What an application answers is its own affair
once its path is admitted: a servlet that sends a protected file has looked itself at the client.

An application is told the user whose password was right, and not what the client says of itself besides: Authorization
has the password, which RFC 3875 (section 4.1.18) says a script should not see where the server has checked it, and
Remote-User may name another user. Where no password is asked for, both are an application's own affair.

A preflight (OPTIONS, which browsers send without credentials: Fetch standard, "CORS-preflight fetch") is let through to
the rules, and to no application. It tells nothing of what is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property, partial

from zcserve.auth.attempts import Attempts, Question, is_local, network_of
from zcserve.auth.checks import Checks, Verdict
from zcserve.auth.credentials import Credentials, credentials_of
from zcserve.auth.remembered import Remembered
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.http import FieldLines
from zcserve.net.fields import Fields
from zcserve.rules.protected import Protection
from zcserve.site import reply
from zcserve.site.exchange import Head, HeadLines, Stored
from zcserve.site.listings import Listed
from zcserve.site.reply import Reply
from zcserve.site.site import Site

# Fields that name a user, in lower case; Django reads the latter two as one (howto/auth-remote-user).
_OF_USERS = frozenset((b"authorization", b"remote-user", b"remote_user"))


class Keeper:
    """What a server remembers of passwords, and what checks them. In the loop's thread.

    counts   requests that were told something, but for what was remembered: by `Verdict.value`
    """

    def __init__(
        self,
        call_soon: Callable[[Callable[[], object]], None],
        now: Callable[[], float],
        wrong_max: int = 0,
        wrong_time_s: float = 60.0,
    ) -> None:
        """The latter two as of `Attempts`."""
        self.remembered = Remembered(now)
        self.attempts = Attempts(wrong_max, wrong_time_s, now)
        self.checks = Checks(call_soon, now, self.attempts)
        self.counts = dict.fromkeys((one.value for one in Verdict), 0)
        self.limit = f"--wrong-passwords-max ({wrong_max}) allows within --wrong-passwords-time ({wrong_time_s:g} s)"

    def verdict_now(self, protection: Protection, told: Credentials, client: str) -> Verdict | None:
        """What is known without a check; None: `ask`."""
        question, client = self._question(protection, told), network_of(client)
        if self.attempts.was_wrong(client, question):
            return self._count(Verdict.WRONG)
        if self._knows(self.remembered.knows, question, told, client):
            return Verdict.RIGHT
        if self.attempts.wait_s(client) and not self._knows(self.remembered.knew, question, told, client):
            self._note_guess(question, told, client)
            return self._count(Verdict.LIMITED)
        return None

    def ask(
        self, protection: Protection, told: Credentials, client: str, then: Callable[[Verdict], None]
    ) -> Callable[[], None]:
        """Have the password checked: `then` is called later with the verdict; what is returned takes the wish back."""
        question, client = self._question(protection, told), network_of(client)
        if not (is_free := self._knows(self.remembered.knew, question, told, client)):
            self._note_guess(question, told, client)
        done = partial(self._checked, question, told.name, client, then)
        return self.checks.ask(question, told.password, client, done, is_free=is_free)

    def _knows(
        self, knows: Callable[[str, bytes, bytes, str], bool], question: Question, told: Credentials, client: str
    ) -> bool:
        return question.is_known and knows(question.hashed, told.name, question.digest, client)

    def _note_guess(self, question: Question, told: Credentials, client: str) -> None:
        if question.is_known and self.attempts.is_limited:
            self.remembered.note_guess(question.hashed, told.name, client)

    def _question(self, protection: Protection, told: Credentials) -> Question:
        users = protection.users
        assert users is not None
        own = users.get(told.name)
        hashed = own if own is not None else users.stand_in(told.name)
        return Question(hashed, own is not None, self.remembered.digest_of(told))

    def _checked(
        self, question: Question, name: bytes, client: str, then: Callable[[Verdict], None], verdict: Verdict
    ) -> None:
        if verdict is Verdict.RIGHT:
            self.remembered.add(question.hashed, name, question.digest, client)
        then(self._count(verdict))

    def _count(self, verdict: Verdict) -> Verdict:
        self.counts[verdict.value] += 1
        return verdict

    def retry_after_s(self, client: str) -> int:
        """When a client may ask again whose question was not looked at."""
        return max(math.ceil(self.attempts.wait_s(network_of(client))), 1)


class Admission:
    """Of one request of a site that asks for passwords. In the loop's thread.

    user     whose password was right; b"" for none
    """

    def __init__(self, keeper: Keeper, client: str, head: Head) -> None:
        self._keeper = keeper
        self._client = client
        self._head = head
        self._admitted: list[Protection] = []
        self._refused: dict[Protection, Verdict] = {}
        self._withdraw: Callable[[], None] | None = None
        self.user = b""

    @cached_property
    def _told(self) -> Credentials | None:
        """Read where it is asked for: most paths of a site ask for nothing."""
        return credentials_of(self._head.lines)

    @property
    def head(self) -> Head:
        """What an application is told of the head."""
        if not self.user:
            return self._head
        lines = tuple([one for one in self._head.lines if one[0].lower() not in _OF_USERS])
        return HeadLines(self._head.version, lines)

    def may_pass(self, protection: Protection, then: Callable[[], None]) -> bool | None:
        """Whether the request may be answered. None: `then` is called when that is known."""
        if (now := self.may_pass_now(protection)) is not None:
            return now
        assert self._told is not None
        done = partial(self._checked, protection, then)
        self._withdraw = self._keeper.ask(protection, self._told, self._client, done)
        return None

    def may_pass_now(self, protection: Protection) -> bool | None:
        """As `may_pass`; None: a check tells it."""
        if protection in self._admitted:
            return True
        if self._told is None or protection in self._refused:
            return False
        verdict = self._keeper.verdict_now(protection, self._told, self._client)
        return None if verdict is None else self._note(protection, verdict)

    def _checked(self, protection: Protection, then: Callable[[], None], verdict: Verdict) -> None:
        self._withdraw = None
        self._note(protection, verdict)
        then()

    def _note(self, protection: Protection, verdict: Verdict) -> bool:
        """Whether the request may be answered."""
        if verdict is not Verdict.RIGHT:
            self._refused[protection] = verdict
            return False
        assert self._told is not None
        self._admitted.append(protection)
        self.user = self._told.name
        return True

    def refusal(
        self, site: Site, protection: Protection, key: bytes, fields: Fields, tell: Callable[[str], None]
    ) -> Reply:
        """What is said to a request that may not pass: 401, or why its password was not looked at, which the log says,
        too."""
        self.user = b""
        verdict = self._refused.get(protection, Verdict.WRONG)
        if verdict is Verdict.BUSY:
            tell("answered 503, as many passwords wait to be checked as may")
            return site.failed(503)
        if verdict is Verdict.LIMITED:
            hint = "; if it is a proxy, all its clients count as one: --proxy-headers" if is_local(self._client) else ""
            tell(f"answered 429, a client has told as many wrong passwords as {self._keeper.limit}{hint}")
            return reply.limited(self._keeper.retry_after_s(self._client), _more_of_answer(site, key, fields))
        return unauthorized(site, protection, key, fields)

    def cancel(self) -> None:
        """The answer is not wanted any more. Harmless when repeated."""
        withdraw, self._withdraw = self._withdraw, None
        if withdraw is not None:
            withdraw()


class Gate:
    """Stands before the answer to one request of a site that asks for passwords.

    key   of the path that is asked for, or of where a rewrite leads; b"" where neither asks for anything
    """

    def __init__(self, keeper: Keeper, site: Site, client: str, head: Head, fields: Fields) -> None:
        self.admission = Admission(keeper, client, head)
        self.key = b""
        self._site = site
        self._fields = fields

    def look(self, method: bytes, keys: Iterable[bytes]) -> bool:
        """Of these keys the first that asks for something is `key`. False: no application may hear of the request."""
        key, asks = next(((one, asks) for one in keys if (asks := self._site.asks(one)) is not None), (b"", None))
        if asks is None:
            return True
        if is_preflight(method, self._fields):
            return False  # the rules answer
        self.key = key
        return self.admission.may_pass_now(asks) is not False

    def admit(
        self,
        key: bytes,
        then: Callable[[], Reply | None],
        resume: Callable[[Callable[[], Reply | None]], None],
        tell: Callable[[str], None],
    ) -> Reply | None:
        """What comes `then`, once the request has shown what a key asks for; else what is said to it. None: `resume` is
        called with what comes next."""
        asks = self._site.asks(key) if key else None
        if asks is None:
            return then()
        may_pass = self.admission.may_pass(asks, partial(resume, partial(self.admit, key, then, resume, tell)))
        if may_pass is None:
            return None
        if may_pass:
            return then()
        return self.admission.refusal(self._site, asks, self.key or key, self._fields, tell)


def key_of(found: Stored | Listed | tuple[Generation, Entry]) -> bytes:
    """Of the file, or of the directory, that answers."""
    if isinstance(found, Listed):
        return found.key
    return (found.entry if isinstance(found, Stored) else found[1]).key


def is_preflight(method: bytes, fields: Fields) -> bool:
    """Whether a browser asks for leave: it sends no password with it."""
    return method == b"OPTIONS" and fields.preflight is not None


def unauthorized(site: Site, protection: Protection, key: bytes, fields: Fields) -> Reply:
    """The answer to a request that shows no right password."""
    return reply.unauthorized(protection.challenge, site.live.error_pages.get(401), _more_of_answer(site, key, fields))


def _more_of_answer(site: Site, key: bytes, fields: Fields) -> FieldLines:
    """What rules say of an answer that is not what is at the key. A page of another origin that may read the path may
    read it, too."""
    rules = site.root.rules
    more = rules.everywhere
    cors = rules.fields_of_answer(key).cors
    if cors is None:
        return more
    known = {name.lower() for name, _ in more}
    return more + tuple(line for line in (*cors.lines, *cors.lines_for(fields.origin)) if line[0].lower() not in known)
