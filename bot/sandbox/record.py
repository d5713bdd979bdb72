"""Keeps one bot's world in a SQLite file, so that an open chat page goes on after a crash.

Written through and committed before each reply. `synchronous=OFF` is enough here: the pages belong to the operating
system once written, so nothing is lost when the process is killed, only when the machine loses power.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bot.sandbox.form import dump

if TYPE_CHECKING:
    from bot.sandbox.world import Chat, SeenMessage

_TABLES = """
create table if not exists state (bot integer, name text, body blob, primary key (bot, name)) without rowid;
create table if not exists messages (
    bot integer, chat_id integer, message_id integer, body blob, primary key (bot, chat_id, message_id)
) without rowid;
create table if not exists updates (
    bot integer, update_id integer, kept_at integer, lane text, body blob, primary key (bot, update_id)
) without rowid;
create table if not exists files (bot integer, file_id text, path text, name text, content blob);
"""
#: Parts of a chat that are rebuilt or too short-lived to keep.
_VOLATILE = frozenset({"messages", "drafts", "action", "action_until", "notice"})


class Database:
    """The file under one or several bots' records, opened at first use. Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._link: sqlite3.Connection | None = None

    @property
    def is_kept(self) -> bool:
        return self._path is not None

    def run(self, statement: str, *values: object) -> None:
        """One change; it opens a transaction that `commit` ends."""
        link = self._opened()
        if link is not None:
            if not link.in_transaction:
                link.execute("begin")
            link.execute(statement, values)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        link = self._opened()
        return link.execute(statement, values).fetchall() if link is not None else []

    def commit(self) -> None:
        if self._link is not None and self._link.in_transaction:
            self._link.execute("commit")

    def close(self) -> None:
        """May be called twice; a later use opens the file again."""
        self.commit()
        if self._link is not None:
            self._link.close()
            self._link = None

    def _opened(self) -> sqlite3.Connection | None:
        if self._link is None and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._link = sqlite3.connect(self._path, isolation_level=None)
            self._link.executescript("pragma journal_mode=wal; pragma synchronous=off;" + _TABLES)
        return self._link


class Record:
    """One bot's part of the database."""

    def __init__(self, database: Database, bot_id: int) -> None:
        self._database = database
        self._bot = bot_id
        self._contents: dict[str, bytes] = {}

    def keep(self, name: str, value: object) -> None:
        if self._database.is_kept:
            self._database.run("insert or replace into state values (?, ?, ?)", self._bot, name, dump(value))

    def kept(self, name: str, default: Any) -> Any:
        rows = self._database.rows("select body from state where bot = ? and name = ?", self._bot, name)
        return json.loads(rows[0][0]) if rows else default

    def kept_all(self, prefix: str) -> Iterator[Any]:
        statement = "select body from state where bot = ? and name >= ? and name < ?"
        for (body,) in self._database.rows(statement, self._bot, prefix, prefix[:-1] + ";"):
            yield json.loads(body)

    def keep_chat(self, chat: Chat) -> None:
        if self._database.is_kept:
            body = {part.name: getattr(chat, part.name) for part in fields(chat) if part.name not in _VOLATILE}
            body["topics"] = {str(key): value for key, value in chat.topics.items()}
            self.keep(f"chat:{chat.id}", body)

    def keep_message(self, message: SeenMessage) -> None:
        if self._database.is_kept:
            self._database.run(
                "insert or replace into messages values (?, ?, ?, ?)",
                self._bot, message.chat_id, message.message_id, dump(asdict(message)),
            )  # fmt: skip

    def messages(self) -> Iterator[dict[str, Any]]:
        statement = "select body from messages where bot = ? order by chat_id, message_id"
        for (body,) in self._database.rows(statement, self._bot):
            yield json.loads(body)

    def keep_file(self, file_id: str, path: str, name: str, content: bytes) -> None:
        """Where nothing is kept on disk the content stays in memory."""
        if self._database.is_kept:
            self._database.run("insert into files values (?, ?, ?, ?, ?)", self._bot, file_id, path, name, content)
        else:
            self._contents[file_id] = content

    def content(self, file_id: str) -> bytes:
        """Raises LookupError for a file never kept."""
        if not self._database.is_kept:
            return self._contents[file_id]
        statement = "select content from files where bot = ? and file_id = ?"
        found: bytes = self._database.rows(statement, self._bot, file_id)[0][0]
        return found

    def files(self) -> list[tuple[str, str, str, int]]:
        """File id, path, name and size in bytes."""
        statement = "select file_id, path, name, length(content) from files where bot = ? order by rowid"
        return self._database.rows(statement, self._bot)

    def keep_update(self, update_id: int, kept_at: int, lane: str, body: bytes) -> None:
        self._database.run("insert into updates values (?, ?, ?, ?, ?)", self._bot, update_id, kept_at, lane, body)

    def drop_update(self, update_id: int) -> None:
        self._database.run("delete from updates where bot = ? and update_id = ?", self._bot, update_id)

    def updates(self) -> list[tuple[int, int, str, bytes]]:
        statement = "select update_id, kept_at, lane, body from updates where bot = ? order by update_id"
        return self._database.rows(statement, self._bot)

    def commit(self) -> None:
        self._database.commit()
