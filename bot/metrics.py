"""Figures of the service for Prometheus; one registry per process part, made by the composition root."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_COSTS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)


class Metrics:
    """Counters, gauges and histograms by their meaning. Labels never name a chat."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.updates = Counter("bot_updates", "Updates taken in, by what became of them", ["outcome"], registry=r)
        self.turns = Counter("bot_turns", "Turns finished, by kind", ["kind"], registry=r)
        self.first_token = Histogram(
            "bot_first_token_seconds", "Request to the chat API until its first text", buckets=_SECONDS, registry=r
        )
        self.answer = Histogram(
            "bot_answer_seconds", "Claim of a chat until its answer is visible", buckets=_SECONDS, registry=r
        )
        self.chat_api_failures = Counter("bot_chat_api_failures", "Failed requests", ["error"], registry=r)
        self.tokens = Counter(
            "bot_tokens", "Tokens of answers, by kind; cached ones are prompt, too", ["kind"], registry=r
        )
        self.cost = Counter("bot_cost", "Cost of answers by PRICES, by version of the prompt", ["version"], registry=r)
        self.answer_cost = Histogram("bot_answer_cost", "Cost of one answer by PRICES", buckets=_COSTS, registry=r)
        self.uncertain_sends = Counter("bot_uncertain_sends", "Sends whose fate was unknown at first", registry=r)
        self.uncertain = Counter("bot_delivery_uncertain", "Searches given up at their bound", registry=r)
        self.undeliverable = Counter("bot_undeliverable", "Messages that Telegram refused in any form", registry=r)
        self.strays = Counter("bot_strays_deleted", "Second copies that were deleted", registry=r)
        self.probes = Counter("bot_probes", "Calls made to find out the fate of a send", registry=r)
        self.flood_waits = Counter("bot_flood_waits", "Sends answered 429", registry=r)
        self.redeliveries = Counter("bot_redeliveries", "Chats claimed again after their worker was gone", registry=r)
        self.expired = Counter("bot_expired_turns", "Turns deleted for their age", registry=r)
        self.set_aside = Counter("bot_turns_set_aside", "Updates put aside after repeated failure", registry=r)
        self.stale = Counter("bot_stale_workers", "Turns that another worker had taken over", registry=r)
        self.active = Gauge("bot_active_turns", "Chats being worked on in this process", registry=r)
        self.depth = Gauge("bot_queue_updates", "Stored updates not yet finished", registry=r)
        self.age = Gauge("bot_queue_age_seconds", "Age of the oldest chat that waits or is being worked on", registry=r)
        self.store_memory = Gauge("bot_store_memory_bytes", "Memory the store uses", registry=r)
        self.store_up = Gauge("bot_store_up", "1 while the store answers", registry=r)
        self.alert = Gauge("bot_alert", "1 while operators are alerted of this", ["name"], registry=r)
        self.last_poll = Gauge("bot_last_poll_timestamp_seconds", "Time of the last completed poll", registry=r)
