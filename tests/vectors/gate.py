"""Make gate.json: the gate's bytes for fixed inputs, with OpenSSL's HMAC and not ours.

Run: python3 tests/vectors/gate.py > tests/vectors/gate.json
"""

from __future__ import annotations

import json
import subprocess


def proof(secret: bytes, text: bytes) -> bytes:
    command = [
        "openssl",
        "dgst",
        "-sha256",
        "-mac",
        "HMAC",
        "-macopt",
        f"hexkey:{secret.hex()}",
    ]
    result = subprocess.run([*command, "-binary"], input=text, capture_output=True, check=True)
    return result.stdout


CASES = [
    (bytes(range(32)), "vine_42", bytes(range(16)), bytes(range(16, 32))),
    (b"\xff" * 32, "x" * 41, b"\x00" * 16, b"\xff" * 16),
    (bytes(range(255, 223, -1)), "a", bytes(16), bytes(16)),
]

vectors = []
for secret, sock_id, server_nonce, client_nonce in CASES:
    text = sock_id.encode() + server_nonce + client_nonce
    vectors.append(
        {
            "secret": secret.hex(),
            "sock_id": sock_id,
            "server_nonce": server_nonce.hex(),
            "client_nonce": client_nonce.hex(),
            "greeting": (b"VSP1" + server_nonce).hex(),
            "answer": (client_nonce + proof(secret, b"client" + text)).hex(),
            "proof": proof(secret, b"server" + text).hex(),
        }
    )
version = subprocess.run(["openssl", "version"], capture_output=True, text=True, check=True)
print(
    json.dumps(
        {"made_by": version.stdout.strip(), "date": "2026-11", "vectors": vectors}, indent=1
    )
)
