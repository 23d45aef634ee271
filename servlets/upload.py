"""A file from a form, at /csp?upload: it is weighed and hashed, and nothing is kept.

thread=True: hashing some megabytes takes milliseconds, and nobody else should wait for them. So POST runs in a thread.
Such forms need a package, pip install 'zcserve[forms]'; without it `request.files` answers with a 501 that says so.
"""

from hashlib import sha256
from html import escape

from _page import page

from zcserve import HttpError, Request, servlet

FORM = """<form class="ask" method="post" enctype="multipart/form-data">
<label>A file, up to some megabytes <input type="file" name="file" required></label> <button>Send</button></form>"""


def get(request: Request) -> str:
    return page("Upload", FORM)


@servlet(thread=True)
def post(request: Request) -> str:
    file = request.files.get("file")
    if file is None or not file.filename:
        raise HttpError(400, "there is no file in the form")
    # The name is whatever the client says: it is shown, escaped, and never used as a path.
    facts = {
        "Name": escape(file.filename),
        "Size": f"{len(file.content)} bytes",
        "SHA-256": f"<code>{sha256(file.content).hexdigest()}</code>",
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())
    return page("Upload", f'<dl class="facts">{rows}</dl><p>Nothing of it was kept.</p>{FORM}')
