"""A chart drawn in Python: /chart.svg?v=3,1,4&title=Pie is an image, and /chart a page around it.

Nothing of what a client sends gets into markup as it is: numbers are made of it, or it is escaped.
"""

from html import escape
from urllib.parse import urlencode

from _page import page

from zcserve import HttpError, Request, Response, servlet

BARS_MAX = 16
STYLE = """
  :root { --bar: #0b6552; --ink: #1c2522; --axis: #8d9791 }
  @media (prefers-color-scheme: dark) { :root { --bar: #67d3b5; --ink: #e3e9e5; --axis: #77827c } }
  rect { fill: var(--bar) } path { stroke: var(--axis) }
  text { fill: var(--ink); font: 14px system-ui, sans-serif; text-anchor: middle }
  .title { font-weight: 600; text-anchor: start }"""


def read(request: Request) -> tuple[list[float], str]:
    """The numbers of the query, and its title."""
    try:
        values = [float(text) for text in request.query.get("v", "3,1,4,1,5,9,2,6").split(",")]
    except ValueError:
        raise HttpError(400, "v takes numbers with commas between them: v=3,1,4") from None
    if len(values) > BARS_MAX or not all(abs(value) < 1e9 for value in values):  # never so for infinity and NaN
        raise HttpError(400, f"v takes {BARS_MAX} numbers, each below a thousand million")
    title = request.query.get("title", "")[:60]
    return values, "".join(filter(str.isprintable, title))  # XML has no control characters


@servlet("/chart.svg")
def image(request: Request) -> Response:
    values, title = read(request)
    top, width = max(0, *values), 600 / len(values)
    scale = 180 / (top - min(0, *values) or 1)
    zero = 50 + top * scale
    bars = []
    for at, value in enumerate(values):
        middle, y, height = 20 + (at + 0.5) * width, zero - max(value, 0) * scale, abs(value) * scale
        x, label_y = middle - 0.4 * width, y - 6 if value >= 0 else y + height + 16
        bars.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.8:.1f}" height="{height:.1f}"/>')
        bars.append(f'<text x="{middle:.1f}" y="{label_y:.1f}">{value:.4g}</text>')
    svg = f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 260"><style>{STYLE}</style>
<text class="title" x="20" y="20">{escape(title)}</text><path d="M20 {zero:.1f}h600"/>{"".join(bars)}</svg>"""
    return Response(svg, content_type="image/svg+xml")


@servlet("/chart")
@servlet  # and /csp?chart
def get(request: Request) -> str:
    values, title = read(request)
    v = ",".join(f"{value:.9g}" for value in values)
    source = escape("/chart.svg?" + urlencode({"v": v, "title": title}))
    content = f"""<figure class="chart"><img src="{source}" width="640" height="260" alt="Bars of {v}"></figure>
<form class="ask" action="/chart"><label>Numbers <input name="v" value="{v}"></label>
<label>Title <input name="title" value="{escape(title)}" maxlength="60"></label> <button>Draw</button></form>"""
    return page("Chart", content)
