"""The sandbox exactly as `make run` starts it: its own model at its natural pace, and what a kill does to a chat."""

import re

from playwright.async_api import expect

from tests.browser.conftest import Opener, Sandbox


async def test_an_answer_grows_as_a_draft_and_then_stands_as_a_message(open_tab: Opener, own_sandbox: Sandbox) -> None:
    """The customer reads along; the message takes the draft's place, once."""
    tab = await open_tab(own_sandbox)
    await tab.says("Tell me a long story, please.")
    await expect(tab.draft).not_to_have_class(re.compile("thinking"))
    await expect(tab.status).to_have_text("writing…")
    beginning = await tab.draft.inner_text()
    await expect(tab.draft).not_to_have_text(beginning)
    assert (await tab.draft.inner_text()).startswith(beginning)
    answer = await tab.sees(1)
    assert answer.startswith(beginning[:20])
    await expect(tab.draft).to_have_count(0)


async def test_an_answer_cut_by_a_kill_arrives_after_the_next_start(open_tab: Opener, own_sandbox: Sandbox) -> None:
    """`kill -9` to everything in the middle of an answer: the open page connects again by itself and shows it, once."""
    sandbox = own_sandbox
    tab = await open_tab(sandbox)
    assert "noted" in await tab.asks("My order number is 4711.")
    await tab.says("What is my order number? Tell me in detail, please.")
    await tab.draft.wait_for()
    await sandbox.kill()
    await expect(tab.status).to_have_text(re.compile("connection is lost"))
    await tab.says("written while nobody listens")
    await expect(tab.box).to_have_value("written while nobody listens")
    await expect(tab.toast).to_have_text(re.compile("does not answer"))
    link = sandbox.link
    await sandbox.start()
    assert sandbox.link == link
    assert "your order number is 4711" in await tab.sees(2)
    await tab.box.press("Enter")
    assert "message 3" in await tab.sees(3)
    await expect(tab.mine).to_have_count(3)
    later = await open_tab(sandbox, new=False)
    await later.choose(tab.name)
    await later.sees(3)


async def test_what_was_said_outlives_an_orderly_end(open_tab: Opener, own_sandbox: Sandbox) -> None:
    """SIGTERM ends with 0; the next start goes on with the same link and the whole conversation."""
    sandbox = own_sandbox
    tab = await open_tab(sandbox)
    await tab.asks("My order number is 4711.")
    assert await sandbox.stop() == 0
    await sandbox.start()
    assert "4711" in await tab.asks("What is my order number?")
