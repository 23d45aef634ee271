"""The rules of a site as they are configured, and what becomes of them with those that its root brings.

What the TOML file says is read once; `Rules` are compiled anew only where the root's own files are others.
"""

from __future__ import annotations

from zcserve.config.table import Config
from zcserve.config.tables import tables_of
from zcserve.rules.compiled import Rules
from zcserve.rules.preset import presets
from zcserve.rules.reading import header_rules


class Rulebook:
    """What is configured. Any one thread at a time."""

    def __init__(self, config: Config) -> None:
        """Raises UsageError, with file, line and column."""
        self._cache_control = config.cache_control
        self._presets = presets(secure=config.secure_headers, immutable=config.immutable)
        self._written = header_rules(tables_of(config.rules, ("rules",)))
        self._last = self._compiled()

    def _compiled(self) -> Rules:
        return Rules((*self._presets, *self._written), self._cache_control)

    def rules(self) -> Rules:
        """The rules that hold now: the same object while nothing is another."""
        return self._last
