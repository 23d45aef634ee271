"""The codings that can be made here: each undone by its own library's other half."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Callable

import pytest

from tests.support.trees import noise, prose
from zcserve.cache.compress import BROTLI_BEST_BYTES_MAX, codecs, missing_codecs, worth_it

CONTENTS = [b"", b"x", prose(10_000), noise(10_000)]


def decoder(coding: str) -> Callable[[bytes], bytes]:
    if coding == "gzip":
        return gzip.decompress
    if coding == "br":
        pytest.importorskip("brotli")
        decompress: Callable[[bytes], bytes] = importlib.import_module("brotli").decompress
        return decompress
    for name in ("compression.zstd", "backports.zstd"):
        try:
            decompress = importlib.import_module(name).decompress
        except ImportError:
            continue
        return decompress
    pytest.skip("neither compression.zstd nor backports.zstd is installed")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("content", CONTENTS, ids=["empty", "a byte", "prose", "noise"])
def test_what_is_compressed_is_the_same_when_it_comes_out(coding: str, content: bytes) -> None:
    decompress = decoder(coding)
    assert decompress(codecs()[coding.encode()](content)) == content


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_the_same_content_compresses_to_the_same_bytes(coding: str) -> None:
    """Nodes of a fleet agree on the ETag: no time, no name, no chance in it."""
    decoder(coding)
    compress = codecs()[coding.encode()]
    assert compress(prose(50_000)) == compress(prose(50_000))


def test_gzip_holds_no_time() -> None:
    assert codecs()[b"gzip"](b"content")[4:8] == bytes(4)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_prose_becomes_small(coding: str) -> None:
    decoder(coding)
    assert len(codecs()[coding.encode()](prose(100_000))) < 2_000


def test_brotli_takes_large_content_too() -> None:
    decompress = decoder("br")
    content = prose(BROTLI_BEST_BYTES_MAX + 1)
    assert decompress(codecs()[b"br"](content)) == content


def test_gzip_is_always_there() -> None:
    assert b"gzip" in codecs()
    assert set(codecs()) <= {b"gzip", b"br", b"zstd"}


def test_without_the_extra_only_gzip_is_made_and_the_user_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.import_module

    def without_extra(name: str, package: str | None = None) -> object:
        if name in ("brotli", "backports.zstd", "compression.zstd"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without_extra)
    assert set(codecs()) == {b"gzip"}
    told = missing_codecs()
    assert "zcserve[compress]" in told
    assert "brotli" in told
    assert "zstd" in told


def test_nothing_is_missing_where_all_is_installed() -> None:
    decoder("br")
    decoder("zstd")
    assert missing_codecs() == ""


@pytest.mark.parametrize(
    ("base", "made", "expected"),
    [(1000, 950, True), (1000, 951, False), (1000, 1, True), (1000, 1000, False), (1000, 2000, False), (0, 20, False)],
)
def test_a_variant_must_save_a_twentieth(base: int, made: int, expected: bool) -> None:
    assert worth_it(base, made) is expected
