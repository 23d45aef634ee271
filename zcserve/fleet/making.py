"""From a directory to a manifest: what a server of it would send, file by file.

What is there, and what is sent with it, is found out by the server's own parts: the walk, the ETags (contents.py), the
siblings (encoding.py), and here the rules: types, tags and priorities. So a manifest says of a path what a server of
the release with that configuration sends there. A file that is too large to be hashed has no ETag here: the server
makes it of the inode.

The same files give the same bytes: the order of a disk, or of threads, does not show, and no time.

Nothing is lost in silence: where something that lies there cannot be in the manifest, none is made, unless it is said
that such things are to be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from zcserve.cache import heads
from zcserve.cache.entry import Entry
from zcserve.cache.index import Problem
from zcserve.cache.naming import name_of, path_of
from zcserve.config.site_names import DEFAULT_NAME
from zcserve.config.sites import configs_of
from zcserve.config.table import Config
from zcserve.config.units import counted
from zcserve.errors import UsageError, known_instead
from zcserve.fleet.contents import Contents, Progress
from zcserve.fleet.encoding import Missing, siblings_in
from zcserve.fleet.manifest import Encoding, File, Manifest, ManifestError
from zcserve.fleet.names import NameRefusedError, check_path
from zcserve.media_types import MediaTypes
from zcserve.rules.compiled import Rules


@dataclass(frozen=True, slots=True)
class Made:
    """A manifest, and what came up when it was made.

    left_out  what lies there and is not in it
    written   paths of files of which encodings were made, and these
    doubts    what could not be done here, what is wrong in the files of rules, and siblings that are files of their
              own, since they do not decode to what their names say; a line each
    """

    manifest: Manifest
    left_out: tuple[Problem, ...]
    written: Mapping[str, tuple[str, ...]]
    doubts: tuple[str, ...]


class LeftOutError(ManifestError):
    """What lies there cannot be in a manifest, not all of it; and no manifest is made.

    left_out  what it is, and why
    """

    def __init__(self, root: str, left_out: Sequence[Problem]) -> None:
        super().__init__(f"{root}: {counted(len(left_out), 'name')} cannot be in a release, and nothing is made of it")
        self.left_out = tuple(left_out)


def config_of(config: Config, site: str) -> Config:
    """What a site of a configuration has, but for its root: that is the one at the top, which a flag gave. Users are no
    part of a release, and their file may be on the nodes alone. Raises UsageError."""
    if not config.sites or site == DEFAULT_NAME:
        return replace(config, sites=(), auth=())
    names = [DEFAULT_NAME, *(table.name for table in config.sites)]
    if site not in names:
        raise UsageError(f"no site is called {site}; {known_instead(site, names)}")
    table = config.sites[names.index(site) - 1]
    public = replace(table, values={name: value for name, value in table.values.items() if name != "auth"})
    own = configs_of(replace(config, sites=(public,), auth=()))[site]
    return replace(own, root=config.root)


def make_manifest(
    config: Config,
    site: str,
    sequence: int,
    *,
    encodings: bool = False,
    leave_out: bool = False,
    progress: Progress = lambda done, total: None,
) -> Made:
    """A manifest of what a server with this configuration (`config_of`) has under its root; with `encodings`, of what
    it has once those that are missing are made and lie there. Raises UsageError where the root or its rules cannot be
    read, or an encoding cannot be written; LeftOutError where something cannot be in it (it is not to be read, is no
    file, is outside the root, has gone meanwhile, has a name that no manifest takes), unless it is to be left out; and
    ManifestError where a file changes meanwhile."""
    contents = Contents(config)
    read = {entry: content for entry, content in contents.read(progress).items() if _has_name(contents, entry)}
    left_out = sorted(set(contents.problems), key=lambda problem: (problem.path, problem.why))
    if left_out and not leave_out:
        raise LeftOutError(str(config.root), left_out)
    siblings, doubts = siblings_in(contents, read.keys(), config)
    doubts = [*contents.doubts, *doubts]
    coded = {entry: {coding.decode(): read[one] for coding, one in some.items()} for entry, some in siblings.items()}
    taken = {one for some in siblings.values() for one in some.values()}
    bases = [entry for entry in contents.entries.values() if entry in read and entry not in taken]
    written: Mapping[str, tuple[str, ...]] = {}
    if encodings:
        missing = Missing(contents, config)
        for entry, made in missing.make(bases, progress).items():
            coded[entry] = {**coded.get(entry, {}), **made}
        written, doubts = dict(sorted(missing.written.items())), doubts + missing.doubts
    types = MediaTypes(config.charset, config.type)
    files = {
        entry.key.decode(): _file(entry, read[entry], coded.get(entry, {}), contents.root.rules, types)
        for entry in bases
    }
    for entry in contents.of_rules:
        if entry in read:
            files[entry.key.decode()] = File(*read[entry]._replace(etag=""), "", {}, (), 0)
    return Made(Manifest.of(site, sequence, files), tuple(left_out), written, tuple(doubts))


def _has_name(contents: Contents, entry: Entry) -> bool:
    """Whether a manifest takes the name of this file; else it is a problem of the contents."""
    try:
        check_path(entry.key.decode())
    except NameRefusedError as error:
        contents.problems.append(Problem.of(path_of(entry), str(error)))
        return False
    return True


def _file(entry: Entry, content: Encoding, encodings: Mapping[str, Encoding], rules: Rules, types: MediaTypes) -> File:
    fields = rules.fields_of(entry.key)
    head = heads.build(name_of(entry), entry.size, None, entry.etag, b"", False, types, fields)
    content_type = heads.content_type(head).decode("latin-1")
    return File(
        *content, content_type, encodings, tuple(sorted(rules.tags_of(entry.key))), rules.priority_of(entry.key)
    )
