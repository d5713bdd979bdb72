"""What is kept of a chat beside its conversations, as an export tells it: settings, consents, receipts."""

from dataclasses import asdict
from typing import Any

from bot.privacy.content import Account, iso, moment
from bot.privacy.wishes import wishes_of
from storage.journal import ChatState
from storage.receipts import Receipt, Receipts
from storage.vault import Vault


async def account_of(state: ChatState, vault: Vault, receipts: Receipts) -> Account:
    """Raises StorageError."""
    language = state.chosen or state.language
    settings: dict[str, str | int | bool] = {"language": language} if language else {}
    settings |= {"keep_days": state.keep_days} if state.keep_days else {}
    settings |= {"warn": True} if state.warns else {}
    settings |= {"with_a_person": True} if state.handed_ms else {}
    wishes = await wishes_of(vault, state.ready.chat_id, state.rights)
    consents = [
        {**{name: value for name, value in asdict(consent).items() if name != "at_s"}, "at": _iso(consent.at_s * 1000)}
        for consent in wishes.consents
    ]
    return Account(settings, consents, [told(one) for one in await receipts.of(state.ready.chat_id)])


def told(receipt: Receipt) -> dict[str, Any]:
    """A receipt as programs read it: times in ISO 8601 UTC, null where something has not happened yet."""
    return {
        "id": receipt.id,
        "kind": receipt.kind,
        "by": receipt.by,
        "scope": receipt.scope or None,
        "asked": _iso(receipt.asked_ms),
        "done": _iso(receipt.done_ms),
        "due": _iso(receipt.due_ms),
        "counts": receipt.counts,
        "beyond": {what: _iso(until_ms) for what, until_ms in receipt.beyond.items()},
        "providers": {"asked": receipt.asked, "confirmed": receipt.confirmed, "given_up": receipt.given_up},
    }


def _iso(ms: int) -> str | None:
    time = moment(ms // 1000)
    return iso(time) if time else None
