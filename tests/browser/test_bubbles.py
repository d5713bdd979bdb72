"""Messages on the page as Telegram's apps show them; the test is the bot."""

import time

import pytest
from playwright.async_api import expect

from tests.browser.conftest import DESKTOP, SIZES, Bare, Opener

_HTML = (
    "<b>bold</b> <i>italic</i> <u>under</u> <s>struck</s> <code>code</code> <a href='https://example.org/a'>link</a>"
    "<pre><code class='language-python'>print(1)</code></pre><blockquote>a quote</blockquote>\nafter it"
)
_NESTED = "<b>bold <i>both <u>all</u></i></b> \U0001f600 <b>end</b>"


@SIZES
async def test_formatting_is_shown(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """Every entity of the Bot API that a bot can send becomes the element that means it."""
    tab = await open_tab(bare, size)
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text=_HTML, parse_mode="HTML")
    await tab.sees(1)
    body = tab.answers.first
    for tag, text in (("strong", "bold"), ("em", "italic"), ("u", "under"), ("s", "struck"), ("blockquote", "a quote")):
        await expect(body.locator(tag)).to_have_text(text)
    await expect(body.locator("code").first).to_have_text("code")
    await expect(body.locator("pre")).to_have_attribute("data-language", "python")
    await expect(body.locator("a")).to_have_attribute("href", "https://example.org/a")
    await expect(body.locator("a")).to_have_attribute("rel", "noopener noreferrer")
    assert (await body.inner_text()).endswith("a quote\nafter it"), "no empty line after a block"
    assert await tab.fits()


async def test_nested_formatting_counts_in_utf16_units(open_tab: Opener, bare: Bare) -> None:
    """An emoji in the middle moves nothing."""
    tab = await open_tab(bare)
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text=_NESTED, parse_mode="HTML")
    await tab.sees(1)
    await expect(tab.answers.locator("strong em u")).to_have_text("all")
    await expect(tab.answers.locator("strong").last).to_have_text("end")


@SIZES
async def test_a_spoiler_is_hidden_until_it_is_pressed(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """With the mouse or the keyboard, and a screen reader is told what it is."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    for word in ("first", "second"):
        text = f"It is <tg-spoiler>{word}</tg-spoiler>"
        await bare.telegram("sendMessage", chat_id=chat_id, text=text, parse_mode="HTML")
    await tab.sees(2)
    hidden = tab.page.get_by_role("button", name="Hidden text: press to show it")
    assert await hidden.first.evaluate("(it) => getComputedStyle(it).color") == "rgba(0, 0, 0, 0)"
    await hidden.first.click()
    await hidden.first.press("Enter")
    await expect(hidden).to_have_count(0)
    assert (
        await tab.answers.last.locator(".spoiler").evaluate("(it) => getComputedStyle(it).color") != "rgba(0, 0, 0, 0)"
    )


async def test_a_long_quote_is_folded_until_it_is_pressed(open_tab: Opener, bare: Bare) -> None:
    """expandable_blockquote."""
    tab = await open_tab(bare)
    text = "<blockquote expandable>" + "line\n" * 12 + "end</blockquote>"
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text=text, parse_mode="HTML")
    quote = tab.answers.locator("blockquote")
    folded = await quote.evaluate("(it) => it.clientHeight")
    await tab.page.get_by_role("button", name="Long quote: press to show all").press("Enter")
    assert await quote.evaluate("(it) => it.clientHeight") > folded * 2


@SIZES
async def test_right_to_left_text_reads_from_the_right(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """The direction is the text's own; the time stays as it is."""
    tab = await open_tab(bare, size)
    for text in ("אין לי את החבילה", "plain"):
        await bare.telegram("sendMessage", chat_id=await tab.chat_id, text=text)
    await tab.sees(2)
    directions = await tab.page.locator(".bubble").evaluate_all(
        "(all) => all.map((it) => getComputedStyle(it).direction)"
    )
    assert directions == ["rtl", "ltr"]
    assert await tab.page.locator(".meta").first.evaluate("(it) => getComputedStyle(it).direction") == "ltr"


@SIZES
async def test_bubbles_stand_left_and_right_with_their_time(
    open_tab: Opener, bare: Bare, size: tuple[int, int]
) -> None:
    """What the person wrote stands right, what the bot wrote left."""
    tab = await open_tab(bare, size)
    await tab.says("mine")
    await expect(tab.mine).to_have_count(1)
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text="theirs")
    await tab.sees(1)
    boxes = [
        await tab.page.locator(f"{kind} .bubble").bounding_box() for kind in ("article.mine", "article:not(.mine)")
    ]
    mine, theirs = [box for box in boxes if box]
    assert mine["x"] + mine["width"] > theirs["x"] + theirs["width"]
    assert mine["x"] > theirs["x"]
    await expect(tab.page.locator("article time")).to_have_count(2)


async def test_days_are_separated(open_tab: Opener, bare: Bare) -> None:
    """Today and yesterday in words, what is older with its date."""
    tab = await open_tab(bare, timezone_id="UTC")
    chat_id = await tab.chat_id
    for days in (400, 1, 1, 0):
        bare.server.customer_writes(chat_id, f"{days} days ago")
        bare.server.messages(chat_id)[-1].date = int(time.time()) - days * 86_400
    await tab.page.reload()
    days_shown = tab.page.locator(".day")
    await expect(days_shown).to_have_count(3)
    await expect(days_shown.nth(0)).to_contain_text(time.strftime("%Y", time.gmtime(time.time() - 400 * 86_400)))
    await expect(days_shown.nth(1)).to_have_text("Yesterday")
    await expect(days_shown.nth(2)).to_have_text("Today")


@SIZES
async def test_a_reply_quotes_what_it_answers(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """Both ways: the bot's by reply_parameters, the customer's by the small button beside a message."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    await tab.says("Where is my order?")
    await expect(tab.mine).to_have_count(1)
    asked = bare.server.messages(chat_id)[0].message_id
    reply = {"message_id": asked}
    sent = await bare.telegram("sendMessage", chat_id=chat_id, text="On its way.", reply_parameters=reply)
    await expect(tab.page.locator("article:not(.mine) .quote")).to_contain_text("Where is my order?")
    await tab.page.locator("article:not(.mine)").hover()
    await tab.page.locator("article:not(.mine)").get_by_role("button", name="reply").click()
    await expect(tab.page.locator("#context")).to_contain_text("On its way.")
    await tab.says("Thank you")
    await expect(tab.page.locator("article.mine .quote")).to_contain_text("On its way.")
    update = (await bare.updates())[-1]
    assert update["message"]["reply_to_message"]["message_id"] == sent["message_id"]


@SIZES
async def test_the_bots_edits_and_deletions_are_seen(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """In place, with a mark; what is deleted vanishes with its buttons, and the quote of it says so."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    keyboard = {"inline_keyboard": [[{"text": "Yes", "callback_data": "y"}]]}
    first = await bare.telegram("sendMessage", chat_id=chat_id, text="before", reply_markup=keyboard)
    await bare.telegram("sendMessage", chat_id=chat_id, text="below")
    place = {"chat_id": chat_id, "message_id": first["message_id"]}
    await bare.telegram("editMessageText", text="after", reply_markup=keyboard, **place)
    await expect(tab.answers).to_have_text(["after", "below"])
    await expect(tab.page.locator("article").first.get_by_text("edited")).to_be_visible()
    await bare.telegram("deleteMessage", **place)
    await expect(tab.answers).to_have_text(["below"])
    await expect(tab.page.locator(".keys")).to_have_count(0)


async def test_only_web_addresses_become_links(open_tab: Opener, bare: Bare) -> None:
    """Neither an entity nor a text of the bot can open anything else."""
    tab = await open_tab(bare)
    text = "https://example.org/x?y=1, javascript:alert(1) file:///etc/passwd tg://resolve?domain=x"
    entities = [{"type": "text_link", "offset": 27, "length": 19, "url": "tg://resolve?domain=x"}]
    await bare.telegram("sendMessage", chat_id=await tab.chat_id, text=text, entities=entities)
    await tab.sees(1)
    links = tab.answers.locator("a")
    await expect(links).to_have_count(1)
    await expect(links).to_have_attribute("href", "https://example.org/x?y=1")


async def test_a_command_in_a_message_can_be_pressed(open_tab: Opener, bare: Bare) -> None:
    """As in the apps it is sent at once."""
    tab = await open_tab(bare)
    await bare.telegram(
        "sendMessage", chat_id=await tab.chat_id, text="Try /human, not a/b or https://example.org/help"
    )
    await tab.page.locator(".command").click()
    await expect(tab.mine).to_have_text(["/human"])


@pytest.mark.parametrize("emoji", ["\U0001f44d"])
async def test_a_reaction_is_shown_on_the_message(open_tab: Opener, bare: Bare, emoji: str) -> None:
    """setMessageReaction, and its removal."""
    tab = await open_tab(bare, DESKTOP)
    await tab.says("thank you")
    await expect(tab.mine).to_have_count(1)
    place = {"chat_id": await tab.chat_id, "message_id": bare.server.messages(await tab.chat_id)[0].message_id}
    await bare.telegram("setMessageReaction", reaction=[{"type": "emoji", "emoji": emoji}], **place)
    await expect(tab.page.locator(".reactions")).to_have_text(emoji)
    await bare.telegram("setMessageReaction", reaction=[], **place)
    await expect(tab.page.locator(".reactions")).to_have_count(0)
