"""Signatures of manifests, and the keys that a node takes them from: Ed25519 (RFC 8032), in PEM files.

- **Of what is signed see `Manifest.signed_bytes`**: the canonical form behind a prefix of its own, so that no signature
  of anything else is one of a manifest.
- **A manifest needs one signature of a key that is known.** Those of unknown keys say nothing, and are passed over: so
  keys are rotated. First all nodes get the new public key, then releases are signed with both or with the new one,
  then nodes lose the old one.
- **A wrong signature of a known key is refused, whatever else is right**: something was changed on the way.
- **A key is known by its id**, the beginning of the digest of its 32 bytes, and named by its file's name.

The keys are read once. `cryptography` (the extra `fleet`) is imported when a key is read.
"""

from __future__ import annotations

import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from zcserve.errors import UsageError, reason_of
from zcserve.fleet.extra import require
from zcserve.fleet.manifest import SIGNATURES_MAX, Manifest, ManifestError, Signature

# Files with this ending are the keys of a folder.
PUBLIC_ENDING = ".pub"
# Of a PEM file, in bytes: an Ed25519 key takes 120.
KEY_BYTES_MAX = 64 << 10
_KEY_ID_DIGITS = 32


class SignatureError(ManifestError):
    """A manifest that is not signed as a node's keys ask for: names the key where one is known."""


class Signer:
    """A private key. `id` is that of its public one."""

    def __init__(self, private: Any) -> None:
        self._private = private
        self.id = _id_of(private.public_key())

    @classmethod
    def read(cls, path: str | Path) -> Signer:
        """The key in a PEM file (PKCS #8, without a passphrase). Raises UsageError."""
        return cls(_read_key(Path(path), "private"))

    def sign(self, manifest: Manifest) -> Manifest:
        """The manifest with a signature of this key, behind those that it has of others. Raises ManifestError where
        these are too many."""
        others = tuple(one for one in manifest.signatures if one.key != self.id)
        if len(others) >= SIGNATURES_MAX:
            raise ManifestError(f"signatures: there are {len(others)} of other keys; accepted: {SIGNATURES_MAX} in all")
        own = Signature(self.id, b64encode(self._private.sign(manifest.signed_bytes)).decode())
        return replace(manifest, signatures=(*others, own))


class PublicKey(NamedTuple):
    """A public key, and the file that it is from."""

    name: str
    key: Any


class Keyring:
    """The public keys that a node knows, by id. Never empty: a node without keys has no keyring."""

    def __init__(self, keys: dict[str, PublicKey]) -> None:
        """Raises UsageError where there are none: no manifest would be taken."""
        if not keys:
            raise UsageError("no public key is given; accepted: PEM files, or a directory with files NAME.pub")
        self.keys = keys

    @classmethod
    def read(cls, paths: Iterable[str | Path]) -> Keyring:
        """The keys in these files, and in the files NAME.pub of these directories. Raises UsageError."""
        keys: dict[str, PublicKey] = {}
        for path in map(Path, paths):
            for file in _files_of(path):
                key = _read_key(file, "public")
                keys.setdefault(_id_of(key), PublicKey(file.name, key))
        return cls(keys)

    def verify(self, manifest: Manifest) -> tuple[str, ...]:
        """The names of the known keys that signed it, one at least. Raises SignatureError."""
        from cryptography.exceptions import InvalidSignature  # late: as what reads keys

        right = []
        for signature in manifest.signatures:
            if (known := self.keys.get(signature.key)) is None:
                continue
            try:
                known.key.verify(b64decode(signature.ed25519), manifest.signed_bytes)
            except InvalidSignature:
                raise SignatureError(f"the signature of key {known.name} ({signature.key}) is wrong") from None
            right.append(known.name)
        if not right:
            named = ", ".join(one.key for one in manifest.signatures)
            signed = f"is signed by unknown keys alone: {named}" if named else "is not signed"
            ours = ", ".join(f"{one.name} ({key})" for key, one in self.keys.items())
            raise SignatureError(f"{signed}; known: {ours}")
        return tuple(right)


def make_key(path: str | Path) -> str:
    """Make a private key, which its owner alone may read, and beside it the public one (NAME.pub); the key's id. Raises
    UsageError where one of the files is there, or cannot be written."""
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "signatures")
    words = require("cryptography.hazmat.primitives.serialization", "signatures")
    private, public = Path(path), Path(f"{path}{PUBLIC_ENDING}")
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(words.Encoding.PEM, words.PrivateFormat.PKCS8, words.NoEncryption())
    shown = key.public_key().public_bytes(words.Encoding.PEM, words.PublicFormat.SubjectPublicKeyInfo)
    for file in (private, public):
        if os.path.lexists(file):
            raise UsageError(
                f"{file} is there already; accepted: a name that is free, since a key that is overwritten is lost"
            )
    _write(private, pem, 0o600)
    try:
        _write(public, shown, 0o644)
    except UsageError:
        private.unlink()
        raise
    return _id_of(key.public_key())


def _write(file: Path, content: bytes, mode: int) -> None:
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(fd, "wb") as opened:
                opened.write(content)
        except OSError:  # the disk is full
            file.unlink()
            raise
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {reason_of(error)}") from None


def _id_of(public: Any) -> str:
    return sha256(public.public_bytes_raw()).hexdigest()[:_KEY_ID_DIGITS]


def _files_of(path: Path) -> list[Path]:
    """A file itself; of a directory its keys, in order. Raises UsageError."""
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path]
        found = sorted(one for one in path.iterdir() if one.name.endswith(PUBLIC_ENDING) and one.name[0] != ".")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from None
    if not found:
        raise UsageError(f"{path} holds no key; accepted: files NAME{PUBLIC_ENDING}, as `warm_cache keygen NAME` makes")
    return found


def _read_key(path: Path, kind: str) -> Any:
    """The "private" or the "public" key in a file. Raises UsageError."""
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "signatures")
    words = require("cryptography.hazmat.primitives.serialization", "signatures")
    wanted = ed25519.Ed25519PrivateKey if kind == "private" else ed25519.Ed25519PublicKey
    try:
        with open(path, "rb") as file:
            pem = file.read(KEY_BYTES_MAX)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {reason_of(error)}") from None
    is_private = b" PRIVATE KEY-----" in pem
    if is_private != (kind == "private"):
        what = "is a private key, which no node needs" if is_private else "is no private key"
        raise UsageError(f"{path} {what}; accepted: a {kind} key of Ed25519 in PEM")
    try:
        key = words.load_pem_private_key(pem, None) if is_private else words.load_pem_public_key(pem)
    except TypeError:
        raise UsageError(f"{path} has a passphrase; accepted: a {kind} key without one") from None
    except Exception:  # ValueError, or what the library calls a form that it does not know
        key = None
    if not isinstance(key, wanted):
        raise UsageError(f"{path} is no {kind} key of Ed25519; accepted: one in PEM, as `warm_cache keygen` makes")
    return key
