"""What a customer finds in an exported archive."""

import io
import zipfile

from bot.sandbox import SeenMessage
from tests.flows.conftest import Customer, World, until


async def document_of(customer: Customer, number: int = -1) -> SeenMessage:
    found = await until(lambda: [message for message in customer.shown if "document" in message.media], "a document")
    messages: list[SeenMessage] = found
    return messages[number]


async def files(world: World, customer: Customer, number: int = -1) -> dict[str, bytes]:
    """The files of an exported archive."""
    message = await document_of(customer, number)
    kept = world.telegram.world()
    content = kept.content_of(kept.files[message.media["document"]["file_id"]])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def exported(world: World, customer: Customer) -> str:
    return (await files(world, customer))["conversations.json"].decode()
