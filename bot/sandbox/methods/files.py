"""Methods that carry files, and `getFile`."""

from __future__ import annotations

import hashlib
from typing import Any

from bot.sandbox.entities import MAX_CAPTION, Formatted, formatted
from bot.sandbox.form import Upload
from bot.sandbox.methods.call import Handler, MethodCall
from bot.sandbox.refusal import BadRequestError, RefusedError
from bot.sandbox.world import StoredFile

#: Bot API, getFile and sending files.
MAX_DOWNLOAD_BYTES = 20 * 1024 * 1024
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
ALBUM = range(2, 11)

#: Kind → what its object must hold besides the file.
KINDS: dict[str, dict[str, Any]] = {
    "document": {},
    "photo": {"width": 640, "height": 480},
    "audio": {"duration": 1},
    "video": {"width": 640, "height": 480, "duration": 1},
    "animation": {"width": 320, "height": 240, "duration": 1},
    "voice": {"duration": 1},
    "video_note": {"length": 240, "duration": 1},
    "sticker": {"type": "regular", "width": 512, "height": 512, "is_animated": False, "is_video": False},
}
_NAMED = ("document", "audio", "video", "animation")


def media_of(kind: str, stored: StoredFile, content_type: str = "") -> dict[str, Any]:
    """The part of a `Message` that shows a file, such as `{"document": {…}}`."""
    shown: dict[str, Any] = {**_file(stored), **KINDS[kind]}
    if kind in _NAMED:
        shown["file_name"] = stored.name
        if content_type:
            shown["mime_type"] = content_type
    return {kind: [shown] if kind == "photo" else shown}


def _file(stored: StoredFile) -> dict[str, Any]:
    unique = hashlib.sha256(stored.file_id.encode()).hexdigest()[:16]
    return {"file_id": stored.file_id, "file_unique_id": unique, "file_size": stored.size}


def _taken(call: MethodCall, kind: str, given: Any) -> dict[str, Any]:
    """The media object for a file given as upload, `attach://` name or known file id."""
    upload: Upload | None = None
    if isinstance(given, str) and given.startswith("attach://"):
        upload = call.params.uploads.get(given[len("attach://") :])
    elif not given:
        upload = call.params.uploads.get(kind)
    if upload is not None:
        if not upload.content:
            raise BadRequestError("file must be non-empty")
        if len(upload.content) > MAX_UPLOAD_BYTES:
            raise RefusedError(413, "Request Entity Too Large")
        return media_of(kind, call.world.store_file(kind, upload.name, upload.content), upload.content_type)
    if not isinstance(given, str) or not given or given.startswith("attach://"):
        raise BadRequestError(f"there is no {kind.replace('_', ' ')} in the request")
    if given.startswith(("http://", "https://")):
        # The sandbox reaches nothing outside.
        raise BadRequestError("failed to get HTTP URL content")
    stored = call.world.files.get(given)
    if stored is None:
        raise BadRequestError("wrong file identifier/HTTP URL specified")
    return media_of(kind, stored)


def _sender(kind: str) -> Handler:
    def send(call: MethodCall) -> dict[str, Any]:
        caption, entities = call.formatted("caption", "caption_entities", limit=MAX_CAPTION, may_be_empty=True)
        chat = call.writable_chat()
        media = _taken(call, kind, call.params.values.get(kind))
        return call.post(chat, caption or None, entities=entities, media=media)

    return send


def send_media_group(call: MethodCall) -> list[dict[str, Any]]:
    album = call.params.nested("media")
    if not isinstance(album, list):
        raise BadRequestError("expected an Array of InputMedia")
    if len(album) not in ALBUM:
        raise BadRequestError("wrong number of messages in the album: 2–10 are expected")
    chat = call.writable_chat()
    group_id = str(chat.id * 1000 + len(chat.messages))
    shown = []
    for item in album:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind not in ("photo", "video", "document", "audio"):
            raise BadRequestError(f'can\'t parse InputMedia: type "{kind}" is unsupported')
        caption, entities = Formatted("", [])
        if item.get("caption"):
            caption, entities = formatted(
                item["caption"], item.get("parse_mode") or "", item.get("caption_entities"), limit=MAX_CAPTION
            )
        media = {**_taken(call, kind, item.get("media")), "media_group_id": group_id}
        shown.append(call.post(chat, caption or None, entities=entities, media=media))
    return shown


def get_file(call: MethodCall) -> dict[str, Any]:
    stored = call.world.files.get(call.params.text("file_id"))
    if stored is None:
        raise BadRequestError("invalid file_id")
    if stored.size > MAX_DOWNLOAD_BYTES:
        raise BadRequestError("file is too big")
    return {**_file(stored), "file_path": stored.path}


def _method_name(kind: str) -> str:
    return "send" + "".join(word.capitalize() for word in kind.split("_"))


FILE_METHODS: dict[str, Handler] = {
    **{_method_name(kind): _sender(kind) for kind in KINDS},
    "sendMediaGroup": send_media_group,
    "getFile": get_file,
}
