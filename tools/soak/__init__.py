"""Soaks: a server under everything at once, for as long as is wanted, and not one wrong byte.

    python -m tools.soak everything --lanes 3 --seconds 600
    python -m tools.soak flip --lanes 4 --files 100000
    python -m tools.soak upgrades --lanes 4 --requests 1000000 --upgrades 50

Content says of itself what it is: each line of a file has the file's number and version, so that a client knows from
any part of an answer what the whole is to be (content.py). On one connection no older version may follow a newer one.
Clients are processes (crew.py), so that they take no part in the server's GIL, and what one finds wrong is a fault that
ends the soak with exit code 1. The same clients run for a second each in tests/tools/test_soaks.py.
"""
