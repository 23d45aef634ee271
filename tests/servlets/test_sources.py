"""zcserve.servlets.sources: files as they were read, and whether they still hold that."""

from __future__ import annotations

import linecache
import os
from pathlib import Path

import pytest

from zcserve.servlets.sources import File, Listing, SourceFile, with_imports


def test_a_file_has_changed_when_its_content_has_and_when_it_comes_or_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    absent = File(path)
    assert (absent.content, absent.changed()) == (None, False)
    path.write_text("1")
    assert absent.changed()
    file = File(path)
    assert (file.content, file.changed()) == (b"1", False)
    path.unlink()
    assert file.changed()


def test_a_listing_has_the_python_files_of_a_directory(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "c.txt"):
        (tmp_path / name).touch()
    os.mkdir(tmp_path / "d.py")
    listing = Listing(tmp_path)
    assert listing.content == ["a.py", "b.py"]
    (tmp_path / "e.py").touch()
    assert listing.changed()
    assert Listing(tmp_path / "none").content is None


def test_a_source_knows_the_helpers_that_it_imports_and_what_these_import(tmp_path: Path) -> None:
    texts = {"a": "import _b, json\ndef f():\n    from _b import x", "_b": "import _c.d", "_c": "import _b", "_d": ""}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    sources = {name: SourceFile(tmp_path / f"{name}.py") for name in texts}
    assert sources["a"].imports == {"_b"}
    assert with_imports("a", sources) == {sources[name] for name in ("a", "_b", "_c")}


def test_code_is_of_what_was_read_and_so_are_the_lines_of_tracebacks(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("VALUE = 1\n")
    source = SourceFile(path)
    path.write_text("VALUE = 22\n")
    found: dict[str, object] = {}
    exec(source.code(), found)
    assert found["VALUE"] == 1
    assert linecache.getline(str(path), 1) == "VALUE = 1\n"
    path.write_text("VALUE =\n")
    with pytest.raises(SyntaxError):
        SourceFile(path).code()
