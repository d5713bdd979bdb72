"""Files both ways, captions and albums."""

from __future__ import annotations

import pytest

from bot.sandbox import TelegramServer
from tests.sandbox.callers import NOT_MODIFIED, Subject, refused, upload


async def test_an_uploaded_document_can_be_fetched_again(subject: Subject) -> None:
    """Bot API, sendDocument and getFile: the file at /file/bot<token>/<file_path>."""
    content = b"line one\r\n--looks like a boundary\r\n\r\n" + bytes(range(256))
    message = (await upload(subject, "sendDocument", "document", content, caption="<b>c</b>", parse_mode="HTML"))[
        "result"
    ]
    assert message["caption"] == "c"
    assert message["caption_entities"][0]["type"] == "bold"
    file = await subject.ok("getFile", file_id=message["document"]["file_id"])
    assert file["file_size"] == len(content)
    async with subject.http.get(f"{subject.url}/file/bot{subject.token}/{file['file_path']}") as reply:
        assert await reply.read() == content


@pytest.mark.parametrize("kind", ["photo", "voice", "audio", "video"])
async def test_media_are_sent_as_files_and_again_by_their_id(subject: Subject, kind: str) -> None:
    """Bot API, sending files: by upload, then by file_id."""
    if subject.server is None:
        pytest.skip("a real server looks into the media")
    method = f"send{kind.capitalize()}"
    sent = (await upload(subject, method, kind, b"content"))["result"][kind]
    file_id = (sent[0] if kind == "photo" else sent)["file_id"]
    again = (await subject.ok(method, chat_id=subject.chat, **{kind: file_id}))[kind]
    assert (again[0] if kind == "photo" else again)["file_id"] == file_id


async def test_missing_and_empty_files_are_refused(subject: Subject) -> None:
    """Server: there is no document in the request; file must be non-empty."""
    answer = await subject.no("sendDocument", chat_id=subject.chat)
    assert answer == refused("there is no document in the request")
    body = await upload(subject, "sendDocument", "document", b"")
    assert body["description"] == "Bad Request: file must be non-empty"


async def test_an_unknown_file_id_is_invalid(subject: Subject) -> None:
    """Server: invalid file_id."""
    code, description = await subject.no("getFile", file_id="nonsense")
    assert code == 400
    assert "file_id" in description


async def test_files_over_20_megabytes_cannot_be_fetched(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, getFile: 20 MB."""
    customers.customer_sends_file(subject.chat, "document", bytes(20 * 1024 * 1024 + 1))
    (update,) = await subject.ok("getUpdates")
    file_id = update["message"]["document"]["file_id"]
    assert await subject.no("getFile", file_id=file_id) == refused("file is too big")


async def test_a_caption_has_1024_units(subject: Subject) -> None:
    """Bot API, captions: 0-1024 characters after entities parsing."""
    assert (await upload(subject, "sendDocument", "document", b"x", caption="c" * 1024))["ok"]
    body = await upload(subject, "sendDocument", "document", b"x", caption="c" * 1025)
    assert body["description"] == "Bad Request: message caption is too long"


async def test_a_caption_is_edited_by_its_own_method(subject: Subject) -> None:
    """Server: text and caption do not mix."""
    document = (await upload(subject, "sendDocument", "document", b"x", caption="old"))["result"]
    place = {"chat_id": subject.chat, "message_id": document["message_id"]}
    answer = await subject.no("editMessageText", text="x", **place)
    assert answer == refused("there is no text in the message to edit")
    assert (await subject.ok("editMessageCaption", caption="new", **place))["caption"] == "new"
    assert await subject.no("editMessageCaption", caption="new", **place) == (400, NOT_MODIFIED)
    text = {"chat_id": subject.chat, "message_id": (await subject.send())["message_id"]}
    answer = await subject.no("editMessageCaption", caption="x", **text)
    assert answer == refused("there is no caption in the message to edit")


async def test_an_album_has_two_to_ten_files(subject: Subject) -> None:
    """Bot API, sendMediaGroup: an array of the sent messages."""
    file_id = (await upload(subject, "sendDocument", "document", b"x"))["result"]["document"]["file_id"]
    item = {"type": "document", "media": file_id}
    album = await subject.ok("sendMediaGroup", chat_id=subject.chat, media=[{**item, "caption": "one"}, item])
    assert len({message["media_group_id"] for message in album}) == 1
    assert (await subject.no("sendMediaGroup", chat_id=subject.chat, media=[]))[0] == 400


async def test_a_file_of_50_megabytes_is_sent_and_no_larger_one(subject: Subject) -> None:
    """Bot API, sending files: 50 MB for other files; server: 413 above."""
    size = 50 * 1024 * 1024
    sent = await upload(subject, "sendDocument", "document", bytes(size))
    assert sent["result"]["document"]["file_size"] == size
    assert (await upload(subject, "sendDocument", "document", bytes(size + 1)))["error_code"] == 413


async def test_a_document_keeps_its_name_and_type(subject: Subject) -> None:
    """Bot API, Document: file_name and mime_type as defined by the sender."""
    document = (await upload(subject, "sendDocument", "document", b"x"))["result"]["document"]
    assert (document["file_size"], document["mime_type"]) == (1, "text/plain")
    assert document["file_unique_id"] != document["file_id"]


async def test_a_customers_file_arrives_with_an_id_that_fetches_it(subject: Subject, customers: TelegramServer) -> None:
    """Bot API, Document and PhotoSize in a Message, then getFile."""
    customers.customer_sends_file(subject.chat, "document", b"a bill", name="bill.pdf", caption="my bill")
    customers.customer_sends_file(subject.chat, "photo", b"a picture", name="box.jpg")
    bill, box = [update["message"] for update in await subject.ok("getUpdates")]
    assert (bill["caption"], bill["document"]["file_name"]) == ("my bill", "bill.pdf")
    for file_id, content in ((bill["document"]["file_id"], b"a bill"), (box["photo"][-1]["file_id"], b"a picture")):
        path = (await subject.ok("getFile", file_id=file_id))["file_path"]
        async with subject.http.get(f"{subject.url}/file/bot{subject.token}/{path}") as reply:
            assert await reply.read() == content
