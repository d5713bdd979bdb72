"""Files both ways; the test is the bot."""

import zlib
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import FilePayload, expect

from tests.browser.conftest import SIZES, Bare, Opener


def _png(width: int, height: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    rows = (b"\x00" + b"\x99" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_PICTURE = _png(60, 40)


def _form(chat_id: int, field: str, name: str, content: bytes, **values: str) -> aiohttp.FormData:
    form = aiohttp.FormData({"chat_id": str(chat_id), **values}, quote_fields=False)
    form.add_field(field, content, filename=name)
    return form


@SIZES
async def test_a_file_of_the_bot_can_be_downloaded(
    open_tab: Opener, bare: Bare, size: tuple[int, int], tmp_path: Path
) -> None:
    """Name, size and caption are shown; the download has the same bytes, whatever they are."""
    tab = await open_tab(bare, size)
    content = b"<script>alert(1)</script>" * 100
    form = _form(
        await tab.chat_id, "document", "your data – 数据.html", content, caption="<b>All</b> of it", parse_mode="HTML"
    )
    await bare.uploads("sendDocument", form)
    file = tab.page.locator("a.file")
    await expect(file).to_contain_text("your data – 数据.html")
    await expect(file).to_contain_text("2.4 KB")
    await expect(tab.answers.locator("strong")).to_have_text("All")
    async with tab.page.expect_download() as started:
        await file.click()
    download = await started.value
    assert download.suggested_filename == "your data – 数据.html"
    await download.save_as(tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == content
    assert await tab.fits()


async def test_a_download_can_never_be_a_page(open_tab: Opener, bare: Bare) -> None:
    """Attachment, octet-stream, nosniff and the strict policy; what is no picture is not drawn."""
    tab = await open_tab(bare)
    form = _form(await tab.chat_id, "document", "x.html", b"<svg onload='alert(1)'>")
    sent = await bare.uploads("sendDocument", form)
    file_id = sent["document"]["file_id"]
    async with aiohttp.ClientSession() as http, http.get(f"{bare.link}file/{file_id}") as reply:
        assert reply.headers["Content-Disposition"].startswith("attachment;")
        assert reply.headers["Content-Type"] == "application/octet-stream"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    async with aiohttp.ClientSession() as http, http.get(f"{bare.link}picture/{file_id}") as reply:
        assert reply.status == 404


@SIZES
@pytest.mark.parametrize("kind", ["document", "photo"])
async def test_a_customers_file_arrives_and_can_be_fetched(
    open_tab: Opener, bare: Bare, size: tuple[int, int], kind: str
) -> None:
    """Picked, given a caption, sent: an update with a file_id, and getFile hands out its bytes."""
    tab = await open_tab(bare, size)
    name = {"document": "bill.pdf", "photo": "box.png"}[kind]
    content = {"document": b"%PDF-1.7 a bill", "photo": _PICTURE}[kind]
    await tab.page.get_by_role("button", name="Attach").click()
    async with tab.page.expect_file_chooser() as chooser:
        await tab.page.get_by_role("button", name={"document": "File", "photo": "Photo"}[kind], exact=True).click()
    file: FilePayload = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    await (await chooser.value).set_files(file)
    await expect(tab.page.locator("#attached")).to_contain_text(name)
    await tab.page.get_by_label("Message", exact=True).fill("Here it is")
    assert await tab.fits()
    await tab.box.press("Enter")
    await expect(tab.mine).to_have_text(["Here it is"])
    await expect(tab.page.locator("#attached")).to_be_hidden()
    message = (await bare.updates())[-1]["message"]
    assert message["caption"] == "Here it is"
    media = message["photo"][-1] if kind == "photo" else message["document"]
    path = (await bare.telegram("getFile", file_id=media["file_id"]))["file_path"]
    assert await bare.fetches(path) == content
    if kind == "photo":
        picture = tab.page.locator("article.mine img")
        await expect(picture).to_have_js_property("naturalWidth", 60)
    assert await tab.fits()


async def test_a_file_can_be_given_up(open_tab: Opener, bare: Bare) -> None:
    """By its button and by Escape; an empty one is refused in words."""
    tab = await open_tab(bare)
    field = tab.page.locator("#document")
    await field.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
    await tab.page.get_by_role("button", name="Do not send this file").click()
    await expect(tab.page.locator("#attached")).to_be_hidden()
    await field.set_input_files({"name": "b.txt", "mimeType": "text/plain", "buffer": b"b"})
    await tab.box.press("Escape")
    await expect(tab.page.locator("#attached")).to_be_hidden()
    await field.set_input_files({"name": "c.txt", "mimeType": "text/plain", "buffer": b""})
    await expect(tab.toast).to_have_text("This file is empty.")
    assert await bare.updates() == []


async def test_a_caption_that_is_too_long_is_refused_and_not_lost(open_tab: Opener, bare: Bare) -> None:
    """1,024 characters; file and text stay in the field."""
    tab = await open_tab(bare)
    await tab.page.locator("#document").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
    await tab.says("x" * 1025)
    await expect(tab.toast).to_contain_text("at most 1024 characters")
    await expect(tab.box).to_have_value("x" * 1025)
    await expect(tab.page.locator("#attached")).to_contain_text("a.txt")
    await tab.says("short enough")
    await expect(tab.mine).to_have_text(["short enough"])


async def test_an_edited_caption_is_shown(open_tab: Opener, bare: Bare) -> None:
    """editMessageCaption, in place."""
    tab = await open_tab(bare)
    chat_id = await tab.chat_id
    sent = await bare.uploads("sendDocument", _form(chat_id, "document", "a.txt", b"a", caption="old"))
    await expect(tab.answers).to_have_text(["old"])
    await bare.telegram("editMessageCaption", chat_id=chat_id, message_id=sent["message_id"], caption="new")
    await expect(tab.answers).to_have_text(["new"])
    await expect(tab.page.locator("article").get_by_text("edited")).to_be_visible()
