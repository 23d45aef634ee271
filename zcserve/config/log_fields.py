"""Which fields stand behind a line of the access log (`--access-log-fields`)."""

from __future__ import annotations

from collections.abc import Iterable

from zcserve.config.refusal import refusal

# In the order in which they stand there.
LOG_FIELDS = ("host", "request_id", "duration")


def read_names(texts: Iterable[str]) -> tuple[str, ...]:
    """The names in texts such as "duration,host", each once, in the order of a line. Raises UsageError."""
    named = {name.strip() for text in texts for name in text.split(",")} - {""}
    for name in sorted(named):
        if name not in LOG_FIELDS:
            raise refusal(name, "is no field of a log's line", ", ".join(LOG_FIELDS))
    return tuple(name for name in LOG_FIELDS if name in named)
