"""What a site's rules say: where a path leads that no file has, and what its answers carry besides.

Rules are data, read from the TOML file or from `_headers` and `_redirects` of a root, and each knows where it was
written. They are compiled when a generation is built, and belong to its root (cache/root.py). What is compiled never
changes, so that threads share it. They are asked when a head is made, and where there is no file.

    text  ->  Pattern, Target  ->  Redirect  ->  Redirects.answer(key, query)  ->  Action
    text  ->  HeaderRule       ->  Rules.fields_of(key)  ->  HeadFields
    where it stands: Where                       checks.py: rules that never match, loops

Nothing here knows entries, sockets or files: a path is the key that `http.canonical_path` makes, and a file of rules is
its bytes. docs/rules.md tells what is understood, and how that differs from what other hosts do.
"""
