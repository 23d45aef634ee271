"""docs/examples/moved: a blog that moved from another domain, with a redirect for each of 500 posts."""

from __future__ import annotations

from pathlib import Path

from tests.support.examples import GetExample, Holds, Row

OLD, NEW = "http://old-blog.example", "http://blog.example"
DAY = {"Cache-Control": "max-age=86400"}
ROWS = (
    Row("a post has a new host and a new path", OLD + "/2010/01/first-snow/", 301,
        DAY | {"Location": "https://blog.example/posts/first-snow/"}),
    Row("also without the slash", OLD + "/2010/01/first-snow", 301,
        {"Location": "https://blog.example/posts/first-snow/"}),
    Row("also below any name of the old host", "http://www.old-blog.example/2010/01/first-snow/", 301,
        {"Location": "https://blog.example/posts/first-snow/"}),
    Row("the query goes along", OLD + "/2010/01/first-snow/?utm=1", 301,
        {"Location": "https://blog.example/posts/first-snow/?utm=1"}),
    Row("where it leads there is the post", NEW + "/posts/first-snow/", 200, {"Cache-Control": None},
        "new/posts/first-snow/index.html"),
    Row("an image keeps its path behind the new beginning", OLD + "/wp-content/uploads/2010/01/a%20b.jpg", 301,
        {"Location": "https://blog.example/uploads/2010/01/a%20b.jpg"}),
    Row("feeds are one feed", OLD + "/feed/atom/", 301, {"Location": "https://blog.example/feed.xml"}),
    Row("a category is a tag", OLD + "/category/snow/", 301, {"Location": "https://blog.example/tags/snow/"}),
    Row("a number is a parameter", OLD + "/?p=17", 301, {"Location": "https://blog.example/posts/?id=17"}),
    Row("what no line names keeps its path", OLD + "/about/me/?a=b", 301,
        {"Location": "https://blog.example/about/me/?a=b"}),
    Row("so does the beginning", OLD + "/", 301, DAY | {"Location": "https://blog.example/"}),
    Row("a path that would be another host is none", OLD + "//evil.example/", 301,
        {"Location": "https://blog.example/evil.example/"}),
    Row("a form is sent again", f"POST {OLD}/wp-comments-post.php", 308,
        DAY | {"Location": "https://blog.example/comments"}, sends=("Content-Length: 0",)),
    Row("the login is gone", OLD + "/wp-login.php", 410),
    Row("so is all of the old software", OLD + "/wp-admin/a/b", 410),
    Row("the new host does not know the old paths", NEW + "/2010/01/first-snow/", 404),
    Row("another name is none of both", "http://copy.example/", 421),
)  # fmt: skip


def test_the_example_answers_as_its_rows_say(example: GetExample, holds: Holds) -> None:
    made = example("moved")
    posts = [line.split() for line in Path("old/_redirects").read_text().splitlines()[:500]]
    assert len({old for old, _, _ in posts}) == 500
    each = [Row("a post has a line", OLD + old, 301, {"Location": new}, explained=False) for old, new, _ in posts]
    holds(made, [*ROWS, *each])
