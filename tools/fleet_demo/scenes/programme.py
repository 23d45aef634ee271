"""What is played, and in which order."""

from __future__ import annotations

from tools.fleet_demo.playing import Scene
from tools.fleet_demo.scenes import failures, refusals, releases, speed

SCENES = (
    Scene("release", releases.release),
    Scene("rollback", releases.rollback),
    Scene("canary", releases.canary),
    Scene("two", releases.two),
    Scene("purge", releases.purge),
    Scene("killed", failures.killed),
    Scene("link", failures.link),
    Scene("nats-restart", failures.nats_restart, "nats"),
    Scene("nats-gone", failures.nats_gone, "nats"),
    Scene("disk", failures.disk),
    Scene("corrupted", refusals.corrupted),
    Scene("truncated", refusals.truncated),
    Scene("oversized", refusals.oversized),
    Scene("unsigned", refusals.unsigned),
    Scene("forged", refusals.forged),
    Scene("replayed", refusals.replayed),
    Scene("clock", failures.clock, programs=("faketime",)),
    Scene("speed", speed.release),
    Scene("speed-purge", speed.purge),
    Scene("idle", speed.idle),
)
