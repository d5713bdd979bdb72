"""The master key: one file, outside the store and its backups. It wraps data keys and hides the names they go by.

Three keys are derived from it (HKDF-SHA-256), so that what is told by one use says nothing about another.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.errors import KeyringUnavailableError, MasterKeyMissingError, MasterKeyWrongError, SealBrokenError

_HEADER = "# Master key of the support service. With the keyring it opens every stored message: keep both private."
_LABEL = "support-master-key-1:"
_KEY_BYTES = 32
_NONCE_BYTES = 12
MARK_BYTES = 16


class MasterKey:
    """32 random bytes. Wrapping uses random nonces: safe for 2^32 data keys (NIST SP 800-38D)."""

    __slots__ = ("_fingerprint", "_names", "_wrapping")

    def __init__(self, secret: bytes) -> None:
        self._wrapping = AESGCM(_derived(secret, b"wrap"))
        self._names = _derived(secret, b"names")
        self._fingerprint = _derived(secret, b"fingerprint")[:16].hex()

    def __repr__(self) -> str:
        return "MasterKey(…)"

    def __reduce__(self) -> str:
        raise TypeError("a master key is not to be copied")

    @classmethod
    def create(cls, path: Path) -> "MasterKey":
        """Write a new key (0600) unless there is one, which is loaded then: of two that create, both get the first."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = f"{_HEADER}\n{_LABEL}{base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()}\n"
            _put_if_absent(path, text)
        except OSError as error:
            raise KeyringUnavailableError(f"The master key file {path} cannot be written: {error.strerror}.") from error
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> "MasterKey":
        """Raises MasterKeyMissingError; MasterKeyWrongError when it is damaged or others may read it."""
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(4096).decode("ascii", "replace")
        except FileNotFoundError as error:
            raise MasterKeyMissingError(
                f"The master key file {path} is not there, and what is stored opens only with it: "
                "put it back from your copy, or let MASTER_KEY_FILE name it."
            ) from error
        except OSError as error:
            raise KeyringUnavailableError(f"The master key file {path} cannot be read: {error.strerror}.") from error
        refuse_shared(path, mode)
        return cls(_parsed(text, path))

    def fingerprint(self) -> str:
        """Tells two master keys apart, and nothing about either."""
        return self._fingerprint

    def mark(self, *words: str) -> bytes:
        """16 bytes that stand for a name where nobody may read it. The same words give the same mark."""
        message = b"".join(len(word).to_bytes(4, "big") + word for word in map(str.encode, words))
        return hmac.digest(self._names, message, hashlib.sha256)[:MARK_BYTES]

    def wrap(self, key: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._wrapping.encrypt(nonce, key, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Raises SealBrokenError for a wrapped key that was altered, moved, or wrapped by another master key."""
        try:
            return self._wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError("A key of the keyring does not open: it was altered or moved.") from error


def refuse_shared(path: Path, mode: int) -> None:
    if stat.S_IMODE(mode) & 0o077:
        raise MasterKeyWrongError(f"Others on this machine may read {path}: type `chmod 600 {path}`.")


def sync_folder(folder: Path) -> None:
    """A new file's name survives a power cut only once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_if_absent(path: Path, text: str) -> None:
    # A link appears whole or not at all, and never over another file: nobody reads half a key.
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _parsed(text: str, path: Path) -> bytes:
    damaged = f"The master key file {path} is damaged: put back your copy of it."
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or not lines[0].startswith(_LABEL):
        raise MasterKeyWrongError(damaged)
    try:
        secret = base64.b64decode(lines[0].removeprefix(_LABEL).strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MasterKeyWrongError(damaged) from error
    if len(secret) != _KEY_BYTES:
        raise MasterKeyWrongError(damaged)
    return secret


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"support-service/1/" + purpose).derive(secret)
