"""The timeline of the demo's fleet: what lasts in a lane, where a time stands, and a picture that is well formed."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

from tools.fleet_demo.record import Event
from tools.fleet_demo.timeline import COLOURS, Row, Scale, Span, colour_of, lines_of, spans_of, svg

EVENTS = [
    Event(0.5, "n1", "live", "", 1),
    Event(1.0, "n2", "live", "", 1),
    Event(2.0, "n1", "prepared", "", 2),
    Event(3.0, "n1", "live", "", 2),
    Event(4.0, "n1", "down"),
    Event(5.0, "n1", "up"),
    Event(6.0, "n1", "prepared", "", 3),
    Event(7.0, "n1", "let go", "", 3),
    Event(8.0, "n2", "cut"),
    Event(8.5, "n2", "fault", "</text> & more"),
]
ROWS = [Row("release", "it <is> live", True, 1.0, 3.5), Row("killed", "a & b", False, 3.5, 9.0)]


def test_what_lasts_in_a_lane_ends_with_what_follows_it() -> None:
    assert spans_of(EVENTS, "n1", 9.0) == [
        Span("live", 0.5, 3.0, 1),
        Span("prepared", 2.0, 3.0, 2),
        Span("down", 4.0, 5.0),
        Span("prepared", 6.0, 7.0, 3),
        Span("live", 3.0, 9.0, 2),
    ]
    assert spans_of(EVENTS, "n2", 9.0) == [Span("live", 1.0, 9.0, 1), Span("cut", 8.0, 9.0)]
    assert spans_of(EVENTS, "n3", 9.0) == []


def test_time_goes_down_and_stays_in_its_band() -> None:
    scale = Scale(ROWS)
    places = [scale.at(when) for when in (0.0, 1.0, 2.0, 3.5, 6.0, 9.0, 99.0)]
    assert places == sorted(places)
    assert (places[0], places[3], places[-1]) == (scale.tops[0], scale.tops[1], scale.tops[2])
    assert all(after > before for before, after in pairwise(scale.tops))


def test_a_picture_is_xml_whatever_the_words_are_and_has_each_scene_and_fault() -> None:
    root = ElementTree.fromstring(svg(ROWS, EVENTS, ["n1", "n2"], "A <run>"))
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A <run>", "n1", "n2", "it <is> live", "a & b"} <= set(texts)
    assert [text for text in texts if "FAILED" in text] == ["killed 5.5 s FAILED"]
    assert len([path for path in root.iter() if path.get("class") == "fault"]) == 1
    assert "prefers-color-scheme: dark" in svg(ROWS, EVENTS, [], "")


def test_a_long_text_is_cut_and_colours_come_again() -> None:
    assert len(lines_of("word " * 200)) == 3
    assert lines_of("word " * 200)[-1].endswith(" ...")
    assert colour_of(1) == colour_of(len(COLOURS) + 1) != colour_of(2)
