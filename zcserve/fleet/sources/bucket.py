"""A bucket of S3 as a source, or of anything that speaks as S3 does.

The key of an object is the prefix and the decoded path, as every program that copies a directory into a bucket makes
it. Keys are UTF-8, so a file whose name is not has none. Who asks, and where, comes from the environment (AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and so on); the address may say the latter two.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlsplit

from zcserve.errors import UsageError, words_of
from zcserve.fleet.extra import require
from zcserve.fleet.sources.source import CONNECT_S, PIECE_BYTES, READ_S, Opened, SourceError

_PARAMETERS = frozenset(("endpoint", "region"))
# obstore has a limit of the whole answer, 30 s unless it is told; a large object may take what it takes.
ANSWER_S = 86_400.0


class BucketSource:
    def __init__(self, address: str) -> None:
        """`address` is s3://BUCKET/PREFIX, with ?endpoint=URL&region=NAME behind it or not. Raises UsageError."""
        self._obstore: Any = require("obstore", "sources in S3")
        store: Any = require("obstore.store", "sources in S3")
        self._wrong: Any = require("obstore.exceptions", "sources in S3")
        parts = urlsplit(address)
        given = parse_qs(parts.query, keep_blank_values=True)
        if not parts.hostname or parts.fragment or not given.keys() <= _PARAMETERS:
            raise UsageError(
                f"source {address!r} is not understood; accepted: s3://BUCKET/PREFIX?endpoint=URL&region=R"
            )
        bucket, prefix = parts.netloc.rpartition("@")[2], unquote(parts.path).strip("/")
        self.name = f"s3://{bucket}/{prefix}"
        self._prefix = f"{prefix}/" if prefix else ""
        config = {name: values[-1] for name, values in given.items()}
        try:
            self._store = store.S3Store(
                bucket,
                config=config,
                client_options={
                    "allow_http": config.get("endpoint", "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=CONNECT_S),
                    "read_timeout": timedelta(seconds=READ_S),
                    "timeout": timedelta(seconds=ANSWER_S),
                },
                retry_config={"max_retries": 0},  # zcserve.fleet.receiving asks again
            )
        except (self._wrong.BaseError, ValueError, TypeError) as error:
            raise UsageError(f"source {address!r} cannot be used: {_told(error)}") from None

    def open(self, path: str, start: int, version: str) -> Opened:
        try:
            key = self._prefix + unquote_to_bytes(path.removeprefix("/")).decode()
        except UnicodeDecodeError:
            raise SourceError("has no key in S3, as its name is not UTF-8", retry=False) from None
        options: dict[str, Any] = {}
        if start:
            options = {"range": {"offset": start}, **({"if_match": version} if version else {})}
        try:
            result = self._obstore.get(self._store, key, options=options)
        except (self._wrong.BaseError, OSError, ValueError) as error:
            if start and not isinstance(error, self._final):
                return self.open(path, 0, "")  # it is another version, or shorter than what has come
            raise self._error_of(error) from None
        meta = result.meta
        stream = result.stream(min_chunk_size=PIECE_BYTES)
        return Opened(self._pieces(stream), lambda: None, result.range[0], meta["size"], meta.get("e_tag") or "")

    def close(self) -> None:
        pass

    def _pieces(self, stream: Any) -> Iterator[bytes]:
        try:
            for piece in stream:
                yield bytes(piece)
        except (self._wrong.BaseError, OSError) as error:
            raise self._error_of(error) from None

    @property
    def _final(self) -> tuple[type[BaseException], ...]:
        """Errors that the same request has again."""
        wrong = self._wrong
        denied = (wrong.PermissionDeniedError, wrong.UnauthenticatedError)
        return (wrong.NotFoundError, FileNotFoundError, wrong.InvalidPathError, ValueError, *denied)

    def _error_of(self, error: BaseException) -> SourceError:
        if isinstance(error, (self._wrong.NotFoundError, FileNotFoundError)):
            return SourceError("is not there", retry=False)
        return SourceError(_told(error), retry=not isinstance(error, self._final))


def _told(error: BaseException) -> str:
    """The first line of what the library says: behind it comes the error as Rust prints it."""
    return (words_of(error).strip() or type(error).__name__).splitlines()[0][:300]
