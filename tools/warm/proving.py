"""Proof that nodes serve what was released, and the health of canaries: both asked where clients ask.

A sample of the manifest's files is the same for one release: so what is wrong on one node is looked at on each.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tools.warm.buses import Fleet
from zcserve.errors import UsageError
from zcserve.fleet.bus import BusError
from zcserve.fleet.manifest import Manifest
from zcserve.fleet.peer import Peer
from zcserve.fleet.rollout_words import Health

# For one answer, in seconds. It is from memory.
ANSWER_S = 5.0
# Of canaries: an application may be asked.
HEALTH_S = 10.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What a node's answers to a sample say.

    sampled  how many files were asked for
    wrong    why an answer is not the release's, by path
    """

    sampled: int
    wrong: Mapping[str, str]


def sample_of(manifest: Manifest, size: int) -> dict[str, str]:
    """ETags by path, of so many files that have one."""
    known = {path: file.etag for path, file in manifest.files.items() if file.is_served and file.etag}
    chosen = random.Random(manifest.digest).sample(sorted(known), min(size, len(known)))
    return {path: known[path] for path in sorted(chosen)}


async def prove(public: Mapping[str, str], sample: Mapping[str, str], host: str = "") -> dict[str, Proof]:
    """Ask these nodes for the sample; `host` is what the requests name, where it is not the URL's."""
    proofs = await asyncio.gather(*(_prove_one(url, sample, host) for url in public.values()))
    return dict(zip(public, proofs, strict=True))


async def _prove_one(url: str, sample: Mapping[str, str], host: str) -> Proof:
    peer = Peer(url, {"Host": host} if host else {})
    wrong = {}
    for path, etag in sample.items():
        try:
            answer = await peer.ask("HEAD", path, within_s=ANSWER_S)
        except BusError as error:
            wrong[path] = str(error)
            break
        found = answer.fields.get("etag", "none")
        if answer.status != 200:
            wrong[path] = f"status {answer.status}"
        elif found != etag:
            wrong[path] = f"ETag {found}, and the manifest says {etag}"
    peer.close()
    return Proof(len(sample), wrong)


class Doctor:
    """Asks canaries how they are: any 2xx is well. Without a query, to serve it is to be well."""

    def __init__(self, fleet: Fleet, query: str, host: str = "") -> None:
        """`query` is a path, asked at each node, or a URL, in which {node} is the node's name. Raises UsageError."""
        self._public, self._query, self._host = fleet.public, query, host
        if query and not query.startswith(("/", "http://", "https://")):
            raise UsageError(f"--query {query!r} is not understood; accepted: /PATH, or http(s)://HOST/PATH")
        if query.startswith("/") and fleet.names - fleet.public.keys():
            missing = ", ".join(sorted(fleet.names - fleet.public.keys()))
            raise UsageError(f"--query {query}: no public URL is known of {missing}")

    async def ask(self, node: str) -> Health:
        """How one is."""
        if not self._query:
            return Health(node, True)
        url = self._query.replace("{node}", node)
        if self._query.startswith("/"):
            if node not in self._public:
                return Health(node, False, "no public URL is known")
            url = self._public[node] + self._query
        parts = urlsplit(url)
        peer = Peer(f"{parts.scheme}://{parts.netloc}", {"Host": self._host} if self._host else {})
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            answer = await peer.ask("GET", target, within_s=HEALTH_S)
        except BusError as error:
            return Health(node, False, str(error))
        finally:
            peer.close()
        return Health(node, 200 <= answer.status < 300, f"{target} gave status {answer.status}")
