"""The command menus in Telegram."""

from collections.abc import Callable

from bot import texts
from bot.texts import LANGUAGES, Words
from tests.flows.conftest import QUICK, Service, World, until


def given(world: World) -> list[dict[str, object]]:
    return [call.params for call in world.telegram.calls if call.method == "setMyCommands" and call.status == 200]


async def test_menus_are_set_in_every_language_and_only_when_they_changed(
    own_world: World, start_service: Callable[..., Service], store_address: str
) -> None:
    """A failure does not keep the service from its work; a second start with the same store sets nothing."""
    own_world.telegram.faults.add(method="setMyCommands", kind="429", seconds=1, count=1)
    service = start_service(times=QUICK, REDIS_URL=store_address)
    await service.start()
    customer = own_world.customer()
    assert await customer.asks("alpha") == "Answer to: alpha"
    menus = await until(lambda: found if len(found := given(own_world)) == 2 * len(LANGUAGES) else None, "all menus")
    russian = next(menu for menu in menus if menu.get("language_code") == "ru")
    descriptions = {entry["command"]: entry["description"] for entry in russian["commands"]}
    assert descriptions == {name: Words().say(text, "ru") for name, text in texts.COMMANDS.items()}
    assert {str(menu.get("language_code")) for menu in menus} == {"None", "zh", "ru", "es"}
    assert await service.stop() == 0
    own_world.telegram.calls.clear()
    again = start_service(times=QUICK, REDIS_URL=store_address)
    await again.start()
    await customer.asks("alpha again")
    assert given(own_world) == []
