"""Writes site.toml and sites/: thirty customers of one hoster. A real one has its list from a database."""

from pathlib import Path

CUSTOMERS = [f"customer-{number:02}" for number in range(1, 31)]
HEAD = """\
# Thirty sites of one hoster, written by make.py: edit that, run it, send SIGHUP. No site waits for another's change.
root = "sites/hoster"               # the hoster's own site
hosts = ["hoster.example", "www.hoster.example"]
unknown_host = "421"                # another name that points here gets an error, and no site of a customer
memory = "256M"                     # for all together
secure_headers = true               # what a site does not say itself is as said here
cache_control = "max-age=60"
access_log_fields = ["host"]        # one log for all, each line with its host
"""
SITE = """
[sites.{name}]                # in the log, in figures, and for `zcserve ctl --site {name}`
hosts = ["{name}.hoster.example", "www.{name}.example", "*.{name}.example"]
root = "sites/{name}"         # its own _redirects and _headers hold for this site alone
memory_min = "1%"                   # no crawl of another site takes this from it
memory_max = "20%"                  # and it takes no more from the others
"""
SPECIAL = {
    # What one customer has besides.
    "customer-02": "spa = true\n",
    "customer-03": 'cache_control = "no-cache"\nsecure_headers = false\n',
}
PAGE = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title><h1>{name}</h1></html>\n'


def write(name: str, **files: str) -> None:
    for file, text in {"index.html": PAGE.format(name=name), **files}.items():
        path = Path("sites", name, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


Path("site.toml").write_text(HEAD + "".join(SITE.format(name=one) + SPECIAL.get(one, "") for one in CUSTOMERS))
for name in ("hoster", *CUSTOMERS):
    write(name)
SHOP = "/shop/*  https://shop.example/:splat  302\n"
write("customer-01", **{"_redirects": SHOP, "404.html": PAGE.format(name="lost")})
