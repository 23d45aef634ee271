"""What a node knows of a site after its agent was started anew: a message to itself, kept beside the release folders.

The ids of purges are not in it: one that was done and comes again after a restart is done again, which does no harm,
and nothing has to be written for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zcserve.fleet import forms
from zcserve.fleet.messages import Desired, Release


@dataclass(frozen=True, slots=True)
class Memory:
    """
    desired  the last that was taken
    live     the release that was served last
    highest  the last that was live and desired of all nodes: nothing that is older is taken again
    has_gap  commands may have been missed, and the purge of all that makes up for them is not done
    """

    desired: Desired | None = None
    live: Release | None = None
    highest: Release | None = None
    has_gap: bool = False

    def dump(self) -> bytes:
        """Its message."""
        form: dict[str, Any] = {"desired": self.desired.dump().decode() if self.desired else None}
        form |= {name: part.form() if (part := getattr(self, name)) else None for name in ("live", "highest")}
        return forms.dump(form | {"gap": self.has_gap})

    @classmethod
    def parse(cls, data: bytes) -> Memory:
        """From its message. Raises FormError: the agent starts with none then, and says so."""
        form = forms.load(data)
        desired = form.get("desired")
        text = forms.text(desired, "desired", forms.MESSAGE_BYTES_MAX) if desired is not None else ""
        live, highest = (
            Release.of(forms.table(value, name)) if (value := form.get(name)) is not None else None
            for name in ("live", "highest")
        )
        has_gap = forms.switch(form.get("gap", False), "gap")
        return cls(Desired.parse(text.encode()) if text else None, live, highest, has_gap)
