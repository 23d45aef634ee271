"""Names of streams and subjects: no two sites or nodes share one."""

from __future__ import annotations

import re
from pathlib import Path

from zcserve.fleet import nats_streams
from zcserve.fleet.forms import MESSAGE_BYTES_MAX
from zcserve.fleet.nats_streams import ASIDE, CLAIM, DESIRED, POSITION, STATE


def test_each_site_and_node_has_its_own() -> None:
    assert nats_streams.key(DESIRED, "www.example.com") == "$KV.zcserve-desired.www__example__com"
    assert nats_streams.key(STATE, "www", "n.1") == "$KV.zcserve-state.www.n__1"
    assert nats_streams.key(ASIDE, "www", "n1") == "zcserve.aside.www.n1"
    assert nats_streams.commands("a.b").name == "ZCSERVE_COMMANDS_a__b"
    assert nats_streams.commands("a.b").subject == "zcserve.commands.a__b"
    assert nats_streams.manifests("a.b").subject == "$O.zcserve-manifests-a__b.>"


def test_no_stream_grows_without_an_end() -> None:
    for stream in (DESIRED, CLAIM, STATE, POSITION):
        assert stream.by_subject == 1
    for stream in (nats_streams.commands("www"), ASIDE):
        assert stream.age_s > 0
        assert stream.bytes_max >= 100 * MESSAGE_BYTES_MAX
    assert nats_streams.manifests("www").bytes_max > 0


def test_a_stream_as_the_server_takes_it() -> None:
    config = nats_streams.commands("www").config(3)
    assert config["num_replicas"] == 3
    assert config["max_age"] == 7 * 86_400 * 10**9
    assert config["duplicate_window"] == 600 * 10**9
    assert (config["max_msgs"], config["max_bytes"]) == (100_000, 64 << 20)
    assert (config["retention"], config["discard"]) == ("limits", "old")


def test_the_page_has_each_stream_and_its_limits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "fleet-nats.md").read_text()
    rows = dict(re.findall(r"(?m)^\| (?:stream|bucket|object store) `([^`]+)`.* \| .* \| (.*) \|$", page))
    aside, commands, manifests = ASIDE, nats_streams.commands("SITE"), nats_streams.manifests("SITE")
    assert rows.keys() == {
        *[stream.name.removeprefix("KV_") for stream in (DESIRED, CLAIM, STATE, POSITION)],
        *(aside.name, commands.name, manifests.name.removeprefix("OBJ_")),
    }
    day = nats_streams.DAY_S
    assert rows[commands.name].startswith(
        f"{commands.age_s / day:.0f} days, {commands.bytes_max >> 20} MiB, {commands.records_max:,}; "
        f"the same id within {commands.dedup_s / 60:.0f} minutes"
    )
    assert (
        rows[aside.name]
        == f"{aside.age_s / day:.0f} days, {aside.bytes_max >> 20} MiB, {aside.by_subject} for each node"
    )
    assert rows["zcserve-manifests-SITE"].startswith(f"{manifests.bytes_max >> 20} MiB")
    assert f"{(commands.bytes_max + manifests.bytes_max) >> 20} MiB a site, and {aside.bytes_max >> 20} more" in page
