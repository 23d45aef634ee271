"""What can be set, declared once.

`Config` (table.py, limits.py) is a table: one field a key, beside its default what it means, what it accepts and, for a
limit, why it is what it is. The command-line flags, the keys of a TOML file, the environment names and the reference
for README are all read from that table (`KEYS` in keys.py), so that a new key is one new field and nothing else.

    key          head_timeout_s                       unit last: _s seconds, bytes
    flag         --head-timeout 20s                   the key with dashes, its `_s` dropped
    environment  ZCSERVE_HEAD_TIMEOUT=20s             lists by commas; an empty value counts as unset
    file         head_timeout = "20s"                 or 20

In the environment and in a file the name of the key does as well: ZCSERVE_HEAD_TIMEOUT_S, head_timeout_s.

No module here touches a socket, and the only file that is read is the TOML file (sources.py): whether the root exists
or a port is free is found out where they are used. What is odd: a value given as text is understood in every place,
`Config(memory="512M")` included, because a TOML file may hold either form.
"""
