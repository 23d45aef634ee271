"""What the pages of these examples share. A name that begins with "_" is no servlet, but may be imported by servlets.

When this file changes, those that import it are loaded anew with it.
"""

from html import escape


def page(title: str, content: str) -> str:
    """A page in the style of the site. `content` is HTML: what comes from a client must have been escaped."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}: a servlet of zcserve</title>
<link rel="icon" href="/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header class="wide top">
  <a class="name" href="/"><img src="/favicon.svg" alt="" width="32" height="32">zcserve</a>
  <nav aria-label="Site"><a href="/">Start</a> <a href="/servlets/">Servlets</a></nav>
</header>
<main class="wide lost">
<h1>{escape(title)}</h1>
{content}
</main>
</body>
</html>
"""
