"""The table of keys is complete, and of each row and each field it is known whose words can lie there."""

import inspect
from dataclasses import fields

import pytest

from storage.keys import PARTITIONS, ChatKeys, Keys
from tests.flows.canary.registry import FIELDS, KEYS, field_of, known_fields, row_of, rows

BUILDERS = {
    "turns": (0, 1),
    "staged": ("ABCD-EFGH-JKLM",),
    "api_calls": ("0123456789ab", 29_000_000),
    "export": ("ABCD-EFGH-JKLM",),
}
"""The methods that build one key, and what they may be called with."""

PARTS = {"partition", "of", "talks"}
"""Those that build beginnings of names, or names from a name."""


def test_every_row_of_the_table_is_claimed_and_every_claim_has_its_row() -> None:
    """Who adds a key says what can lie there, or where the canary audit plants something in it."""
    assert rows() == set(KEYS)


def test_every_key_that_can_be_built_is_in_the_table() -> None:
    """For private chats and for supergroups, whose message ids have a key of their own."""
    keys = Keys(4242)
    names = [value for name, value in vars(keys).items() if not name.startswith("_") and isinstance(value, str)]
    names += [getattr(keys, name)(*given) for name, given in BUILDERS.items() if hasattr(keys, name)]
    for chat_id in (70_001, -1_000_000_070_001):
        of_chat = keys.of(chat_id)
        names += [getattr(of_chat, field.name) for field in fields(ChatKeys) if not field.name.startswith("_")]
        names += [getattr(of_chat, name)(*given) for name, given in BUILDERS.items() if hasattr(of_chat, name)]
    strangers = [name for name in names if row_of(name) is None]
    assert strangers == []
    assert {row_of(name) for name in names} == rows()


@pytest.mark.parametrize("builder", [Keys, ChatKeys])
def test_every_way_to_build_a_key_is_known_here(builder: type) -> None:
    """A new method would pass the test above unseen."""
    methods = {name for name, _ in inspect.getmembers(builder, inspect.isfunction) if not name.startswith("_")}
    assert methods <= {*BUILDERS, *PARTS}


def test_every_field_of_a_chat_is_claimed() -> None:
    """Also those that only a script touches; and no claim outlives its field."""
    known = known_fields()
    assert len(known) > 50
    assert [name for name in sorted(known) if field_of(name) is None] == []
    assert set(FIELDS) - known <= {"u:"}  # built by storage/usage.py


def test_keys_and_fields_that_nobody_claims_are_strangers() -> None:
    """The walk itself: what is not in the table is not taken for something that is."""
    bot, chat = "tg:{4242}", f"tg:{{4242.{PARTITIONS - 1}}}"
    for name in (
        f"{bot}:drafts", f"{chat}:drafts:70001", f"{chat}:chat", f"{chat}:chat:70001:more", f"{bot}:turns",
        f"{chat}:turns:70001", "chat:70001", "other",
    ):  # fmt: skip
        assert row_of(name) is None, name
    assert row_of(f"{chat}:chat:-70001") == "chat:C"
    assert field_of("draft") is None
    assert field_of("nn:0") is None
    assert field_of("n:0") == "n:"
