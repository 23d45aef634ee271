"""The one error that ends a benchmark before it has measured anything."""

from __future__ import annotations


class BenchError(Exception):
    """Something is missing or was asked for wrongly; the text is one clear line (exit code 2)."""
