"""Redirects as they are told in docs/rules.md, and no faster than that: each rule is tried in order, by a regular
expression made of its text. What zcserve.rules compiles must answer the same."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes, unquote_to_bytes

# What stands for itself in a path, besides letters, digits and -._~
_PATH = "!$&'()*+,;=:@/"
_VALUE = "!$'()*,:@/"


@dataclass
class Rule:
    """One rule as it is written. The texts are simple: ASCII, without percent signs but for whole escapes."""

    source: str
    target: str
    status: int = 301
    query: dict[str, str] = field(default_factory=dict)
    force: bool = False
    strict: bool = False


def asked(
    rules: list[Rule], files: set[str], servlets: set[str], method: str, key: str, query: str
) -> tuple[str, bool] | None:
    """What a servlet is asked for, and whether a rule leads there; None: a file, a rule or nothing answers."""
    reads = method in ("GET", "HEAD")
    found = answer(rules, key, query)
    rule, leads_to = (rules[found[0]], found[2]) if found is not None else (None, "")
    path = leads_to.partition("?")[0]
    led = (
        (leads_to, True) if rule and rule.status == 200 and path in servlets and not (reads and path in files) else None
    )
    if rule is not None and rule.force and (led or reads):
        return led
    if reads and key in files:
        return None
    return (key + (f"?{query}" if query else ""), False) if key in servlets else led


def error_page(tables: list[dict[str, str]], status: int, files: set[str]) -> str | None:
    """The path of the page for a status."""
    for table in tables:
        for word in (str(status), f"{status // 100}xx"):
            if table.get(word) in files:
                return table[word]
    return f"/{status}.html" if f"/{status}.html" in files else None


def answer(rules: list[Rule], key: str, query: str = "") -> tuple[int, int, str] | None:
    """The number of the rule that answers, the status, and where it leads."""
    for number, rule in enumerate(rules):
        taken = _match_path(rule.source, key, strict=rule.strict)
        given = _match_query(rule.query, query)
        if taken is None or given is None:
            continue
        leads_to = _fill(rule, taken | given, query) if rule.target else ""
        if rule.status // 100 == 3 and leads_to.partition("#")[0] == key + ("?" + _sent(query) if query else ""):
            continue
        return number, rule.status, leads_to
    return None


def _key(path: str) -> str:
    """The key of a path: decoded, without doubled slashes and dot segments, encoded again."""
    kept: list[bytes] = []
    for segment in unquote_to_bytes(path).split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    return "/" + "/".join(quote_from_bytes(segment, _PATH) for segment in kept)


def _match_path(source: str, key: str, *, strict: bool) -> dict[str, bytes] | None:
    """What the pattern takes of a key."""
    before, star, behind = source.partition("*")
    if not star:
        expression = _expression(_key(before)) + ("/?" if not strict else "/" * (source.endswith("/") and key != "/"))
    elif before.endswith("/") and not behind.strip("/"):
        expression = _expression(_key(before)).rstrip("/") + ("/(?P<splat>.*)" if strict else "(?:/(?P<splat>.*))?")
    else:
        folder, _, prefix = before.rpartition("/")
        suffix = re.sub("/+", "/", behind).removesuffix("/")
        expression = _expression(_key(folder + "/")).rstrip("/") + "/" + re.escape(_quoted(prefix)) + "(?P<splat>.*)"
        end = "/?" if not strict else "/" * source.endswith("/")
        expression += re.escape(_quoted(suffix)) + (end if suffix else "")
    match = re.fullmatch(expression, key, re.DOTALL)
    if match is None:
        return None
    taken = {name: value or "" for name, value in match.groupdict().items()}
    if {*taken.get("splat", "").split("/")} & {".", ".."}:
        return None
    return {name: unquote_to_bytes(value) for name, value in taken.items()}


def _quoted(text: str) -> str:
    return quote_from_bytes(unquote_to_bytes(text), _PATH)


def _expression(path: str) -> str:
    pieces = [
        f"(?P<{segment[1:]}>[^/]+)" if re.fullmatch(":[A-Za-z][A-Za-z0-9_]*", segment) else re.escape(segment)
        for segment in path.split("/")
    ]
    return "/".join(pieces)


def _match_query(wanted: dict[str, str], query: str) -> dict[str, bytes] | None:
    there: dict[bytes, bytes] = {}
    for pair in query.replace("+", " ").split("&"):
        name, _, value = pair.partition("=")
        there.setdefault(unquote_to_bytes(name), unquote_to_bytes(value))
    taken: dict[str, bytes] = {}
    for name, value in wanted.items():
        found = there.get(name.encode())
        if value.startswith(":"):
            if found is None or found in (b"", b".", b"..") or b"/" in found or b"\0" in found:
                return None
            taken[value[1:]] = found
        elif found != value.encode():
            return None
    return taken


def _fill(rule: Rule, taken: dict[str, bytes], query: str) -> str:
    rest, _, fragment = rule.target.partition("#")
    path, mark, own = rest.partition("?")
    path = _put(path, taken, _PATH)
    if path.startswith("/"):
        path = re.sub("/{2,}", "/", path)
    asks = _put(own, taken, _VALUE) if mark or rule.query else _sent(query)
    return path + (f"?{asks}" if asks else "") + (f"#{_put(fragment, taken, _PATH)}" if fragment else "")


def _sent(query: str) -> str:
    return quote_from_bytes(query.encode(), "/?:@!$&'()*+,;=%")


def _put(text: str, taken: dict[str, bytes], safe: str) -> str:
    names = "|".join(taken) or "(?!)"
    return re.sub(f":({names})(?![A-Za-z0-9_])", lambda match: quote_from_bytes(taken[match[1]], safe), text)
