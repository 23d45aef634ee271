"""Manifests in NATS: large things, in chunks, as NATS's object stores have them (ADR-20).

A put writes all chunks under a new name first, then the record that says which chunks an object is, then it drops the
old ones. So a reader finds the old object or the new one, and what is cut short is found by nobody. What is read is
what was written: its length and its SHA-256 are looked at.

Each manifest lies there twice: as it is, and compressed (packed.py), which is what nodes ask for.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
from contextlib import suppress
from functools import partial
from typing import Any

from zcserve.fleet import nats_streams, strict_json
from zcserve.fleet.background import in_thread
from zcserve.fleet.bus import BusError, MissingError
from zcserve.fleet.jetstream import ALL, JetStream
from zcserve.fleet.packed import ENDING, PackedError, pack, unpack

# Of one chunk, in bytes: a message of NATS has a megabyte at most unless told else.
CHUNK_BYTES = 512 * 1024
# A chunk over a slow link: 50 KB a second.
CHUNK_WITHIN_S = 10.0
# Chunks that are asked for at once.
CHUNKS_AT_ONCE = 8
# A manifest that is replaced while it is read is read again, so often.
TRIES_MAX = 3


class Manifests:
    """Those of one site."""

    def __init__(self, jetstream: JetStream, site: str) -> None:
        self._jetstream = jetstream
        self._stream = nats_streams.manifests(site)
        self._bucket = self._stream.name.removeprefix("OBJ_")

    async def put(self, digest: str, data: bytes) -> None:
        """Keep one, in place of what was kept by this digest. Raises BusError."""
        packed = asyncio.create_task(self._put_packed(digest, data))
        try:
            await self._put(digest, data)
            await packed
        finally:
            packed.cancel()
            await asyncio.gather(packed, return_exceptions=True)

    async def _put_packed(self, digest: str, data: bytes) -> None:
        await self._put(digest + ENDING, await in_thread(partial(pack, data), "pack"))

    async def _put(self, called: str, data: bytes) -> None:
        old = await self._about(called)
        name = secrets.token_hex(11)
        chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        first = 0
        try:
            for chunk in chunks:
                seq = await self._jetstream.append(self._stream, self._chunks(name), chunk, within_s=CHUNK_WITHIN_S)
                first = first or seq
            about = {"name": called, "bucket": self._bucket, "nuid": name, "size": len(data), "chunks": len(chunks)}
            text = json.dumps(about | {"digest": _digest(data), "options": {"max_chunk_size": CHUNK_BYTES}})
            rolled = {"Nats-Rollup": "sub"}
            await self._jetstream.append(self._stream, self._place(called), text.encode(), headers=rolled)
            if first and (await self._jetstream.held(self._stream)).first > first:
                raise BusError(
                    f"{self._stream.name} is too small: it has dropped a manifest of {len(data):,} bytes at once"
                )
        except BaseException:
            with suppress(BusError):
                await self._jetstream.drop(self._stream, self._chunks(name))
            raise
        if old:
            with suppress(BusError):  # they go when the store is full
                await self._jetstream.drop(self._stream, self._chunks(old["nuid"]))

    async def get(self, digest: str) -> bytes:
        """One that is kept. Raises MissingError, BusError."""
        with suppress(PackedError):
            packed = await self._get(digest + ENDING)
            if packed is not None:
                return unpack(packed)
        data = await self._get(digest)  # an earlier version has put it, or writes over the other one
        if data is None:
            raise MissingError(f"NATS has no manifest {digest[:12]}, or not all of it")
        return data

    async def _get(self, called: str) -> bytes | None:
        """Raises BusError."""
        for _ in range(TRIES_MAX):
            about = await self._about(called)
            if about is None:
                break
            data = await self._read(about)
            if data is not None and _digest(data) == about["digest"]:
                return data
        return None

    async def _about(self, called: str) -> dict[str, Any] | None:
        record = await self._jetstream.last(self._stream, self._place(called))
        if record is None:
            return None
        try:
            about = strict_json.read(record.data, len(record.data))
            known = {"nuid": str(about["nuid"]), "chunks": int(about["chunks"]), "digest": str(about["digest"])}
        except (ValueError, KeyError, TypeError):
            return None
        return None if about.get("deleted") else known

    async def _read(self, about: dict[str, Any]) -> bytes | None:
        """All chunks; None where some are not there."""
        reader = await self._jetstream.read(self._stream, self._chunks(about["nuid"]), ALL, CHUNKS_AT_ONCE)
        try:
            if reader.left != about["chunks"]:
                return None
            chunks: list[bytes] = []
            while len(chunks) < about["chunks"]:
                record = await reader.next()
                if record is None:
                    return None  # they were dropped meanwhile
                chunks.append(record.data)
            return b"".join(chunks)
        finally:
            await reader.close()

    def _chunks(self, name: str) -> str:
        return f"$O.{self._bucket}.C.{name}"

    def _place(self, called: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(called.encode()).decode()}"


def _digest(data: bytes) -> str:
    return "SHA-256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
