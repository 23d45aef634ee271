"""What a node keeps of the bus: claims, what is desired, manifests and commands, over restarts."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.fleet import numbered
from zcserve.fleet import http_shelf
from zcserve.fleet.bus import ClaimHeldError, ConflictError, MissingError
from zcserve.fleet.forms import FormError
from zcserve.fleet.http_proposals import Proposal
from zcserve.fleet.http_shelf import FullError, Shelf
from zcserve.fleet.keeping import Kept
from zcserve.fleet.messages import Command, Desired, Trial


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(str(tmp_path))


def full(name: str, data: bytes) -> None:
    """A disk without room."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_claim_is_one_holders_until_it_ends(kept: Kept) -> None:
    shelf = Shelf(kept, "www", 0.0)
    assert shelf.holder(0.0) == ("", 0.0)
    shelf.give("a", "1", 60.0, 0.0, renew=False)
    with pytest.raises(ClaimHeldError) as raised:
        shelf.give("b", "2", 60.0, 20.0, renew=False)
    assert (raised.value.holder, raised.value.left_s) == ("a", 40.0)
    shelf.give("a", "1", 60.0, 20.0, renew=True)
    assert shelf.holder(30.0) == ("a", 50.0)
    shelf.give("a", "3", 60.0, 30.0, renew=False)  # the same rollout, begun again
    with pytest.raises(ClaimHeldError):
        shelf.give("a", "1", 60.0, 31.0, renew=True)
    shelf.take_back("1", 32.0)
    assert shelf.holder(32.0) == ("a", 58.0)
    shelf = Shelf(kept, "www", 1000.0)  # it may have been given up meanwhile
    assert shelf.holder(1000.0) == ("", 0.0)
    shelf.give("a", "3", 60.0, 1000.0, renew=True)
    assert shelf.holder(1000.0) == ("a", 60.0)
    shelf.take_back("3", 1001.0)
    assert shelf.holder(1001.0) == ("", 0.0)
    shelf.give("b", "2", 60.0, 1002.0, renew=False)
    shelf.give("b", "2", 60.0, 1100.0, renew=True)  # it had ended, and nothing else has taken it
    assert shelf.holder(1101.0) == ("b", 59.0)
    for bad in (("?", "1", 60.0), ("a", "", 60.0), ("a", "1", 1e9), ("a", "1", -1.0)):
        with pytest.raises(FormError):
            shelf.give(*bad, 2000.0, renew=False)


def test_claims_are_numbered_and_one_that_most_nodes_have_given_takes_the_place_of_a_lower_one(kept: Kept) -> None:
    shelf = Shelf(kept, "www", 0.0)
    assert shelf.number == 0
    assert shelf.give("a", "1", 60.0, 0.0) == 1
    assert shelf.give("a", "1", 60.0, 1.0, renew=True) == 1
    assert shelf.give("a", "2", 60.0, 2.0) == 2
    with pytest.raises(ClaimHeldError):
        shelf.give("b", "3", 60.0, 3.0, number=2)
    assert shelf.give("b", "3", 60.0, 4.0, renew=True, number=7) == 7
    assert shelf.holder(4.0) == ("b", 60.0)
    shelf = Shelf(kept, "www", 5.0)
    assert shelf.number == 7
    assert shelf.give("b", "3", 60.0, 5.0, number=3) == 7
    shelf.take_back("3", 6.0)
    assert Shelf(kept, "www", 7.0).give("a", "4", 60.0, 7.0) == 8
    kept.write("claim.json", b'{"holder": "a", "token": "1", "lasts_s": 60.0}')  # an older agent's
    assert Shelf(kept, "www", 8.0).give("a", "5", 60.0, 8.0) == 1
    with pytest.raises(FormError):
        shelf.give("a", "1", 60.0, 9.0, number=-1)


def test_what_is_desired_is_the_last_claims_and_goes_up(kept: Kept) -> None:
    shelf = Shelf(kept, "www", 0.0)
    first, second = Desired("www", 3, numbered(1)), Desired("www", 5, numbered(1), Trial(numbered(2)))
    with pytest.raises(ClaimHeldError):
        shelf.put_desired(first, "1", 0.0)
    shelf.give("a", "1", 60.0, 0.0, renew=False)
    shelf.put_desired(first, "1", 100.0)  # it has ended, but none was given since
    shelf.put_desired(second, "1", 100.0)
    shelf.give("b", "2", 60.0, 100.0, renew=False)
    with pytest.raises(ClaimHeldError):
        shelf.put_desired(replace(second, edition=6), "1", 100.0)
    shelf.put_desired(second, "1", 100.0)  # is stored already
    for lower in (first, replace(second, trial=None)):
        with pytest.raises(ConflictError) as raised:
            shelf.put_desired(lower, "2", 100.0)
        assert raised.value.stored == second
    with pytest.raises(FormError, match="this node is of www"):
        shelf.put_desired(Desired("blog", 9), "2", 100.0)
    assert Shelf(kept, "www", 0.0).desired == second


def test_what_is_proposed_is_kept_aside_until_it_or_another_is_desired(kept: Kept) -> None:
    shelf = Shelf(kept, "www", 0.0)
    proposal = Proposal(0, Desired("www", 3, numbered(1)))
    with pytest.raises(ClaimHeldError):
        shelf.propose(proposal, "1", 0.0)
    shelf.give("a", "1", 60.0, 0.0, renew=False, number=4)
    shelf.propose(proposal, "1", 0.0)
    proposal = replace(proposal, number=4)  # that of its claim
    assert (shelf.desired.edition, shelf.proposal()) == (0, proposal)
    for number in (3, 5):
        with pytest.raises(ClaimHeldError):
            shelf.propose(replace(proposal, number=number), "1", 0.0)
    shelf.propose(proposal, "1", 0.0)
    assert Shelf(kept, "www", 0.0).proposal() == proposal
    shelf.put_desired(proposal.desired, "1", 0.0)
    shelf.propose(proposal, "1", 0.0)  # it is that already
    assert shelf.proposal() is None
    with pytest.raises(ConflictError):
        shelf.propose(Proposal(0, Desired("www", 2)), "1", 0.0)
    kept.write("proposed", b"half")
    assert Shelf(kept, "www", 0.0).proposal() is None


@pytest.mark.parametrize("data", [b"half", b"{}", b"", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_what_cannot_be_read_any_more_begins_anew(kept: Kept, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    for name in ("desired.json", "claim.json", "aside/000000000001"):
        kept.write(name, data)
    shelf = Shelf(kept, "www", 0.0)
    assert (shelf.desired, shelf.holder(0.0)) == (Desired("www"), ("", 0.0))
    assert shelf.aside() == ([{}] if data == b"{}" else [])
    assert "is not known any more" in caplog.text


def test_commands_are_kept_until_they_are_over(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_shelf, "COMMANDS_MAX", 3)
    monkeypatch.setattr(http_shelf, "ASIDE_MAX", 1)
    shelf = Shelf(kept, "www", 0.0)
    purges = [Command(f"p{number}", "purge", "www", prefix="/") for number in range(4)]
    for one in (purges[1], purges[0], purges[1]):
        shelf.append(one.dump())
    shelf.append(b"odd")
    with pytest.raises(FullError):
        shelf.append(purges[3].dump())
    shelf = Shelf(kept, "www", 0.0)
    odd = [*shelf.waiting][2]
    assert [*shelf.waiting] == ["p1", "p0", odd]
    assert shelf.waiting["p1"] == purges[1]
    shelf.settle("p1")
    shelf.settle("p1")
    shelf.set_aside("p0", "not now")
    shelf.set_aside(odd, "no JSON")
    shelf.set_aside(odd, "no JSON")
    shelf.append(purges[1].dump())  # its answer was lost
    assert not shelf.waiting
    shelf = Shelf(kept, "www", 0.0)
    assert not shelf.waiting
    assert shelf.aside() == [{"name": odd, "reason": "no JSON", "message": "odd"}]
    shelf.append(purges[2].dump())
    assert [*shelf.waiting] == ["p2"]


def test_a_command_waits_where_the_disk_does_not_take_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(kept, "www", 0.0)
    purges = [Command(f"p{number}", "purge", "www", prefix="/").dump() for number in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(kept, "write", full)
        for purge in purges:
            with pytest.raises(OSError, match="No space"):
                shelf.append(purge)
        with pytest.raises(OSError, match="No space"):
            shelf.append(purges[0])  # it comes again, and is not kept yet
        assert [*shelf.waiting] == ["p0", "p1", "p2"]
        shelf.settle("p0")
        shelf.set_aside("p1", "not now")
        shelf.append(purges[0])  # it is over
    shelf.append(purges[2])
    assert [*shelf.waiting] == ["p2"]
    assert [*Shelf(kept, "www", 0.0).waiting] == ["p2"]


def test_what_is_desired_holds_where_the_disk_does_not_take_it(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = numbered(1)
    shelf, desired = Shelf(kept, "www", 0.0), Desired("www", 1, wanted)
    others = [f"{number:064x}" for number in (10, 11)]

    def put() -> None:
        puts: list[Callable[[], object]] = [partial(shelf.give, "a", "1", 60.0, 0.0, renew=False)]
        puts += [partial(shelf.put_manifest, name, b"old") for name in others]
        puts += [
            partial(shelf.put_manifest, wanted.manifest, b"manifest"),
            partial(shelf.put_desired, desired, "1", 0.0),
        ]
        for what in puts:
            with pytest.raises(OSError, match="No space"):
                what()

    with monkeypatch.context() as patch:
        patch.setattr(kept, "write", full)
        put()
        put()  # it is told again, and still not kept
        with pytest.raises(OSError, match="No space"):
            shelf.propose(Proposal(1, Desired("www", 2)), "1", 0.0)
        assert shelf.proposal() is None
        with pytest.raises(MissingError):
            shelf.manifest(others[0])  # two are held
        assert (shelf.desired, shelf.manifest(wanted.manifest), shelf.holder(1.0)) == (
            desired,
            b"manifest",
            ("a", 59.0),
        )
        with pytest.raises(OSError, match="No space"):
            shelf.keep_again()
        assert shelf.has_unkept
    anew = Shelf(kept, "www", 0.0)
    assert (anew.desired.edition, anew.holder(1.0)) == (0, ("", 0.0))
    shelf.keep_again()
    assert not shelf.has_unkept
    anew = Shelf(kept, "www", 0.0)
    assert (anew.desired, anew.manifest(wanted.manifest), anew.number) == (desired, b"manifest", 1)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "write", full)
        with pytest.raises(OSError, match="No space"):
            shelf.take_back("1", 2.0)
        with pytest.raises(OSError, match="No space"):
            shelf.adopt(Desired("www", 3, wanted))
        assert (shelf.holder(3.0), shelf.desired.edition) == (("", 0.0), 3)


def test_a_file_of_another_name_is_left_alone(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(kept, "www", 0.0)
    shelf.append(Command("p0", "purge", "www", prefix="/").dump())
    for name in ("commands/000000000001~", "aside/notes"):
        kept.write(name, b"by hand")
    shelf = Shelf(kept, "www", 0.0)
    assert [*shelf.waiting] == ["p0"]
    assert "commands/000000000001~ is none of the agent's own" in caplog.text
    shelf.set_aside("p0", "not now")
    assert [one["name"] for one in shelf.aside()] == ["p0"]


def test_manifests_are_kept_and_the_oldest_go(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_shelf, "MANIFESTS_MAX", 3)
    shelf = Shelf(kept, "www", 0.0)
    wanted = numbered(1)
    shelf.give("a", "1", 60.0, 0.0, renew=False)
    shelf.put_desired(Desired("www", 1, wanted), "1", 0.0)
    shelf.put_manifest(wanted.manifest, b"wanted")
    names = [f"{number:064x}" for number in range(10, 14)]
    for name in names:
        shelf.put_manifest(name, name.encode())
    assert shelf.manifest(wanted.manifest) == b"wanted"
    assert shelf.manifest(names[3]) == names[3].encode()
    for name in names[:2]:
        with pytest.raises(MissingError):
            shelf.manifest(name)
    with pytest.raises(FormError):
        shelf.manifest("../../token")


def test_the_last_purges_are_known_by_their_ids(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zcserve.fleet.http_shelf.PURGES_MAX", 2)
    shelf = Shelf(kept, "www", 0.0)
    for name in ("a", "b", "c"):
        shelf.append(Command(name, "purge", "www", prefix="/").dump())
    shelf.settle("c")
    assert [*shelf.purges] == ["b", "c"]
    assert [*Shelf(kept, "www", 0.0).purges] == ["a", "b"]  # those that wait; what is over is not known any more
