"""What a turn works with, and how answers are made."""

import asyncio
import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from bot import texts
from bot.budget import Budget
from bot.chat_api.client import ChatApi
from bot.conversation.batch import Reader
from bot.conversation.control import Control
from bot.conversation.handoff import HandOff
from bot.conversation.notebook import Notebook
from bot.conversation.parcels import Parcels
from bot.conversation.post import Post
from bot.conversation.remotes import Remotes
from bot.conversation.window import Window
from bot.delivery.lane import Lane
from bot.delivery.pace import Pace
from bot.delivery.telegram import TelegramClient
from bot.metrics import Metrics
from bot.privacy.erase import Eraser
from bot.privacy.importer import Importer
from bot.privacy.retention import Retention
from bot.privacy.staging import Staging
from bot.privacy.wishes import Consents
from bot.safety.guard import Guard
from bot.texts import Words
from storage.history import History
from storage.journal import Journal
from storage.receipts import Receipts
from storage.vault import Vault


@dataclass(frozen=True, slots=True)
class Manner:
    """How answers are made: the prompt's text, the budget of a request in tokens, the way to a person; ``rich``: as
    rich messages, where they fit into one; ``outage_ms``: how long questions wait while no chat API answers,
    ``rest_ms``: at least so long before one is asked again; ``key_backup_days``: how long copies of keys may live."""

    prompt: str
    context_tokens: int
    model: str
    support_contact: str
    rich: bool
    outage_ms: int
    rest_ms: int
    key_backup_days: int

    @property
    def contact(self) -> tuple[str, ...]:
        """The sentence that names the contact, where there is one."""
        return (texts.CONTACT,) if self.support_contact else ()

    @property
    def version(self) -> str:
        """Tells prompts apart in exports."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts that turns share. ``recheck``: seconds for which a check of the fence holds."""

    journal: Journal
    history: History
    window: Window
    vault: Vault
    lane: Lane
    telegram: TelegramClient
    pace: Pace
    chat_api: ChatApi
    remotes: Remotes
    budget: Budget
    notebook: Notebook
    guard: Guard
    reader: Reader
    control: Control
    hand_off: HandOff
    eraser: Eraser
    consents: Consents
    retention: Retention
    receipts: Receipts
    importer: Importer
    staging: Staging
    parcels: Parcels
    post: Post
    words: Words
    manner: Manner
    metrics: Metrics
    recheck: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something beside the turn; kept until it ends."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
