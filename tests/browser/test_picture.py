"""The README's pictures, of a real conversation: `PICTURES=1` takes them anew, else only those that are missing.

Fonts and times differ from machine to machine, so they are not compared, only bounded.
"""

import os
import re
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from bot.sandbox import OPERATOR_NAME
from tests.browser.conftest import DESKTOP, PHONE, Opener, Sandbox, Tab

PICTURES: Final = Path(__file__).resolve().parents[1] / "pictures"
MOST_BYTES: Final = 200_000
_TALK: Final = ("My order number is 4711, and the parcel has not arrived.", "What was my order number?")
_STREAMED: Final = "Tell me a long story about my parcel, please."


def _size(picture: bytes) -> tuple[int, ...]:
    """Width and height as a PNG's head gives them."""
    return tuple(int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))


async def _talk(tab: Tab) -> None:
    """Everybody says something: the operator, a Spanish customer, and the one whose chat is shown."""
    await tab.choose(OPERATOR_NAME)
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await tab.sees(1)
    await tab.become_new("Español")
    await tab.asks("Hola, ¿dónde está mi pedido 5822?")
    await tab.choose("Customer A")
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await tab.sees(1)
    for text in _TALK:
        await tab.asks(text)


async def _take(tab: Tab, path: Path, scale: int) -> None:
    """While an answer grows: the draft, its Stop button and "writing…" are in the picture."""
    await tab.says(_STREAMED)
    await expect(tab.draft).to_have_text(re.compile(r".{70}", re.DOTALL))
    await expect(tab.status).to_have_text("writing…")
    await tab.box.blur()
    await tab.page.mouse.move(0, 0)
    path.parent.mkdir(exist_ok=True)
    await tab.page.screenshot(path=path, scale="device" if scale > 1 else "css")


@pytest.mark.parametrize(
    ("name", "size", "scale"),
    [("sandbox.png", DESKTOP, 1), ("sandbox-phone.png", PHONE, 2)],
    ids=["desktop", "phone"],
)
async def test_the_pictures_show_a_streamed_answer_and_are_small(
    open_tab: Opener, fresh_sandbox: Sandbox, name: str, size: tuple[int, int], scale: int
) -> None:
    """Desktop: light, with the operator beside the customers; phone: dark, in twice the pixels. 200 kB at most each."""
    path = PICTURES / name
    if os.environ.get("PICTURES") or not path.exists():
        await fresh_sandbox.start()
        look = {"color_scheme": "light" if scale == 1 else "dark", "timezone_id": "UTC", "device_scale_factor": scale}
        tab = await open_tab(fresh_sandbox, size, new=False, **look)
        await _talk(tab)
        await _take(tab, path, scale)
    picture = path.read_bytes()
    assert len(picture) <= MOST_BYTES
    assert _size(picture) == (size[0] * scale, size[1] * scale)
