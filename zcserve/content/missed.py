"""What a configuration is for and a root lacks: that is no error, since it may come with a release, and is told."""

from __future__ import annotations

from collections.abc import Iterator

from zcserve.cache.entry import Entry
from zcserve.cache.index import Generation
from zcserve.cache.listing import Listing
from zcserve.config.keys import KEYS
from zcserve.config.table import Config
from zcserve.http import encode_path


def missed_by_rules(generation: Generation, config: Config) -> Iterator[str]:
    """Pages that are not there, and paths to be protected without a file, a line each: what a server tells at its
    start, and when that has changed."""
    rules = generation.root.rules
    yield from rules.error_pages.missing(generation.has_file)
    if rules.lacks_page(generation.has_file):
        told = "/index.html is not there, which is the page for all paths that lead nowhere"
        yield f"{config.named('spa')} {told}: they get 404 until it is"
    if rules.asks:
        yield from rules.protections.idle((entry.key for entry in generation.entries()), _heads(config))


def doubts_about_rules(generation: Generation, config: Config) -> Iterator[str]:
    """Paths of header rules at which nothing is, names of index files that no directory has, and redirects that hardly
    do what was meant, a line each. Of a large root that takes seconds."""
    rules, heads = generation.root.rules, _heads(config)
    yield from rules.doubts(generation.has_file, lambda: _keys(generation), heads)
    if generation.resources:
        if rules.asks:
            yield from rules.protections.doubtful(lambda: _keys(generation), heads)
        yield from rules.idle(lambda: _keys(generation), heads)
        is_said = config.index != KEYS["index"].default
        names = {key.rpartition(b"/")[2] for key in _keys(generation)} if is_said else set()
        for name in config.index if names else ():
            if encode_path(name.encode()) not in names:
                yield f"{config.named('index')} no directory has {name!r}"


def idle_pin(config: Config, glob: str) -> str:
    """That of a pin no file is there."""
    return f"{config.named('pin')} {glob} matches no file"


def _keys(generation: Generation) -> Iterator[bytes]:
    """Of files, each once, and of directories that answer with their names."""
    find = generation.resources.get
    for keys in generation.keys_in_pieces():
        for key in keys:
            found = find(key)
            if isinstance(found, Listing) or (isinstance(found, Entry) and found.key == key):
                yield key


def _heads(config: Config) -> set[str]:
    """What the paths of applications begin with, where no file need be. A servlet may have any path."""
    mounted = {text.partition("=")[0] for text in config.mount}
    return {*mounted, "/"} if config.servlets else mounted
