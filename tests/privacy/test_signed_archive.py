"""The signed manifest and the published schema: what lets others check an archive, and us take it back."""

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.privacy.archive import Account, Entry, Noted, Skipped, schema
from bot.privacy.seal import Seal
from tests.privacy.samples import SEAL, about, entry, packed, unpacked, unreadable

OTHER = Seal.of(bytes(32))
PROGRAMS = ["conversations.json", "account.json", "manifest.json", "manifest.sig"]


def test_anybody_can_check_who_made_an_archive() -> None:
    """With the key beside the signature, over the very bytes of the manifest; the manifest names the key."""
    files = unpacked(packed([entry(1)]))
    told = json.loads(files["manifest.sig"])
    key = base64.b64decode(told["public_key"])
    signature = base64.b64decode(told["signature"])
    assert told["algorithm"] == "Ed25519"
    Ed25519PublicKey.from_public_bytes(key).verify(signature, files["manifest.json"])
    assert json.loads(files["manifest.json"])["installation"] == hashlib.sha256(key).hexdigest()[:32]
    assert SEAL.installation == json.loads(files["manifest.json"])["installation"]


def test_a_seal_knows_its_own_signature_and_no_other() -> None:
    """One bit of the manifest, another key, or anything that is no signature: not ours."""
    manifest = unpacked(packed([entry(1)]))["manifest.json"]
    assert SEAL.verify(manifest, SEAL.signed(manifest))
    assert not SEAL.verify(manifest + b" ", SEAL.signed(manifest))
    assert not SEAL.verify(manifest, OTHER.signed(manifest))
    borrowed = json.loads(OTHER.signed(manifest)) | {"public_key": base64.b64encode(SEAL.public_key).decode()}
    assert not SEAL.verify(manifest, json.dumps(borrowed).encode())
    good = json.loads(SEAL.signed(manifest))
    wrong: list[Any] = ["", "x", 5, None, "AAAA", []]
    for name in good:
        for value in wrong:
            assert not SEAL.verify(manifest, json.dumps(good | {name: value}).encode())
    for broken in (b"", b"\xff", b"[]", b"{}", b"1", b"[" * 100_000):
        assert not SEAL.verify(manifest, broken)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_has_32_bytes(length: int) -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(ValueError, match="32"):
        Seal.of(bytes(length))


def test_without_a_seal_nothing_is_signed() -> None:
    """Such an archive is to be read, and by nobody to be taken back."""
    files = unpacked(packed([entry(1)], seal=None))
    assert "manifest.sig" not in files
    assert json.loads(files["manifest.json"])["installation"] == ""


NUMBERS = st.integers(0, 2**40)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
MORE = st.fixed_dictionaries(
    {},
    optional={"state": st.sampled_from(["stopped", "handed", "operator", "notice", "odd"]), "version": TEXTS | NUMBERS},
)
ENTRIES = st.builds(
    lambda turn, question, answer, more: entry(turn, question, answer, **more), st.integers(1, 99), TEXTS, TEXTS, MORE
)
JSON_VALUES = st.recursive(st.none() | st.booleans() | NUMBERS | st.text(max_size=9), st.lists, max_leaves=4)
FACTS = st.lists(st.dictionaries(st.text(max_size=9), JSON_VALUES, max_size=3), max_size=3)
ACCOUNTS = st.builds(Account, st.dictionaries(TEXTS, st.text() | NUMBERS | st.booleans(), max_size=4), FACTS, FACTS)


def violations(name: str, content: bytes) -> list[str]:
    """What of a file is against its schema, as the archive itself carries it."""
    told = json.loads(schema())
    of_file = {"$schema": told["$schema"], "$ref": f"#/$defs/{name}", "$defs": told["$defs"]}
    # A lone surrogate is text to JSON, and cannot be handed to a validator that holds texts as UTF-8.
    value: Any = json.loads(content.replace(b"\\ud", b"\\u0d"))
    found: list[Any] = list(jsonschema_rs.Draft202012Validator(of_file).iter_errors(value))
    whole = list(jsonschema_rs.Draft202012Validator(told).iter_errors(value))
    return [str(error) for error in found + whole]


@settings(max_examples=200, deadline=None, print_blob=True)
@given(st.lists(ENTRIES, max_size=4), ACCOUNTS, TEXTS)
def test_every_archive_is_of_its_own_schema(entries: list[Entry], account: Account, word: str) -> None:
    """Whatever people wrote and whatever was lost; the schema of a file fits that file and no other one."""
    turns: list[Entry | Noted] = [*entries, unreadable(200), Noted(0, 0, 3, (word,), word)]
    files = unpacked(packed(turns, about(Skipped(word, word), bot=word), account))
    names = {"signature" if name.endswith("sig") else name.removesuffix(".json"): name for name in PROGRAMS}
    assert [fault for kind, name in names.items() for fault in violations(kind, files[name])] == []
    assert violations("manifest", files["account.json"])
    assert files["schema.json"] == schema()


def test_the_schema_names_every_field_and_is_one() -> None:
    """A field that is not in it, or a value of another kind, is against it: it describes, and does not only allow."""
    told = json.loads(schema())
    assert told["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(told)
    manifest = json.loads(unpacked(packed([entry(1)]))["manifest.json"])
    for wrong in ({"more": 1}, {"version": 3}, {"chat_id": "1001"}, {"made": "today"}, {"installation": "../x"}):
        assert violations("manifest", json.dumps(manifest | wrong).encode()), wrong


@pytest.mark.slow
def test_the_schema_lies_in_the_wheel(project_root: Path, tmp_path: Path) -> None:
    """An installed service has it, too."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), "."]
    subprocess.run(command, cwd=project_root, check=True, timeout=240, capture_output=True)
    from zipfile import ZipFile

    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as packed_wheel:
        assert packed_wheel.read("bot/privacy/schema/export.schema.json") == schema()
