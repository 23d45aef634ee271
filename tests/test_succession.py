"""What a server does between the process before it and the one after it. Whole programs: wire/test_upgrade_live.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zcserve.errors import UsageError
from zcserve.succession import Succession


class Beginning:
    """A server that has started, and a process before it which lets it go. What the two do is written down."""

    def __init__(self, *, ended_at_look: int) -> None:
        """The server is told to end while it looks for changes so many times."""
        self.looks = 0
        self.succeeded = 0
        self._ended_at_look = ended_at_look
        content: Any = SimpleNamespace(catch_up=self._look, when_known=None)
        before: Any = SimpleNamespace(await_go=lambda is_stopping: not is_stopping(), succeed=self._succeed)
        nothing: Any = SimpleNamespace(store=None, loop=None)
        self.succession = Succession(
            before, listeners=(), loader=nothing, content=content, service=nothing, drain=nothing, stop=lambda: None
        )

    def _look(self) -> None:
        self.looks += 1

    def _succeed(self, *_: object) -> None:
        self.succeeded += 1

    def is_stopping(self) -> bool:
        return self.looks >= self._ended_at_look


@pytest.mark.parametrize("look", [1, 2])
def test_a_program_that_is_ended_while_it_looks_for_the_last_changes_does_not_take_over(look: int) -> None:
    here = Beginning(ended_at_look=look)
    with pytest.raises(UsageError, match="ended before it took over"):
        here.succession.begin(here.is_stopping)
    assert (here.looks, here.succeeded) == (look, 0)


def test_a_program_that_is_let_go_looks_for_changes_once_more_and_takes_over() -> None:
    here = Beginning(ended_at_look=3)
    here.succession.begin(here.is_stopping)
    assert (here.looks, here.succeeded) == (2, 1)
