"""Keys and JWTs of NATS as `nsc` makes them: an operator, an account, and a user with a file of credentials."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# What a key is of, and what a seed is (NATS's nkeys).
PREFIXES = {"operator": 14 << 3, "account": 0, "user": 20 << 3}
SEED = 18 << 3


def _checked(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


class Key:
    """A key of one kind ("operator", "account", "user")."""

    def __init__(self, kind: str) -> None:
        self._key = Ed25519PrivateKey.generate()
        prefix = PREFIXES[kind]
        self.public = _checked(bytes([prefix]) + self._key.public_key().public_bytes_raw())
        head = bytes([SEED | prefix >> 5, (prefix & 31) << 3])
        self.seed = _checked(head + self._key.private_bytes_raw())

    def jwt(self, kind: str, subject: str, nats: dict[str, Any]) -> str:
        """One that this key signs."""
        claims = {"iat": int(time.time()), "iss": self.public, "name": kind, "sub": subject}
        claims |= {"nats": {**nats, "type": kind, "version": 2}}
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode().rstrip("=")
        head = _part({"typ": "JWT", "alg": "ed25519-nkey"})
        text = f"{head}.{_part(claims)}"
        return f"{text}.{_text(self._key.sign(text.encode()))}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _part(form: dict[str, Any]) -> str:
    return _text(json.dumps(form).encode())


def credentials(file: Path) -> str:
    """Writes a user's file of credentials, and returns what nats-server's configuration says to know it."""
    operator, system, account, user = Key("operator"), Key("account"), Key("account"), Key("user")
    limits = {"subs": -1, "data": -1, "payload": -1}
    stores = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    wide = {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    jwts = {
        key: operator.jwt("account", key.public, {"limits": limits | more | wide})
        for key, more in ((system, {}), (account, stores))
    }
    user_jwt = account.jwt("user", user.public, limits)
    operator_jwt = operator.jwt("operator", operator.public, {})
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    known = ", ".join(f'{key.public}: "{jwt}"' for key, jwt in jwts.items())
    who = f'operator: "{operator_jwt}"\nsystem_account: {system.public}'
    return f"{who}\nresolver: MEMORY\nresolver_preload: {{ {known} }}\n"
