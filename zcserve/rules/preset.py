"""What --secure-headers, --immutable and --listing come to: rules that stand before all that is written, which may say
otherwise.

The preset has what does no harm to a site that was made without a thought of it. What would (HSTS over plain HTTP, a
policy for scripts, isolation from other origins) is the site's to decide; docs/rules.md has the reasons.
"""

from __future__ import annotations

from zcserve.http import FieldLines
from zcserve.rules.rule import HeaderRule

# A year: RFC 8246 is for what never changes, and RFC 9111 knows nothing longer that all caches keep.
IMMUTABLE = b"public, max-age=31536000, immutable"

SECURE: FieldLines = (
    (b"X-Frame-Options", b"SAMEORIGIN"),
    (b"Referrer-Policy", b"strict-origin-when-cross-origin"),
    (b"Content-Security-Policy", b"frame-ancestors 'self'; object-src 'none'; base-uri 'self'"),
    (b"Permissions-Policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"Cross-Origin-Opener-Policy", b"same-origin-allow-popups"),
)

EVERYWHERE = "/**"


def presets(*, secure: bool, immutable: bool, listing: bool = False) -> tuple[HeaderRule, ...]:
    """The rules that these switches stand for."""
    rules = []
    if secure:
        rules.append(HeaderRule((EVERYWHERE,), set=SECURE))
    if immutable:
        rules.append(HeaderRule((EVERYWHERE,), immutable=True))
    if listing:
        rules.append(HeaderRule((EVERYWHERE,), listing=True))
    return tuple(rules)


def switch_of(rule: HeaderRule) -> str:
    """The flag that one of `presets` stands for."""
    if rule.set:
        return "--secure-headers"
    return "--immutable" if rule.immutable else "--listing"
