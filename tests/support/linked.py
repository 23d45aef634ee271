"""Releases as a build tool makes them: a directory each, and a symlink to the present one."""

from __future__ import annotations

from pathlib import Path

ASSETS = 5


class Releases:
    """A directory of releases, and `root`, the symlink that leads to the present one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "current"

    def make(self, number: int, **more: bytes) -> Path:
        """Make a release, not yet the present one: a page, assets of its own, and what else is named."""
        release = self.path / f"release-{number}"
        (release / "assets").mkdir(parents=True)
        (release / "index.html").write_bytes(self.page(number))
        (release / "kept").write_bytes(b"the same in all")
        for asset in range(ASSETS):
            (release / f"assets/{asset}.{number}.js").write_bytes(self.asset(number, asset))
        for name, content in more.items():
            (release / name).write_bytes(content)
        return release

    def point(self, to: int | str) -> None:
        """`ln -sfn`."""
        aside = self.path / "aside"
        aside.symlink_to(f"release-{to}" if isinstance(to, int) else to)
        aside.rename(self.root)

    @staticmethod
    def page(number: int) -> bytes:
        return b"%04d %b" % (number, b"padding " * 100)

    @staticmethod
    def asset(number: int, asset: int) -> bytes:
        return b"%d of %d" % (asset, number) * (1 + asset * 2000)
