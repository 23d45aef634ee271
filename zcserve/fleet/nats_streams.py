"""The streams of a bus over NATS: their names, their subjects, their limits.

| stream | subject | holds |
|---|---|---|
| `ZCSERVE_COMMANDS_SITE` | `zcserve.commands.SITE` | commands of a site |
| `ZCSERVE_ASIDE` | `zcserve.aside.SITE.NODE` | what nodes have set aside |
| bucket `zcserve-desired` | key `SITE` | what is desired |
| bucket `zcserve-claim` | key `SITE` | which rollout has the site |
| bucket `zcserve-state` | key `SITE.NODE` | how a node is |
| bucket `zcserve-position` | key `SITE.NODE` | which commands a node has done |
| object store `zcserve-manifests-SITE` | by digest | manifests |

Buckets are NATS's key-value stores (a stream `KV_...`, subjects `$KV...`; ADR-8) and object stores (ADR-20), so that
`nats kv get zcserve-desired www` shows one. In a subject a dot parts words, so a name has `__` for `.` and `_-` for
`_`: `www.example.com` is `www__example__com`. A bucket with one record a key grows with sites and nodes, and has no
other limit.
"""

from __future__ import annotations

from zcserve.fleet.jetstream import Stream
from zcserve.fleet.nats_subjects import commands_subject, word

DAY_S = 86_400.0
# Commands of a site: the age covers a week in which a node is off, 100,000 purges by tag are 40 MB, and what is longer
# than that tells a node a gap, which costs a comparison. NATS reserves the bytes on its disk.
COMMANDS_AGE_S = 7 * DAY_S
COMMANDS_MAX = 100_000
COMMANDS_BYTES_MAX = 64 << 20
# An operator that tries again has the same id appended once within this. The server keeps the ids in memory.
COMMANDS_DEDUP_S = 600.0
# What is set aside is for a person to look at.
ASIDE_AGE_S = 30 * DAY_S
ASIDE_BY_NODE_MAX = 100
ASIDE_BYTES_MAX = 64 << 20
# Manifests of a site: eight of the largest, and some hundreds of 10,000 files. The oldest go first.
MANIFESTS_BYTES_MAX = 512 << 20

DESIRED = Stream("KV_zcserve-desired", "$KV.zcserve-desired.>", by_subject=1)
CLAIM = Stream("KV_zcserve-claim", "$KV.zcserve-claim.>", by_subject=1)
STATE = Stream("KV_zcserve-state", "$KV.zcserve-state.>", by_subject=1)
POSITION = Stream("KV_zcserve-position", "$KV.zcserve-position.>", by_subject=1)
ASIDE = Stream("ZCSERVE_ASIDE", "zcserve.aside.>", ASIDE_AGE_S, ASIDE_BYTES_MAX, by_subject=ASIDE_BY_NODE_MAX)


def commands(site: str) -> Stream:
    """The commands of a site."""
    one = word(site)
    limits = (COMMANDS_AGE_S, COMMANDS_BYTES_MAX, COMMANDS_MAX)
    return Stream(f"ZCSERVE_COMMANDS_{one}", commands_subject(site), *limits, dedup_s=COMMANDS_DEDUP_S)


def manifests(site: str) -> Stream:
    """The manifests of a site."""
    bucket = f"zcserve-manifests-{word(site)}"
    return Stream(f"OBJ_{bucket}", f"$O.{bucket}.>", bytes_max=MANIFESTS_BYTES_MAX)


def key(stream: Stream, *names: str) -> str:
    """The subject of a key in a bucket, or of a node's in ASIDE."""
    return stream.subject.removesuffix(">") + ".".join(map(word, names))
