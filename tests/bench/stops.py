"""Stop, pressed while an answer streams: how long the chat API still works for nobody.

Ingress and worker are two processes here, so that a press has the longest way: poll, mailbox, announcement, worker.
"""

import asyncio
import random
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any, Final

from tests.bench.stage import STORY, WAYS, WHOLE, Load
from tests.bench.systems import folder, split
from tests.bench.window import Spare, measured

_CUSTOMERS: Final = 6
_WARM_ANSWERS: Final = 200
_READ_SECONDS: Final = (0.05, 0.5)


async def stops(presses: int, spare: Spare, tell: Callable[[str], None]) -> dict[str, Any]:
    """At least so many presses of each way to stop, by six customers who press at any moment of their answers."""
    tell(f"stop: {presses} presses of the button and {presses} times /stop, across two processes")
    each = -(-len(WAYS) * presses // _CUSTOMERS)
    drawn = random.Random(1)

    async with folder() as state, split(state) as system:
        system.stage.chat_api.behaviour = WHOLE
        warm = Load(system.stage)
        await warm.closed(
            cycle(system.stage.new_chats(_WARM_ANSWERS)), _CUSTOMERS, until=lambda: len(warm.questions) >= _WARM_ANSWERS
        )
        system.stage.chat_api.behaviour = STORY

        async def customer(load: Load, number: int) -> None:
            # In a chat of their own each time: stopped many times a minute, a chat would be shown fewer drafts.
            for chat, way in zip(system.stage.new_chats(each), islice(cycle(WAYS), number, None), strict=False):
                await load.stop(chat, way, drawn.uniform(*_READ_SECONDS))

        async def press(load: Load) -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(_CUSTOMERS):
                    group.create_task(customer(load, number))

        return await measured(system, spare, press)
