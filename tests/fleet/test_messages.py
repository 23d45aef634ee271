"""Messages: each is read as it was written, by older and newer nodes, and what cannot be is refused with what and
where."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from zcserve.fleet import forms, messages
from zcserve.fleet.forms import FormError, VersionError
from zcserve.fleet.messages import Command, Desired, Poisoned, Release, State, Trial, parse_command, reason

OLD = Release("www-7", 7, "a" * 64, "b" * 64, "https://origin.example/7/")
NEW = Release("www-8", 8, "c" * 64, "d" * 64)
PREPARE = Command("www-8:prepare", "prepare", "www", edition=4, release=NEW)
PURGE = Command("p1", "purge", "www", tags=("news",))
DONE, ASIDE = ("p1", "p2"), ("p0",)
STATE = State("www", "n1", "boot-1", 3, 4, "prepared", NEW, OLD, NEW, 0.5, "slow", 1000.0, DONE, ASIDE, 2.5, 9, (12, 0))


def changed(data: bytes, **members: Any) -> bytes:
    """A message with other members; ... takes one out."""
    form = json.loads(data) | members
    return json.dumps({name: value for name, value in form.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "command",
    [
        PREPARE,
        replace(PREPARE, op="flip", release=OLD),
        PURGE,
        Command("p2", "purge", "www", paths=("/a", "/b%20c"), is_hard=True),
        Command("p3", "purge", "www", prefix="/assets/"),
        Command("p4", "purge", "www", glob="*.css"),
        Command("p5", "purge", "www", tags=("news",), waits=True),
        Command("w1", "warm", "www", paths=("/a",)),
    ],
    ids=lambda command: command.id,
)
def test_a_command_is_read_as_it_was_written(command: Command) -> None:
    assert parse_command(command.dump()) == command


@pytest.mark.parametrize(
    "desired",
    [
        Desired("www"),
        Desired("www", 1, None, Trial(NEW)),
        Desired("www", 2, OLD, Trial(NEW, frozenset({"n1", "n2"}))),
        Desired("www", 3, NEW),
        Desired("www", 4, NEW, earlier=(OLD, replace(OLD, sequence=6))),
    ],
    ids=lambda desired: str(desired.edition),
)
def test_what_is_desired_is_read_as_it_was_written(desired: Desired) -> None:
    assert Desired.parse(desired.dump()) == desired


@pytest.mark.parametrize("state", [STATE, State("www", "n1", "b", 0)], ids=["all", "least"])
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    assert State.parse(state.dump()) == state
    assert State.parse(state.dump()).since == state.since


def test_a_node_of_an_older_version_does_not_say_how_much_it_has_purged() -> None:
    assert State.parse(changed(STATE.dump(), purged=...)) == replace(STATE, purged=())


@pytest.mark.parametrize("purged", [[1], [1, -1], [1, "2"], {"p1": 1}, "12"])
def test_what_was_purged_is_a_number_for_each_command_that_is_done(purged: object) -> None:
    with pytest.raises(FormError, match="purged"):
        State.parse(changed(STATE.dump(), purged=purged))


def test_members_that_are_not_known_are_passed_over() -> None:
    assert parse_command(changed(PREPARE.dump(), colour="red")) == PREPARE
    assert State.parse(changed(STATE.dump(), colour="red")) == STATE
    desired = Desired("www", 2, OLD, Trial(NEW))
    trial = json.loads(desired.dump())["trial"] | {"colour": "red"}
    assert Desired.parse(changed(desired.dump(), trial=trial, colour="red")) == desired


def test_a_higher_version_is_refused_and_a_command_of_one_keeps_its_name() -> None:
    data = changed(PURGE.dump(), version=2)
    assert parse_command(data) == Poisoned(
        "p1", "purge", "version: 2, and known is 1: this node is older than what sent it"
    )
    for message in (STATE, Desired("www", 3, NEW)):
        with pytest.raises(VersionError):
            type(message).parse(changed(message.dump(), version=2))


@pytest.mark.parametrize(
    ("members", "name", "said"),
    [
        ({"op": "explode"}, "p1", "op: 'explode' is not known; known are prepare, flip, abort, purge, warm"),
        ({"op": ...}, "p1", "op: is missing"),
        ({"op": 3}, "p1", "op: must be a text, not 3"),
        ({"id": ...}, "sha256:", "id: is missing"),
        ({"id": "a b"}, "sha256:", "id: 'a b'; accepted: letters, digits"),
        ({"site": "../x"}, "p1", "site: '../x'; accepted"),
        ({"tags": "news"}, "p1", "tags: must be a list, not 'news'"),
        ({"tags": ...}, "p1", "purge: has none; accepted: one of tags, prefix, glob and paths"),
        ({"prefix": "/a"}, "p1", "purge: has tags, prefix; accepted: one of"),
        ({"hard": "yes"}, "p1", "hard: must be true or false, not 'yes'"),
        ({"op": "prepare"}, "p1", "edition: is missing"),
        ({"op": "warm"}, "p1", "warm: has tags; accepted: paths"),
        ({"paths": ["/a"] * 1001}, "p1", "paths: 1,001, and at most 1,000"),
    ],
    ids=str,
)
def test_a_poisoned_command_is_named_with_the_reason(members: dict[str, Any], name: str, said: str) -> None:
    found = parse_command(changed(PURGE.dump(), **members))
    assert isinstance(found, Poisoned)
    assert found.name.startswith(name)
    assert found.reason.startswith(said)


@pytest.mark.parametrize("data", [b"", b"\0" * 9, b"[]", b"x" * (forms.MESSAGE_BYTES_MAX + 1)], ids=len)
def test_bytes_that_are_no_command_are_named_by_their_digest(data: bytes) -> None:
    found = parse_command(data)
    assert isinstance(found, Poisoned)
    assert found.name.startswith("sha256:")
    assert len(found.name) == 19


def test_a_purge_of_many_paths_is_a_tag() -> None:
    with pytest.raises(FormError, match=r"paths: 10,000, and at most 1,000; give these files a tag, or name a prefix"):
        Command("p", "purge", "www", paths=tuple(f"/{number}" for number in range(10_000)))
    paths = tuple(f"/{number:0200}" for number in range(messages.PATHS_MAX))
    assert parse_command(Command("p", "purge", "www", paths=paths).dump())
    long = tuple(f"/{number:01999}"[:2000] for number in range(messages.PATHS_MAX))
    with pytest.raises(FormError, match="bytes, and at most"):
        Command("p", "purge", "www", paths=long).dump()


@pytest.mark.parametrize(
    ("said", "members"),
    [
        ("edition: must be a whole number", {"edition": -1}),
        ("sequence: is missing", {"sequence": ...}),
        ("manifest: 'A", {"manifest": "A" * 64}),
        ("tree: is missing", {"tree": ...}),
        ("source: 2,001 characters", {"source": "x" * 2001}),
        ("trial: must be an object", {"trial": []}),
        ("trial.sequence: must be a whole number from 1", {"trial": NEW.form() | {"sequence": 0}}),
        ("trial.canaries[0]: must be a text", {"trial": NEW.form() | {"canaries": [1]}}),
        ("trial.sequence: 7, and 7 is released already", {"trial": NEW.form() | {"sequence": 7}}),
        ("earlier: must be a list", {"earlier": OLD.form()}),
        ("earlier.sequence: must be a whole number", {"earlier": [OLD.form() | {"sequence": 0}]}),
        ("earlier: 17, and at most 16", {"earlier": [OLD.form()] * 17}),
    ],
    ids=str,
)
def test_what_is_desired_is_refused_with_what_and_where(said: str, members: dict[str, Any]) -> None:
    with pytest.raises(FormError) as raised:
        Desired.parse(changed(Desired("www", 2, OLD, Trial(NEW)).dump(), **members))
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize(
    ("said", "members"),
    [
        ("stage: 'asleep'; accepted: empty, ", {"stage": "asleep"}),
        ("share: must be a number from 0 to 1, not 2", {"share": 2}),
        ("retry_s: must be a number from 0", {"retry_s": -1}),
        ("since: must be a whole number", {"since": -1}),
        ("live.manifest: is missing", {"live": {"rollout": "r", "sequence": 1}}),
        ("prepared: must be an object, not 1", {"prepared": 1}),
        ("done: 65, and at most 64", {"done": ["x"] * 65}),
        ("done: 'a b'; accepted", {"done": ["a b", "c"]}),
        ("boot: is missing", {"boot": ...}),
    ],
    ids=str,
)
def test_a_state_is_refused_with_what_and_where(said: str, members: dict[str, Any]) -> None:
    with pytest.raises(FormError) as raised:
        State.parse(changed(STATE.dump(), **members))
    assert str(raised.value).startswith(said)


def test_each_node_is_to_serve_the_release_or_as_a_canary_the_trial() -> None:
    desired = Desired("www", 2, OLD, Trial(NEW, frozenset({"n1"})))
    assert [desired.of_node(node) for node in ("n1", "n2")] == [NEW, OLD]
    assert Desired("www").of_node("n1") is None


def test_a_release_is_the_same_by_sequence_and_manifest() -> None:
    assert NEW.is_same(replace(NEW, rollout="again", source="x"))
    assert not NEW.is_same(replace(NEW, manifest="e" * 64))
    assert not NEW.is_same(replace(NEW, sequence=9))
    assert not NEW.is_same(None)


def test_an_old_state_is_told_by_its_boot_and_number() -> None:
    assert replace(STATE, number=2).is_older_than(STATE)
    assert STATE.is_older_than(STATE)
    assert not replace(STATE, number=4).is_older_than(STATE)
    assert not replace(STATE, number=1, boot="boot-2").is_older_than(STATE)


def test_a_reason_is_a_line_that_a_state_can_hold() -> None:
    assert reason(" a\nb\0c ") == "a b c"
    assert len(reason("x" * 1000)) == forms.REASON_CHARACTERS_MAX
    assert replace(STATE, error=reason("\n" * 9 + "é\x1b[0m" * 200)).dump()


def test_a_state_of_longest_parts_is_no_longer_than_a_message() -> None:
    release = Release("r" * 128, 2**53 - 1, "a" * 64, "b" * 64, "é" * 2000)
    state = State("s" * 63, "n" * 63, "b" * 128, 2**53 - 1, 0, "live", release, release, release)
    assert (
        State.parse(replace(state, done=("x" * 128,) * 64, aside=("y" * 128,) * 64, error="é" * 500).dump()).live
        == release
    )


def test_what_was_desired_before_is_kept_the_newest_first_and_each_once() -> None:
    releases = [replace(OLD, sequence=number, manifest=f"{number:064}") for number in range(1, 20)]
    desired = Desired("www")
    for edition, release in enumerate(releases, 1):
        desired = desired.committed(edition, release).committed(edition, release)
    assert desired.release == releases[-1]
    assert desired.earlier == tuple(releases[-2:-18:-1])
