"""What is told of a word at the top of a file, or of a site, that is no key there.

A word may be a typo of a key. It may be one of a table, which stands below no header of that table. It may be what
another server calls something: then it is said how that is written here. Else there is no saying what is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zcserve.config.refusal import shown
from zcserve.errors import alike

# The words of tables of which there may be several (rules/reading.py, rules/protected.py), by the table.
OF_TABLES: Mapping[str, tuple[str, ...]] = {
    "rules": ("path", "set", "add", "remove", "type", "charset", "immutable", "download", "preload", "tags",
              "priority", "cors", "listing"),
    "redirects": ("from", "to", "status", "query", "force"),
    "auth": ("path", "realm", "users_file", "users", "open"),
}  # fmt: skip

_TLS = "TLS is not spoken here: put a proxy in front"
_RULE = "write [[rules]] with a path and set = { NAME = 'VALUE' }"
_VARIANTS = "compress = true makes variants; .gz, .br and .zst files beside their files are sent without it"
_AUTH = "write [[auth]] with a path and users"
_LANES = "lanes = 4, or lanes = 'auto'"
# What others call it, in small letters with _ for -, and what to write.
_FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("tls", "ssl", "https", "tls_cert", "tls_key", "ssl_certificate", "cert", "key"), _TLS),
    **dict.fromkeys(("gzip", "brotli", "zstd", "compression", "gzip_static", "encode"), _VARIANTS),
    **dict.fromkeys(("workers", "worker_processes", "threads", "processes"), _LANES),
    **dict.fromkeys(("headers", "header", "add_header", "response_headers"), _RULE),
    **dict.fromkeys(("max_age", "expires", "cache", "ttl"), "cache_control = 'max-age=3600'"),
    **dict.fromkeys(("document_root", "docroot", "directory", "dir", "public", "www_root"), "root = 'DIR'"),
    **dict.fromkeys(("server_name", "domain", "domains", "hostname", "names"), "hosts = ['example.org']"),
    **dict.fromkeys(("bind", "address", "listen_addr"), "listen = ['127.0.0.1:8080']"),
    **dict.fromkeys(("log", "logfile", "log_file"), "access_log = 'PATH', or - for standard output"),
    **dict.fromkeys(("autoindex", "browse", "directory_listing", "list"), "listing = true"),
    **dict.fromkeys(("basic_auth", "basicauth", "password", "passwords", "user"), _AUTH),
    **dict.fromkeys(("rewrite", "rewrites", "return"), "write [[redirects]] with from, to and a status"),
    **dict.fromkeys(("try_files", "fallback", "history_api_fallback"), "spa = true, or clean_urls = true"),
    **dict.fromkeys(("timeout", "request_timeout", "read_timeout"), "head_timeout, body_timeout or idle_timeout"),
    **dict.fromkeys(("proxy", "proxy_pass", "reverse_proxy", "upstream"), "nothing is fetched from other servers"),
    **dict.fromkeys(("include", "import"), "there is one file: write it here"),
    **dict.fromkeys(("vhost", "vhosts", "virtualhost", "server", "servers"), "write [sites.NAME] with root and hosts"),
    **dict.fromkeys(("mime", "mime_types", "types"), "type = ['ts=text/plain']"),
}  # fmt: skip


def about_unknown(word: str, known: Collection[str]) -> str:
    """What is said of a word that is none of those `known`."""
    plain = word.lower().replace("-", "_")
    tables = [f"[[{table}]]" for table, words in OF_TABLES.items() if plain in words]
    if tables:
        return f"unknown key {shown(word)}; it is a word of {' and '.join(tables)}, and stands below such a line"
    if (meant := _FOREIGN.get(plain)) is not None:
        return f"unknown key {shown(word)}; {meant}"
    if near := alike(plain, known):
        return f"unknown key {shown(word)}; the nearest known is {near}"
    return f"unknown key {shown(word)}; no key is like it: zcserve --help lists all"
