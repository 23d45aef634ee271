"""`[[rules]]` and `[[redirects]]` of the TOML file -> header rules and redirects. What is wrong is a UsageError with
file, line and column.

    [[rules]]
    path = "/assets/**"                  # a glob, or a list of globs
    set = { X-A = "b" }                  # instead of what was there; a list of values makes several lines
    add = { Link = ["</a.css>; rel=preload; as=style"] }
    remove = ["X-Frame-Options"]
    type = "text/plain"                  # and charset = "utf-8" or "none"
    immutable = true                     # for names with a hash
    download = true                      # or the name to save it by
    preload = ["/fonts/a.woff2"]         # as Link
    tags = ["fonts", "css"]              # for purges
    priority = 10                        # of loading, -100 to 100
    cors = "*"                           # cors.py; or { origins = ["https://a.example"], max_age = "1h" }
    listing = true                       # of directories without an index

    [[redirects]]
    from = "/old/*"                      # patterns.py
    to = "/new/:splat"                   # targets.py
    status = 301                         # 302 303 307 308; 200 is a rewrite; 403 404 410 451 an error
    query = { id = ":id" }               # what must stand in the query
    force = false                        # also where a file lies
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from zcserve.config.globs import check_glob
from zcserve.config.option import toml_type
from zcserve.config.refusal import refusal
from zcserve.config.tables import Table
from zcserve.errors import UsageError
from zcserve.http import FieldLines
from zcserve.media_types import MEDIA_TYPES, check_charset, check_type
from zcserve.rules.bounds import PRIORITY_MAX, PRIORITY_MIN
from zcserve.rules.cors import ALLOW_ORIGIN, read_cors
from zcserve.rules.redirects import Redirect, parse_redirect
from zcserve.rules.rule import HeaderRule, check_length, check_name, check_value
from zcserve.rules.tagged import TAGS_MAX, check_tag
from zcserve.rules.where import RuleError, Where

WORDS = (
    "path", "set", "add", "remove", "type", "charset", "immutable", "download", "preload", "tags", "priority", "cors",
    "listing",
)  # fmt: skip
REDIRECT_WORDS = ("from", "to", "status", "query", "force")
# Words of others, and what is written here instead.
_CACHE = "set = { Cache-Control = 'max-age=3600' }"
_MEANT = {
    **dict.fromkeys(("for", "glob", "globs", "paths", "source", "match", "pattern", "location", "url"), "path"),
    **dict.fromkeys(("headers", "header", "values", "add_header"), "set = { NAME = 'VALUE' }"),
    **dict.fromkeys(("max_age", "cache", "cache_control", "expires", "ttl"), _CACHE),
    **dict.fromkeys(("unset", "delete", "hide"), "remove"),
    **dict.fromkeys(("content_type", "mime"), "type"),
    **dict.fromkeys(("filename", "attachment"), "download"),
    "tag": "tags",
    "autoindex": "listing",
}
_MEANT_BY_REDIRECTS = {
    **dict.fromkeys(("source", "src", "path", "match", "url"), "from"),
    **dict.fromkeys(("destination", "dest", "target", "location"), "to"),
    **dict.fromkeys(("code", "permanent", "type", "statuscode", "status_code"), "status = 301, or another one"),
    **dict.fromkeys(
        ("conditions", "has", "params", "parameters"), "query = { NAME = 'VALUE' }; nothing else is matched"
    ),
}
# So many globs of one rule: more are several rules.
GLOBS_MAX = 100
_DISPOSITION_NAME_MAX = 200


def header_rules(tables: Iterable[Table]) -> tuple[HeaderRule, ...]:
    """The rules of these tables, in the order in which they are written. Raises UsageError."""
    return tuple(map(_rule, tables))


def _rule(table: Table) -> HeaderRule:
    table.require(WORDS, _MEANT)
    if "path" not in table:
        raise UsageError(f"{table.where()}: a rule without a path; accepted: path = '/assets/**', or a list")
    if len(table) == 1:
        raise UsageError(f"{table.where()}: a rule that does nothing; accepted: one of {', '.join(WORDS[1:])}")
    content_type = table.checked("type", _type) if "type" in table else ""
    charset = table.checked("charset", _charset) if "charset" in table else ""
    set_lines: FieldLines = ()
    for name, value in _lines(table, "set"):
        if name.lower() == b"content-type":
            content_type = content_type or table.checked("set", _type, name.decode())
        else:
            set_lines += ((name, value),)
    if "download" in table:
        set_lines += ((b"Content-Disposition", table.checked("download", disposition)),)
    added = _lines(table, "add")
    if "preload" in table:
        added += tuple((b"Link", link) for link in _each(table, "preload", preload_link))
    rule = HeaderRule(
        globs=globs_of(table),
        remove=tuple(name.lower() for name in _each(table, "remove", lambda name: check_name(name, verb="remove"))),
        set=set_lines,
        add=added,
        content_type=content_type,
        charset=charset,
        immutable=table.checked("immutable", _switch) if "immutable" in table else False,
        tags=_tags(table),
        priority=table.checked("priority", _priority) if "priority" in table else None,
        cors=read_cors(table) if "cors" in table else None,
        listing=table.checked("listing", _switch) if "listing" in table else None,
        written=table,
    )
    origins = sum(name.lower() == ALLOW_ORIGIN.lower() for name, _ in (*rule.set, *rule.add))
    if origins and rule.cors is not None:
        raise UsageError(f"{table.where('cors')}: the rule says {ALLOW_ORIGIN.decode()} itself; accepted: one of both")
    if origins > 1:
        accepted = "one value, or cors with a list of origins"
        raise UsageError(f"{table.where()}: {ALLOW_ORIGIN.decode()} {origins} times; accepted: {accepted}")
    try:
        check_length((*rule.set, *rule.add, *(rule.cors.lines_of_most if rule.cors is not None else ())))
    except UsageError as error:
        raise table.refuse(error) from None
    return rule


def redirects(tables: Iterable[Table]) -> tuple[Redirect, ...]:
    """The redirects of these tables, in the order in which they are written. Raises UsageError."""
    return tuple(map(_redirect, tables))


def _redirect(table: Table) -> Redirect:
    table.require(REDIRECT_WORDS, _MEANT_BY_REDIRECTS)
    if "from" not in table:
        raise UsageError(f"{table.where()}: a redirect without a from; accepted: from = '/old/*'")
    query = table.checked("query", _texts_by_name) if "query" in table else None
    try:
        return parse_redirect(
            table.checked("from", _text),
            table.checked("to", _text) if "to" in table else "",
            status=table.checked("status", _number) if "status" in table else 301,
            force=table.checked("force", _switch) if "force" in table else False,
            query=query,
            where=Where(*table.position()),
        )
    except RuleError as error:
        raise table.refuse(error, *((error.part,) if error.part != "rule" else ())) from None


def _texts_by_name(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise refusal(value, "is no table of texts", 'names and values: { id = ":id" }')
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise refusal(value, f"is {toml_type(value)}", "a status such as 301")
    return value


def globs_of(table: Table) -> tuple[str, ...]:
    """What a table says under `path`. Raises UsageError."""
    globs = _each(table, "path", check_glob)
    if not 1 <= len(globs) <= GLOBS_MAX:
        raise UsageError(f"{table.where('path')}: {len(globs)} patterns; accepted: 1 to {GLOBS_MAX}")
    return globs


def _tags(table: Table) -> tuple[str, ...]:
    tags = _each(table, "tags", check_tag)
    if len(tags) > TAGS_MAX:
        raise UsageError(f"{table.where('tags')}: {len(tags)} tags; accepted: up to {TAGS_MAX}")
    return tags


def _priority(value: object) -> int:
    accepted = f"a whole number, from {PRIORITY_MIN} to {PRIORITY_MAX}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise refusal(value, f"is {toml_type(value)}", accepted)
    if not PRIORITY_MIN <= value <= PRIORITY_MAX:
        raise refusal(value, "is no priority", accepted)
    return value


def _each(table: Table, word: str, check: Callable[[Any], Any]) -> tuple[Any, ...]:
    """What `check` makes of each text of a list, or of one text alone."""
    if word not in table:
        return ()
    value = table[word]
    if isinstance(value, str):
        return (table.checked(word, check),)
    table.checked(word, _require_texts)
    return tuple(table.checked(word, check, number) for number in range(len(value)))


def _lines(table: Table, verb: str) -> FieldLines:
    """The field lines of `set` or `add`."""
    if verb not in table:
        return ()
    table.checked(verb, _require_table)
    lines: list[tuple[bytes, bytes]] = []
    for name, value in table[verb].items():
        try:
            raw = check_name(name, verb=verb)
        except UsageError as error:
            raise table.refuse(error, verb, name) from None
        if any(raw.lower() == other.lower() != other for other, _ in lines if other != raw):
            raise UsageError(f"{table.where(verb, name)}: the same field twice; accepted: one list of values")
        if isinstance(value, list):
            lines += [(raw, table.checked(verb, check_value, name, number)) for number in range(len(value))]
        else:
            lines.append((raw, table.checked(verb, check_value, name)))
    return tuple(lines)


def _require_table(value: object) -> None:
    if not isinstance(value, dict):
        raise refusal(value, "is no table", 'names and values: { X-A = "b" }')


def _require_texts(value: object) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise refusal(value, "is no list of texts", 'texts: ["a", "b"]')


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise refusal(value, f"is {toml_type(value)}", "a text")
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise refusal(value, f"is {toml_type(value)}", "true or false")
    return value


def _type(value: object) -> str:
    text = _text(value).strip()
    check_type(text)
    return text


def _charset(value: object) -> str:
    text = _text(value)
    check_charset(text)
    return text


def disposition(value: object) -> bytes:
    """Content-Disposition's value (RFC 6266): true saves the file by its own name, a text by that."""
    if value is True:
        return b"attachment"
    accepted = f"true, or a file name of at most {_DISPOSITION_NAME_MAX} characters without / \\ and quotes"
    if not isinstance(value, str) or not 1 <= len(value) <= _DISPOSITION_NAME_MAX or not value.isprintable():
        raise refusal(value, "is no file name", accepted)
    if set(value) & set('/\\"') or value in (".", ".."):
        raise refusal(value, "is no file name", accepted)
    if value.isascii():
        return b'attachment; filename="%b"' % value.encode()
    plain = "".join(one if one.isascii() else "_" for one in value)
    coded = quote(value, safe="!#$&+-.^_`|~")  # RFC 8187 section 3.2.1
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{coded}".encode()


# By the beginning of a type, what a link to it is preloaded as (the HTML standard's destinations).
_DESTINATIONS = {"text/css": "style", "text/javascript": "script", "font/": "font", "image/": "image"}


def preload_link(target: object) -> bytes:
    """Link's value (RFC 8288) that has a client ask for `target`, a path or URL, at once."""
    accepted = "paths such as /fonts/a.woff2, of style sheets, scripts, fonts and images"
    if not isinstance(target, str) or not target.isascii() or set(target) & set('<>" ,;') or not target.isprintable():
        raise refusal(target, "is not a path", accepted)
    kind = MEDIA_TYPES.of(target.partition("?")[0])
    for begin, destination in _DESTINATIONS.items():
        if kind.startswith(begin):
            anonymous = "; crossorigin" if destination == "font" else ""  # else a font is loaded twice
            return check_value(f"<{target}>; rel=preload; as={destination}{anonymous}")
    raise refusal(target, "cannot be preloaded: its type is none that browsers preload", accepted)
