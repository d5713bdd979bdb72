"""The page on different screens and without a mouse."""

from typing import Literal

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Bare, Opener

_CONTRAST = """(selector) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const element = document.querySelector(selector);
  let behind = element;
  while (rgba(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const back = rgba(getComputedStyle(behind).backgroundColor);
  let ink = rgba(getComputedStyle(element).color);
  const seen = Number(getComputedStyle(element).opacity);
  ink = ink.map((part, i) => part * seen + back[i] * (1 - seen));
  const [low, high] = [light(ink), light(back)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""
_READ = (
    "article.mine .body", "article.mine time", "article:not(.mine) .body", "article:not(.mine) time", "#status", "#bot",
    "main > header .who", "nav [aria-current=true]", "nav [aria-current=true] small", "nav a:not([aria-current]) small",
    "#add", "#attach", "[type=submit]", ".day",
)  # fmt: skip
_FOCUSED = """() => {
  const element = document.activeElement;
  if (element === document.body) return ['', true];  // the page's end: the browser's own controls come next
  const name = element.getAttribute('aria-label') || element.textContent.trim();
  return [name, getComputedStyle(element).outlineStyle !== 'none'];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_a_chat_fits_the_screen_and_can_be_read(
    open_tab: Opener, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    """No sideways scrolling, the field in sight, the newest message at its end; contrast of 4.5 and more (WCAG AA)."""
    tab = await open_tab(size=size, color_scheme=scheme)
    assert await tab.fits()
    for text in ("My order number is 4711.", f"https://example.com/{'a' * 300}", "What is my order number?"):
        await tab.asks(text)
    assert await tab.fits()
    await expect(tab.answers.last).to_be_in_viewport(ratio=1)
    for selector in _READ:
        assert await tab.page.evaluate(_CONTRAST, selector) >= 4.5, selector


async def test_many_customers_fit_a_phone(open_tab: Opener, bare: Bare) -> None:
    """Their list scrolls in itself, and what adds one more stays in sight."""
    tab = await open_tab(bare, size=PHONE)
    for _ in range(12):
        await tab.become_new()
    assert await tab.fits()
    await tab.show_list()
    await expect(tab.page.get_by_role("button", name="New customer")).to_be_in_viewport(ratio=1)
    assert not await tab.page.evaluate("document.documentElement.scrollWidth > innerWidth")


async def test_a_smaller_window_keeps_the_newest_message_in_sight(open_tab: Opener) -> None:
    """A phone's keyboard takes half of the screen."""
    tab = await open_tab(size=PHONE)
    for text in ("one", "two", "three", "four"):
        await tab.asks(text)
    await tab.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1] // 2})
    await expect(tab.page.locator("article time").last).to_be_in_viewport(ratio=1)
    assert await tab.fits()


async def test_what_was_scrolled_back_to_stays_in_sight(open_tab: Opener) -> None:
    """New messages do not pull somebody away who reads old ones."""
    tab = await open_tab(size=PHONE)
    for text in ("one", "two", "three", "four"):
        await tab.asks(text)
    await tab.page.locator("#log").focus()
    await tab.page.keyboard.press("Home")
    await expect(tab.mine.first).to_be_in_viewport(ratio=1)
    await tab.sandbox.telegram("sendMessage", chat_id=await tab.chat_id, text="five")
    await tab.sees(5)
    await expect(tab.mine.first).to_be_in_viewport(ratio=1)
    await tab.asks("six")
    await expect(tab.answers.last).to_be_in_viewport(ratio=1)


async def test_the_keyboard_alone_is_enough(open_tab: Opener) -> None:
    """The field has the focus from the start; Tab reaches everything in the order it is read, always visibly."""
    tab = await open_tab()
    page = tab.page
    await page.keyboard.type("written without a mouse")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("in two lines")
    await page.keyboard.press("Enter")
    await tab.sees(1)
    await expect(tab.mine).to_have_text(["written without a mouse\nin two lines"])
    await expect(page.get_by_role("button", name="Commands of the bot")).to_be_visible()
    stops = [await _tab(page, back=True) for _ in range(5)]
    assert stops == ["Attach", "Commands of the bot", "reply", "Messages", "More"]
    await tab.box.focus()
    assert await _tab(page) == "Send"
    for name in ("Attach", "New customer"):
        await _tab_to(page, name)
    await page.keyboard.press("Enter")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("main .who").first).to_contain_text("zh")
    await expect(tab.box).to_be_focused()
    await _tab_to(page, "Attach", back=True)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Photo", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Attach")).to_be_focused()
    await page.keyboard.press("Enter")
    for _ in range(2):
        await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await tab.sees(1)
    await expect(tab.box).to_be_focused()


async def test_the_keyboard_alone_is_enough_on_a_narrow_screen(open_tab: Opener, bare: Bare) -> None:
    """From the list into a chat and back: the focus stands in the field, then where it left the list."""
    tab = await open_tab(bare, PHONE, new=False)
    page = tab.page
    for name in ("Dark colours", "Operator", "Customer A"):
        assert name in await _tab(page)
    await page.keyboard.press("Enter")
    await expect(tab.box).to_be_focused()
    await page.keyboard.type("without a mouse")
    await page.keyboard.press("Enter")
    await expect(tab.mine).to_have_text(["without a mouse"])
    await _tab_to(page, "Back to the list of people", back=True)
    await page.keyboard.press("Enter")
    await expect(tab.entry("Customer A")).to_be_focused()
    assert await _tab(page) == "New customer"


async def test_a_touch_on_a_message_shows_what_can_be_done_with_it(open_tab: Opener, bare: Bare) -> None:
    """Nothing stands beside the messages of a phone until one is touched, and nothing unseen can be hit."""
    tab = await open_tab(bare, PHONE, new=False, has_touch=True, is_mobile=True)
    await tab.entry("Customer A").tap()
    bare.server.customer_writes(1001, "touch me")
    buttons = tab.page.locator(".actions")
    await expect(buttons).to_have_css("opacity", "0")
    await expect(buttons).to_have_css("pointer-events", "none")
    await tab.page.locator(".bubble").tap()
    await expect(buttons).to_have_css("opacity", "1")
    await tab.page.get_by_role("button", name="edit").tap()
    await expect(tab.box).to_have_value("touch me")
    assert await tab.fits()


async def test_arrow_keys_go_from_message_to_message(open_tab: Opener, bare: Bare) -> None:
    """One stop of Tab for all the small buttons beside messages: the arrows lead to the others."""
    tab = await open_tab(bare)
    chat_id = await tab.chat_id
    await tab.says("mine")
    await expect(tab.mine).to_have_text(["mine"])
    await bare.telegram("sendMessage", chat_id=chat_id, text="theirs")
    await tab.sees(1)
    await tab.page.locator("#log").focus()
    assert await _tab(tab.page) == "reply"
    await tab.page.keyboard.press("ArrowUp")
    assert await _tab(tab.page) == "edit"
    await tab.page.keyboard.press("Enter")
    await expect(tab.box).to_have_value("mine")


async def test_a_button_keeps_the_focus_while_messages_come(open_tab: Opener) -> None:
    """What changes elsewhere on the page takes nobody's focus away."""
    tab = await open_tab()
    chat_id = await tab.chat_id
    keyboard = {"inline_keyboard": [[{"text": "Yes", "callback_data": "y"}, {"text": "No", "callback_data": "n"}]]}
    await tab.sandbox.telegram("sendMessage", chat_id=chat_id, text="Sure?", reply_markup=keyboard)
    no = tab.page.get_by_role("button", name="No", exact=True)
    await no.focus()
    for number in range(3):
        await tab.sandbox.telegram("sendMessageDraft", chat_id=chat_id, draft_id=1, text=f"growing {number}")
        await expect(tab.draft).to_have_text(f"growing {number}")
    await tab.sandbox.telegram("sendMessage", chat_id=chat_id, text="grown")
    await tab.sees(2)
    await expect(no).to_be_focused()


async def test_the_newest_messages_are_read_out_once(open_tab: Opener) -> None:
    """A screen reader hears what is added to the log: the elements that stand there already are left alone."""
    tab = await open_tab()
    await tab.asks("one")
    await tab.page.evaluate(
        "() => { window.added = []; new MutationObserver((all) => all.forEach((one) => one.addedNodes.forEach("
        "(node) => added.push(node.className)))).observe(document.getElementById('log'), { childList: true }); }"
    )
    await tab.asks("two")
    added = await tab.page.evaluate("window.added")
    assert [name for name in added if name != "draft"] == ["mine", ""]


async def _tab(page: Page, *, back: bool = False) -> str:
    """Goes one stop on; the name of what has the focus, which must be visible."""
    await page.keyboard.press("Shift+Tab" if back else "Tab")
    name, visible = await page.evaluate(_FOCUSED)
    assert visible, f"no focus is to be seen on {name!r}"
    return str(name).removeprefix("+ ")


async def _tab_to(page: Page, wanted: str, *, back: bool = False) -> None:
    stops = []
    for _ in range(90):
        stops.append(await _tab(page, back=back))
        if stops[-1] == wanted:
            return
    pytest.fail(f"{wanted!r} is not among {stops}")
