"""Counts tokens offline, with the encoding of current models.

The tokenizer's native module is loaded without its Python package around it: that package unpacks its tables into
Python dictionaries when imported, which costs half a second and 60 MiB more (measured) and serves nothing here. It is
loaded at the first count, for most conversations stay below a budget that their length in bytes already proves: a token
is at least one byte.
"""

import sys
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Protocol, cast

_PER_MESSAGE = 4
_PACKAGE = "bpe_openai"
_MODULE = f"{_PACKAGE}._bindings"


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@lru_cache(maxsize=1)
def _tokenizer() -> _Tokenizer:
    package = find_spec(_PACKAGE)
    spec = PathFinder.find_spec(_MODULE, package.submodule_search_locations) if package else None
    if spec is None or spec.loader is None:
        raise ImportError("the tokenizer is not installed", name=_MODULE)
    module = sys.modules.get(_MODULE)
    if module is None:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return cast("_Tokenizer", module.tokenizer_for_encoding("o200k_base"))


def most_tokens(text: str) -> int:
    """An upper bound that needs no tokenizer: the length in UTF-8 bytes, and the message's own overhead."""
    return (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) + _PER_MESSAGE


def count_tokens(text: str) -> int:
    """Tokens of one message, its overhead included. About 20 µs per KB once loaded."""
    return _tokenizer().count(text.encode("utf-8", "replace").decode()) + _PER_MESSAGE
