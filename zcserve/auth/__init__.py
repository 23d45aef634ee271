"""Names and passwords: how a request tells them, how a site keeps them, and whether they belong together.

    Authorization  ->  Credentials                          credentials.py
    users_file     ->  Users: names with hashes             users.py, hashes.py
    both           ->  remembered, or checked in a thread   remembered.py, checks.py
    what is wrong  ->  counted; then nothing is checked     attempts.py

A hash is made to be slow (tens of milliseconds of a processor), so the loop never checks one. Libraries do it: bcrypt
and argon2-cffi. Which paths ask for a password is not known here (rules/protected.py), nor what is answered
(net/admission.py).
"""
