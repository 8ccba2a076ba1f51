"""Keys, tokens and kubeconfigs of a control plane, without openssl.

The API server makes its own certificate (`--cert-dir`); we make the key that signs service-account tokens and the
static tokens of its users, and read the certificate authority back.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Order of NIST P-256 (FIPS 186-4, D.1.2.3): a private key is a number in [1, order).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# DER around the 32 bytes of the number (RFC 5915, without the optional public key, which Go computes itself).
EC_KEY_HEAD = bytes.fromhex("303102010104 20".replace(" ", ""))
EC_KEY_TAIL = bytes.fromhex("a00a06082a8648ce3d030107")
PEM_END = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the API server with a static token; `groups` decide what RBAC lets it do."""

    name: str
    groups: tuple[str, ...]
    token: str

    @classmethod
    def create(cls, name: str, *groups: str) -> User:
        """Return a user with a fresh random token."""
        return cls(name, groups, secrets.token_hex(16))


def write_signing_key(path: Path) -> None:
    """Write a fresh P-256 private key as PEM, readable by its owner only."""
    number = 1 + secrets.randbelow(P256_ORDER - 1)
    der = EC_KEY_HEAD + number.to_bytes(32, "big") + EC_KEY_TAIL
    body = base64.encodebytes(der).decode()
    write_secret(path, f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n")


def write_tokens(path: Path, users: Iterable[User]) -> None:
    """Write the API server's token file: `token,user,uid,"group,…"` a line."""
    lines = (f'{u.token},{u.name},{u.name},"{",".join(u.groups)}"\n' for u in users)
    write_secret(path, "".join(lines))


def split_authority(chain: Path, authority: Path) -> bool:
    """Copy the certificate authority, the last of the chain that the API server wrote; False while it is not there."""
    if not chain.exists():
        return False
    certificates = chain.read_text().split(PEM_END)[:-1]
    if len(certificates) < 2:  # leaf and authority: it is still writing
        return False
    authority.write_text(certificates[-1] + PEM_END)
    return True


def write_kubeconfig(path: Path, *, server: str, authority: Path, token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig that needs no other file, and return its path."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "rig",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": path.stem, "user": {"token": token}}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": path.stem, "namespace": namespace}}],
        "current-context": "rig",
    }
    write_secret(path, json.dumps(config, indent=1))  # JSON is YAML
    return path


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
