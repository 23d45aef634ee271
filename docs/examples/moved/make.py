"""Writes old/_redirects: where 500 posts of a WordPress blog went. In place of the numbers: an export of your own."""

from collections.abc import Iterator
from pathlib import Path

FIRST = ("winter", "summer", "rye", "garden", "bicycle", "river", "lamp", "letter", "mountain", "harbour")
SECOND = ("bread", "notes", "walk", "repair", "story", "recipe", "map", "market", "light", "weather")
# What is no post: the first line that matches decides, so the star that takes all stands last.
OTHERS = """
/feed/*                https://blog.example/feed.xml              301
/wp-content/uploads/*  https://blog.example/uploads/:splat        301
/category/:name        https://blog.example/tags/:name/           301
/ p=:id                https://blog.example/posts/?id=:id         301
# 308, and not 301: a form that is sent there is sent again, with its content
/wp-comments-post.php  https://blog.example/comments              308
# the old software is gone for good, which ends most of the questions for it
/wp-admin/*            410
/wp-login.php          410
/xmlrpc.php            410
# all the rest, path by path
/*                     https://blog.example/:splat                301
"""


def posts() -> Iterator[tuple[str, str]]:
    """Each post's old path, /2014/03/name/, and its name."""
    yield "/2010/01/first-snow/", "first-snow"
    for number in range(1, 500):
        name = f"{FIRST[number % 10]}-{SECOND[number // 10 % 10]}-{number}"
        yield f"/{2010 + number // 40}/{number % 12 + 1:02}/{name}/", name


lines = [f"{old:<44} https://blog.example/posts/{name}/ 301\n" for old, name in posts()]
Path("old").mkdir(exist_ok=True)
Path("old/_redirects").write_text("".join(lines) + OTHERS)
