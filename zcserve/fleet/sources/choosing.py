"""Which source an address means.

/srv/build, ./build, file:///srv/build     a directory
https://[USER:PASSWORD@]HOST[:PORT]/PATH    an origin over HTTP or HTTPS
s3://BUCKET/PREFIX[?endpoint=URL&region=R]  S3; keys come from the environment, as for all programs of S3
nats://[USER:PASSWORD@]HOST[:PORT]/BUCKET   an object store of NATS (tls:// with TLS)
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from zcserve.errors import UsageError, known_instead
from zcserve.fleet.sources.source import Source

_SCHEMES = ("http", "https", "s3", "nats", "tls", "file")


def source_of(address: str, *, parallel: int) -> Source:
    """The source at an address, for so many threads. Raises UsageError where it means none, or what it needs is not
    installed."""
    scheme, mark, _ = address.partition("://")
    if not mark:
        return _directory(address)
    match scheme.lower():
        case "file":
            return _directory(_local_path(address))
        case "http" | "https":
            from zcserve.fleet.sources.origin import OriginSource

            return OriginSource(address, parallel)
        case "s3":
            from zcserve.fleet.sources.bucket import BucketSource

            return BucketSource(address)
        case "nats" | "tls":
            from zcserve.fleet.sources.objects import ObjectsSource

            return ObjectsSource(address)
    raise UsageError(f"source {address!r} has a scheme that is not known; {known_instead(scheme, _SCHEMES)}")


def check_for_nodes(address: str) -> None:
    """Raises UsageError where a node, which has another working directory, cannot find this source."""
    scheme, mark, _ = address.partition("://")
    if mark and scheme.lower() not in _SCHEMES:
        raise UsageError(f"source {address!r} has a scheme that is not known; {known_instead(scheme, _SCHEMES)}")
    if not mark and not address.startswith("/"):
        raise UsageError(
            f"source {address!r} is not where nodes can look; accepted: http://HOST/PATH, s3://BUCKET/PREFIX, "
            "nats://HOST/BUCKET, or /PATH of a directory that each node has"
        )


def _directory(path: str) -> Source:
    from zcserve.fleet.sources.directory import DirectorySource

    return DirectorySource(path)


def _local_path(address: str) -> str:
    parts = urlsplit(address)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"source {address!r} names a host: a directory of this machine is file:///PATH")
    return unquote(parts.path)
