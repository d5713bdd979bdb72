"""The README's picture, taken from a real conversation: `PICTURES=1` takes it anew, else only where it is missing."""

import os
from pathlib import Path

from playwright.async_api import expect

from tests.browser.conftest import DESKTOP, Opener, Sandbox

PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "sandbox.png"
MOST_BYTES = 200_000
TALK = ("My order number is 4711, and the parcel has not arrived.", "What was my order number?")


async def test_the_picture_shows_a_conversation_and_is_small(open_tab: Opener, fresh_sandbox: Sandbox) -> None:
    """1200x800, light, at most 200 kB."""
    if os.environ.get("PICTURES") or not PICTURE.exists():
        await fresh_sandbox.start()
        tab = await open_tab(fresh_sandbox, DESKTOP, new=False, color_scheme="light", timezone_id="UTC")
        await tab.page.get_by_role("button", name="Start", exact=True).click()
        await tab.sees(1)
        for text in TALK:
            await tab.asks(text)
        await tab.box.blur()
        await tab.page.mouse.move(0, 0)
        await expect(tab.status).to_have_text("You write as Customer A")
        PICTURE.parent.mkdir(exist_ok=True)
        await tab.page.screenshot(path=PICTURE)
    picture = PICTURE.read_bytes()
    assert len(picture) <= MOST_BYTES
    assert tuple(int.from_bytes(picture[at : at + 4], "big") for at in (16, 20)) == DESKTOP
