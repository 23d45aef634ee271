"""A /proc and control groups of a test's own, laid out as the kernel's are."""

from __future__ import annotations

from pathlib import Path


class Kernel:
    """`proc`, and the groups' mount points below `groups`."""

    def __init__(self, path: Path) -> None:
        self.proc = path / "proc"
        self.groups = path / "sys fs"  # mountinfo writes a blank as \\040
        (self.proc / "self").mkdir(parents=True)
        self.mounts: list[str] = []

    def tell(self, file: str, text: str) -> None:
        """What a file of /proc says."""
        (self.proc / file).write_text(text)

    def mount(self, where: str, kind: str, options: str = "rw", root: str = "/") -> None:
        """One more line of mountinfo."""
        place = str(self.groups / where).replace(" ", "\\040")
        self.mounts.append(f"41 31 0:38 {root} {place} rw,relatime shared:9 - {kind} {kind} {options}\n")
        self.tell("self/mountinfo", "".join(self.mounts))

    def group(self, path: str, name: str, value: object) -> None:
        """What a file of a group says; `path` begins with the mount's directory."""
        place = self.groups / path
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(f"{value}\n")
