"""`chat.html` of an export as a customer opens it: a file, on a phone or a desktop, or printed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from bot.conversation.record import Record
from bot.privacy.archive import Account, Entry, Skipped
from tests.browser.conftest import DESKTOP, PHONE
from tests.privacy.samples import about, chunks, entry, unpacked, unreadable

NARROW: Final = (320, 640)
SIZES: Final = [DESKTOP, PHONE, NARROW]
HOSTILE: Final = [
    "</style><script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\"> &amp;",
    "ends here \u202e and this is turned around",
    "https://evil.example/?a=1&b=2 +49 30 1234567",
    "x" * 100_000,
]
_SPEC: Final = "Order 4711 is on its way.\n\n1. Open **Orders**\n2. Choose *Track*\n\n    code = 'kept as it is'"
_RATIO: Final = """() => {
  const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const lowest = {};
  for (const element of document.querySelectorAll('h1, h2, .quiet, .day time, .gap, b, header time, .said, small')) {
    let behind = element;
    while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
    const both = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    const name = element.className || element.localName;
    lowest[name] = Math.min(lowest[name] ?? 99, ratio);
  }
  return lowest;
}"""

Opener = Callable[..., Awaitable[Page]]


async def extracted(folder: Path) -> Path:
    """The page of a history with everything in it, where a customer unpacked it."""
    reply = Record((), "Hello, this is the team. Your parcel arrives tomorrow.", more={"state": "operator"})
    entries = [
        entry(1, "Where is my order?\nI need it on Monday.", _SPEC),
        entry(2, "Tell me everything about returns", "You can send back", state="stopped"),
        entry(3, "Can I talk to a person?", "", state="handed"),
        Entry(0, 0, 4, reply, (41,)),
        *(unreadable(number) for number in (5, 6)),
        *(entry(7 + i, text, text) for i, text in enumerate(HOSTILE)),
        entry(1, "我的订单在哪里?", "您的订单正在路上。", conversation=1),
        entry(2, "أين طلبي رقم 4711؟", "طلبك في الطريق.\nOrder 4711.", conversation=1),
        entry(200, "Thanks 👩\u200d👩\u200d👧", "You are welcome!", conversation=1),
    ]
    of = about(Skipped("Voice message 17", "Only text is kept."), bot="Example Shop Support")
    receipt = {"id": "ABCD-EFGH-JKMN", "kind": "erasure", "asked_ms": 1_795_269_780_000, "counts": {"turns": 3}}
    account = Account({"language": "de", "note": "y" * 5000}, [{"what": "<b>", "at_s": 1_795_269_780}], [receipt])
    files = unpacked(b"".join(await chunks(entries, of, account)))
    page = folder / "chat.html"
    page.write_bytes(files["chat.html"])
    return page


@pytest_asyncio.fixture(loop_scope="session")
async def open_export(browser: Browser, tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens the page; what the console reports, and whatever the page asks of a network, fails the test."""
    file = await extracted(tmp_path)
    problems: list[str] = []
    contexts: list[BrowserContext] = []

    async def open_one(size: tuple[int, int] = DESKTOP, **options: Any) -> Page:
        context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        context.on("console", lambda line: problems.append(line.text))
        context.on("request", lambda request: problems.append(request.url) if request.url != file.as_uri() else None)
        page = await context.new_page()
        await page.goto(file.as_uri())
        return page

    yield open_one
    for context in contexts:
        await context.close()
    assert problems == []


@pytest.mark.parametrize("size", SIZES, ids=["desktop", "phone", "narrow"])
async def test_an_export_fits_the_screen(open_export: Opener, size: tuple[int, int]) -> None:
    """Nothing has to be scrolled sideways and nothing is cut off, a line of 100,000 letters included."""
    page = await open_export(size)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = "[...document.querySelectorAll('body *')].filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth)"
    assert await page.evaluate(f"{wide}.map((e) => e.outerHTML.slice(0, 80))") == []
    mine, theirs = page.locator("article.customer").first, page.locator("article.assistant").first
    left, right = await theirs.bounding_box(), await mine.bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] < right["x"]
    assert right["x"] + right["width"] > left["x"] + left["width"]


@pytest.mark.parametrize("size", SIZES[:2], ids=["desktop", "phone"])
async def test_hostile_text_is_there_to_be_read(open_export: Opener, size: tuple[int, int]) -> None:
    """Letter by letter, and nothing of it has run or been fetched."""
    page = await open_export(size)
    for text in HOSTILE:
        bubbles = page.locator("article.assistant .said").filter(has_text=text[:60])
        assert await bubbles.evaluate_all("(found) => found.map((one) => one.textContent)") == [text]
        await expect(bubbles).to_be_visible()
    await expect(page).to_have_title("Your conversations with Example Shop Support")
    assert await page.locator("script, img, a, iframe, link, [onerror], [style]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_an_export_can_be_read_in_any_light(open_export: Opener, scheme: Literal["light", "dark"]) -> None:
    """Contrast of 4.5 and more (WCAG AA) for every kind of text, on the back that the scheme asks for."""
    page = await open_export(color_scheme=scheme)
    back = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert back == {"light": "rgb(233, 238, 243)", "dark": "rgb(14, 22, 33)"}[scheme]
    ratios = await page.evaluate(_RATIO)
    assert len(ratios) == 8
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


async def test_an_export_can_be_printed(open_export: Opener) -> None:
    """Black on white also where the screen is dark; a bubble is not torn over two sheets; all of it is printed."""
    page = await open_export(color_scheme="dark")
    await page.emulate_media(media="print", color_scheme="dark")
    style = await page.evaluate(
        "(() => { const of = (name) => getComputedStyle(document.querySelector(name));"
        " return [of('html').backgroundColor, of('.said').color, of('article').breakInside, of('h2').breakAfter]; })()"
    )
    assert style == ["rgb(255, 255, 255)", "rgb(0, 0, 0)", "avoid", "avoid"]
    printed = await page.pdf(format="A4")
    assert printed.count(b"/Type /Page\n") > 10  # the long lines alone take more


async def test_white_space_is_kept_and_each_text_has_its_direction(open_export: Opener) -> None:
    """Steps and code keep their lines; Arabic begins on the right, and a turned text turns nothing around it."""
    page = await open_export()
    assert await page.locator(".said").nth(1).inner_text() == _SPEC
    arabic = page.locator(".said").filter(has_text="أين")
    assert await arabic.evaluate("(one) => getComputedStyle(one).direction") == "rtl"
    turned = page.locator("article.assistant").filter(has_text="ends here")
    assert await turned.locator("header").evaluate("(one) => getComputedStyle(one).direction") == "ltr"


async def test_the_policy_stops_what_is_not_ours(browser: Browser, tmp_path: Path) -> None:
    """The second wall: had a script or a style got into the page, it would not run, and no picture would be fetched."""
    file = await extracted(tmp_path)
    broken_in = "<script>document.title = 'taken'</script><style>h1 { color: red }</style><img src='http://a.example'>"
    file.write_text(file.read_text().replace("<main>", f"<main>{broken_in}"))
    context = await browser.new_context()
    asked: list[tuple[str, str | None]] = []
    refused: list[str] = []
    context.on("requestfailed", lambda request: asked.append((request.url, request.failure)))
    context.on("console", lambda line: refused.append(line.text))
    page = await context.new_page()
    await page.goto(file.as_uri())
    await expect(page).to_have_title("Your conversations with Example Shop Support")
    assert await page.locator("h1").evaluate("(one) => getComputedStyle(one).color") == "rgb(23, 33, 43)"
    assert asked == [("http://a.example/", "csp")]
    assert len(refused) == 3
    await context.close()
