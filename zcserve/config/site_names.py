"""What the site is called that no table names. It imports nothing: a command that names a site needs no more."""

from __future__ import annotations

# The site at the top of the file, in the log, in figures and by an operator.
DEFAULT_NAME = "default"
