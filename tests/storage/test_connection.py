"""Which addresses are taken, how commands fail, and what the report says of a store."""

import asyncio
import datetime
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from storage.connection import StoreReport, StoreTarget, connect, inspect
from storage.errors import (
    SealBrokenError,
    StorageError,
    StoreFullError,
    StoreRefusedError,
    StoreUnavailableError,
    translated,
)

Start = Callable[..., str]


@asynccontextmanager
async def connected(url: str, *, connections: int = 4, timeout_seconds: float = 5.0) -> AsyncIterator[Redis]:
    client = await connect(StoreTarget.parse(url), connections=connections, timeout_seconds=timeout_seconds)
    try:
        yield client
    finally:
        await client.aclose()


async def report_of(url: str) -> StoreReport:
    async with connected(url) as client:
        return await inspect(client)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://localhost:6379", "redis://"),
        ("redis+sentinel://localhost/primary", "Sentinel"),
        ("redis+cluster://localhost", "Cluster"),
        ("redis://", "host"),
        ("redis://host:0", "port 0"),
        ("redis://host:99999", "not an address"),
        ("unix://", "path of the socket"),
        ("redis://host/first", "database"),
        ("rediss://host?ssl_cert_reqs=none", "no parameters"),
    ],
)
def test_a_wrong_address_is_refused_with_its_cure(url: str, word: str) -> None:
    """Nothing fails open: a wrong setting stops with a sentence."""
    with pytest.raises(StoreRefusedError, match=word):
        StoreTarget.parse(url)


def test_an_empty_address_means_the_embedded_server() -> None:
    """REDIS_URL empty is the default."""
    assert StoreTarget.parse("  ").embedded
    assert not StoreTarget.parse("redis://host").embedded


def test_a_password_shows_nowhere() -> None:
    """No secret appears in any output."""
    target = StoreTarget.parse("redis://someone:hidden-word@host:7000/2")
    assert "hidden-word" not in repr(target) + str(target) + target.name
    assert target.name == "redis://host:7000/2"


async def test_replies_are_bytes(store: Redis) -> None:
    """Sealed content is no text."""
    await store.set("k", b"\xff\x00")
    assert await store.get("k") == b"\xff\x00"


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancelled_command_ends_at_once_and_shifts_no_reply(valkey: Redis, steps: int) -> None:
    """Regression: the library's writing swallowed a cancellation, and the command went on for its whole time-out."""
    await valkey.set("k", b"right")
    late: asyncio.Task[Any] = asyncio.ensure_future(valkey.blpop(["nothing"], timeout=4))
    for _ in range(steps):
        await asyncio.sleep(0)
    late.cancel()
    done, _ = await asyncio.wait({late}, timeout=2)
    assert done
    assert late.cancelled()
    assert await valkey.get("k") == b"right"


async def test_a_command_without_reply_is_not_sent_again(store_url: str) -> None:
    """Only the caller knows what may be done twice: the library repeats nothing."""
    async with connected(store_url, timeout_seconds=0.2) as client, connected(store_url) as other:
        await other.client_pause(5000, all=False)
        with pytest.raises(redis_errors.TimeoutError) as caught:
            await client.incr("n")
        assert isinstance(translated(caught.value), StoreUnavailableError)
        await other.client_unpause()
        assert await other.get("n") in {None, b"1"}
        calls = (await other.info("commandstats")).get("cmdstat_incr", {"calls": 0})["calls"]
        assert calls <= 1


async def test_the_pool_is_bounded_and_waits(store_url: str) -> None:
    """Many tasks share few connections; one that gets none in time is told so."""
    async with connected(store_url, connections=2, timeout_seconds=30.0) as client:
        await asyncio.gather(*(client.incr("n") for _ in range(200)))
        assert await client.get("n") == b"200"
    async with connected(store_url, connections=2, timeout_seconds=0.3) as client:
        pool = client.connection_pool
        taken = [await pool.get_connection(), await pool.get_connection()]  # type: ignore[no-untyped-call]
        with pytest.raises(redis_errors.ConnectionError) as caught:
            await client.get("n")
        assert isinstance(translated(caught.value), StoreUnavailableError)
        for connection in taken:
            await pool.release(connection)


async def test_a_connection_cut_while_idle_is_made_again(store_url: str) -> None:
    """A restarted server costs at most the commands in flight."""
    async with connected(store_url, connections=1) as client, connected(store_url) as other:
        await client.set("k", "v")
        await other.client_kill_filter(_type="normal", skipme=True)
        assert await client.get("k") == b"v"


async def test_nobody_listening_is_unavailable(short_path: Path) -> None:
    """A store that is not there is a matter of waiting, not of settings."""
    with pytest.raises(StoreUnavailableError):
        await connect(StoreTarget.parse(f"unix://{short_path}/nobody"), connections=1, timeout_seconds=1.0)
    with pytest.raises(StoreUnavailableError):
        await connect(StoreTarget.parse("redis://127.0.0.1:1"), connections=1, timeout_seconds=1.0)


async def test_a_wrong_password_is_refused_in_words(start_store: Start) -> None:
    """The sentence names the setting, and holds no secret."""
    url = start_store("--requirepass", "open-sesame")
    for attempt in (url, url.replace("unix://", "unix://:wrong-word@")):
        with pytest.raises(StoreRefusedError, match="REDIS_URL") as caught:
            await connect(StoreTarget.parse(attempt), connections=1, timeout_seconds=2.0)
        assert "wrong-word" not in str(caught.value)
    async with connected(url.replace("unix://", "unix://:open-sesame@")) as client:
        assert await client.ping()


async def test_full_memory_refuses_writes_and_resumes_by_itself(store: Redis) -> None:
    """Reads work, nothing confirmed is dropped, and writing goes on once there is room."""
    await store.set("kept", b"v")
    await store.config_set("maxmemory", "1")
    for write in (store.set("k", "v"), store.eval("return redis.call('SET', KEYS[1], 'v')", 1, "k")):
        with pytest.raises(redis_errors.RedisError) as caught:
            await write
        assert isinstance(translated(caught.value), StoreFullError)
    assert await store.get("kept") == b"v"
    await store.config_set("maxmemory", "0")
    assert await store.set("k", "v")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis_errors.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), StoreFullError),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas to write."), StoreFullError),
        (redis_errors.BusyLoadingError("loading"), StoreUnavailableError),
        (redis_errors.ReadOnlyError("You can't write against a read only replica."), StoreUnavailableError),
        (redis_errors.ResponseError("BUSY a script is running"), StoreUnavailableError),
        (redis_errors.ResponseError("WRONGTYPE secret-text"), StorageError),
        (TimeoutError(), StoreUnavailableError),
        (ConnectionResetError(104, "reset"), StoreUnavailableError),
        (OSError(28, "No space left on device"), StoreFullError),
        (SealBrokenError("as it is"), SealBrokenError),
    ],
)
def test_each_failure_has_its_own_error(error: BaseException, expected: type[StorageError]) -> None:
    """The one boundary: above it nobody sees an error of the client library, nor its words."""
    found = translated(error)
    assert type(found) is expected
    assert "secret-text" not in str(found)


@pytest.mark.parametrize(
    ("options", "window", "words"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), 0.0, "nothing that was confirmed is lost"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), 1.0, "up to one second"),
        (("--appendonly", "yes", "--appendfsync", "no"), 30.0, "operating system"),
        (("--save", "900 1"), None, "since the last snapshot"),
        ((), None, "everything is lost"),
    ],
)
async def test_the_report_tells_the_loss_window(
    start_store: Start, options: tuple[str, ...], window: float | None, words: str
) -> None:
    """Whoever runs the service reads how much a crash of the machine may cost."""
    report = await report_of(start_store(*options))
    assert report.loss_window_seconds == window
    assert words in report.durability
    assert not report.fatal
    assert bool(report.problems) == (window != 0.0)


async def test_the_report_names_the_server(valkey_url: str, redis7_url: str) -> None:
    """Valkey passes itself off as an old Redis to clients; people are told the truth."""
    assert (await report_of(valkey_url)).server.startswith("Valkey 9.")
    assert (await report_of(redis7_url)).server.startswith("Redis 7.")


async def test_a_policy_that_drops_data_is_fatal(start_store: Start) -> None:
    """Nothing may vanish because the memory is full."""
    report = await report_of(start_store("--maxmemory-policy", "allkeys-lru"))
    assert report.fatal
    assert any("allkeys-lru" in problem.sentence for problem in report.problems)


async def test_crowded_memory_is_told(store: Redis) -> None:
    """More than 80 % of its limit is a warning, not a stop."""
    await store.config_set("maxmemory", str((await inspect(store)).used_memory * 11 // 10))
    report = await inspect(store)
    assert any("% of its maxmemory" in problem.sentence for problem in report.problems)
    assert not report.fatal


async def test_a_replica_is_fatal(start_store: Start) -> None:
    """A read-only server cannot take messages."""
    assert (await report_of(start_store("--replicaof", "127.0.0.1 1"))).fatal


@asynccontextmanager
async def answering(facts: str) -> AsyncIterator[str]:
    """A server that only tells ``facts`` about itself, for kinds that are not at hand."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            body = facts.encode()
            replies = {b"PING": b"+PONG\r\n", b"INFO": b"$%d\r\n%s\r\n" % (len(body), body)}
            writer.write(replies.get(words[0], b"-NOPERM no permissions\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("mode", ["sentinel", "cluster"])
async def test_sentinel_and_cluster_nodes_are_refused_in_words(mode: str) -> None:
    """They answer PING like any other server, and could not serve."""
    async with answering(f"redis_version:7.2.4\r\nredis_mode:{mode}\r\n") as url:
        with pytest.raises(StoreRefusedError, match=mode):
            await connect(StoreTarget.parse(url), connections=1, timeout_seconds=2.0)


async def test_a_server_older_than_seven_is_fatal() -> None:
    """The scripts need Redis 7."""
    async with answering("redis_version:6.2.14\r\nredis_mode:standalone\r\nrole:master\r\n") as url:
        report = await report_of(url)
    assert report.fatal
    assert any("too old" in problem.sentence for problem in report.problems)


async def test_a_server_that_hides_its_settings_is_reported_as_unknown() -> None:
    """Hosted servers forbid CONFIG: what is not known is not called safe."""
    async with answering("redis_version:7.2.4\r\nredis_mode:standalone\r\nrole:master\r\naof_enabled:1\r\n") as url:
        report = await report_of(url)
    assert report.loss_window_seconds is None
    assert report.durability.startswith("unknown")


@pytest.fixture
def certificates(short_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, which is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (short_path / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (short_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return short_path


async def test_tls_is_spoken_and_the_certificate_checked(start_redis7: Start, certificates: Path) -> None:
    """A rediss:// store is trusted through CA_FILE only."""
    port = _free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", f"{certificates}/cert.pem", "--tls-key-file", f"{certificates}/key.pem")
    start_redis7(*tls, *files)
    url = f"rediss://127.0.0.1:{port}"
    client = await connect(
        StoreTarget.parse(url, ca_file=certificates / "cert.pem"), connections=1, timeout_seconds=5.0
    )
    assert await client.ping()
    await client.aclose()
    with pytest.raises(StoreRefusedError, match="CA_FILE"):
        await connect(StoreTarget.parse(url), connections=1, timeout_seconds=5.0)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_ca_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A wrong CA_FILE stops with a sentence, not at the first message."""
    (tmp_path / "ca.pem").write_text("nothing")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(StoreRefusedError, match="CA_FILE"):
            StoreTarget.parse("rediss://host", ca_file=path)


def test_importing_opens_nothing() -> None:
    """Nothing opens, reads the environment or starts a task at import."""
    import sys

    code = "import os, sys; before = set(os.listdir('/dev/fd')); import storage.vault, storage.embedded; print('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "ok"
