"""aiogram's models are built when they are used, and are then the same as ever."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LAZY = "import handlers.telegram.models"
_PLAIN = "import aiogram.types"

_UPDATE = """
from aiogram.types import Update
chat = {"id": 7, "type": "private", "first_name": "A"}
person = {"id": 7, "is_bot": False, "first_name": "A"}
first = {"message_id": 1, "date": 5, "chat": chat, "from": person, "text": "one",
         "entities": [{"type": "bold", "offset": 0, "length": 3}],
         "reply_markup": {"inline_keyboard": [[{"text": "a", "callback_data": "b"}]]}}
for raw in (
    {"message": first | {"reply_to_message": first}},
    {"edited_message": first | {"edit_date": 6}},
    {"callback_query": {"id": "9", "from": person, "chat_instance": "1", "data": "b", "message": first}},
    {"message": first | {"text": None, "document": {"file_id": "f", "file_unique_id": "u", "file_name": "x"}}},
):
    print(Update.model_validate({"update_id": 1} | raw).model_dump_json(exclude_none=True))
"""

_ALL = """
from pydantic import BaseModel
from aiogram import methods, types
from aiogram.types import User
assert not User.__pydantic_complete__, "nothing was put off"
assert types.Update.__pydantic_complete__
print(User(id=1, is_bot=False, first_name="A").model_dump_json(exclude_none=True))
for module in (types, methods):
    for name in module.__all__:
        model = getattr(module, name)
        if isinstance(model, type) and issubclass(model, BaseModel):
            model.model_rebuild()
            assert model.__pydantic_complete__, name
class Own(BaseModel):
    other: "Later"
class Later(BaseModel):
    number: int
print(Own.model_rebuild(), Own.model_validate({"other": {"number": 1}}))
"""


def _printed(*code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_model_of_aiogram_completes_itself_when_it_is_used() -> None:
    """Also those that the service does not use today; other libraries' models are none of its business."""
    assert _printed(_LAZY, _ALL).splitlines() == [
        '{"id":1,"is_bot":false,"first_name":"A"}',
        "True other=Later(number=1)",
    ]


def test_updates_read_the_same_as_with_all_models_built() -> None:
    assert _printed(_LAZY, _UPDATE) == _printed(_PLAIN, _UPDATE)


def test_nothing_imports_aiogram_before_the_worker_does() -> None:
    """Whatever is imported earlier would build all models after all."""
    shown = "from aiogram.types import User\nprint(User.__pydantic_complete__)"
    assert _printed("import bot.__main__, bot.app, bot.worker, handlers.web.service", _LAZY, shown) == "False\n"
