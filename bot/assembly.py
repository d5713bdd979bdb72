"""Puts a worker together. Imported off the event loop, since it brings half of what the service is made of."""

from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import urlsplit

from bot import texts
from bot.alerts import lookout
from bot.budget import Budget, parse_limits, parse_prices
from bot.chat_api.breaker import Breaker
from bot.chat_api.client import ChatApi
from bot.chat_api.endpoint import Endpoint, Limits
from bot.chat_api.places import places_of
from bot.conversation.batch import Dispatch, Reader
from bot.conversation.control import Control
from bot.conversation.desk import Desk, Manner
from bot.conversation.handoff import HandOff
from bot.conversation.notebook import Notebook
from bot.conversation.parcels import Maker, Parcels
from bot.conversation.remotes import Remotes
from bot.conversation.turn import Turns
from bot.conversation.window import Window
from bot.delivery.lane import Lane
from bot.delivery.pace import Pace
from bot.parts import Parts, connected, owned
from bot.privacy.account import account_of
from bot.privacy.erase import Eraser, Reach
from bot.privacy.export import Exporter
from bot.privacy.importer import Importer
from bot.privacy.retention import Retention
from bot.privacy.staging import Staging
from bot.privacy.wishes import Consents
from bot.safety.guard import LINK_REMOVED, Guard
from bot.safety.links import LinkRules
from bot.safety.moderation import Action, Moderation, ModerationApi, Rules
from bot.settings import OFFLINE, Settings
from bot.texts import Words
from bot.timing import Timing
from bot.worker import Worker
from storage.ages import Ages
from storage.history import History
from storage.journal import Journal
from storage.receipts import Receipts
from storage.removals import Removals
from storage.usage import Totals


async def worker_of(stack: AsyncExitStack, parts: Parts, dispatch: Dispatch, username: str) -> Worker:
    """A worker that can run; what it holds is closed with ``stack``. ``username``: the bot's own, "" if unknown."""

    reader = await connected(parts.target, 1, seconds=float("inf"))
    stack.push_async_callback(reader.aclose)
    caller = await connected(parts.target, 1, seconds=float("inf"))
    stack.push_async_callback(caller.aclose)
    control = Control(parts.keys.control)
    await stack.enter_async_context(owned(control.listen(caller), "control"))
    lane, desk = await _desk(stack, parts, control, dispatch, username)
    await stack.enter_async_context(owned(desk.remotes.keep_tending(parts.timing.removals), "remotes"))
    await stack.enter_async_context(owned(desk.retention.keep_expiring(parts.timing.expiry), "retention"))
    await stack.enter_async_context(owned(lookout(parts, desk.chat_api, desk.budget.shares).keep(), "alerts"))
    return Worker(
        reader=reader,
        inbox=parts.inbox,
        lane=lane,
        turns=Turns(desk),
        metrics=parts.metrics,
        alone=parts.alone,
        timing=parts.timing,
    )


async def _desk(
    stack: AsyncExitStack, parts: Parts, control: Control, dispatch: Dispatch, username: str
) -> tuple[Lane, Desk]:
    """All that a turn works with."""

    settings = parts.settings
    chat_api = await _chat_api(stack, settings, parts.timing)
    keep_days = settings.retention_days
    journal = Journal(parts.store, parts.keys, sweep_after=parts.timing.sweeps, keep_days=keep_days)
    pace = Pace()
    lane = Lane(
        telegram=parts.telegram,
        journal=journal,
        marks=parts.marks,
        pace=pace,
        metrics=parts.metrics,
        timing=parts.timing,
        by_markup=settings.probe_by_markup,
    )
    history = History(parts.store, parts.keys)
    notebook = Notebook(history, parts.vault, chat_api if settings.summaries else None, settings.context_tokens)
    assert settings.bot_token is not None
    secret = settings.bot_token.get_secret_value().encode()
    remotes = Remotes(journal, parts.vault, Removals(parts.store, parts.keys), chat_api, secret)
    processor = _processor(settings)
    words = Words(processor=processor, contact=settings.support_contact)
    window = Window(history, parts.vault)
    receipts = Receipts(parts.store, parts.keys, keep_days=settings.receipt_days, secret=secret)
    consents = Consents(journal, parts.vault, processor, required=settings.consent_required)
    retention = Retention(
        journal,
        history,
        parts.vault,
        window,
        ages=Ages(parts.store, parts.keys),
        notebook=notebook,
        remotes=remotes,
        receipts=receipts,
        metrics=parts.metrics,
        keep_days=keep_days,
    )
    eraser = Eraser(
        journal,
        window,
        parts.vault,
        remotes,
        notebook,
        history=history,
        receipts=receipts,
        reach=Reach(settings.key_backup_days),
    )
    desk = Desk(
        journal=journal,
        history=history,
        window=window,
        vault=parts.vault,
        lane=lane,
        telegram=parts.telegram,
        pace=pace,
        chat_api=chat_api,
        remotes=remotes,
        budget=_budget(parts),
        notebook=notebook,
        guard=_guard(settings, chat_api),
        reader=Reader(
            journal,
            parts.vault,
            window,
            notebook,
            lane=lane,
            dispatch=dispatch,
            persons=bool(settings.operator_ids),
        ),
        control=control,
        hand_off=HandOff(parts.post, journal, words, settings.operator_ids),
        eraser=eraser,
        consents=consents,
        retention=retention,
        receipts=receipts,
        importer=Importer(journal, history, parts.vault, parts.seal, settings.bot_id),
        staging=Staging(parts.store, parts.keys, parts.vault),
        parcels=Parcels(
            Exporter(journal, history, parts.vault),
            words,
            lambda state: account_of(state, parts.vault, receipts),
            Maker(username, settings.bot_id, parts.seal),
        ),
        post=parts.post,
        words=words,
        manner=Manner(
            settings.system_prompt,
            settings.context_tokens,
            settings.chat_model,
            settings.support_contact,
            settings.rich_messages,
            int(settings.outage_minutes * 60_000),
            int(parts.timing.rest * 1000),
            settings.key_backup_days,
        ),
        metrics=parts.metrics,
        recheck=parts.timing.recheck,
    )
    return lane, desk


def _budget(parts: Parts) -> Budget:
    settings = parts.settings
    return Budget(
        Totals(parts.store, parts.keys),
        parse_limits(settings.customer_limits),
        parse_limits(settings.total_limits),
        parse_prices(settings.prices),
        frozenset(settings.operator_ids),
    )


def _guard(settings: Settings, chat_api: ChatApi) -> Guard:
    rules = Rules(settings.moderation_rules.read_text(encoding="utf-8-sig") if settings.moderation_rules else "")
    api = None
    if settings.moderation_api:
        api = ModerationApi(
            lambda body: chat_api.endpoints[0].post("moderations", body), Action[settings.moderation_action.upper()]
        )
    moderation = Moderation(rules, api) if len(rules) or api else None
    return Guard(LinkRules(settings.link_hosts, LINK_REMOVED), moderation, settings.grounding)


def _processor(settings: Settings) -> str:
    """Who writes the answers, as customers are told: the hosts of all chat APIs."""
    hosts = [
        texts.OFFLINE_MODEL if place.url == OFFLINE else urlsplit(place.url).hostname for place in places_of(settings)
    ]
    return ", ".join(dict.fromkeys(host or "?" for host in hosts))


async def _chat_api(stack: AsyncExitStack, settings: Settings, timing: Timing) -> ChatApi:
    limits = Limits(first=settings.chat_first_seconds, gap=settings.chat_gap_seconds, total=settings.chat_total_seconds)
    endpoints = [
        await stack.enter_async_context(
            Endpoint(
                replace(place, url=await _chat_api_url(stack, place.url)),
                max_output_tokens=settings.max_output_tokens,
                temperature=settings.chat_temperature,
                proxy=settings.chat_api_proxy or None,
                ca_file=settings.ca_file,
                limits=limits,
                breaker=Breaker(timing.breaker),
            )
        )
        for place in places_of(settings)
    ]
    return ChatApi(endpoints, total_seconds=limits.total, retry_seconds=timing.retry)


async def _chat_api_url(stack: AsyncExitStack, address: str) -> str:
    """The chat API's address; ``offline`` starts the built-in model on a loopback port of this process."""
    if address != OFFLINE:
        return address
    from bot.sandbox import NATURAL, ChatApiServer

    server = ChatApiServer(behaviour=NATURAL)
    await server.start()
    stack.push_async_callback(server.aclose)
    return server.url
