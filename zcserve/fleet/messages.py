"""What goes between an operator and the nodes of a site: commands, what is desired, and how each node is.

**What is desired is the one truth of a rollout** (`Desired`, one for each site). It names the release that all nodes
are to serve, and, while a rollout lasts, its `trial`: the release that nodes are to have prepared, and the canaries
that serve it already. It is replaced as a whole, by compare-and-set, and each one has a higher `edition` than the one
before, so it does not matter in which order a node hears of them, how often, or which of them it misses: the newest
says all. A flip has no other cause. So a canary that is started anew in the middle of the bake still knows that it is
one, and an abort, which takes the trial out, brings it back.

**Commands come in an order, at least once each** (`Command`). A purge and a warming are told only so. Those of a
rollout (prepare, flip, abort) say that there is a newer edition, and why: a node whose other way of hearing of it fails
reads what is desired then, and the stream of commands is a record of what was done.

**A state is how a node is** (`State`): it replaces that node's last one. `boot` and `number` tell an old one that comes
late. A node's clock is not trusted: `at` is for people, and ages are what the bus measures.

The JSON forms and their versions are forms.py's: members that are not known are passed over, a higher version is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zcserve.fleet import forms
from zcserve.fleet.forms import FormError

# What a command may say. Those of a rollout name a release, and the edition that has come of it.
ROLLOUT_OPS = ("prepare", "flip", "abort")
OPS = (*ROLLOUT_OPS, "purge", "warm")

# In one command. The server reads 2,000 at once (admin/words.py); what is more than a tag says is a tag's.
PATHS_MAX = 1000
PATH_CHARACTERS_MAX = 2000
# As rules have them (rules/tagged.py).
TAGS_MAX = 32
TAG_CHARACTERS_MAX = 100
GLOB_CHARACTERS_MAX = 1000
# A tenth of 10,000 nodes. Their names take 64 KB at most, a quarter of a message.
CANARIES_MAX = 1000
# Releases that were desired before, to which a rollback can go: as many manifests as an agent keeps. With the longest
# sources they take 40 KB.
EARLIER_MAX = 16
# Ids of commands that a state names as done, the last ones: 8 KB at most, and a node reports ten times a second while
# commands come (node_state.py), so none is missed below 640 commands a second.
DONE_MAX = 64

# A node reports its state so often, if it has nothing new to say, in seconds. An operator tells a node that is silent
# from such a one after three of these. 1,000 nodes make 33 reports a second.
REPORT_EVERY_S = 30.0
# What a node is at, with a release.
STAGES = ("empty", "fetching", "preparing", "prepared", "flipping", "live", "failed")


_OF_A_RELEASE = ("rollout", "sequence", "manifest", "tree")
_OF_A_STATE = ("site", "node", "boot", "number", "edition", "stage")


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a site, and where it is found.

    rollout   the id of the rollout that brings it, or has
    sequence  from 1 on; each rollout has a higher one than the last, a rollback, too
    manifest  the manifest's digest: 64 hex digits
    tree      the digest of its files: the release folder is called so
    source    the URL where its files come from; "" where a node knows by itself

    Raises FormError, as all messages here do, when they are made.
    """

    rollout: str
    sequence: int
    manifest: str
    tree: str
    source: str = ""

    def __post_init__(self) -> None:
        forms.identity(self.rollout, "rollout")
        forms.number(self.sequence, "sequence", 1)
        forms.digest(self.manifest, "manifest")
        forms.digest(self.tree, "tree")
        forms.text(self.source, "source", forms.SOURCE_CHARACTERS_MAX)

    def is_same(self, other: Release | None) -> bool:
        """Whether it is that release: its sequence and its manifest. A rollout that is begun again is another one."""
        return other is not None and (self.sequence, self.manifest) == (other.sequence, other.manifest)

    def form(self) -> dict[str, Any]:
        """Its JSON, a part of a message."""
        found = {"rollout": self.rollout, "sequence": self.sequence, "manifest": self.manifest, "tree": self.tree}
        return found | ({"source": self.source} if self.source else {})

    @classmethod
    def of(cls, form: Mapping[str, Any]) -> Release:
        """From the members of an object, which may have others."""
        rollout, sequence, manifest, tree = (forms.member(form, name) for name in _OF_A_RELEASE)
        return cls(rollout, sequence, manifest, tree, form.get("source", ""))


@dataclass(frozen=True, slots=True)
class Trial:
    """A rollout before its commit.

    release   nodes are to fetch and prepare it
    canaries  the nodes that are to serve it; none, until there are enough that have it prepared
    """

    release: Release
    canaries: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(self.canaries) > CANARIES_MAX:
            raise FormError(f"canaries: {len(self.canaries):,}, and at most {CANARIES_MAX:,}")
        for node in self.canaries:
            forms.name(node, "canaries")

    def form(self) -> dict[str, Any]:
        """Its JSON, a part of a message."""
        return self.release.form() | ({"canaries": sorted(self.canaries)} if self.canaries else {})


@dataclass(frozen=True, slots=True)
class Desired:
    """What the nodes of a site are to serve.

    edition  higher each time that it is replaced; 0: nothing was ever desired
    release  the one that all nodes are to serve; None before the first commit
    trial    the rollout that lasts; None: there is none
    earlier  what `release` was before, the newest first, EARLIER_MAX of them: a rollback finds its manifest so
    """

    site: str
    edition: int = 0
    release: Release | None = None
    trial: Trial | None = None
    earlier: tuple[Release, ...] = ()

    def __post_init__(self) -> None:
        forms.name(self.site, "site")
        forms.number(self.edition, "edition")
        if self.release and self.trial and self.trial.release.sequence <= self.release.sequence:
            least = self.release.sequence
            raise FormError(f"trial.sequence: {self.trial.release.sequence}, and {least} is released already")
        if len(self.earlier) > EARLIER_MAX:
            raise FormError(f"earlier: {len(self.earlier):,}, and at most {EARLIER_MAX:,}")

    def tries_another(self, *releases: Release | None) -> bool:
        """Whether a release that is none of these is on trial."""
        trial = self.trial
        return trial is not None and not any(trial.release.is_same(one) for one in releases)

    def of_node(self, node: str) -> Release | None:
        """The release that this node is to serve."""
        return self.trial.release if self.trial and node in self.trial.canaries else self.release

    def committed(self, edition: int, release: Release) -> Desired:
        """What is desired once this release is."""
        before = (self.release,) if self.release and not release.is_same(self.release) else ()
        return Desired(self.site, edition, release, None, (*before, *self.earlier)[:EARLIER_MAX])

    def dump(self) -> bytes:
        """Its message. Raises FormError where it is too long."""
        form: dict[str, Any] = {"site": self.site, "edition": self.edition, "sequence": 0}
        form |= self.release.form() if self.release else {}
        form |= {"trial": self.trial.form()} if self.trial else {}
        return forms.dump(form | ({"earlier": [one.form() for one in self.earlier]} if self.earlier else {}))

    @classmethod
    def parse(cls, data: bytes) -> Desired:
        """From its message. Raises FormError, VersionError."""
        form = forms.load(data)
        release = Release.of(form) if forms.whole(form, "sequence") else None
        site, edition = forms.member(form, "site"), forms.member(form, "edition")
        return cls(site, edition, release, _trial(form.get("trial")), _earlier(form.get("earlier", [])))


def _earlier(value: object) -> tuple[Release, ...]:
    if not isinstance(value, list):
        raise FormError(f"earlier: must be a list, not {forms.shown(value)}")
    try:
        return tuple(Release.of(forms.table(one, "release")) for one in value[: EARLIER_MAX + 1])
    except FormError as error:
        raise FormError(f"earlier.{error}") from None


def _trial(value: object) -> Trial | None:
    if value is None:
        return None
    form = forms.table(value, "trial")
    try:
        names = forms.texts(form.get("canaries", []), "canaries", CANARIES_MAX, forms.NAME_CHARACTERS_MAX)
        return Trial(Release.of(form), frozenset(names))
    except FormError as error:
        raise FormError(f"trial.{error}") from None


@dataclass(frozen=True, slots=True)
class Command:
    """Something to be done by each node of a site, once: a node that has done one of this id does not do it again.

    id       tells it from every other one of the site
    op       one of OPS
    edition  prepare, flip, abort: what is desired has this edition, or a later one
    release  prepare, flip, abort: which one
    tags     purge: what rules give one of these
    prefix   purge: paths that begin so
    glob     purge: what the pattern matches
    paths    purge, warm: these, as in a URL
    is_hard  purge: dropped at once; else compared with its file, and made anew, while it serves
    waits    purge: done when all is compared; else when all is in doubt. A node of an older version waits in any case

    A purge has exactly one of tags, prefix, glob and paths.
    """

    id: str
    op: str
    site: str
    edition: int = 0
    release: Release | None = None
    tags: tuple[str, ...] = ()
    prefix: str = ""
    glob: str = ""
    paths: tuple[str, ...] = ()
    is_hard: bool = False
    waits: bool = False

    def __post_init__(self) -> None:
        forms.identity(self.id, "id")
        if self.op not in OPS:
            raise FormError(f"op: {forms.shown(self.op)} is not known; known are {', '.join(OPS)}")
        forms.name(self.site, "site")
        forms.number(self.edition, "edition")
        if (self.release is not None) != (self.op in ROLLOUT_OPS):
            raise FormError(f"sequence: {self.op} {'names a release' if self.op in ROLLOUT_OPS else 'names none'}")
        forms.texts(self.tags, "tags", TAGS_MAX, TAG_CHARACTERS_MAX)
        advice = "give these files a tag, or name a prefix"
        for path in forms.texts(self.paths, "paths", PATHS_MAX, PATH_CHARACTERS_MAX, advice):
            _path(path, "paths")
        if self.prefix:
            _path(forms.text(self.prefix, "prefix", PATH_CHARACTERS_MAX), "prefix")
        forms.text(self.glob, "glob", GLOB_CHARACTERS_MAX)
        forms.switch(self.is_hard, "hard")
        forms.switch(self.waits, "wait")
        self._check_aims()

    def _check_aims(self) -> None:
        """Whether it has what its op takes, and nothing else."""
        aims = [name for name in ("tags", "prefix", "glob", "paths") if getattr(self, name)]
        if self.op == "purge" and len(aims) != 1:
            raise FormError(f"purge: has {', '.join(aims) or 'none'}; accepted: one of tags, prefix, glob and paths")
        if self.op == "warm" and aims != ["paths"]:
            raise FormError(f"warm: has {', '.join(aims) or 'none'}; accepted: paths")
        if self.op in ROLLOUT_OPS and aims:
            raise FormError(f"{self.op}: has {', '.join(aims)}; accepted: none of these")

    def dump(self) -> bytes:
        """Its message. Raises FormError where it is too long."""
        form: dict[str, Any] = {"id": self.id, "op": self.op, "site": self.site}
        if self.release:
            form |= {"edition": self.edition} | self.release.form()
        form |= {name: list(value) for name in ("tags", "paths") if (value := getattr(self, name))}
        form |= {name: value for name in ("prefix", "glob") if (value := getattr(self, name))}
        form |= {name: True for name, value in (("hard", self.is_hard), ("wait", self.waits)) if value}
        return forms.dump(form)


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A message that a node cannot act on: it is set aside, and named.

    name    the id of a command, or what its bytes are found by: "sha256:" and twelve hex digits
    op      what it says it is; "" where it does not
    reason  what is wrong with it, and where
    """

    name: str
    op: str
    reason: str


def parse_command(data: bytes) -> Command | Poisoned:
    """The command that these bytes are. What is none, or has an op or a version that is not known here, is Poisoned:
    the next one is to be read all the same."""
    name, op = "sha256:" + hashlib.sha256(data).hexdigest()[:12], ""
    try:
        form = forms.load_any(data)
        op = _or_nothing(form, "op")
        name = _or_nothing(form, "id") or name
        return _command(forms.load(data))
    except FormError as error:
        return Poisoned(name, op, str(error))


def _or_nothing(form: Mapping[str, Any], name: str) -> str:
    """A member of a message that may be anything, if it is an id."""
    try:
        return forms.identity(form.get(name), name)
    except FormError:
        return ""


def _command(form: Mapping[str, Any]) -> Command:
    op = forms.text(forms.member(form, "op"), "op", forms.NAME_CHARACTERS_MAX)
    of_rollout = op in ROLLOUT_OPS
    return Command(
        forms.member(form, "id"),
        op,
        forms.member(form, "site"),
        forms.member(form, "edition") if of_rollout else 0,
        Release.of(form) if of_rollout else None,
        forms.texts(form.get("tags", []), "tags", TAGS_MAX, TAG_CHARACTERS_MAX),
        form.get("prefix", ""),
        form.get("glob", ""),
        forms.texts(form.get("paths", []), "paths", PATHS_MAX, PATH_CHARACTERS_MAX),
        form.get("hard", False),
        form.get("wait", False),
    )


def _path(value: str, where: str) -> None:
    if not value.startswith("/"):
        raise FormError(f"{where}: {forms.shown(value)} does not begin with a slash")


Message: TypeAlias = Command | Poisoned


@dataclass(frozen=True, slots=True)
class State:
    """How a node is with a site.

    boot      tells one run of the agent from every other
    number    of the state, one more each time in a boot: of two of a boot the higher one is newer
    edition   what is desired, as the node knows it
    stage     one of STAGES: what it does with `release`. "failed": it was refused, and is not tried again soon; in
              every other stage it tries again, whatever `error` says
    release   the release that it works on, or has come to: with "live" it is `live`
    live      the release that it serves; None: none, or one that it does not know
    prepared  the release that is in memory beside that, ready for a flip
    share     how much of `release` is in memory, 0 to 1
    error     what went wrong last; "" where nothing did
    retry_s   in how many seconds it tries again; 0: it does not wait for that
    since     the number of the first state of this boot, as the bus counts, which adds it; 0: it is not known
    at        the node's own time, in seconds since 1970: for people
    done      ids of the last commands that it has done, the newest last
    aside     and of those that it has set aside
    purged    for each of `done`, how many representations and results it has purged; none of a node of an older
              version

    It is checked when it is read and when it is written, not when it is made: a node makes one at each event.
    """

    site: str
    node: str
    boot: str
    number: int
    edition: int = 0
    stage: str = "empty"
    release: Release | None = None
    live: Release | None = None
    prepared: Release | None = None
    share: float = 0.0
    error: str = ""
    at: float = 0.0
    done: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    retry_s: float = 0.0
    since: int = field(default=0, compare=False)
    purged: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises FormError where it is no state that can be sent."""
        forms.name(self.site, "site")
        forms.name(self.node, "node")
        forms.identity(self.boot, "boot")
        forms.number(self.number, "number")
        forms.number(self.edition, "edition")
        if self.stage not in STAGES:
            raise FormError(f"stage: {forms.shown(self.stage)}; accepted: {', '.join(STAGES)}")
        forms.real(self.share, "share", 1.0)
        forms.text(self.error, "error", forms.REASON_CHARACTERS_MAX)
        forms.real(self.retry_s, "retry_s", float(forms.NUMBER_MAX))
        forms.number(self.since, "since")
        forms.real(self.at, "at", float(forms.NUMBER_MAX))
        for where in ("done", "aside"):
            for command in forms.texts(getattr(self, where), where, DONE_MAX, forms.ID_CHARACTERS_MAX):
                forms.identity(command, where)
        for count in self.purged:
            forms.number(count, "purged")

    def is_older_than(self, other: State) -> bool:
        """Whether it is a state of the same boot that comes late, or once more."""
        return self.boot == other.boot and self.number <= other.number

    def dump(self) -> bytes:
        """Its message. Raises FormError."""
        self.check()
        form: dict[str, Any] = {"site": self.site, "node": self.node, "boot": self.boot, "number": self.number}
        form |= {"edition": self.edition, "stage": self.stage}
        for name in ("release", "live", "prepared"):
            release: Release | None = getattr(self, name)
            form[name] = release.form() if release else None
        form |= {"share": self.share, "error": self.error, "at": self.at}
        form |= {"done": list(self.done), "aside": list(self.aside)}
        form |= {name: value for name in ("retry_s", "since") if (value := getattr(self, name))}
        form |= {"purged": list(self.purged)} if self.purged else {}
        return forms.dump(form)

    @classmethod
    def parse(cls, data: bytes) -> State:
        """From its message. Raises FormError, VersionError."""
        form = forms.load(data)
        site, node, boot, number, edition, stage = (forms.member(form, name) for name in _OF_A_STATE)
        release, live, prepared = (_part(form, name) for name in ("release", "live", "prepared"))
        share, error, at = form.get("share", 0.0), form.get("error", ""), form.get("at", 0.0)
        done, aside = (_ids(form, name) for name in ("done", "aside"))
        retry_s, since = form.get("retry_s", 0.0), form.get("since", 0)
        purged = _counts(form.get("purged", []), len(done))
        known = (edition, stage, release, live, prepared, share, error, at, done, aside, retry_s, since, purged)
        state = cls(site, node, boot, number, *known)
        state.check()
        return state


def _ids(form: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return forms.texts(form.get(name, []), name, DONE_MAX, forms.ID_CHARACTERS_MAX)


def _counts(value: object, count: int) -> tuple[int, ...]:
    """So many numbers, or none. Raises FormError."""
    if not isinstance(value, list) or len(value) not in (0, count):
        raise FormError(f"purged: must be a list of {count} numbers, not {forms.shown(value)}")
    return tuple(value)


def _part(form: Mapping[str, Any], name: str) -> Release | None:
    """A release that is a member of a message, or null."""
    value = form.get(name)
    if value is None:
        return None
    part = forms.table(value, name)
    try:
        return Release.of(part)
    except FormError as error:
        raise FormError(f"{name}.{error}") from None


def reason(words: str) -> str:
    """A reason that a state can hold: on one line, and cut where it is long."""
    line = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    most = forms.REASON_CHARACTERS_MAX
    return line if len(line) <= most else line[: most - 3] + "..."
