"""Where values come from: flags, the environment and a TOML file, made into one `Config`.

The only module of this package that reads a file: the one that it is told to read.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from zcserve.config.keys import BY_WORD, KEYS, Key
from zcserve.config.option import TEXTS
from zcserve.config.table import TABLES, Config
from zcserve.config.tables import Source
from zcserve.errors import UsageError, nearest, reason_of

SITES = "sites"  # the tables of a file that are no keys, and no list
ENV_CONFIG_FILE = "ZCSERVE_CONFIG"  # names the TOML file, as --config does; not a key itself
_ENV_PREFIX = "ZCSERVE_"
_BY_VARIABLE = {_ENV_PREFIX + word.upper(): key for word, key in BY_WORD.items()}

# Between the texts of a list in the environment; one in parentheses stands between the arguments of a factory.
_COMMA = re.compile(r",(?![^()]*\))")

# Names with the prefix that are no keys: Kubernetes puts SERVICE_HOST, PORT_80_TCP and the like
# into the environment beside a service called "zcserve"; builds and tests have theirs.
_ENV_FOREIGN = re.compile(
    r"ZCSERVE_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP)(_\w+)?|NAME|ENV_\w+|BUILD_\w+|TEST_\w+)"
)


def load(flags: Mapping[str, object], environ: Mapping[str, str], toml_path: str | Path | None = None) -> Config:
    """One Config from three places: `flags` (by key) win over `environ`, which wins over the file.

    A host or port set higher up replaces a `listen` from further down, and the other way round. A relative path starts
    at the working directory, also in the file. Raises UsageError that names the flag, the variable, or the file and
    key.
    """
    layers = [_from_file(toml_path)] if toml_path is not None else []
    layers += [_from_environ(environ), _from_flags(flags)]
    if toml_path is not None:
        _require_root(layers, toml_path)
        _place(layers)
    merged: dict[str, Any] = {}
    for layer in layers:
        if "listen" not in layer and ("host" in layer or "port" in layer):
            merged.pop("listen", None)
        elif "listen" in layer:
            merged = {name: value for name, value in merged.items() if name not in ("host", "port")}
        merged |= layer
    return Config(**merged)


def _require_root(layers: list[dict[str, Any]], path: str | Path) -> None:
    """Raises UsageError where the root is nowhere, and there are no sites."""
    if not any("root" in layer for layer in layers) and SITES not in layers[0]:
        accepted = 'root = "DIR" there, above all tables; or zcserve --root DIR'
        raise UsageError(f"{path}:1:1: no root given: the file has none, and no sites; accepted: {accepted}")


def _place(layers: list[dict[str, Any]]) -> None:
    """Have lines about a key name the file where its value is the file's."""
    first, *others = layers
    first["places"] = {key: where for key, where in first["places"].items() if not any(key in one for one in others)}


def look_up(names: Collection[str], toml_path: str | Path) -> dict[str, Any]:
    """Those of some keys that a file has, whatever else stands there: for a program that is not the server. Raises
    UsageError."""
    values, _ = _read_toml(toml_path)
    given = {word: value for word, value in values.items() if word in names}
    return {word: BY_WORD[word].option.accept_as(f"{toml_path}: {word}", value) for word, value in given.items()}


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    return {name: KEYS[name].option.accept_as(KEYS[name].flag, value) for name, value in flags.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    def unknown(variable: str) -> str:
        known = nearest(variable, [*_BY_VARIABLE, ENV_CONFIG_FILE])
        return f"unknown environment variable {variable}; the nearest known is {known}"

    given = {variable: _listed(variable, text) for variable, text in environ.items() if _is_meant(variable, text)}
    return _by_key(given, _BY_VARIABLE, unknown)


def _is_meant(variable: str, text: str) -> bool:
    """Whether a variable is to be understood: it has the prefix and a value, and is not made for something else."""
    if not variable.startswith(_ENV_PREFIX) or variable == ENV_CONFIG_FILE or not text:
        return False
    if variable == "ZCSERVE_PORT" and text.startswith(("tcp:", "udp:")):  # Kubernetes, too
        return False
    return not _ENV_FOREIGN.fullmatch(variable)


def _listed(variable: str, text: str) -> str | list[str]:
    """The text of a variable, divided at its commas where its key is a list."""
    key = _BY_VARIABLE.get(variable)
    return [item.strip() for item in _COMMA.split(text)] if key and key.option.kind is TEXTS else text


def _from_file(path: str | Path) -> dict[str, Any]:
    def unknown(word: str) -> str:
        from zcserve.config.words import about_unknown  # late: only a mistake needs it

        return about_unknown(word, [*BY_WORD, *TABLES, SITES])

    values, source = _read_toml(path)
    tables: dict[str, Any] = {
        word: read(values.pop(word), (word,), source) for word, read in TABLES.items() if word in values
    }
    if SITES in values:
        from zcserve.config.sites import read_sites  # late: most servers have one

        tables[SITES] = read_sites(values.pop(SITES), source)
    tables["places"] = {BY_WORD[word].name: f"{source.where((word,))}: " for word in values if word in BY_WORD}
    return _by_key(values, BY_WORD, unknown, where=lambda word: f"{source.where((word,))}: ") | tables


def _by_key(
    given: Mapping[str, object],
    known: Mapping[str, Key],
    unknown: Callable[[str], str],
    where: Callable[[str], str] = lambda _: "",
) -> dict[str, Any]:
    """The accepted values by the names of their keys, from values by the words of one place.

    Raises UsageError, which begins with `where` the word stands, for the first word that no key has (`unknown` makes
    the message), that means a key given by its other word, or that has a wrong value.
    """
    words: dict[str, str] = {}
    values: dict[str, Any] = {}
    for word, value in given.items():
        if (key := known.get(word)) is None:
            raise UsageError(where(word) + unknown(word))
        if (other := words.setdefault(key.name, word)) != word:
            raise UsageError(f"{where(word)}{other} and {word} are the same key; accepted: one of them")
        values[key.name] = key.option.accept_at(partial(where, word), word, value)
    return values


def _read_toml(path: str | Path) -> tuple[dict[str, Any], Source]:
    import tomllib  # late: most starts read no file

    try:
        text = _decoded(Path(path).read_bytes(), path)
        return tomllib.loads(text), Source(path, text)
    except OSError as error:
        raise UsageError(f"cannot read the configuration file {path}: {reason_of(error)}") from None
    except tomllib.TOMLDecodeError as error:
        from zcserve.config.slips import slip_in  # late: most files have none

        found = slip_in(text, str(error))
        refused = UsageError(f"{path}:{found.place}: {found.text}")
        refused.excerpt = found.excerpt
        raise refused from None


def _decoded(data: bytes, path: str | Path) -> str:
    """The text of a file, without the mark that some editors put at its beginning. Raises UsageError."""
    accepted = "a TOML file in UTF-8: have the editor save it so"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path}:1:1: this is UTF-16; accepted: {accepted}")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].removeprefix(codecs.BOM_UTF8)
        line, column = before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        told = f"byte {data[error.start]:#04x} is not UTF-8"
        raise UsageError(f"{path}:{line}:{column}: {told}; accepted: {accepted}") from None
