"""What can go wrong with the store, and the one boundary at which the client library's errors become ours.

::

    StorageError
    ├── StoreUnavailableError        not reachable now; try again later
    ├── StoreFullError               reads work, writes do not, until there is room again
    ├── StoreRefusedError            will not work until somebody changes a setting
    ├── SchemaTooNewError            written by a newer version of the service
    ├── SealBrokenError              stored content that cannot be opened: altered, moved, or its key is destroyed
    └── KeyringError
        ├── MasterKeyMissingError    the master key file is not there
        ├── MasterKeyWrongError      it is another master key than the one the store was sealed with
        └── KeyringUnavailableError  the keyring is not there, not readable, or not this store's

The message of each is a plain sentence for whoever runs the service. It never holds a key, a password, or stored
content, nor the server's own words: those may quote a command, and stay in ``__cause__``.
"""

import errno
import re
import ssl
from collections.abc import Iterator

from redis import exceptions as redis_errors

_FULL = re.compile(r"\b(?:OOM|MISCONF|NOREPLICAS)\b|No space left|command not allowed when used memory")
_BUSY = re.compile(r"\b(?:LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|READONLY|UNBLOCKED)\b")
_DENIED = re.compile(r"\b(?:NOAUTH|WRONGPASS|NOPERM)\b|invalid username-password")
_DENIALS = (redis_errors.AuthenticationError, redis_errors.NoPermissionError)
_DEPTH = 8
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StorageError(Exception):
    """Any failure of the store, the keyring or the vault."""


class StoreUnavailableError(StorageError):
    """No connection, a time-out, or a server that is still loading. Whether a command was done is not known."""


class StoreFullError(StorageError):
    """The store takes no writes: its memory or its disk is full. The refused command was not done."""


class StoreRefusedError(StorageError):
    """A wrong setting: the sentence names the cure."""


class KeyringError(StorageError):
    """Any failure of the master key or the keyring."""


class MasterKeyMissingError(KeyringError):
    """The store is sealed, and the file with its master key is not there."""


class MasterKeyWrongError(KeyringError):
    """The master key file holds another key, is damaged, or others may read it."""


class KeyringUnavailableError(KeyringError):
    """The keyring cannot be opened, read or written, or belongs to another store."""


class SealBrokenError(StorageError):
    """Sealed content does not open: altered, moved to another place, or its key is destroyed."""


class SchemaTooNewError(StorageError):
    """The store was upgraded by a newer version of the service."""

    def __init__(self, *, found: int, known: int) -> None:
        super().__init__(
            f"The store has schema version {found}, this service knows versions up to {known}: "
            "install the newer service again, or restore a backup made before the upgrade."
        )
        self.found = found
        self.known = known


def translated(error: BaseException) -> StorageError:
    """Our error for one of redis-py, of the operating system or of a time-out; ours are returned as they are."""
    if isinstance(error, StorageError):
        return error
    if isinstance(error, redis_errors.RedisError):
        return _from_redis(error)
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return StoreFullError("The disk is full: free some space; the service goes on by itself.")
    if isinstance(error, TimeoutError):
        return StoreUnavailableError("The store did not answer in time.")
    if isinstance(error, OSError):
        return StoreUnavailableError("The store cannot be reached.")
    return StorageError(f"The store failed: {type(error).__name__}.")


def _from_redis(error: redis_errors.RedisError) -> StorageError:
    causes = list(_causes(error))
    text = " ".join(map(str, causes))
    if isinstance(error, redis_errors.OutOfMemoryError) or _FULL.search(text):
        return StoreFullError("The store takes no writes: its memory or disk is full. It goes on once there is room.")
    if any(isinstance(cause, _DENIALS) for cause in causes) or _DENIED.search(text):
        return StoreRefusedError("The store refuses this user or password: correct them in REDIS_URL.")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return StoreRefusedError("The store's certificate is not trusted: let CA_FILE name the CA that signed it.")
    if isinstance(error, redis_errors.TimeoutError):
        return StoreUnavailableError("The store did not answer in time.")
    # ReadOnlyError: a failover is under way; a server that stays a replica is named by `inspect`.
    if isinstance(error, redis_errors.ConnectionError | redis_errors.ReadOnlyError) or _BUSY.search(text):
        return StoreUnavailableError("The store cannot be reached, or is not ready yet.")
    if isinstance(error, redis_errors.MovedError | redis_errors.AskError):
        return StoreRefusedError("REDIS_URL names a Redis Cluster, which is not supported: name a single server.")
    return StorageError(f"The store refused a command: {type(error).__name__}.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from: redis-py wraps a refused AUTH in a plain ConnectionError."""
    for _ in range(_DEPTH):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__
