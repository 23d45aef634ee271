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

from collections.abc import Callable, Iterable
from functools import cached_property, partial

from zcserve.auth.checks import Checks, Verdict
from zcserve.auth.credentials import Credentials, credentials_of
from zcserve.auth.remembered import Remembered
from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
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
    """What a server remembers of passwords, and what checks them. In the loop's thread."""

    def __init__(self, call_soon: Callable[[Callable[[], object]], None], now: Callable[[], float]) -> None:
        self.remembered = Remembered(now)
        self.checks = Checks(call_soon, now)

    def ask(
        self, protection: Protection, told: Credentials, client: str, then: Callable[[Verdict], None]
    ) -> bool | Callable[[], None]:
        """True: admitted. Else `then` is called later with the verdict; what is returned takes the wish back."""
        assert protection.users is not None
        own = protection.users.get(told.name)
        digest = self.remembered.digest_of(told)
        if own is not None and self.remembered.knows(own, told.name, digest):
            return True
        hashed = own if own is not None else protection.users.stand_in(told.name)
        done = partial(self._checked, own, told.name, digest, then)
        return self.checks.ask((hashed, own is not None, digest), hashed, told.password, client, done)

    def _checked(
        self, own: str | None, name: bytes, digest: bytes, then: Callable[[Verdict], None], verdict: Verdict
    ) -> None:
        if verdict and own is not None:
            self.remembered.add(own, name, digest)
        then(verdict if verdict is None else verdict and own is not None)


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

    @property
    def shows(self) -> bool:
        """Whether the request names somebody; else it is not admitted to anything that asks."""
        return self._told is not None

    def may_pass(self, protection: Protection, then: Callable[[], None]) -> bool | None:
        """Whether the request may be answered. None: `then` is called when that is known."""
        if protection in self._admitted:
            return True
        if self._told is None or protection in self._refused:
            return False
        asked = self._keeper.ask(protection, self._told, self._client, partial(self._checked, protection, then))
        if asked is True:
            self._admit(protection)
            return True
        assert not isinstance(asked, bool)
        self._withdraw = asked
        return None

    def _checked(self, protection: Protection, then: Callable[[], None], verdict: Verdict) -> None:
        self._withdraw = None
        if verdict:
            self._admit(protection)
        else:
            self._refused[protection] = verdict
        then()

    def _admit(self, protection: Protection) -> None:
        assert self._told is not None
        self._admitted.append(protection)
        self.user = self._told.name

    def why_unknown(self, protection: Protection) -> str:
        """Why the password was not looked at; "": it was."""
        is_unknown = self._refused.get(protection, False) is None
        return "as many passwords wait to be checked as may" if is_unknown else ""

    def refusal(self, site: Site, protection: Protection, key: bytes, fields: Fields) -> Reply:
        """What is said to a request that may not pass: 401, or 503 where its password was not looked at."""
        self.user = b""
        if self.why_unknown(protection):
            return site.failed(503)
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
        key = next((one for one in keys if self._site.asks(one) is not None), b"")
        if not key:
            return True
        if is_preflight(method, self._fields):
            return False  # the rules answer
        self.key = key
        return self.admission.shows

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
        if why := self.admission.why_unknown(asks):
            tell(f"answered 503, {why}")
        return self.admission.refusal(self._site, asks, self.key or key, self._fields)


def key_of(found: Stored | Listed | tuple[Generation, Entry]) -> bytes:
    """Of the file, or of the directory, that answers."""
    if isinstance(found, Listed):
        return found.key
    return (found.entry if isinstance(found, Stored) else found[1]).key


def is_preflight(method: bytes, fields: Fields) -> bool:
    """Whether a browser asks for leave: it sends no password with it."""
    return method == b"OPTIONS" and fields.preflight is not None


def unauthorized(site: Site, protection: Protection, key: bytes, fields: Fields) -> Reply:
    """The answer to a request that shows no right password. A page of another origin that may read the path may read
    it, too."""
    rules = site.root.rules
    more = rules.everywhere
    cors = rules.fields_of_answer(key).cors
    if cors is not None:
        known = {name.lower() for name, _ in more}
        more += tuple(line for line in (*cors.lines, *cors.lines_for(fields.origin)) if line[0].lower() not in known)
    return reply.unauthorized(protection.challenge, site.live.error_pages.get(401), more)
