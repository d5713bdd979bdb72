"""What all tests stand on: no setting of the person who runs them reaches a test."""

import os
from pathlib import Path

import pytest

from bot.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes every setting from the environment: a real token or store must never be used by a test."""
    names = set(Settings.model_fields)
    for variable in list(os.environ):
        if variable.lower() in names:
            monkeypatch.delenv(variable)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT
