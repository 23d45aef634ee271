"""Users and passwords for tests: hashes that are quick to check."""

from __future__ import annotations

import base64

# Of cost 4, and of 64 KiB: half a millisecond.
ALICE = "open, sésame:x"
ALICE_BCRYPT = "$2y$04$t8.iz0Dn3fo/irewfoz2AemqwOgi5K13EEV611Ura0TA3qfDpk7Ly"
ALICE_ARGON2 = "$argon2id$v=19$m=64,t=1,p=1$MpjKV6h50fE+fk6qFKPGow$lIBm7qvxS6KA99xFRfewvFHJRpeTqthXQ/BUxDAMxj8"
BOB = "bob's"
BOB_BCRYPT = "$2b$04$jbhT/gR8WMSg8tRGYVV7A.3/HRzJdaf7GRDq.4C5SWF1niYyahZku"


def basic(name: str, password: str) -> str:
    """The line of a request that tells a name and a password."""
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
