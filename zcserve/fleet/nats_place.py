"""Where NATS is, and what it is asked for there: what the flags of a command say.

    --nats nats://user:password@one:4222,nats://two:4222   several servers of one cluster, separated by commas
    --nats tls://one:4222                                  with TLS, and never without
    --nats-creds FILE                                      a user's JWT and its seed, as `nsc` writes them

A password in a URL is in the list of processes: `--nats-password-file` and `--nats-creds` are not. **Nothing that is
secret is sent in the clear where TLS is wanted**: the client of NATS encrypts if the server offers it, so the
credentials are asked for at the last moment, and refused where the connection is not encrypted by then.

The signature of a JWT's user (an Ed25519 key) is made here with `cryptography`: the client would need a package of its
own for it.
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from zcserve.errors import UsageError, reason_of
from zcserve.fleet.bus import BusError
from zcserve.fleet.extra import require

PORT = 4222
# NATS takes five at most.
REPLICAS_MAX = 5

# The two parts of a file of credentials, each between a line that begins it and one that ends it.
_PART = re.compile(r"-----BEGIN ([A-Z ]+)-----\s+(\S+)\s+-+END [A-Z ]+-+")


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """
    urls           nats://host:4222 or tls://host:4222; a user and a password may stand in the first
    creds          a file with a user's JWT and its seed; None: no JWT
    password_file  a file with the password of the user that the URL names
    ca             a file of certificates (PEM) that the server's is signed by; None: those of the system
    cert, key      files of this side's own certificate and its key (PEM)
    replicas       of streams that are made here: 1, or as many as servers of the cluster are to have each

    Raises UsageError where one of them cannot be.
    """

    urls: tuple[str, ...]
    creds: Path | None = None
    password_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    replicas: int = 1

    def __post_init__(self) -> None:
        if not self.urls:
            raise UsageError("--nats: no URL")
        for url in self.urls:
            _parted(url)
        if not 1 <= self.replicas <= REPLICAS_MAX:
            raise UsageError(f"--nats-replicas: {self.replicas}; accepted: 1 to {REPLICAS_MAX}")
        if (self.cert is None) != (self.key is None):
            raise UsageError("--nats-cert and --nats-key go together")
        if self.password_file and not self._parts[0].username:
            raise UsageError("--nats-password-file: --nats names no user: nats://USER@HOST")
        self.credentials()
        self.context()

    @classmethod
    def of(cls, urls: str, **more: Any) -> NatsPlace:
        """From what --nats says: URLs that are separated by commas."""
        return cls(tuple(filter(None, (url.strip() for url in urls.split(",")))), **more)

    @property
    def _parts(self) -> list[SplitResult]:
        return [_parted(url) for url in self.urls]

    @property
    def servers(self) -> list[str]:
        """The URLs without user and password: for the client, and for people."""
        return [f"{parts.scheme}://{_host(parts)}:{parts.port or PORT}" for parts in self._parts]

    @property
    def wants_tls(self) -> bool:
        """Whether a connection without TLS is refused."""
        return bool(self.ca or self.cert) or any(parts.scheme == "tls" for parts in self._parts)

    def context(self) -> NoticedContext | None:
        """What a connection is encrypted with; None where the server decides, and the system's certificates do."""
        if not self.wants_tls:
            return None
        context = NoticedContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca:
                context.load_verify_locations(self.ca)
            else:
                context.load_default_certs()
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"--nats-ca, --nats-cert, --nats-key: {reason_of(error)}") from None
        return context

    def credentials(self) -> dict[str, Any]:
        """What says which user this is, as the client takes it (`Client.connect`)."""
        if self.creds:
            return _of_creds(_read(self.creds, "--nats-creds"))
        first = self._parts[0]
        if not first.username:
            return {}
        user = unquote(first.username)
        if self.password_file:
            return {"user": user, "password": _read(self.password_file, "--nats-password-file").strip()}
        return {"user": user, "password": unquote(first.password)} if first.password else {"token": user}


class NoticedContext(ssl.SSLContext):
    """It knows whether a connection is encrypted by it."""

    is_used = False

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """As ssl.SSLContext has it."""
        self.is_used = True
        return super().wrap_bio(*args, **named)


def options(place: NatsPlace) -> tuple[dict[str, Any], Callable[[], None]]:
    """For one connection: what the client is told of place, user and TLS, and what raises BusError where the
    connection should be encrypted and is not."""
    context = place.context()

    def check() -> None:
        if context and not context.is_used:
            raise BusError(f"NATS at {place.servers[0]} offers no TLS, and without it nothing is sent")

    def late(value: Any) -> Any:
        """A secret, once it is known to be safe."""

        def give(*asked: Any) -> Any:
            check()
            return value(*asked) if callable(value) else value

        return give

    secrets = {name: late(value) for name, value in place.credentials().items()}
    return {"servers": place.servers, **secrets} | ({"tls": context} if context else {}), check


def _parted(url: str) -> SplitResult:
    """Raises UsageError, without the URL's password."""
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.scheme not in ("nats", "tls") or parts.path.strip("/") or parts.query or parts.fragment:
        shown = re.sub(r"//.*@", "//...@", url)
        raise UsageError(f"--nats: {shown!a}; accepted: nats://HOST:{PORT} or tls://HOST:{PORT}, with USER:PASSWORD@")
    return parts


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


def _read(file: Path, flag: str) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"{flag} {file}: {reason_of(error)}") from None


def _of_creds(text: str) -> dict[str, Any]:
    """A JWT, and what signs for it. Raises UsageError."""
    parts = dict(_PART.findall(text))
    jwt, seed = parts.get("NATS USER JWT"), parts.get("USER NKEY SEED")
    if not jwt or not seed:
        raise UsageError("--nats-creds: holds no NATS USER JWT, or no USER NKEY SEED")
    sign = _signing(seed)
    return {"user_jwt_cb": lambda: jwt.encode(), "signature_cb": sign}


def _signing(seed: str) -> Callable[[str], bytes]:
    """What signs with the key that a seed is: two bytes of kind, 32 of the key, two of a checksum, in base32."""
    try:
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except binascii.Error:
        raw = b""
    if len(raw) != 36 or binascii.crc_hqx(raw[:34], 0) != int.from_bytes(raw[34:], "little"):
        raise UsageError("--nats-creds: its seed is not one")
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "credentials of NATS")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(raw[2:34])
    return lambda nonce: base64.b64encode(key.sign(nonce.encode()))
