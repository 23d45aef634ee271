"""Where names, values and targets end (net/lane/scan.pxd): in the registers of this machine, and in plain words."""

from __future__ import annotations

import ctypes
import mmap
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.grammar import TELLING_BYTES

UNIT = Path(__file__).parents[2] / "zcserve" / "net" / "lane" / "scan.pxd"
# What belongs, for each class.
CLASSES = {
    "zc_value_end": bytes(byte for byte in range(256) if (byte >= 0x20 or byte == 9) and byte != 0x7F),
    "zc_target_end": bytes(range(0x21, 0x7F)),
    "zc_query_end": bytes(byte for byte in range(0x21, 0x7F) if byte not in b'"#<>[\\]^`{|}'),
    "zc_tag_end": bytes(byte for byte in range(256) if byte > 0x20 and byte not in b'"\x7f'),
    "zc_plain_name_end": bytes(byte for byte in range(128) if chr(byte).isalpha() or byte == 0x2D),
}
BLOCK_MAX = 16
End = Callable[[int, int], int]


@pytest.fixture(scope="module", params=["-DZC_REGISTERS", "-DZC_WORDS"])
def ends(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """The functions of the unit's C, compiled by itself: (address, end) -> address."""
    compiler = shutil.which("cc")
    code = re.search(r'"""\n(    #include.*?)"""', UNIT.read_text(), re.DOTALL)
    if compiler is None:
        pytest.skip("there is no C compiler")
    assert code is not None
    source = tmp_path_factory.mktemp("scan") / "scan.c"
    source.write_text(code[1].replace("static inline const char *", "const char *"))
    built = source.with_suffix(".so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", request.param, "-o", built, source], check=True)
    library = ctypes.CDLL(str(built))
    found: dict[str, End] = {}
    for name in CLASSES:
        function = library[name]
        function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.c_void_p
        found[name] = function
    return found


@pytest.mark.parametrize("name", CLASSES)
def test_a_text_ends_at_the_first_byte_that_does_not_belong(ends: dict[str, End], name: str) -> None:
    """Whatever the byte, wherever in a block it stands, and whatever stands before and behind the text."""
    belongs, rng = CLASSES[name], random.Random(1)
    room = mmap.mmap(-1, 256)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room)) + BLOCK_MAX
    for length in range(40):
        for byte in range(256) if length in (0, 3, 15, 16, 21) else TELLING_BYTES:
            at = rng.randrange(length + 1)
            text = bytearray(rng.choices(belongs, k=length))
            text[at : at + 1] = bytes((byte,)) if at < length else b""
            room[BLOCK_MAX : BLOCK_MAX + length] = bytes(text)
            room[:BLOCK_MAX] = rng.randbytes(BLOCK_MAX)
            room[BLOCK_MAX + length : BLOCK_MAX + length + 40] = rng.randbytes(40)
            expected = at if at < length and byte not in belongs else length
            assert ends[name](start, start + length) - start == expected, (length, at, byte)


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_behind_the_end_is_read(ends: dict[str, End], name: str) -> None:
    """The page behind a text's end cannot be read: a look at it would end the process."""
    page = mmap.PAGESIZE
    room = mmap.mmap(-1, 2 * page)
    first = ctypes.addressof(ctypes.c_char.from_buffer(room))
    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(first + page), ctypes.c_size_t(page), 0) == 0
    room[:page] = CLASSES[name][-2:-1] * page
    for length in range(40):
        assert ends[name](first + page - length, first + page) == first + page
