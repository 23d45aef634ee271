"""What a key's text may be, where that is no kind of its own: checks that refuse, and read nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping

from zcserve.config.addresses import parse_listen
from zcserve.config.refusal import refusal

FIELD_VALUE_BYTES_MAX = 1000


def each(check: Callable[[str], object]) -> Callable[[tuple[str, ...]], None]:
    """The check of a list, from the check of one text."""

    def check_all(texts: tuple[str, ...]) -> None:
        for text in texts:
            check(text)

    return check_all


def check_field_value(value: str) -> None:
    """RFC 9110 section 5.5: visible ASCII and inner blanks; a CR or LF would start a header of its own. Raises
    UsageError, as all of these do."""
    if len(value) > FIELD_VALUE_BYTES_MAX or not re.fullmatch(r"(?:[!-~](?:[ -~]*[!-~])?)?", value):
        accepted = f"visible ASCII on one line, {FIELD_VALUE_BYTES_MAX} bytes"
        raise refusal(value, "cannot be a header's value", accepted)


def check_name(name: str) -> None:
    """The name of a file in any folder."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise refusal(name, "is not a file name", "names without a slash")


def check_log_path(path: str) -> None:
    """A path, or - for standard output."""
    if "\0" in path:
        raise refusal(path, "is not a path", "a file, or - for standard output")


def check_admin(text: str) -> None:
    """Where to listen, or nothing."""
    if text:
        parse_listen(text)


def real_roots(roots: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Where these lead now, and what they are called."""
    return {os.path.realpath(root): os.fspath(root) for root in roots}


def check_outside(file: str, roots: Mapping[str, str]) -> None:
    """A file that must not be served lies nowhere below a root (`real_roots`), also by way of symlinks."""
    place, below = os.path.realpath(file), ""
    while place != below:
        if place in roots:
            accepted = "a file elsewhere, such as /etc/zcserve/users"
            raise refusal(file, f"lies below {roots[place]!r}, which is served", accepted)
        place, below = os.path.dirname(place), place


def check_trusted(texts: tuple[str, ...]) -> None:
    """Addresses and networks of proxies."""
    from zcserve.forwarded import Trusted  # late: --help does not need it

    Trusted(texts)
