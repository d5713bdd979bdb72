"""The part of `check` that looks at what is known of backups: how old they are, and whether copies of keys outlive what
customers were told. A backup that nobody reported is not seen here.
"""

import time
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from bot.findings import Finding, note, ok, warning
from bot.settings import Settings
from storage.backup_file import copies_of_keys
from storage.keys import Keys

_DAY_SECONDS: Final = 86_400
_STALE_DAYS: Final = 7
_HOW: Final = "Let cron type `python -m bot backup FOLDER --keys OTHER_FOLDER` every day."


async def look_at_backups(settings: Settings, client: Redis) -> list[Finding]:
    """Nothing where there is no bot yet."""
    if settings.bot_token is None:
        return []
    found: dict[bytes, bytes] = await client.hgetall(Keys(settings.bot_id).backups)  # type: ignore[assignment]
    if b"store" not in found:
        return [note("No backup of the store is known.")]
    now = int(time.time())
    days = max(0, now - int(found[b"store"])) // _DAY_SECONDS
    age = "today" if not days else f"{days} day{'' if days == 1 else 's'} ago"
    told = f"Last backup of the store: {age}."
    return [warning(told, _HOW) if days > _STALE_DAYS else ok(told), *_outliving(settings, found, now)]


def _outliving(settings: Settings, found: dict[bytes, bytes], now: int) -> list[Finding]:
    folder = Path(found.get(b"folder", b"").decode("utf-8", "surrogateescape"))
    if not found.get(b"folder") or not folder.is_dir():
        return []
    days = settings.key_backup_days
    old = [path for path, made in copies_of_keys(folder) if now - made > days * _DAY_SECONDS]
    if not old:
        return []
    told = f"{folder} holds copies of keys that are older than {days} days (KEY_BACKUP_DAYS): {len(old)}."
    return [warning(told, "Delete them, wherever else they were copied to as well; `backup` does so in that folder.")]
