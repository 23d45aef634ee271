"""A release is prepared: what is shared, what is given back, what the flip finds."""

from __future__ import annotations
