"""A node that has no release yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.fleet import FakeServer
from zcserve.errors import UsageError
from zcserve.fleet.folders import Folders
from zcserve.fleet.keeping import Kept
from zcserve.fleet.local_server import LocalServer, Seen, ServerError
from zcserve.fleet.standby import Standby

NONE_YET = {"why": "it has no release yet"}


def test_a_server_without_a_release_is_drained_until_it_has_one(tmp_path: Path) -> None:
    fake = FakeServer()
    try:
        folders, kept, server = Folders(tmp_path), Kept(str(tmp_path)), LocalServer(fake.node, "www")
        standby = Standby(folders, kept, server)
        none = (tmp_path / "current").resolve()
        assert none.is_dir()
        assert folders.current() is None
        empty = Seen((7, 5.0), None, str(none), "", 1.0)
        served = empty._replace(served=str(tmp_path / "release"))
        with pytest.raises(ServerError):
            standby.look(empty)
        fake.answers = {"/drain": (200, {}), "/undrain": (200, {})}
        fake.told.clear()
        standby.look(empty)
        standby.look(empty)
        assert fake.told == [("/drain", NONE_YET)]
        standby = Standby(folders, kept, server)  # the agent is another, the server is not
        standby.look(empty)
        standby.look(served)
        standby.look(served)
        assert fake.told == [("/drain", NONE_YET), ("/undrain", {})]
        standby.look(empty)
        standby.look(served._replace(process=(8, 6.0)))  # which was never drained
        assert fake.told == [("/drain", NONE_YET), ("/undrain", {}), ("/drain", NONE_YET)]
        fake.told.clear()
        standby.look(empty._replace(others=True))  # a new site beside one that is served
        assert fake.told == []
        standby.look(empty)
        standby.look(empty._replace(others=True))  # another site of a new node is first
        assert fake.told == [("/drain", NONE_YET), ("/undrain", {})]
    finally:
        fake.close()


def test_what_current_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "current").symlink_to("/somewhere")
    folders, kept = Folders(tmp_path / "releases"), Kept(str(tmp_path / "releases"))
    fake = FakeServer()
    Standby(folders, kept, LocalServer(fake.node, "www"))
    fake.close()
    assert (tmp_path / "releases" / "current").readlink() == Path("/somewhere")
    (tmp_path / "releases" / "current").unlink()
    (tmp_path / "releases" / "none").write_bytes(b"a file")
    with pytest.raises(UsageError, match="cannot be made"):
        Standby(folders, kept, LocalServer(fake.node, "www"))


def test_a_server_that_serves_from_memory_is_given_no_empty_directory(tmp_path: Path) -> None:
    releases, current = tmp_path / "releases", tmp_path / "releases" / "current"
    fake = FakeServer()
    try:
        folders, kept, server = Folders(releases), Kept(str(releases)), LocalServer(fake.node, "www")
        fake.serve("/releases/tree (deleted)", files=3)
        standby = Standby(folders, kept, server)  # an agent that was started anew beside it
        assert not current.is_symlink()
        standby.look(server.look())
        assert not current.is_symlink()
        shutil.rmtree(releases)
        standby.find_again()
        assert releases.is_dir()
        assert not current.is_symlink()
        standby.stand_in()  # it has ended
        assert current.resolve() == releases / "none"
        fake.told.clear()
        shutil.rmtree(releases)
        fake.serve(f"{releases}/none (deleted)")
        standby.find_again()
        standby.look(server.look())
        assert current.resolve() == releases / "none"
        assert not [path for path, _ in fake.told if path != "/stats"]  # neither drained nor taken back
    finally:
        fake.close()


def test_a_server_that_is_behind_is_drained_until_it_is_not_and_what_its_operator_does_stays(tmp_path: Path) -> None:
    fake = FakeServer()
    fake.answers = {"/drain": (200, {}), "/undrain": (200, {})}
    try:
        folders, kept, server = Folders(tmp_path), Kept(str(tmp_path)), LocalServer(fake.node, "www")
        standby = Standby(folders, kept, server)
        ready = Seen((7, 5.0), None, str(tmp_path / "release"), "", 1.0, has_files=True)
        drained = ready._replace(is_drained=True)
        behind = ("/drain", {"why": "behind"})
        fake.told.clear()
        standby.look(ready)
        standby.look(ready._replace(others=True), "behind")  # another site of it has files
        assert fake.told == []
        standby.look(ready, "behind")
        standby.look(drained, "behind")
        standby.look(ready, "behind")  # its operator has taken it back
        assert fake.told == [behind]
        standby.look(drained._replace(process=(8, 6.0)), "behind")  # an upgrade has handed that on
        standby.look(drained._replace(process=(8, 6.0)))
        assert fake.told == [behind, ("/undrain", {})]
        standby.look(drained)  # by its operator
        standby.look(drained, "behind")
        standby.look(drained)
        assert fake.told == [behind, ("/undrain", {})]
    finally:
        fake.close()
