"""Writes files/: releases of 12 MB and of 1 MB, their sums, and a report."""

import hashlib
import random
import sys
from pathlib import Path

LARGE_MB = int(sys.argv[1]) if len(sys.argv) > 1 else 12
FILES = {
    "releases/tool-1.4-linux.tar.gz": LARGE_MB,
    "releases/tool-1.4-windows.zip": 1,
    "reports/2026-annual.pdf": 1,
}

root, sums = Path("files"), []
for name, size in FILES.items():
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    content = random.Random(name).randbytes(size << 20)
    file.write_bytes(content)
    sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
(root / "SHA256SUMS").write_text("".join(sums))
(root / "releases/tool-1.4-linux.tar.gz.sig").write_text("-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----\n")
