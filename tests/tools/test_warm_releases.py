"""Manifests from a shell: made, signed, compared, verified."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import warm_cache
from tools.warm_cache import main
from zcserve.fleet.manifest import Manifest

CHECKOUT = Path(warm_cache.__file__).parent.parent


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Runs a command line: exit code, standard output, standard error."""

    def run_it(*arguments: object) -> tuple[int, bytes, str]:
        code = main([*map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run_it


@pytest.fixture
def release(tree: Path, run: Any) -> Path:
    """A manifest of the tree, in a file."""
    code, out, _ = run("manifest", tree, "--site", "www", "--sequence", 3)
    assert code == 0
    (file := tree.parent / "release.json").write_bytes(out)
    return file


def test_a_manifest_is_printed_in_canonical_form(release: Path, tree: Path, run: Any) -> None:
    content = release.read_bytes()
    manifest = Manifest.parse(content)
    assert content == manifest.to_bytes() + b"\n"
    assert (manifest.site, manifest.sequence, manifest.signatures) == ("www", 3, ())
    assert set(manifest.files) == {
        "/index.html", "/sub/index.html", "/style.css", "/a%20b.txt", "/100%25.txt", "/%C3%A4.svg", "/large.bin",
        "/empty.json",
    }  # fmt: skip
    assert list(manifest.files["/style.css"].encodings) == ["gzip"]
    assert run("manifest", tree, "--site", "www", "--sequence", 3) == (0, content, "")


def test_it_runs_as_a_program_in_another_directory(release: Path, tree: Path) -> None:
    command = [sys.executable, CHECKOUT / "tools" / "warm_cache.py", "manifest", "root", "--site", "www", "--sequence"]
    done = subprocess.run([*map(str, command), "3"], capture_output=True, timeout=60, cwd=tree.parent, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, release.read_bytes(), b"")
    with open(tree / "release.json", "wb") as inside:
        refused = subprocess.run(
            [*map(str, command), "3"], stdout=inside, stderr=subprocess.PIPE, timeout=60, cwd=tree.parent, check=False
        )
    assert refused.returncode == 2
    assert b"release.json lies in root, and would be served" in refused.stderr


def test_what_cannot_be_in_it_is_told_and_refused_unless_it_is_to_be_left_out(tree: Path, run: Any) -> None:
    (tree / "out\x1b[2J").symlink_to("/etc/hostname")
    (tree / "style.css.gz").write_bytes(b"no gzip")
    code, out, err = run("manifest", tree)
    assert (code, out) == (1, b"")
    assert err.splitlines() == [
        "warm_cache: out\\x1b[2J: is a symlink that leads outside the root",
        f"warm_cache: {tree}: 1 name cannot be in a release, and nothing is made of it; "
        "--leave-out makes it of the rest",
    ]
    code, out, err = run("manifest", tree, "--leave-out")
    assert code == 0
    assert err.splitlines() == [
        "warm_cache: style.css.gz: does not decode: served under its own name only",
        "warm_cache: out\\x1b[2J: is a symlink that leads outside the root",
    ]
    assert Manifest.parse(out).site == "default"
    assert "/style.css.gz" in Manifest.parse(out).files


def test_a_program_is_told_what_happens_and_the_manifest_goes_to_a_file(tree: Path, run: Any) -> None:
    output = tree.parent / "made.json"
    (tree / "b.js").write_bytes(b"let a = 1;\n" * 1000)
    (tree / "out").symlink_to("/etc/hostname")
    (tree / "style.css.gz").write_bytes(b"no gzip")
    words = ("manifest", tree, "--encodings", "--output", output, "--json")
    code, out, err = run(*words)
    *events, failed = map(json.loads, out.splitlines())
    assert (code, err, output.exists()) == (1, "", False)
    assert events[0] == {"event": "begin", "root": str(tree)}
    assert events[-1] == {"event": "left_out", "path": "out", "why": "is a symlink that leads outside the root"}
    assert failed["event"] == "failed"
    assert "--leave-out makes it of the rest" in failed["error"]
    code, out, err = run(*words, "--leave-out")
    events = list(map(json.loads, out.splitlines()))
    manifest = Manifest.read(output)
    assert (code, err, output.stat().st_mode & 0o777) == (0, "", 0o644)
    first, *others = (event["event"] for event in events if event["event"] != "reading")
    assert (first, set(others), others[-1]) == ("begin", {"doubt", "left_out", "encodings", "made"}, "made")
    assert "gzip" in next(event["codings"] for event in events if event.get("path") == "/b.js")
    made = events[-1]
    assert (made["event"], made["manifest"], made["tree"]) == ("made", manifest.digest, manifest.tree)
    assert (made["files"], made["size"], made["output"]) == (len(manifest.files), manifest.size, str(output))
    assert run("manifest", tree, "--leave-out")[1] == output.read_bytes()


def test_events_and_a_manifest_do_not_share_standard_output_and_a_root_does_not_hold_its_own(
    tree: Path, run: Any
) -> None:
    code, out, err = run("manifest", tree, "--json")
    assert (code, out) == (2, b"")
    assert "--json needs --output" in err
    code, out, err = run("manifest", tree, "--output", tree / "release.json")
    assert (code, out, (tree / "release.json").exists()) == (2, b"", False)
    assert "would be served" in err
    assert run("manifest", tree, "--output", tree.parent / "absent" / "release.json")[0] == 2


def test_what_is_wrong_in_a_file_of_rules_is_told(tree: Path, run: Any) -> None:
    (tree / "_headers").write_bytes(b"/*\n  X V\n")
    code, out, err = run("manifest", tree)
    assert code == 0
    assert err.startswith("warm_cache: _headers:2:3: 'X V' is neither a path nor")
    assert "/_headers" in Manifest.parse(out).files


def test_what_is_not_in_a_release_of_a_directory_is_told(tree: Path, release: Path, run: Any) -> None:
    (tree / "out").symlink_to("/etc/hostname")
    assert run("diff", release, tree)[2] == "warm_cache: out: is a symlink that leads outside the root\n"


def test_encodings_are_made_and_travel(tree: Path, run: Any) -> None:
    (tree / "b.js").write_bytes(b"let a = 1;\n" * 1000)
    code, out, err = run("manifest", tree, "--encodings")
    manifest = Manifest.parse(out)
    assert code == 0
    assert "gzip" in manifest.files["/b.js"].encodings
    assert "warm_cache: made " in err
    assert "b.js.gz" in {name for name, _, _ in manifest.fetches()}
    assert run("manifest", tree)[:2] == (0, out)


def test_configuration_gives_tags_and_priorities(tree: Path, run: Any) -> None:
    (tree.parent / "site.toml").write_text('[[rules]]\npath = "/*.css"\ntags = ["css"]\npriority = 5\n')
    _, out, _ = run("manifest", tree, "--config", tree.parent / "site.toml")
    assert Manifest.parse(out).files["/style.css"][5:] == (("css",), 5)
    assert run("manifest", tree, "--config", tree / "absent")[0] == 2


def test_it_is_signed_and_verified_by_several_keys(tree: Path, release: Path, run: Any) -> None:
    pytest.importorskip("cryptography")
    keys = tree.parent / "keys"
    keys.mkdir()
    code, out, _ = run("keygen", keys / "one", "--json")
    made = json.loads(out)
    assert (code, made["private"], made["public"]) == (0, str(keys / "one"), str(keys / "one.pub"))
    assert run("keygen", keys / "two")[0] == 0
    assert run("keygen", keys / "two")[0] == 2
    _, out, _ = run("manifest", tree, "--key", keys / "one", "--key", keys / "two")
    assert Manifest.parse(out).signatures[0].key == made["key"]
    (signed := tree.parent / "signed.json").write_bytes(out)
    code, out, _ = run("verify", tree, signed, "--keys", keys, "--json")
    assert (code, json.loads(out)["signed_by"]) == (0, ["one.pub", "two.pub"])
    assert run("verify", tree, signed, "--keys", keys / "two.pub")[0] == 0
    code, out, err = run("verify", tree, release, "--keys", keys)
    assert (code, out) == (1, b"")
    assert err.startswith(f"warm_cache: {release}: is not signed; known: one.pub ({made['key']}), two.pub")
    assert run("manifest", tree, "--key", keys / "one.pub")[0] == 2
    assert run("verify", tree, release, "--keys", tree)[0] == 2


def test_without_the_library_it_is_said_what_to_install(tree: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert run("manifest", tree)[0] == 0
    needed = "warm_cache: signatures need cryptography: pip install 'zcserve[fleet]'\n"
    assert run("keygen", tree.parent / "key") == (2, b"", needed)
    assert run("manifest", tree, "--key", tree / "index.html") == (2, b"", needed)
    assert run("verify", tree, "release.json", "--keys", tree / "index.html") == (2, b"", needed)


def test_a_tree_is_verified_file_by_file(tree: Path, release: Path, run: Any) -> None:
    code, out, _ = run("verify", tree, release)
    assert code == 0
    assert out.decode().startswith("is www 3, tree ")
    (tree / "index.html").write_bytes((tree / "index.html").read_bytes()[:-1] + b"?")
    (tree / "style.css.gz").write_bytes(b"short")
    (tree / "sub/index.html").unlink()
    (tree / "new").write_bytes(b"")
    code, out, _ = run("verify", tree, release, "--json")
    report = json.loads(out)
    assert code == 1
    assert report["right"] is False
    assert report["faults"] == {
        "index.html": "has another content",
        "new": "is no file of the release",
        "style.css.gz": report["faults"]["style.css.gz"],
        "sub/index.html": "is not there",
    }
    assert report["faults"]["style.css.gz"].startswith("has 5 bytes; the manifest says ")
    code, out, _ = run("verify", tree, release)
    assert (code, out.decode().splitlines()[-1].partition(":")[2][:16]) == (1, " 4 files differ;")


def test_a_manifest_that_is_none_is_refused(tree: Path, release: Path, run: Any) -> None:
    release.write_bytes(release.read_bytes().replace(b'"sequence":3', b'"sequence":0'))
    code, out, err = run("verify", tree, release)
    assert (code, out) == (1, b"")
    assert err.startswith(f"warm_cache: {release}: sequence: 0 is not accepted")
    assert run("diff", release, tree)[0] == 1
    assert run("verify", tree, tree.parent / "absent.json")[0] == 2
    assert run("manifest", tree, "--sequence", "0")[0] == 2
    assert run("manifest", tree / "absent")[0] == 2


def test_a_difference_is_told_by_path_and_in_bytes(tree: Path, release: Path, run: Any) -> None:
    assert run("diff", release, tree, "--site", "www")[:2] == (
        0,
        b"0 added, 0 removed, 0 changed; to fetch: 0 files, 0 B\n",
    )
    after = shutil.copytree(tree, tree.parent / "after")
    (after / "new.txt").write_bytes(b"new")
    (after / "copy.txt").write_bytes(b"new")
    (after / "sub/index.html").write_bytes(b"changed")
    (after / "empty.json").unlink()
    code, out, _ = run("diff", release, after)
    assert (code, out.decode().splitlines()) == (0, [
        "+ /copy.txt", "+ /new.txt", "- /empty.json", "~ /sub/index.html",
        "2 added, 1 removed, 1 changed; to fetch: 2 files, 10 B",
    ])  # fmt: skip
    report = json.loads(run("diff", tree, after, "--json")[1])
    assert (report["bytes"], report["added"]) == (10, ["/copy.txt", "/new.txt"])
    assert [one["name"] for one in report["fetched"]] == ["copy.txt", "sub/index.html"]


def test_the_page_has_commands_that_work(tree: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    section = (CHECKOUT / "docs" / "fleet.md").read_text().partition("## The manifest")[2].partition("\n## ")[0]
    monkeypatch.chdir(tree.rename(tree.parent / "www").parent)
    commands = re.findall(r"^    \$ python tools/warm_cache.py (.*)\n((?:    [^$ ].*\n)*)", section, re.MULTILINE)
    assert len(commands) == 4
    for command, expected in commands:
        words, _, file = command.partition(" > ")
        code, out, err = run(*shlex.split(words))
        assert code == 0, err
        if file:
            Path(file).write_bytes(out)
        elif expected:
            assert shape_of(out.decode()) == shape_of(expected)


def shape_of(text: str) -> list[str]:
    """Its words, but for those with a digit."""
    return [word for word in text.split() if not re.search("[0-9]", word) and word not in ("KiB", "B")]
