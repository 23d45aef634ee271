"""Content codings that can be made here: gzip always, br and zstd where their libraries are installed.

Variants are made once, at load, by threads (the libraries release the GIL), so they are made small rather than soon.
The output depends on the bytes and the library's version alone, so nodes of one version agree on the ETag.
"""

from __future__ import annotations

import gzip
import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Any

# brotli's best level costs 1.5 s a megabyte and saves 10% over level 9, which costs 0.1 s: worth it up to here.
BROTLI_BEST_BYTES_MAX = 1 << 20
# A variant must save this share of its base to be worth a second copy in memory.
SAVING_MIN = 0.05


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=9, mtime=0)


def zstd_module() -> Any:
    """The standard library's (3.14), or its backport."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def codecs() -> dict[bytes, Callable[[bytes], bytes]]:
    """What can be made here: content coding -> compressor. The extra `compress` brings br and zstd."""
    found: dict[bytes, Callable[[bytes], bytes]] = {}
    try:
        brotli = importlib.import_module("brotli")
        found[b"br"] = lambda content: brotli.compress(
            content, quality=11 if len(content) <= BROTLI_BEST_BYTES_MAX else 9
        )
    except ImportError:
        pass
    zstd = zstd_module()
    if zstd is not None:
        found[b"zstd"] = lambda content: zstd.compress(content, 19)
    found[b"gzip"] = _gzip
    return found


def versions() -> dict[bytes, str]:
    """What makes each coding, and at which level: where that is the same, the same content gives the same bytes."""
    made_by = {b"gzip": f"{zlib.ZLIB_RUNTIME_VERSION}-9-py{sys.version_info.major}.{sys.version_info.minor}"}
    if b"br" in codecs():
        made_by[b"br"] = f"{importlib.import_module('brotli').__version__}-11-9"
    if (zstd := zstd_module()) is not None:
        made_by[b"zstd"] = f"{zstd.zstd_version}-19"
    return made_by


def missing_codecs() -> str:
    """What to install for the codings that cannot be made here; empty when all can."""
    missing = {b"br": "brotli", b"zstd": "backports.zstd"}
    names = [package for coding, package in missing.items() if coding not in codecs()]
    return f"pip install 'zcserve[compress]' (or {' and '.join(names)})" if names else ""


def worth_it(base: int, made: int) -> bool:
    """Whether a variant of `made` bytes deserves to be kept beside a base of `base` bytes."""
    return made <= base * (1 - SAVING_MIN)
