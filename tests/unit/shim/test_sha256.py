"""SHA-256 and HMAC-SHA256 of the shim, against published vectors and Python's."""

from __future__ import annotations

import ctypes
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st


def sha256(inside: ctypes.CDLL, data: bytes) -> str:
    out = ctypes.create_string_buffer(32)
    inside.vsp_sha256(data, ctypes.c_ulong(len(data)), out)
    return out.raw.hex()


def hmac_sha256(inside: ctypes.CDLL, key: bytes, data: bytes) -> bytes:
    assert len(key) == 32
    out = ctypes.create_string_buffer(32)
    inside.vsp_hmac_sha256(key, data, ctypes.c_ulong(len(data)), out)
    return out.raw


# NIST's examples for FIPS 180-4 (SHA256.pdf, and SHA_All.pdf for the first); the million from
# FIPS 180-2, B.3.
VECTORS = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
    b"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu": (
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


@pytest.mark.parametrize("message", VECTORS, ids=lambda message: f"{len(message)} bytes")
def test_the_published_digests_are_computed(inside: ctypes.CDLL, message: bytes) -> None:
    assert sha256(inside, message) == VECTORS[message]


def test_every_length_around_the_blocks_agrees_with_python(inside: ctypes.CDLL) -> None:
    data = bytes(i * 7 & 0xFF for i in range(300))
    for size in range(len(data)):
        assert sha256(inside, data[:size]) == hashlib.sha256(data[:size]).hexdigest(), size


# RFC 4231 with its keys brought to 32 bytes: zeros behind a short one do not change an HMAC
# (RFC 2104 pads keys with zeros), so the RFC's results stand.
RFC_4231 = [
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
    ),
    (
        bytes(range(1, 26)),
        b"\xcd" * 50,
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
    ),
]


@pytest.mark.parametrize(("key", "data", "wanted"), RFC_4231)
def test_the_published_hmacs_are_computed(
    inside: ctypes.CDLL, key: bytes, data: bytes, wanted: str
) -> None:
    assert hmac_sha256(inside, key.ljust(32, b"\0"), data).hex() == wanted


@given(key=st.binary(min_size=32, max_size=32), data=st.binary(max_size=500))
def test_hmacs_agree_with_python(inside: ctypes.CDLL, key: bytes, data: bytes) -> None:
    assert hmac_sha256(inside, key, data) == hmac.digest(key, data, "sha256")
    assert sha256(inside, data) == hashlib.sha256(data).hexdigest()
