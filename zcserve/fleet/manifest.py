"""A release as a list: what each of its files is, in a form that two machines write with the same bytes.

    {"format": 1, "site": "www", "sequence": 7, "tree": "<sha-256>", "files": {"/a.html": {...}}, "signatures": [...]}

- **A manifest is read by its content, whatever its layout.** Members may stand in any order, with any white space. Its
  *canonical form* is JSON with sorted members, without blanks, in ASCII; digests and signatures are of that.
- **Its tree is the digest of its files alone.** Two releases of the same content have the same tree, and so the same
  folder on a node. `digest` is of all but the signatures: it says which release of which site this is.
- **No time stands in it**, and nothing of the machine that made it: the same files give the same bytes.
- **What it says is what a server of the release sends**: type and strong ETags are the server's own (making.py).
- **A newer format is refused by its number**, and so is any member that is not known here: a node that passed over what
  it does not understand would serve something else than was meant.

`parse` takes bytes from anywhere. It reads no file, and checks no signature (signing.py): what it returns is well
formed, and says nothing that leads out of a folder (names.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from zcserve import collector
from zcserve.cache.counted_names import SIBLING_CODINGS
from zcserve.errors import ZcserveError
from zcserve.fleet import manifest_scan, strict_json
from zcserve.fleet.manifest_scan import Scanned, ScannedFile
from zcserve.fleet.names import RULES, NameRefusedError, check_path, check_together, file_of, sibling_path
from zcserve.fleet.strict_json import JsonError
from zcserve.rules.bounds import PRIORITY_MAX, PRIORITY_MIN, TAG_CHARACTERS_MAX

T = TypeVar("T")

FORMAT = 1
# Of a manifest, in bytes: some 250,000 files. JSON of this size that is made to hurt takes 1 GB while it is parsed.
MANIFEST_BYTES_MAX = 64 << 20
# Of what stands beside the files, in bytes: 16 signatures take 2,700.
BESIDE_BYTES_MAX = 4 << 10
# What every program reads as it was written (RFC 8259 section 6).
INTEGER_MAX = (1 << 53) - 1
# Of one file, in bytes: more than a site has, and far from where sums of sizes are no integers of JSON any more.
FILE_BYTES_MAX = 1 << 42
# Of a Content-Type. RFC 6838 section 4.2 has 127 characters a name; parameters come behind.
TYPE_CHARACTERS_MAX = 512
# Of one file. CDNs take 16 KiB of them.
TAGS_MAX = 1024
# Keys are rotated by two, and a release may be signed by a few people.
SIGNATURES_MAX = 16
# Precedes what is signed: a signature of a manifest is of nothing else.
SIGNED_PREFIX = b"zcserve-manifest-1\n"
SITE_ACCEPTED = "1 to 63 letters, digits and ._-, the first one no dot or hyphen"

_MEMBERS = frozenset(("format", "site", "sequence", "tree", "files", "signatures"))
_CODINGS = frozenset(coding.decode() for coding in SIBLING_CODINGS.values())
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_is_etag = re.compile(r'(?:"[0-9a-f]{32}")?').fullmatch
_is_type = re.compile(rf"(?=[\x21-\x7e])[\x20-\x7e]{{1,{TYPE_CHARACTERS_MAX}}}(?<! )").fullmatch
_is_tag = re.compile(rf"[A-Za-z0-9._:-]{{1,{TAG_CHARACTERS_MAX}}}").fullmatch
_is_site = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}").fullmatch
_is_key = re.compile(r"[0-9a-f]{32}").fullmatch
_is_signature = re.compile(r"[A-Za-z0-9+/]{85}[AQgw]==").fullmatch


class ManifestError(ZcserveError):
    """A manifest that is refused: says where and why."""


class Encoding(NamedTuple):
    """A sibling of a file: its content in a coding. `etag` as a file's."""

    size: int
    sha256: str
    etag: str


class File(NamedTuple):
    """One file of a release.

    size       bytes
    sha256     of the content, 64 hex digits
    etag       the server's, with its quotes; "": it is not known before it is served (the content is larger than
               `hash_bytes_max`), or the file is not served
    type       Content-Type; "": the server reads the file, and does not serve it (`_headers`, `_redirects`)
    encodings  by content coding, siblings that decode to this content
    tags       in order, each once
    priority   how soon it is loaded, -100 to 100
    """

    size: int
    sha256: str
    etag: str
    type: str
    encodings: Mapping[str, Encoding]
    tags: tuple[str, ...]
    priority: int

    @property
    def is_served(self) -> bool:
        """Whether a client can get it."""
        return bool(self.type)


class Signature(NamedTuple):
    """One signature: the id of the key, and its 64 bytes in base64 (signing.py)."""

    key: str
    ed25519: str


@dataclass(frozen=True)
class Manifest:
    """One release of a site. Immutable.

    site      the name of the site
    sequence  1 and more: a node takes no lower one than the last, so that an old release is not replayed
    tree      the digest of `files`
    files     by the server's key of each: "/a/b%20c.html"
    """

    site: str
    sequence: int
    tree: str
    files: dict[str, File]
    signatures: tuple[Signature, ...] = ()

    @classmethod
    def of(cls, site: str, sequence: int, files: Mapping[str, File]) -> Manifest:
        """An unsigned manifest of these files. Raises ManifestError where a manifest cannot say it."""
        _check_release(site, sequence)
        with collector.paused():
            made = cls(site, sequence, "", _checked(files, _in_order))
            if len(made.files_text) > MANIFEST_BYTES_MAX - BESIDE_BYTES_MAX:
                raise ManifestError(f"files: {len(files):,} files take more than {MANIFEST_BYTES_MAX:,} bytes")
            return replace(made, tree=made.tree_of_files)

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """What these bytes say. Raises ManifestError."""
        with collector.paused():  # many objects, and no circle among them
            if len(data) <= MANIFEST_BYTES_MAX and (scanned := manifest_scan.scan(data)):
                with suppress(JsonError, ManifestError, NameRefusedError):  # the general way says what is wrong
                    return cls._of_scanned(scanned)
            try:
                members = strict_json.read(data, MANIFEST_BYTES_MAX)
            except JsonError as error:
                raise ManifestError(str(error)) from None
            return cls._of_members(members)

    @classmethod
    def _of_scanned(cls, scanned: Scanned) -> Manifest:
        """Raises JsonError, ManifestError, NameRefusedError."""
        members = _members(strict_json.read(scanned.rest, BESIDE_BYTES_MAX), _MEMBERS - {"files"})
        files = _of_scanned_files(scanned.files)
        check_together({path: file.encodings for path, file in files.items()})
        made = cls._made(members, files)
        made.__dict__["files_text"] = scanned.text  # what the property would write
        return _with_right_tree(made)

    @classmethod
    def _of_members(cls, members: Any) -> Manifest:
        members = _members(members, _MEMBERS)
        if not isinstance(members["files"], dict):
            _fail("files", members["files"], "an object of files by path")
        return _with_right_tree(cls._made(members, _checked(members["files"], _read_file)))

    @classmethod
    def _made(cls, members: dict[str, Any], files: dict[str, File]) -> Manifest:
        signatures = _read_signatures(members["signatures"])
        return cls(members["site"], members["sequence"], members["tree"], files, signatures)

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """What a file says. Raises ManifestError, and OSError where it cannot be read."""
        with open(path, "rb") as file:
            return cls.parse(file.read(MANIFEST_BYTES_MAX + 1))

    def to_bytes(self) -> bytes:
        """All of it in canonical form."""
        return self._with_files(signatures=[one._asdict() for one in self.signatures])

    @property
    def signed_bytes(self) -> bytes:
        """What a signature is of."""
        return SIGNED_PREFIX + self._with_files()

    @cached_property
    def digest(self) -> str:
        """Which release this is: of all but the signatures."""
        return sha256(self._with_files()).hexdigest()

    def with_sequence(self, sequence: int) -> Manifest:
        """The same files as another release, unsigned: so a rollback has a higher sequence than what it takes back.
        Raises ManifestError."""
        _check_release(self.site, sequence)
        return replace(self, sequence=sequence, signatures=())

    def with_signatures(self, *signatures: Signature) -> Manifest:
        """The same release with these signatures instead."""
        return replace(self, signatures=signatures)

    def fetches(self) -> Iterator[tuple[str, int, str]]:
        """Every file of the release, siblings as well: its name relative to the release (as `os.fsdecode` gives it),
        its size in bytes, its sha-256. A file comes before its siblings."""
        return _fetches(self.files)

    @property
    def digests(self) -> set[str]:
        """The contents of all files, siblings as well."""
        found = {file.sha256 for file in self.files.values()}
        found.update(one.sha256 for file in self.files.values() for one in file.encodings.values())
        return found

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self.fetches())

    @property
    def tree_of_files(self) -> str:
        """What `tree` is to be."""
        return sha256(self.files_text).hexdigest()

    @cached_property
    def files_text(self) -> bytes:
        """The member "files" in canonical form."""
        with collector.paused():  # many objects, and no circle among them
            texts = [f"{quoted(path)}:{_file_text(file)}" for path, file in sorted(self.files.items())]
            return f"{{{','.join(texts)}}}".encode("ascii")

    def _with_files(self, **more: object) -> bytes:
        """The canonical form, with these members besides. "files" stands first in it."""
        rest = {"format": FORMAT, "site": self.site, "sequence": self.sequence, "tree": self.tree, **more}
        return b'{"files":%b,%b' % (self.files_text, canonical(rest)[1:])


def canonical(value: object) -> bytes:
    """The canonical form of what JSON can say without fractions."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _file_text(file: File) -> str:
    """As `canonical`, in a third of its time."""
    encodings = ",".join([f"{quoted(coding)}:{_encoding_text(one)}" for coding, one in sorted(file.encodings.items())])
    return (
        f'{{"encodings":{{{encodings}}},"etag":{quoted(file.etag)},"priority":{file.priority},'
        f'"sha256":{quoted(file.sha256)},"size":{file.size},"tags":[{",".join(map(quoted, file.tags))}],'
        f'"type":{quoted(file.type)}}}'
    )


def _encoding_text(encoding: Encoding) -> str:
    return f'{{"etag":{quoted(encoding.etag)},"sha256":{quoted(encoding.sha256)},"size":{encoding.size}}}'


# --- parsing --------------------------------------------------------------------------------------------------


def _fail(where: str, value: object, accepted: str) -> NoReturn:
    raise ManifestError(f"{where}: {_shown(value)} is not accepted; accepted: {accepted}")


def _shown(value: object) -> str:
    """A value from outside, for a message: ASCII, on one line, cut short."""
    if isinstance(value, str):
        return ascii(value[:100])
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value)[:100]


def _with_right_tree(manifest: Manifest) -> Manifest:
    if manifest.tree != (tree := manifest.tree_of_files):
        _fail("tree", manifest.tree, f"{tree}, which the files have")
    return manifest


def _members(value: Any, members: frozenset[str]) -> dict[str, Any]:
    """An object with these members, of which site and sequence are right."""
    if not isinstance(value, dict):
        raise ManifestError("is no object of JSON")
    if value.get("format") != FORMAT or type(value["format"]) is not int:
        raise ManifestError(f"format: {_shown(value.get('format'))} is not known here; accepted: {FORMAT}")
    _check_members(value, members)
    _check_release(value["site"], value["sequence"])
    return value


def _check_release(site: object, sequence: object) -> None:
    _check_text("site", site, _is_site, SITE_ACCEPTED)
    _check_integer("sequence", sequence, 1, INTEGER_MAX)


def _check_members(value: object, members: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise ManifestError(f"{_shown(value)} is no object")
    if value.keys() != members:
        missing, unknown = members - value.keys(), value.keys() - members
        if unknown:
            raise ManifestError(f"{_shown(min(unknown))} is not known here; accepted: {', '.join(sorted(members))}")
        raise ManifestError(f"{min(missing)} is missing")


def _check_text(name: str, value: object, fits: Callable[[str], object], accepted: str) -> None:
    if type(value) is not str or not fits(value):
        _fail(name, value, accepted)


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        _fail(name, value, f"a whole number from {low} to {high}")


_FILE_MEMBERS = frozenset(File._fields)
_ENCODING_MEMBERS = frozenset(Encoding._fields)
_SIGNATURE_MEMBERS = frozenset(Signature._fields)


def _read_file(value: Any) -> File:
    """Of values that are not checked yet."""
    _check_members(value, _FILE_MEMBERS)
    encodings, tags = value["encodings"], value["tags"]
    if not isinstance(encodings, dict):
        _fail("encodings", encodings, "an object of them by content coding")
    if not isinstance(tags, list):
        _fail("tags", tags, "a list")
    coded = {coding: _read_encoding(encodings[coding]) for coding in sorted(encodings)} if encodings else {}
    return File(value["size"], value["sha256"], value["etag"], value["type"], coded, tuple(tags), value["priority"])


def _in_order(file: File) -> File:
    return file._replace(encodings=dict(sorted(file.encodings.items()))) if file.encodings else file


def _read_encoding(value: Any) -> Encoding:
    _check_members(value, _ENCODING_MEMBERS)
    return Encoding(value["size"], value["sha256"], value["etag"])


def _checked(files: Mapping[str, Any], read: Callable[[Any], File]) -> dict[str, File]:
    """What `read` makes of these files by path, in order, and checked. Raises ManifestError."""
    made: dict[str, File] = {}
    path = ""
    try:
        for path in sorted(files):
            check_path(path)
            made[path] = read(files[path])
            _check_file(made[path], is_served=path not in RULES)
    except (NameRefusedError, ManifestError) as fault:
        raise ManifestError(f"files: {_shown(path)}: {fault}") from None
    try:
        check_together({path: file.encodings for path, file in made.items()})
    except NameRefusedError as fault:
        raise ManifestError(f"files: {fault}") from None
    return made


def _check_file(file: File, *, is_served: bool) -> None:
    _check_content(file)
    for coding, encoding in file.encodings.items():
        if coding not in _CODINGS:
            _fail("encodings", coding, ", ".join(sorted(_CODINGS)))
        _check_content(encoding)
    if file.type or is_served:
        _check_text("type", file.type, _is_type, "a media type in printable ASCII")
    _check_integer("priority", file.priority, PRIORITY_MIN, PRIORITY_MAX)
    if file.tags:
        _check_tags(file.tags)
    if not is_served and file[2:] != ("", "", {}, (), 0):
        raise ManifestError(
            "is a file of rules, which is not served: no etag, type, encodings, tags, and the priority 0"
        )


def _check_content(content: File | Encoding) -> None:
    size, digest, etag = content[:3]
    _check_integer("size", size, 0, FILE_BYTES_MAX)
    _check_text("sha256", digest, _is_digest, "64 hex digits")
    _check_text("etag", etag, _is_etag, "32 hex digits in quotes, or nothing")


def _check_tags(tags: tuple[Any, ...]) -> None:
    if len(tags) > TAGS_MAX:
        _fail("tags", list(tags), f"{TAGS_MAX} at most")
    for tag in tags:
        _check_text("tags", tag, _is_tag, f"letters, digits and -_.:, {TAG_CHARACTERS_MAX} at most")
    if len(tags) > 1 and list(tags) != sorted(set(tags)):
        raise ManifestError("tags: they stand in order, each once")


def _of_scanned_files(scanned: list[ScannedFile]) -> dict[str, File]:
    """The files of a manifest in canonical form. Raises ManifestError, NameRefusedError. Texts that many files have are
    read once, and are one object."""
    made: dict[str, File] = {}
    texts = cache(lambda text: tuple(_in_form(manifest_scan.texts_in(text))))
    right: set[tuple[str, str, str]] = set()  # type, tags and priority that were right before: the rest is in form
    for path, encodings, etag, priority, digest, size, tags, media_type, _ in scanned:
        check_path(path)
        coded = _read_encodings(encodings) if encodings else {}
        file = File(int(size), digest, _in_quotes(etag), texts(media_type)[0], coded, texts(tags), int(priority))
        common = (media_type, tags, priority)
        if common not in right or coded or file.size > FILE_BYTES_MAX or not file.type or path in RULES:
            _check_file(file, is_served=path not in RULES)
            right.add(common)
        made[path] = file
    return made


def _read_encodings(text: str) -> dict[str, Encoding]:
    found = _in_form(manifest_scan.encodings_in(text))
    return {coding: Encoding(size, digest, _in_quotes(etag)) for coding, etag, digest, size in found}


def _in_form(found: list[T] | None) -> list[T]:
    """Raises ManifestError where there is nothing."""
    if found is None:
        raise ManifestError("is not in canonical form")
    return found


def _in_quotes(digits: str | None) -> str:
    return f'"{digits}"' if digits else ""


def _read_signatures(value: object) -> tuple[Signature, ...]:
    if not isinstance(value, list) or len(value) > SIGNATURES_MAX:
        _fail("signatures", value, f"a list of {SIGNATURES_MAX} at most")
    found = []
    for one in value:
        _check_members(one, _SIGNATURE_MEMBERS)
        _check_text("key", one["key"], _is_key, "32 hex digits")
        _check_text("ed25519", one["ed25519"], _is_signature, "64 bytes in base64")
        found.append(Signature(**one))
    if len({one.key for one in found}) != len(found):
        raise ManifestError("signatures: one key signs once")
    return tuple(found)


# --- two releases ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """What one release has that another has not.

    added, removed, changed  paths, in order; changed is what differs in anything that a manifest says of it
    fetched                  files of which no file of the other release has the content, as `Manifest.fetches`; of
                             those with the same content the first one
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    fetched: tuple[tuple[str, int, str], ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def bytes(self) -> int:
        """What is to be fetched."""
        return sum(size for _, size, _ in self.fetched)


def diff(old: Manifest, new: Manifest) -> Difference:
    """What `new` has that `old` has not."""
    before, after = old.files, new.files
    changed = [path for path, file in after.items() if before.get(path) != file]
    known = old.digests if changed else set()
    fetched = []
    for name, size, digest in _fetches({path: after[path] for path in changed}):
        if digest not in known:
            known.add(digest)
            fetched.append((name, size, digest))
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(path for path in changed if path in before)),
        fetched=tuple(fetched),
    )


def _fetches(files: Mapping[str, File]) -> Iterator[tuple[str, int, str]]:
    """See Manifest.fetches."""
    for path, file in files.items():
        yield file_of(path), file.size, file.sha256
        for coding, encoding in file.encodings.items():
            yield file_of(sibling_path(path, coding)), encoding.size, encoding.sha256
