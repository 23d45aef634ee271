"""zcserve.rules.hashed: names that hold a hash, as the tools write them, and names that only look so."""

from __future__ import annotations

import pytest

from zcserve.rules.hashed import is_hashed

# Names from builds of these tools.
HASHED = {
    "Vite": ["index-BVqDs1Xt.js", "index-D_x-9aBc.css", "vue-CZ0qJ5Ug.svg", "inter-latin-C7s3Lw9m.woff2"],
    "Rollup": ["chunk-DkYt2q1x.js", "main-B4xZp_9K.mjs"],
    "Astro": ["index.DkYt2q1x.css", "hoisted.B3qvY6Tz.js"],
    "SvelteKit": ["start.D1N7yb3O.js", "0.C2sK9x_F.css"],
    "webpack": ["main.8e0d62a0.js", "2.8f0d8d5f.chunk.css", "main.3f2a1b4c5d6e7f8a9b0c.js", "vendors~main.1f20a385.js",
                "5d41402abc4b2a76b9719d911017c592.png"],
    "esbuild": ["app-5T2XKZQH.js", "chunk-XKQ7NZCQ.js", "logo-RGNEQ4XB.svg"],
    "Angular": ["main-XKQ7NZCQ.js", "polyfills.b3b7d0e1c1b1f6a0.js"],
    "MkDocs": ["main.c8b779a1.min.js", "bundle.d6c3d61c.min.js", "palette.06af60db.min.css"],
    "Next": ["main-0a1b2c3d4e5f6789.js", "webpack-59c5c889f52620d6.js", "ae71b2a93a1e2c4f.css",
             "e4af272ccee01ff0-s.p.woff2", "page-64ad27b21261a9ce.js"],
    "Parcel": ["index.a1b2c3d4.js"],
    "Django": ["base.27e20196a850.js"],
    "Rails": ["application-" + "0a1b2c3d" * 8 + ".css"],
    "Hugo": ["main.min." + "3e2d6a4c" * 8 + ".css"],
    "a source map": ["main.8e0d62a0.js.map"],
}  # fmt: skip

NOT_HASHED = [
    "jquery-3.7.1.min.js", "2024-05-01.html", "20240501.html", "20240501-123456.jpg", "backup-20240501.tar.gz",
    "bootstrap.bundle.min.js", "introduction.html", "README-INSTALLATION.md", "index.html", "style.css", "app.js",
    "IMG_20240501_123456.jpg", "DSC01234.jpg", "IMG-DSC23456.jpg", "Chapter10.html", "report-Figure12.png",
    "my-iPhone15.png", "B2BSales.pdf", "price-B2BSales.pdf", "v2Update.zip", "notes-MainPage.pdf", "favicon.ico",
    "user-550e8400-e29b-41d4-a716-446655440000.png", "507f1f77bcf86cd799439011.json", "1234567890123456.jpg",
    "deadbeef.bin", "facade-deadbeef.png", "decade-effaced.css", "invoice-12345678.pdf", "3f2a1b4c.jpg",
    "page.3f2a1b4c5d6e7f8a.html", "post-BVqDs1Xt.html", "robots.txt", "_buildManifest.js", "apple-touch-icon.png",
    "app-screen.js", "main-DOWNLOAD.js", "LICENSE", "", ".", "-", "a.", ".8e0d62a0", "Node-Latest12.zip",
    "python-3.12.10-amd64.exe", "node-v22.11.0-linux-x64.tar.xz", "sha256sums.txt", "x86_64-unknown-linux.zip",
    "site.webmanifest", "en-us-en-gb-de-at.json", "report_2024_final2.pdf", "Screenshot_2024-05-01.png",
]  # fmt: skip


@pytest.mark.parametrize(("tool", "name"), [(tool, name) for tool, names in HASHED.items() for name in names])
def test_a_hash_is_seen_in_the_names_that_a_tool_writes(tool: str, name: str) -> None:
    assert is_hashed(name), tool


@pytest.mark.parametrize("name", NOT_HASHED)
def test_what_only_looks_like_a_hash_is_none(name: str) -> None:
    assert not is_hashed(name)


def test_no_word_is_a_hash_wherever_it_stands() -> None:
    words = [
        "download",
        "settings",
        "Keyboard",
        "OverView",
        "JavaScript",
        "password",
        "ABSTRACT",
        "calendar",
        "cafebabe",
        "checkout",
    ]
    assert not [word for word in words if is_hashed(f"app-{word}.js") or is_hashed(f"app.{word}.min.css")]


def test_of_base_64_with_eight_characters_most_are_seen() -> None:
    import random

    rng = random.Random(7)
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    names = [f"index-{''.join(rng.choices(signs, k=8))}.js" for _ in range(2000)]
    assert 0.65 < sum(map(is_hashed, names)) / len(names) < 0.8
