"""The way forward from older layouts of the store. Each step may run again: it finds what it has done already.

1 → 2: a turn's header names the day it was written, from which its age is told. Of older turns that is not known in the
clear, so they count from the day of the upgrade; and every chat is listed, to be looked at.
"""

import time
from typing import Any, Final

from redis.asyncio import Redis

from storage.keynames import day_of
from storage.keys import Keys
from storage.schema import Step

_AT_ONCE: Final = 500

# Message ids and a count never hold a line's end, so the header ends with the first one.
_DATED: Final = """
for i = 2, #ARGV do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  local head = value and string.match(value, '^[^\\n]*')
  local ids, tokens, answers = string.match(head or '', '^([%d,]*)|(%d+)|([%d,]*)$')
  if ids then
    local rest = string.sub(value, #head + 1)
    redis.call('HSET', KEYS[1], ARGV[i], ids .. '|' .. tokens .. '|' .. ARGV[1] .. '|' .. answers .. rest)
  end
end
"""


async def date_turns(client: Redis, bot_id: int) -> None:
    """From 1 to 2."""
    today, keys = day_of(time.time()), Keys(bot_id)
    dated: Any = client.register_script(_DATED)
    async for name in client.scan_iter(f"tg:{{{bot_id}.*}}:turns:*", count=_AT_ONCE):
        numbers = [number async for number, _ in client.hscan_iter(name, count=_AT_ONCE)]
        for at in range(0, len(numbers), _AT_ONCE):
            await dated(keys=[name], args=[today, *numbers[at : at + _AT_ONCE]])
    async for name in client.scan_iter(f"tg:{{{bot_id}.*}}:chat:*", count=_AT_ONCE):
        chat_id = int(name.rpartition(b":")[2])
        await client.zadd(keys.of(chat_id).ages, {str(chat_id): time.time() * 1000}, nx=True)


STEPS: Final[tuple[Step, ...]] = (date_turns,)
