"""An origin over HTTP or HTTPS: any server of files, a CDN, another node.

What it answers, and what comes of it:

| answer | outcome |
|---|---|
| 200 | all of it, whatever was asked for |
| 206 with the range that was asked for | the rest |
| 206 with another range, 416 | asked for again, all of it |
| 301, 302, 303, 307, 308 to the same origin | followed, 3 times |
| the same to another one | an error that names it: a source is what the operator says |
| 408, 425, 429, 500, 502, 503, 504 | an error that may pass; Retry-After is kept for all files |
| any other | an error for good |

The bytes are taken as they come. `Accept-Encoding: identity` asks for no coding; if one comes all the same, then some
servers name the coding of `/a.css.br` itself, and others have encoded what was asked for. The digest tells them apart.
What is asked for again has If-Range with a strong ETag, or with a date where there is none (RFC 9110 section 13.1.5).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from zcserve.config.units import show_duration
from zcserve.errors import UsageError, words_of
from zcserve.fleet.extra import require
from zcserve.fleet.sources.source import CONNECT_S, PIECE_BYTES, READ_S, Opened, SourceError

REDIRECTS_MAX = 3
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
# RFC 9110 and 6585 say of these that the same request may succeed later.
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
# An origin that wants to be left alone for longer is not waited for: a rollout has a deadline.
RETRY_AFTER_MAX_S = 300.0

# What is left of an answer that is of no use is read, for the sake of its connection, where it is a page of an error.
DRAINED_BYTES_MAX = 1 << 14

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, .*GMT")


class OriginSource:
    """`parallel` connections are kept open."""

    def __init__(self, url: str, parallel: int, read_s: float = READ_S) -> None:
        """`url` has the scheme http or https, may have a user and a password, and ends where the paths of a release
        begin; `read_s` is how long each next byte is waited for. Raises UsageError."""
        urllib3 = require("urllib3", "origins over HTTP")
        parts = _checked(url)
        self._base = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=parts.path.rstrip("/")).geturl()
        self.name = self._base + "/"
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "zcserve-fleet"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers |= urllib3.util.make_headers(basic_auth=user)
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=parallel,
            timeout=urllib3.Timeout(connect=CONNECT_S, read=read_s),
            retries=False,
        )
        self._failures = (urllib3.exceptions.HTTPError, HTTPException, OSError)

    def open(self, path: str, start: int, version: str) -> Opened:
        answer = self._ask(path, start, version)
        if start and _is_beside(answer, start):
            _drop(answer)
            start, answer = 0, self._ask(path, 0, "")
        try:
            self._require(answer)
            return self._opened(answer, start)
        except BaseException:
            _drop(answer)
            raise

    def close(self) -> None:
        self._pool.clear()

    def _ask(self, path: str, start: int, version: str) -> Any:
        """An answer that is no redirect. Raises SourceError."""
        headers = dict(self._headers)
        if start:
            headers["Range"] = f"bytes={start}-"
            if version:
                headers["If-Range"] = version
        url = self._base + path
        for _ in range(REDIRECTS_MAX + 1):
            try:
                answer = self._pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
            except self._failures as error:
                told = _told(error)
                raise SourceError(told, retry="CERTIFICATE_VERIFY_FAILED" not in told) from None
            if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                return answer
            location = answer.headers["Location"]
            _drop(answer)
            try:
                to = urljoin(url, location)
            except ValueError as error:
                raise SourceError(f"redirects to what is no URL: {location[:200]!a} ({error})", retry=False) from None
            if _origin_of(to) != _origin_of(url):
                raise SourceError(f"redirects to another origin, which is not followed: {to[:200]!a}", retry=False)
            url = to.partition("#")[0]
        raise SourceError(f"redirects more than {REDIRECTS_MAX} times", retry=False)

    def _require(self, answer: Any) -> None:
        """Raises SourceError unless it has content."""
        status = answer.status
        if status in (200, 206):
            return
        told = f"answers {status} {ascii(answer.reason or '')[1:-1]}".rstrip()
        after_s = retry_after_s(answer.headers)
        if after_s is not None and after_s > RETRY_AFTER_MAX_S:
            raise SourceError(f"{told}, and wants to be asked again in {show_duration(after_s)}", retry=False)
        raise SourceError(told, retry=status in _PASSING, after_s=after_s)

    def _opened(self, answer: Any, start: int) -> Opened:
        headers = answer.headers
        length = headers.get("Content-Length", "")
        size = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        if answer.status == 206:
            matched = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if matched is None or int(matched[1]) != start:
                raise SourceError("answers 206 where no range was asked for", retry=True)
            size = int(matched[3]) if matched[3] != "*" else None
        else:
            start = 0
        coding = headers.get("Content-Encoding", "identity")
        remark = "" if coding.lower() == "identity" else f"it came with Content-Encoding: {ascii(coding[:40])[1:-1]}"
        return Opened(
            self._pieces(answer),
            lambda: _drop(answer),
            start,
            size,
            _version(headers),
            remark,
            lambda: _interrupt(answer),
        )

    def _pieces(self, answer: Any) -> Iterator[bytes]:
        try:
            # What is there, and not as much as was asked for: what came before a failure is not lost.
            while piece := answer.read1(PIECE_BYTES, decode_content=False):
                yield piece
        except self._failures as error:
            raise SourceError(_told(error), retry=True) from None


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_right = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        is_right = False
    if not is_right or not url.isascii():
        raise UsageError(f"source {url!r} is no URL with a host")
    if parts.query or parts.fragment:
        raise UsageError(f"source {url!r} has a query or a fragment, which has no place before a path")
    return parts


def _origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host, port (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", None, None


def _is_beside(answer: Any, start: int) -> bool:
    """Whether an answer to a range has another one, or none: the object is shorter than what has come of it."""
    if answer.status == 416:
        return True
    matched = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    return answer.status == 206 and (matched is None or int(matched[1]) != start)


def _version(headers: Mapping[str, str]) -> str:
    """What If-Range may have: a weak ETag is none (RFC 9110 section 13.1.5). A date is that only if the object was not
    changed in the second of the answer (section 8.8.2.2); what it misses, the digest finds."""
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    date = headers.get("Last-Modified", "")
    return date if not etag and _HTTP_DATE.fullmatch(date) else ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for; None: it is not there, or not understood. A date counts from the Date of the
    same answer, since the clocks of two machines may differ by hours."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):  # a year of many digits
        return None
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        now = time.time()
    return max(0.0, at - now)


def _drop(answer: Any) -> None:
    """Let go of an answer. Its connection stays for the next one, unless there is much to be read before."""
    if answer.length_remaining is not None and answer.length_remaining <= DRAINED_BYTES_MAX:
        answer.drain_conn()
    if not answer.closed:
        answer.close()
    answer.release_conn()


def _interrupt(answer: Any) -> None:
    with suppress(ValueError, RuntimeError, OSError):  # it has come, or its connection has ended
        answer.shutdown()


def _told(error: BaseException) -> str:
    """What a library says of a failure, without the addresses of its objects."""
    words = re.sub(r"<[^>]*> ?:? ?|\w+\([^()]*\): ", "", words_of(error)).strip()
    return words or type(error).__name__
