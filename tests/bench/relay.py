"""The yardstick: the least relay one would write with aiogram and httpx.

It streams the chat API, shows the text so far with a draft at most every 0.3 s, then sends the message. History in
memory and unbounded; no order, no persistence, no retries, no formatting: that is the point.
"""

import asyncio
import json
import os
import time
from collections import defaultdict

import httpx
from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import Message

DRAFT_SECONDS = 0.3


class Relay:
    """Answers every text."""

    def __init__(self, bot: Bot, client: httpx.AsyncClient) -> None:
        self._bot = bot
        self._client = client
        self._prompt = {"role": "system", "content": os.environ["SYSTEM_PROMPT"]}
        self._history: dict[int, list[dict[str, str]]] = defaultdict(list)

    async def on_text(self, message: Message) -> None:
        messages = self._history[message.chat.id]
        messages.append({"role": "user", "content": message.text or ""})
        answer = await self._streamed(message, [self._prompt, *messages])
        messages.append({"role": "assistant", "content": answer})
        await self._bot.send_message(message.chat.id, answer)

    async def _streamed(self, message: Message, messages: list[dict[str, str]]) -> str:
        answer, shown = "", 0.0
        body = {"model": os.environ["CHAT_MODEL"], "messages": messages, "stream": True}
        async with self._client.stream("POST", os.environ["CHAT_API_URL"] + "/chat/completions", json=body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                choices = json.loads(line[6:])["choices"]
                answer += (choices[0]["delta"].get("content") or "") if choices else ""
                if answer and time.monotonic() - shown > DRAFT_SECONDS:
                    shown = time.monotonic()
                    await self._bot.send_message_draft(message.chat.id, draft_id=message.message_id, text=answer)
        return answer


async def main() -> None:
    session = AiohttpSession(api=TelegramAPIServer.from_base(os.environ["TELEGRAM_API_URL"]))
    bot, dispatcher = Bot(os.environ["BOT_TOKEN"], session=session), Dispatcher()
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        dispatcher.message.register(Relay(bot, client).on_text, F.text)
        await dispatcher.start_polling(bot)


if __name__ == "__main__":
    asyncio.run(main())
