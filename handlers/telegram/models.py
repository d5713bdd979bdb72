"""aiogram's models, each built when it is first used.

On import aiogram builds the validators of its 444 models one after the other, which takes two seconds and 100 MiB; a
worker needs that of ``Update``, which takes a tenth of a second (measured). So building is put off while aiogram is
imported, and what is used later completes itself then, as pydantic does with every model it finds incomplete.
"""

import sys
from typing import Any

from pydantic import BaseModel

_build = BaseModel.model_rebuild.__func__  # type: ignore[attr-defined]  # the function behind the class method


def _import_unbuilt() -> None:
    """Imports aiogram; what it wants to build meanwhile stays unbuilt, and its names are kept for later."""
    names: dict[str, Any] = {}

    def put_off(model: type[BaseModel], /, **options: Any) -> bool | None:
        if not model.__module__.startswith("aiogram."):  # another thread's
            return build(model, **options)
        names.update(options.get("_types_namespace") or {})
        return None

    def build(model: type[BaseModel], /, **options: Any) -> bool | None:
        built: bool | None = _build(model, **options)
        return built

    def build_named(model: type[BaseModel], /, *, _types_namespace: Any = None, **options: Any) -> bool | None:
        return build(model, _types_namespace=_types_namespace or names, **options)

    BaseModel.model_rebuild = classmethod(put_off)  # type: ignore[method-assign, assignment]
    try:
        from aiogram.client.context_controller import BotContextController
        from aiogram.types import Update
    finally:
        BaseModel.model_rebuild = classmethod(_build)  # type: ignore[method-assign, assignment]
    BotContextController.model_rebuild = classmethod(build_named)  # type: ignore[method-assign, assignment]
    Update.model_rebuild()


if "aiogram" not in sys.modules:
    _import_unbuilt()
