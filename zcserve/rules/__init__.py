"""What is done with a path besides serving the file that lies there: rules, as they are written, and compiled at load.

    rule      a header rule as data; what a field of one may be
    hashed    names of files that hold a hash of their content
    preset    the fields of --secure-headers
    reading   `[[rules]]` of the TOML file -> header rules
    compiled  `Rules`: all of a root's, made into what a look-up needs

Knows bytes, paths and globs; no entries, no sockets. Rules belong to a root (cache/root.py): a generation has those
that were there when it was built. They are asked when a head is made, and never when a request comes.
"""
