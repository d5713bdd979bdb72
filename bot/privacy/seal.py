"""Who made an archive: an Ed25519 signature over the manifest, which names every file by size and hash.

The key is this installation's own, so that an archive is taken back only where it was made. The public key stands
beside the signature: whoever holds an archive can check it with tools of their own.
"""

import binascii
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from storage.keynames import SERVICE, SIGNING
from storage.vault import Vault

ALGORITHM: Final = "Ed25519"
_INSTALLATION_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs what this installation hands out. The secret is nowhere but behind ``sign``."""

    public_key: bytes
    sign: Callable[[bytes], bytes]

    @classmethod
    def of(cls, secret: bytes) -> "Seal":
        """The seal of 32 secret bytes. Raises ValueError for any other length."""
        key = Ed25519PrivateKey.from_private_bytes(secret)
        return cls(key.public_key().public_bytes_raw(), key.sign)

    @property
    def installation(self) -> str:
        """What an installation is called by: the first 16 bytes of its public key's SHA-256, in hex."""
        return hashlib.sha256(self.public_key).digest()[:_INSTALLATION_BYTES].hex()

    def signed(self, manifest: bytes) -> bytes:
        """``manifest.sig`` for these bytes."""
        key, signature = (b64encode(value).decode() for value in (self.public_key, self.sign(manifest)))
        return orjson.dumps({"algorithm": ALGORITHM, "public_key": key, "signature": signature}) + b"\n"

    def verify(self, manifest: bytes, sig_json: bytes) -> bool:
        """Whether ``manifest.sig`` is of this installation and of exactly these bytes."""
        read = read_signature(sig_json)
        return read is not None and read.public_key == self.public_key and read.fits(manifest)


async def seal_of(vault: Vault) -> Seal:
    """This installation's. Raises StorageError."""
    return Seal.of((await vault.key(SERVICE, SIGNING)).secret)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a ``manifest.sig`` says, whoever wrote it."""

    public_key: bytes
    signature: bytes

    def fits(self, manifest: bytes) -> bool:
        """Whether the holder of the public key it names signed exactly these bytes."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, manifest)
        except (InvalidSignature, ValueError):
            return False
        return True


def read_signature(sig_json: bytes) -> Signature | None:
    """None where it is nothing that could be a signature."""
    try:
        told = orjson.loads(sig_json)
        if not isinstance(told, dict) or told.get("algorithm") != ALGORITHM:
            return None
        return Signature(*(b64decode(told[name], validate=True) for name in ("public_key", "signature")))
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
