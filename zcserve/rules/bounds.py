"""Bounds of what rules say, and the names of the files of a root that hold them.

It imports nothing. What reads a manifest has the same bounds, and is not to wait for what compiles rules.
"""

from __future__ import annotations

# Of what is loaded first. Files that no rule says it of have 0.
PRIORITY_MIN, PRIORITY_MAX = -100, 100
# CDNs take 1,024 characters a tag, and names so long are of no use to people.
TAG_CHARACTERS_MAX = 100
# Files of a root that hold rules, and are not served.
HEADERS_FILE, REDIRECTS_FILE = "_headers", "_redirects"
FILES = (HEADERS_FILE.encode(), REDIRECTS_FILE.encode())
