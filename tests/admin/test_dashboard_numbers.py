"""What the page makes of what it is told (numbers.js, stream.js), without a page."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from zcserve.admin.dashboard import FOLDER

NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")


def run(sources: tuple[str, ...], expression: str) -> Any:
    """What an expression gives beside the page's sources."""
    text = "\n".join((FOLDER / name).read_text() for name in sources)
    script = f"{text}\nconsole.log(JSON.stringify({expression}))"
    assert NODE is not None
    done = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


TEXTS = {
    "countText(null)": "-",
    "countText(0)": "0",
    "countText(12345)": "12,345",
    "countText(1234567)": "1.23M",
    "countText(0.5)": "0.5",
    "bytesText(0)": "0 B",
    "bytesText(1023)": "1,023 B",
    "bytesText(1024)": "1 KiB",
    "bytesText(512 * 1024 * 1024)": "512 MiB",
    "bytesPerSecondText(null)": "-",
    "secondsText(0)": "0 s",
    "secondsText(0.00005)": "50 µs",
    "secondsText(0.0125)": "12.5 ms",
    "secondsText(2.5)": "2.5 s",
    "shareText(1)": "100%",
    "shareText(0.99999)": "99.9%",
    "shareText(0.00001)": "0.1%",
    "shareText(0)": "0%",
    "shareText(0.5)": "50%",
    "ageText(0)": "0 s",
    "ageText(61)": "1 min 1 s",
    "ageText(86400 + 7200 + 60)": "1 d 2 h",
    "ageText(3600)": "1 h",
    # A quarter of what lies from 1 to 2, and what is above all bounds.
    "quantile({bounds: [1, 2], counts: [0, 4, 0]}, 0.25)": 1.25,
    "quantile({bounds: [1, 2], counts: [1, 0, 1]}, 0.99)": 2,
    "quantile({bounds: [1, 2], counts: [0, 0, 1]}, 0.5)": 2,
    "quantile(null, 0.5)": None,
    # A count that began anew is no rate, nor is what one of both does not tell.
    "perSecond({time: 3, a: {b: 9}}, {time: 1, a: {b: 5}}, 'a.b')": 2,
    "perSecond({time: 3, a: {b: 1}}, {time: 1, a: {b: 5}}, 'a.b')": None,
    "perSecond({time: 3, a: null}, {time: 1}, 'a.b')": None,
    "perSecond({time: 3, a: {b: 1}}, undefined, 'a.b')": None,
    "sampleOf({time: 1, requests: null}, undefined, undefined).requests": None,
    "classPerSecond({time: 2, requests: {by: [{code: 204, total: 3}, {code: 404, total: 9}]}}, "
    "{time: 1, requests: {by: [{code: 200, total: 1}]}}, 2)": 2,
}


def test_numbers_are_written_as_people_read_them() -> None:
    given = run(("numbers.js",), "[" + ", ".join(TEXTS) + "]")
    assert dict(zip(TEXTS, given, strict=True)) == TEXTS


def test_events_are_read_wherever_the_stream_is_cut() -> None:
    stream = (
        'retry: 2000\\nid: 1\\nevent: whole\\ndata: {\\"a\\": 1}\\n\\n: comment\\n\\nevent: change\\ndata: {}\\n\\n'
    )
    expression = f"""((text) => [...text].map((_, cut) => {{
        const events = [];
        const take = eventReader((event) => events.push(event));
        take(text.slice(0, cut));
        take(text.slice(cut));
        return events;
    }}))("{stream}")"""
    first = {"data": '{"a": 1}', "retry": "2000", "id": "1", "event": "whole"}
    for events in run(("stream.js",), expression):
        assert events == [first, {"data": ""}, {"data": "{}", "event": "change"}]
