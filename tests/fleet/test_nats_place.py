"""What the flags of NATS say, and what is refused of them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from zcserve.errors import UsageError
from zcserve.fleet.bus import BusError
from zcserve.fleet.nats_place import NatsPlace, options


def test_several_urls_are_separated_by_commas() -> None:
    place = NatsPlace.of("nats://one, tls://two:4333 ,nats://[::1]:1")
    assert place.servers == ["nats://one:4222", "tls://two:4333", "nats://[::1]:1"]


def test_user_and_password_are_no_part_of_what_people_see() -> None:
    place = NatsPlace.of("nats://us%40er:pa%3Ass@one,nats://two")
    assert place.servers == ["nats://one:4222", "nats://two:4222"]
    assert place.credentials() == {"user": "us@er", "password": "pa:ss"}


def test_a_user_without_a_password_is_a_token() -> None:
    assert NatsPlace.of("nats://secret@one").credentials() == {"token": "secret"}
    assert NatsPlace.of("nats://one").credentials() == {}


def test_a_password_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pa ss\n")
    place = NatsPlace.of("nats://user@one", password_file=file)
    assert place.credentials() == {"user": "user", "password": "pa ss"}


@pytest.mark.parametrize(
    ("urls", "more", "said"),
    [
        ("", {}, "no URL"),
        ("one:4222", {}, "accepted: nats://HOST:4222"),
        ("http://one", {}, "accepted: nats://"),
        ("nats://", {}, "accepted: nats://"),
        ("nats://one:99999", {}, "accepted: nats://"),
        ("nats://one/x", {}, "accepted: nats://"),
        ("nats://u:secret@one:x", {}, "accepted: nats://"),
        ("nats://one", {"replicas": 6}, "--nats-replicas: 6; accepted: 1 to 5"),
        ("nats://one", {"cert": Path("x")}, "go together"),
        ("nats://one", {"ca": Path("/none")}, "--nats-ca"),
        ("nats://one", {"creds": Path("/none")}, "--nats-creds /none: No such file"),
        ("nats://one", {"password_file": Path("/none")}, "names no user"),
        ("nats://u@one", {"password_file": Path("/none")}, "--nats-password-file /none: No such file"),
    ],
)
def test_what_cannot_be_is_refused(urls: str, more: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        NatsPlace.of(urls, **more)
    assert "secret" not in str(refused.value)


def test_tls_is_wanted_by_the_url_or_by_certificates() -> None:
    assert NatsPlace.of("tls://one").wants_tls
    assert not NatsPlace.of("nats://one").wants_tls
    assert "tls" not in options(NatsPlace.of("nats://one"))[0]


def test_no_secret_is_given_before_the_connection_is_encrypted() -> None:
    given, check = options(NatsPlace.of("tls://user:password@one"))
    for secret in (given["user"], given["password"], check):
        with pytest.raises(BusError, match="offers no TLS"):
            secret()
    given["tls"].is_used = True
    assert (given["user"](), given["password"]()) == ("user", "password")
    check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no NATS USER JWT"),
        ("-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n", "no USER NKEY SEED"),
        (
            "-----BEGIN NATS USER JWT-----\nabc\n------END NATS USER JWT------\n"
            "-----BEGIN USER NKEY SEED-----\nSUAAA\n------END USER NKEY SEED------\n",
            "its seed is not one",
        ),
    ],
)
def test_a_file_of_credentials_without_its_parts_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "user.creds"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        NatsPlace.of("nats://one", creds=file)


def test_a_user_with_a_jwt_signs_what_the_server_asks(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from tests.support.nats_keys import Key

    key = Key("user")
    file = tmp_path / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\nwords\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
    )
    given, _ = options(NatsPlace.of("nats://one", creds=file))
    assert given["user_jwt_cb"]() == b"a.b.c"
    raw = base64.b32decode(key.public + "=" * (-len(key.public) % 8))[1:33]
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(given["signature_cb"]("nonce")), b"nonce")
