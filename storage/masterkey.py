"""The master key: one file, outside the store and its backups. It wraps data keys and hides the names they go by.

Three keys are derived from it (HKDF-SHA-256), so that what is told by one use says nothing about another. While a
rotation is under way the file holds two: the keyring says which of them wraps (see storage/rotation.py), and both open.
What names go by must outlast a rotation: that key, derived from the first master key, is kept in the keyring, wrapped
like a data key.
"""

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.errors import KeyringUnavailableError, MasterKeyMissingError, MasterKeyWrongError, SealBrokenError

_HEADER = "# Master key of the support service. With the keyring it opens every stored message: keep both private."
_ROTATING = "# A rotation is under way: both keys are needed until `python -m bot keys rotate` has ended."
_LABEL = "support-master-key-1:"
_NEXT = "support-master-key-next-1:"
_KEY_BYTES = 32
_NONCE_BYTES = 12
MARK_BYTES = 16


class NamesKey:
    """Makes the marks that stand for names where nobody may read them. It stays the same over all rotations."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "NamesKey(…)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not to be copied")

    def mark(self, *words: str) -> bytes:
        """16 bytes. The same words give the same mark."""
        message = b"".join(len(word).to_bytes(4, "big") + word for word in map(str.encode, words))
        return hmac.digest(self._secret, message, hashlib.sha256)[:MARK_BYTES]

    def wrapped(self, master: "MasterKey", bound: bytes) -> bytes:
        return master.wrap(self._secret, bound)


class _Secret:
    """32 random bytes, in the three forms they are used in."""

    __slots__ = ("fingerprint", "names", "wrapping")

    def __init__(self, secret: bytes) -> None:
        self.wrapping = AESGCM(_derived(secret, b"wrap"))
        self.names = NamesKey(_derived(secret, b"names"))
        self.fingerprint = _fingerprint(secret)


class MasterKey:
    """The secrets of a master key file: the first one wraps, each opens.

    Wrapping uses random nonces: safe for 2^32 data keys (NIST SP 800-38D).
    """

    __slots__ = ("_path", "_secrets")

    def __init__(self, *secrets: bytes, path: Path | None = None) -> None:
        self._secrets = tuple(map(_Secret, secrets))
        self._path = path

    def __repr__(self) -> str:
        return "MasterKey(…)"

    def __reduce__(self) -> str:
        raise TypeError("a master key is not to be copied")

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new key (0600) unless there is one, which is loaded then: of two that create, both get the first."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _put_if_absent(path, _text([os.urandom(_KEY_BYTES)]))
        except OSError as error:
            raise _unwritten(path, error) from error
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises MasterKeyMissingError; MasterKeyWrongError when it is damaged or others may read it."""
        return cls(*_secrets(path), path=path)

    def reloaded(self) -> Self:
        """As the file is now. Raises as ``load`` does."""
        if self._path is None:
            return self
        return self.load(self._path)

    def fingerprint(self) -> str:
        """Tells the key that wraps from others, and nothing about any."""
        return self._secrets[0].fingerprint

    def fingerprints(self) -> tuple[str, ...]:
        """Of all that the file holds; a second one is there only while a rotation is under way."""
        return tuple(secret.fingerprint for secret in self._secrets)

    def using(self, fingerprint: str) -> Self:
        """The same keys, of which that one wraps. Raises MasterKeyWrongError where it is not among them."""
        first = [secret for secret in self._secrets if secret.fingerprint == fingerprint]
        if not first:
            raise MasterKeyWrongError("The keyring belongs to another master key: let MASTER_KEY_FILE name that one.")
        turned = type(self)(path=self._path)
        turned._secrets = (*first, *(secret for secret in self._secrets if secret.fingerprint != fingerprint))
        return turned

    def first_names(self) -> NamesKey:
        """The names key of a keyring whose first master key this is."""
        return self._secrets[0].names

    def wrap(self, key: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._secrets[0].wrapping.encrypt(nonce, key, bound)

    def unwrap(self, wrapped: bytes, bound: bytes) -> bytes:
        """Raises SealBrokenError for a wrapped key that was altered, moved, or wrapped by another master key."""
        for secret in self._secrets:
            with contextlib.suppress(InvalidTag, ValueError):
                return secret.wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], bound)
        raise SealBrokenError("A key of the keyring does not open: it was altered or moved.")

    def rewrapped(self, wrapped: bytes, bound: bytes) -> bytes | None:
        """The same key wrapped anew, of the same length; None where the key that wraps is the one that opens it.
        Raises SealBrokenError."""
        first, *others = self._secrets
        with contextlib.suppress(InvalidTag, ValueError):
            first.wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], bound)
            return None
        for secret in others:
            with contextlib.suppress(InvalidTag, ValueError):
                key = secret.wrapping.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], bound)
                return self.wrap(key, bound)
        raise SealBrokenError("A key of the keyring does not open: it was altered or moved.")


def add_next(path: Path) -> MasterKey:
    """Give the file a second secret, unless it has one: on disk when this returns. Call it under ``file_lock``."""
    secrets = _secrets(path)
    if len(secrets) == 1:
        _replace(path, _text([*secrets, os.urandom(_KEY_BYTES)]))
    return MasterKey.load(path)


def keep_only(path: Path, fingerprint: str) -> None:
    """Let the file hold that secret alone. Call it under ``file_lock``; raises MasterKeyWrongError where it is not
    there."""
    secrets = _secrets(path)
    kept = [secret for secret in secrets if _fingerprint(secret) == fingerprint]
    if not kept:
        raise MasterKeyWrongError(f"The master key file {path} was changed by somebody else: put back your copy of it.")
    if len(secrets) > 1:
        _replace(path, _text(kept))


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """One process at a time changes the file. Raises KeyringUnavailableError while another one does."""
    try:
        descriptor = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise KeyringUnavailableError(f"Another process is changing the master key file {path}.") from error
        yield
    finally:
        os.close(descriptor)


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
    with _written_beside(path, text) as fresh, contextlib.suppress(FileExistsError):
        os.link(fresh, path)


def _replace(path: Path, text: str) -> None:
    """Whoever reads meanwhile gets the old text or the new one; on disk when this returns."""
    target = path.resolve()
    try:
        with _written_beside(target, text) as fresh:
            fresh.replace(target)
    except OSError as error:
        raise _unwritten(path, error) from error


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
    sync_folder(path.parent)


def _unwritten(path: Path, error: OSError) -> KeyringUnavailableError:
    return KeyringUnavailableError(f"The master key file {path} cannot be written: {error.strerror}.")


def _text(secrets: Sequence[bytes]) -> str:
    lines = [_HEADER, *([_ROTATING] if len(secrets) > 1 else [])]
    for label, secret in zip((_LABEL, _NEXT), secrets, strict=False):
        lines.append(label + base64.urlsafe_b64encode(secret).decode())
    return "\n".join(lines) + "\n"


def _secrets(path: Path) -> list[bytes]:
    """One, or two while a rotation is under way."""
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
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [_parsed(line, label) for line, label in zip(lines, (_LABEL, _NEXT), strict=False)]
    if not found or len(lines) > 2 or not all(found) or len(set(found)) < len(found):
        raise MasterKeyWrongError(f"The master key file {path} is damaged: put back your copy of it.")
    return found


def _parsed(line: str, label: str) -> bytes:
    """Empty where the line is not what it should be."""
    try:
        secret = base64.b64decode(line.removeprefix(label).strip(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return secret if line.startswith(label) and len(secret) == _KEY_BYTES else b""


def _fingerprint(secret: bytes) -> str:
    return _derived(secret, b"fingerprint")[:16].hex()


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"support-service/1/" + purpose).derive(secret)
