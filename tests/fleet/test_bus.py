"""What a bus says when it cannot: the rest of it is a contract, which test_http_bus.py and test_nats_bus.py hold their
own to."""

from __future__ import annotations

from zcserve.fleet.bus import BusError, ClaimHeldError, ConflictError
from zcserve.fleet.messages import Desired


def test_a_claim_that_is_held_says_by_which_and_for_how_long() -> None:
    error = ClaimHeldError("www-8", 41.4)
    assert isinstance(error, BusError)
    assert (error.holder, error.left_s) == ("www-8", 41.4)
    assert str(error) == "www-8 has the site, for 41 s at least unless it ends before"


def test_a_conflict_has_what_is_stored() -> None:
    error = ConflictError(Desired("www", 5))
    assert error.stored.edition == 5
    assert str(error) == "edition 5 was written meanwhile"
