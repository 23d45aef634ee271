"""README keeps its promises: the tables in it are the ones that the code makes, and the commands in it exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zcserve.config.keys import KEYS, reference
from zcserve.config.option import SWITCH

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted(
    {
        ROOT / "README.md",
        ROOT / "zcserve" / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
    }
)


def test_the_table_of_limits_is_the_configurations_own() -> None:
    limits = reference().split("\n\n")[1].strip()
    assert limits in README


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))))
def test_every_flag_that_is_named_exists(flag: str) -> None:
    elsewhere = {"--group", "--url", "--check", "--version", "--help", "--config"}
    elsewhere |= {"--rounds", "--seconds", "--peers", "--workloads"}  # the benchmark's
    elsewhere |= {"--init", "--kill-whom"}  # docker's, systemctl's
    switches = {f"--no-{key.flag[2:]}" for key in KEYS.values() if key.option.kind is SWITCH}
    assert flag in {key.flag for key in KEYS.values()} | switches | elsewhere


def slug(heading: str) -> str:
    """The anchor that a heading has on the web."""
    return re.sub(r"[^\w -]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_every_link_of_a_page_leads_to_a_file_and_its_heading(page: Path) -> None:
    astray = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if target.suffix == ".md" else []
        if not target.exists() or (anchor and anchor not in map(slug, headings)):
            astray.append(link)
    assert astray == []


def test_ci_runs_the_test_command_that_is_given() -> None:
    command = "python -m pytest -n auto"
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text()


def test_the_page_of_the_seed_benchmark_has_a_thousand_bytes() -> None:
    assert (ROOT / "www" / "1000.html").stat().st_size == 1000
