"""The names of every key, read from the table's fields, and the reference that README holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

from zcserve.config.option import Option, option_of
from zcserve.config.table import Config


class Key(NamedTuple):
    """One field, and its flag. `default` is None for the one key that has none, `root`."""

    name: str
    flag: str
    default: Any
    option: Option


def _word(name: str) -> str:
    """The flag's own word, as it is written elsewhere."""
    return name.removesuffix("_s")


def _flag(name: str) -> str:
    return "--" + _word(name).replace("_", "-")


KEYS: dict[str, Key] = {
    f.name: Key(
        f.name,
        _flag(f.name),
        f.default,
        option_of(f),
    )
    for f in fields(Config)
    if f.metadata
}

# By every word that means it in a file or, with the prefix and in upper case, in the environment.
BY_WORD = {word: key for key in KEYS.values() for word in (key.name, _word(key.name))}


def shown_default(key: Key) -> str:
    """The default as it would be written; "" where there is none."""
    return "" if key.default is None else key.option.kind.show(key.default)


def of_no_use(config: Config) -> Iterator[str]:
    """What was set and changes nothing, beside what else was set or was not: a line each."""
    if config.compress_dir and not config.compress:
        yield "--compress-dir is of no use without --compress"
    if config.pin_cpus and config.engine == "python":
        yield "--pin-cpus is of no use with --engine python, which has no lanes"
    if config.hosts and config.unknown_host == "default" and not config.sites:
        yield "--hosts is of no use without other sites or --unknown-host 421; every name is this site's"
    if config.unknown_host == "421" and not config.hosts and config.root is not None:
        yield "--unknown-host 421 leaves the default site no client but of HTTP/1.0; it needs names of its own: --hosts"
    if config.listen and (config.host, config.port) != (KEYS["host"].default, KEYS["port"].default):
        yield "--host and --port are of no use beside --listen; the addresses of --listen are all there are"


def reference() -> str:
    """Two Markdown tables, the options and the limits, for README."""
    options = ["| flag | default | |", "|---|---|---|"]
    limits = ["| limit | default | bounds | passed | why this much |", "|---|---|---|---|---|"]
    for key in KEYS.values():
        option = key.option
        default = f"`{text}`" if (text := shown_default(key)) else ""
        if option.why:
            status = str(option.status or "")
            limits.append(f"| `{key.flag}` | {default} | {option.help} | {status} | {option.why} |")
        else:
            choices = f" ({', '.join(option.choices)})" if option.choices else ""
            options.append(f"| `{key.flag}` | {default} | {option.help}{choices} |")
    return "\n".join([*options, "", *limits, ""])
