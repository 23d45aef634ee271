"""A manifest of a directory, with a real server of that directory as its oracle."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.site import Serve, Site
from tests.support.trees import as_its_owner, public_directory
from zcserve.cache.entry import Entry
from zcserve.config.sources import load
from zcserve.config.table import Config
from zcserve.errors import UsageError
from zcserve.fleet import making
from zcserve.fleet.contents import Contents, Progress
from zcserve.fleet.making import LeftOutError, Made, config_of, make_manifest
from zcserve.fleet.manifest import Encoding, File, Manifest

TEXT = b"p { color: red }\n" * 200
TOML = """
charset = "iso-8859-1"
type = ["data=application/x-data"]

[[rules]]
path = "/**.css"
tags = ["css", "assets"]
priority = 10

[[rules]]
path = "/d/**"
tags = ["below", "css"]
type = "text/x-below"

[[rules]]
path = "/d/late.txt"
priority = -5
"""


@pytest.fixture
def full(site: Site) -> Site:
    """A root with all that a manifest tells apart."""
    files = {
        "index.html": b"<p>", "a.css": TEXT, "a.css.gz": gzip.compress(TEXT, mtime=0), "d/index.html": b"below",
        "d/b.css": TEXT * 2, "d/late.txt": b"late", "a b/100%.txt": b"%", "x.data": b"data", "noend": b"",
        "A.CSS": b"A", "d/large.bin": random.Random(1).randbytes(300_000), ".hidden": b"", ".well-known/x": b"known",
        "_headers": b"/noend\n  X: y\n", "_redirects": b"/from /to\n", "d/_headers": b"a file", "t.tar.gz": b"no",
        "bad.css": TEXT, "bad.css.gz": gzip.compress(b"other"), "v.svgz": gzip.compress(b"<svg/>"),
    }  # fmt: skip
    for path, content in files.items():
        site.write(path, content)
    Path(os.fsdecode(os.fsencode(site.root) + b"/latin-\xe9.html")).write_bytes(b"caf\xe9")
    (site.root.parent / "site.toml").write_text(TOML)
    return site


def configuration(site: Site, **flags: Any) -> Config:
    return load({"root": str(site.root), **flags}, {}, site.root.parent / "site.toml")


def made_of(site: Site, **options: Any) -> Made:
    return make_manifest(config_of(configuration(site), "default"), "www", 1, **options)


def sent_for(client: Client, path: str, coding: str) -> tuple[Any, ...]:
    """What a server sends: size, digest, ETag, type, the coding itself."""
    answer = client.get(path, f"Accept-Encoding: {coding}, identity;q=0" if coding else "Accept-Encoding: identity")
    assert answer.status == 200, path
    digest = hashlib.sha256(answer.body).hexdigest()
    return (
        len(answer.body),
        digest,
        answer["ETag"].decode(),
        answer["Content-Type"].decode(),
        answer["Content-Encoding"],
    )


@pytest.mark.parametrize("encodings", [False, True])
def test_a_server_sends_what_the_manifest_says(full: Site, serve: Serve, encodings: bool) -> None:
    made = made_of(full, encodings=encodings).manifest
    served = {path: file for path, file in made.files.items() if file.is_served}
    with Client(serve(full.root, **_of_toml(full)).port) as client:
        for path, file in served.items():
            own = b"gzip" if path.endswith(".svgz") else None
            assert sent_for(client, path, "") == (*file[:4], own), path
            for coding, encoding in file.encodings.items():
                assert sent_for(client, path, coding) == (*encoding, file.type, coding.encode()), path
            for coding in {"br", "zstd", "gzip"} - file.encodings.keys():
                assert client.get(path, f"Accept-Encoding: {coding}")["Content-Encoding"] == own
        for path in made.files.keys() - served.keys():
            assert client.get(path).status == 404
    assert set(made.files) - set(served) == {"/_headers", "/_redirects"}
    assert bool(served["/d/b.css"].encodings) == encodings


def _of_toml(site: Site) -> dict[str, Any]:
    """What the server is to have of the file, as keys."""
    config = configuration(site)
    return {"charset": config.charset, "type": config.type, "rules": config.rules}


def test_every_file_is_there_and_what_is_hidden_is_not(full: Site) -> None:
    made = made_of(full)
    assert set(made.manifest.files) == {
        "/index.html", "/a.css", "/d/index.html", "/d/b.css", "/d/late.txt", "/a%20b/100%25.txt", "/x.data", "/noend",
        "/A.CSS", "/d/large.bin", "/.well-known/x", "/t.tar.gz", "/_headers", "/_redirects", "/d/_headers", "/bad.css",
        "/bad.css.gz", "/v.svgz", "/latin-%E9.html",
    }  # fmt: skip
    fetched = {os.fsencode(name) for name, _, _ in made.manifest.fetches()}
    lying = {os.path.relpath(one, os.fsencode(full.root)) for one in _files_below(os.fsencode(full.root))}
    assert fetched == lying - {b".hidden"}
    assert made.left_out == ()
    assert made.doubts == ("bad.css.gz: does not decode to its file's bytes: served under its own name only",)
    assert list(made.manifest.files["/a.css"].encodings) == ["gzip"]


def _files_below(root: bytes) -> list[bytes]:
    return [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]


def test_rules_give_types_tags_and_priorities(full: Site) -> None:
    files = made_of(full).manifest.files

    def said(path: str) -> tuple[Any, ...]:
        return files[path].type, files[path].tags, files[path].priority

    assert said("/a.css") == ("text/css; charset=iso-8859-1", ("assets", "css"), 10)
    assert said("/d/b.css") == ("text/x-below; charset=iso-8859-1", ("assets", "below", "css"), 10)
    assert said("/d/late.txt") == ("text/x-below; charset=iso-8859-1", ("below", "css"), -5)
    assert said("/x.data") == ("application/x-data", (), 0)
    assert said("/_headers") == ("", (), 0)


def test_a_purge_by_tag_is_of_the_files_that_have_it(full: Site) -> None:
    from zcserve.rules.book import Rulebook

    rules = Rulebook(configuration(full)).rules()
    for path, file in made_of(full).manifest.files.items():
        assert set(file.tags) == {tag for tag in rules.tags.names if rules.tagged(tag)(path.encode())} or not file.type


def test_the_same_files_give_the_same_bytes_however_they_came_there(full: Site, tmp_path: Path) -> None:
    made = made_of(full, encodings=True)
    assert made_of(full).manifest == made.manifest
    assert made_of(full, encodings=True).manifest.to_bytes() == made.manifest.to_bytes()
    files = sorted(_files_below(os.fsencode(full.root)))
    for seed in (1, 2):
        copy = os.fsencode(tmp_path / f"copy{seed}")
        random.Random(seed).shuffle(files)
        for number, file in enumerate(files):
            place = os.path.join(copy, os.path.relpath(file, os.fsencode(full.root)))
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copyfile(file, place)
            os.utime(place, (number, number))
        again = make_manifest(config_of(configuration(full, root=os.fsdecode(copy)), "default"), "www", 1)
        assert again.manifest.to_bytes() == made.manifest.to_bytes()


def test_encodings_made_in_two_copies_are_the_same(full: Site, tmp_path: Path) -> None:
    shutil.copytree(full.root, tmp_path / "copy")
    one = made_of(full, encodings=True)
    config = config_of(configuration(full, root=str(tmp_path / "copy")), "default")
    two = make_manifest(config, "www", 1, encodings=True)
    assert one.manifest.to_bytes() == two.manifest.to_bytes()
    assert one.written == two.written
    assert set(one.written) in ({"/a.css", "/bad.css", "/d/b.css"}, {"/d/b.css"})  # the others lack br and zstd


def test_a_site_of_a_file_has_its_own_rules(full: Site) -> None:
    more = '[sites.blog]\nroot = "/absent"\nhosts = ["blog.example"]\n'
    rules = '[[sites.blog.rules]]\npath = "/**"\ntags = ["post"]\n'
    (full.root.parent / "site.toml").write_text(TOML + more + rules)
    config = configuration(full)
    for site, tags in (("default", ("assets", "css")), ("blog", ("post",))):
        assert make_manifest(config_of(config, site), site, 1).manifest.files["/a.css"].tags == tags
    with pytest.raises(UsageError, match=r"no site is called blgo; the nearest known is blog"):
        config_of(config, "blgo")


def test_users_of_a_site_are_no_matter_of_its_release(full: Site) -> None:
    auth = '[[{0}auth]]\npath = "/d/**"\nrealm = "d"\nusers_file = "/absent/users"\n'
    more = '[sites.blog]\nroot = "/absent"\nhosts = ["blog.example"]\n'
    (full.root.parent / "site.toml").write_text(auth.format("") + more + auth.format("sites.blog."))
    for site in ("default", "blog"):
        assert "/d/b.css" in make_manifest(config_of(configuration(full), site), site, 1).manifest.files


def test_what_cannot_be_read_is_an_error(site: Site) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        make_manifest(Config(root=site.root / "absent"), "www", 1)
    site.write("_redirects", b"/a /b 999\n" * 1_000_000)
    with pytest.raises(UsageError, match="_redirects"):
        make_manifest(Config(root=site.root), "www", 1)


def test_what_cannot_be_in_a_manifest_is_named_and_none_is_made_unless_it_is_to_be_left_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = "/".join(["d" * 200] * 16)
    site.write("a.css", TEXT)
    site.write("gone.css", TEXT)
    site.write("gone.css.gz", gzip.compress(TEXT))
    site.write(f"{deep}/f")
    for name, to in (("out", "/etc/hostname"), ("nowhere", "absent"), ("loop", "loop"), ("above", ".")):
        (site.root / name).symlink_to(to)
    os.mkfifo(site.root / "a.css.gz")
    (site.root / "link.css").symlink_to("a.css")  # which is a file of it
    why = {
        "a.css.gz": "is not a regular file", "above": "leads back to a directory above it",
        f"{deep}/f": "is longer than", "gone.css": "No such file", "loop": "Too many levels", "nowhere": "No such file",
        "out": "is a symlink that leads",
    }  # fmt: skip

    class Vanishing(Contents):
        """A file goes between the walk and the reading."""

        def read(self, progress: Progress) -> dict[Entry, Encoding]:
            (site.root / "gone.css").unlink(missing_ok=True)
            return super().read(progress)

    monkeypatch.setattr(making, "Contents", Vanishing)
    with pytest.raises(LeftOutError, match=r": 7 names cannot be in a release, and nothing is made of it") as refused:
        make_manifest(Config(root=site.root), "www", 1, encodings=True)
    named = {problem.path: problem.why for problem in refused.value.left_out}
    assert named.keys() == why.keys()
    assert not [path for path in why if not named[path].startswith(why[path])]
    assert sorted(os.listdir(site.root)) == sorted(
        ["a.css", "d" * 200, "gone.css.gz", "link.css", *why.keys() - {f"{deep}/f", "gone.css"}]
    )

    site.write("gone.css", TEXT)
    made = make_manifest(Config(root=site.root), "www", 1, encodings=True, leave_out=True)
    assert {problem.path for problem in made.left_out} == why.keys()
    assert made.manifest.files.keys() == {
        "/a.css",
        "/link.css",
        "/gone.css.gz",
    }  # no sibling any more, so a file of its own
    assert stat.S_ISFIFO((site.root / "a.css.gz").stat().st_mode)


def test_what_cannot_be_read_is_named() -> None:
    with public_directory() as root:
        site = Site(root)
        for name in ("a", "shut/b", "c"):
            site.write(name)
        assert len(make_manifest(Config(root=root), "www", 1).manifest.files) == 3
        for name in ("a", "shut"):
            (root / name).chmod(0)
        with as_its_owner(root), pytest.raises(LeftOutError) as refused:
            make_manifest(Config(root=root), "www", 1)
    assert [(one.path.rstrip("/"), one.why) for one in refused.value.left_out] == [
        ("a", "Permission denied"),
        ("shut", "Permission denied"),
    ]


def test_an_empty_root_is_a_release(site: Site) -> None:
    assert make_manifest(Config(root=site.root), "www", 3).manifest == Manifest.of("www", 3, {})


def test_a_file_too_large_to_hash_has_no_tag(site: Site) -> None:
    site.write("a.txt", b"xx")
    file = make_manifest(Config(root=site.root, hash_bytes_max=1), "www", 1).manifest.files["/a.txt"]
    assert file == File(2, hashlib.sha256(b"xx").hexdigest(), "", "text/plain; charset=utf-8", {}, (), 0)
