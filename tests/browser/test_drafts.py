"""Answers that grow on the page, Stop, and what is shown under the bot's name; the test is the bot."""

from playwright.async_api import expect

from tests.browser.conftest import DESKTOP, SIZES, Bare, Opener

_DRAFT_MILLISECONDS = 30_000


@SIZES
async def test_an_empty_draft_is_thinking_and_a_full_one_grows_in_place(
    open_tab: Opener, bare: Bare, size: tuple[int, int]
) -> None:
    """One element from "Thinking…" to the last frame; the message takes its place."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    frame = {"chat_id": chat_id, "draft_id": 7}
    await bare.telegram("sendMessageDraft", text="", **frame)
    await expect(tab.draft).to_have_text("Thinking")
    await expect(tab.draft.locator("i")).to_have_count(3)
    await expect(tab.status).to_have_text("writing…")
    same = await tab.page.locator("article.draft").element_handle()
    for text in ("Your parcel", "Your parcel has <b>left</b>"):
        await bare.telegram("sendMessageDraft", text=text, parse_mode="HTML", **frame)
    await expect(tab.draft).to_have_text("Your parcel has left")
    await expect(tab.draft.locator("strong")).to_have_text("left")
    assert await tab.page.evaluate("(it) => it.isConnected", same)
    await expect(tab.page.locator("article.draft")).to_be_in_viewport(ratio=1)
    await bare.telegram("sendMessage", chat_id=chat_id, text="Your parcel has left us.")
    await expect(tab.page.locator("article.draft")).to_have_count(0)
    assert await tab.sees(1) == "Your parcel has left us."


async def test_thinking_stands_still_where_motion_is_unwanted(open_tab: Opener, bare: Bare) -> None:
    """prefers-reduced-motion."""
    moves = []
    for wish in ("no-preference", "reduce"):
        tab = await open_tab(bare, reduced_motion=wish)
        await bare.telegram("sendMessageDraft", chat_id=await tab.chat_id, draft_id=1, text="")
        moves.append(await tab.draft.locator("i").first.evaluate("(it) => getComputedStyle(it).animationName"))
    assert moves == ["hop", "none"]


@SIZES
async def test_stop_reaches_the_bot_and_takes_the_draft_away(
    open_tab: Opener, bare: Bare, size: tuple[int, int]
) -> None:
    """Only under a draft sent with can_stop; later frames of a stopped draft stay unseen."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    stop = tab.page.get_by_role("button", name="Stop", exact=True)
    await bare.telegram("sendMessageDraft", chat_id=chat_id, draft_id=3, text="so far")
    await expect(tab.draft).to_have_text("so far")
    await expect(stop).to_be_hidden()
    await bare.telegram("sendMessageDraft", chat_id=chat_id, draft_id=4, text="so far", can_stop=True)
    await stop.press("Enter")
    await expect(tab.page.locator("article.draft")).to_have_count(0)
    stopped = (await bare.updates())[-1]["stopped_message_generation"]
    assert (stopped["chat"]["id"], stopped["draft_id"]) == (chat_id, 4)
    await bare.telegram("sendMessageDraft", chat_id=chat_id, draft_id=4, text="late frame", can_stop=True)
    await bare.telegram("sendMessage", chat_id=chat_id, text="stopped")
    await tab.sees(1)
    await expect(tab.page.get_by_text("late frame")).to_have_count(0)


async def test_a_stopped_draft_that_is_kept_loses_its_button(open_tab: Opener, bare: Bare) -> None:
    """keep_on_stop."""
    tab = await open_tab(bare)
    await bare.telegram(
        "sendMessageDraft", chat_id=await tab.chat_id, draft_id=3, text="so far", can_stop=True, keep_on_stop=True
    )
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(tab.page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
    await expect(tab.draft).to_have_text("so far")
    await expect(tab.status).to_have_text(f"You write as {tab.name}")


async def test_a_draft_that_nobody_finishes_goes_after_30_seconds(open_tab: Opener, bare: Bare) -> None:
    """A preview lives so long (Bot API, sendMessageDraft); the page's own clock is moved, nothing waits."""
    tab = await open_tab(bare)
    await tab.page.clock.install()
    await bare.telegram("sendMessageDraft", chat_id=await tab.chat_id, draft_id=3, text="forgotten")
    await expect(tab.draft).to_have_text("forgotten")
    await tab.page.clock.fast_forward(_DRAFT_MILLISECONDS)
    await expect(tab.page.locator("article.draft")).to_have_count(0)


@SIZES
async def test_what_the_bot_does_is_shown_under_its_name(open_tab: Opener, bare: Bare, size: tuple[int, int]) -> None:
    """Chat actions, until the next message."""
    tab = await open_tab(bare, size)
    chat_id = await tab.chat_id
    for action, words in (
        ("typing", "typing…"),
        ("upload_document", "sending a file…"),
        ("find_location", "looking for"),
    ):
        await bare.telegram("sendChatAction", chat_id=chat_id, action=action)
        await expect(tab.status).to_contain_text(words)
    await bare.telegram("sendMessage", chat_id=chat_id, text="here it is")
    await expect(tab.status).to_have_text(f"You write as {tab.name}")


async def test_a_draft_is_not_read_out_but_the_message_is(open_tab: Opener, bare: Bare) -> None:
    """The log is a polite live region; frames of a draft would be heard one by one."""
    tab = await open_tab(bare, DESKTOP)
    await bare.telegram("sendMessageDraft", chat_id=await tab.chat_id, draft_id=3, text="so far")
    await expect(tab.page.locator("article.draft")).to_have_attribute("aria-live", "off")
    await expect(tab.page.locator("#log")).to_have_attribute("aria-live", "polite")
