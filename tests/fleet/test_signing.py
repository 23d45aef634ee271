"""Signatures and keys, with the library's own verification, and OpenSSL's program, as oracles."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.releases import file_of, release_of
from zcserve.errors import UsageError
from zcserve.fleet.manifest import Manifest, ManifestError, Signature
from zcserve.fleet.signing import Keyring, SignatureError, Signer, make_key

pytest.importorskip("cryptography")

RELEASE = release_of({"/a": b"a", "/b": b"b"}, sequence=7)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the keys `old`, `new` and `other`."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("old", "new", "other"):
        make_key(folder / name)
    return folder


def signed(keys: Path, *names: str) -> Manifest:
    made = RELEASE
    for name in names:
        made = Signer.read(keys / name).sign(made)
    return made


def ring(keys: Path, *names: str) -> Keyring:
    return Keyring.read(keys / f"{name}.pub" for name in names)


@pytest.mark.parametrize(
    ("signers", "known", "found"),
    [
        (("old",), ("old",), ("old.pub",)),
        (("old",), ("old", "new"), ("old.pub",)),
        (("new",), ("old", "new"), ("new.pub",)),
        (("old", "new"), ("old",), ("old.pub",)),
        (("old", "new"), ("new",), ("new.pub",)),
        (("old", "new", "other"), ("new", "old"), ("old.pub", "new.pub")),
    ],
)
def test_one_known_key_is_enough(
    keys: Path, signers: tuple[str, ...], known: tuple[str, ...], found: tuple[str, ...]
) -> None:
    manifest = Manifest.parse(signed(keys, *signers).to_bytes())
    assert ring(keys, *known).verify(manifest) == found


def test_without_a_signature_of_a_known_key_it_is_refused(keys: Path) -> None:
    with pytest.raises(SignatureError, match=r"is not signed; known: old.pub \([0-9a-f]{32}\)"):
        ring(keys, "old").verify(RELEASE)
    other = Signer.read(keys / "other")
    with pytest.raises(SignatureError, match=f"is signed by unknown keys alone: {other.id}; known: old.pub"):
        ring(keys, "old").verify(other.sign(RELEASE))


def test_a_wrong_signature_of_a_known_key_is_refused_by_name(keys: Path) -> None:
    good = signed(keys, "old", "new")
    old, new = good.signatures
    flipped = base64.b64encode(bytes([base64.b64decode(old.ed25519)[0] ^ 1]) + base64.b64decode(old.ed25519)[1:])
    for wrong in (
        good.with_signatures(Signature(old.key, flipped.decode()), new),
        good.with_signatures(Signature(old.key, new.ed25519), new),
        replace(good, sequence=8),
        replace(good, site="blog"),
        replace(good, tree="0" * 64),
        replace(good, files={**good.files, "/a": file_of(b"A")}),
    ):
        with pytest.raises(SignatureError, match=rf"the signature of key old.pub \({old.key}\) is wrong"):
            ring(keys, "old", "new").verify(wrong)
    # Of a key that is not known it says nothing.
    assert ring(keys, "new").verify(good.with_signatures(Signature(old.key, flipped.decode()), new)) == ("new.pub",)


def test_a_key_signs_once_and_leaves_the_signatures_of_others(keys: Path) -> None:
    twice = signed(keys, "old", "new", "old")
    assert [one.key for one in twice.signatures] == [Signer.read(keys / name).id for name in ("new", "old")]
    assert signed(keys, "old").to_bytes() == signed(keys, "old").to_bytes()
    assert twice.with_sequence(8).signatures == ()
    full = RELEASE.with_signatures(*(Signature(f"{n:032x}", "A" * 86 + "==") for n in range(16)))
    with pytest.raises(ManifestError, match="16 in all"):
        Signer.read(keys / "old").sign(full)


def test_a_directory_is_its_public_keys(keys: Path) -> None:
    assert {one.name for one in Keyring.read([keys]).keys.values()} == {"new.pub", "old.pub", "other.pub"}
    assert len(Keyring.read([keys, keys / "old.pub"]).keys) == 3


def test_a_private_key_is_its_owners_alone_and_no_file_is_written_over(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = make_key(tmp_path / "key")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("key", "key.pub")]
    assert modes == [0o600, 0o644]
    assert list(ring(tmp_path, "key").keys) == [key] == [Signer.read(tmp_path / "key").id]
    content = (tmp_path / "key").read_bytes()
    with pytest.raises(UsageError, match="key is there already"):
        make_key(tmp_path / "key")
    (tmp_path / "key").unlink()
    with pytest.raises(UsageError, match=r"key.pub is there already"):
        make_key(tmp_path / "key")
    assert not (tmp_path / "key").exists()
    assert content.startswith(b"-----BEGIN PRIVATE KEY-----")
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        make_key(tmp_path / "absent" / "key")


def test_what_is_no_key_is_refused_by_its_file(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pub").write_text("no key")
    (tmp_path / "broken.pub").write_text((keys / "old.pub").read_text().replace("MCow", "MCoW"))
    (tmp_path / "broken").write_text((keys / "old").read_text().replace("MC4C", "AAAA"))
    (tmp_path / "empty").mkdir()
    for path, why in {
        tmp_path / "text.pub": "is no public key of Ed25519",
        tmp_path / "broken.pub": "is no public key of Ed25519",
        tmp_path / "absent.pub": "cannot be read: No such file",
        tmp_path / "empty": "holds no key",
        keys / "old": "is a private key, which no node needs",
    }.items():
        with pytest.raises(UsageError) as caught:
            Keyring.read([path])
        assert f"{path} {why}" in str(caught.value)
    for path, why in {
        keys / "old.pub": "is no private key",
        tmp_path / "broken": "is no private key of Ed25519",
        tmp_path / "absent": "cannot be read",
    }.items():
        with pytest.raises(UsageError, match=why):
            Signer.read(path)
    with pytest.raises(UsageError, match="no public key is given"):
        Keyring.read([])


def test_keys_of_other_kinds_and_with_a_passphrase_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as words
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    curve = generate_private_key(SECP256R1())
    pem, pkcs8 = words.Encoding.PEM, words.PrivateFormat.PKCS8
    (tmp_path / "ec").write_bytes(curve.private_bytes(pem, pkcs8, words.NoEncryption()))
    (tmp_path / "ec.pub").write_bytes(curve.public_key().public_bytes(pem, words.PublicFormat.SubjectPublicKeyInfo))
    locked = Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, words.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked").write_bytes(locked)
    with pytest.raises(UsageError, match="ec is no private key of Ed25519"):
        Signer.read(tmp_path / "ec")
    with pytest.raises(UsageError, match=r"ec.pub is no public key of Ed25519"):
        Keyring.read([tmp_path])
    with pytest.raises(UsageError, match="has a passphrase"):
        Signer.read(tmp_path / "locked")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_openssl_reads_the_keys_and_agrees(keys: Path, tmp_path: Path) -> None:
    manifest = signed(keys, "old")
    (tmp_path / "signed").write_bytes(manifest.signed_bytes)
    (tmp_path / "signature").write_bytes(base64.b64decode(manifest.signatures[0].ed25519))
    words = ("openssl", "pkeyutl", "-rawin", "-in", str(tmp_path / "signed"))
    verify = (*words, "-verify", "-pubin", "-inkey", str(keys / "old.pub"), "-sigfile", str(tmp_path / "signature"))
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    # And the other way round: a key and a signature that it made.
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "its"], check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "its", "-pubout", "-out", tmp_path / "its.pub"], check=True)
    sign = (*words, "-sign", "-inkey", str(tmp_path / "its"))
    made = subprocess.run(sign, capture_output=True, check=True).stdout
    its = Signature(Signer.read(tmp_path / "its").id, base64.b64encode(made).decode())
    assert ring(tmp_path, "its").verify(RELEASE.with_signatures(its)) == ("its.pub",)
    (tmp_path / "signed").write_bytes(manifest.signed_bytes + b" ")
    assert subprocess.run(verify, capture_output=True, check=False).returncode != 0
