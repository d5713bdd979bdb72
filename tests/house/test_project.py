"""The house around the code: what the README promises is there, and the packages are ours."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bot.__main__ import cli

COMMAND = re.compile(r"python -m bot (\w+)")
MAKE = re.compile(r"`?make ([a-z]+)\b(?!s)")


def documents(project_root: Path) -> str:
    """The README's code: what stands in backquotes or in a block."""
    text = (project_root / "README.md").read_text()
    return "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text))


def test_make_commands_of_the_readme_exist(project_root: Path) -> None:
    """Every `make` verb that people are told of is a rule of the Makefile."""
    verbs = set(re.findall(r"^([a-z]+):", (project_root / "Makefile").read_text(), re.MULTILINE))
    told = set(MAKE.findall(documents(project_root)))
    assert {"run", "test"} <= told
    assert told <= verbs


def test_bot_commands_of_the_readme_exist(project_root: Path) -> None:
    """Every command that people are told of is there, and every one that is there is told of."""
    named = {command.name or command.callback.__name__ for command in cli.registered_commands if command.callback}
    named |= {group.name for group in cli.registered_groups if group.name}
    assert set(COMMAND.findall(documents(project_root))) == named


@pytest.mark.parametrize("package", ["bot", "handlers", "storage"])
def test_packages_load_from_the_project(project_root: Path, package: str) -> None:
    """`storage` is a common name: a foreign package of that name in the environment must not shadow ours."""
    found = importlib.import_module(package)
    assert Path(str(found.__file__)).parent == project_root / package
    ended = subprocess.run(
        [sys.executable, "-c", f"import {package}; print({package}.__file__)"],
        cwd=project_root, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert Path(ended.stdout.strip()).parent == project_root / package


@pytest.mark.parametrize("package", ["bot", "handlers", "storage"])
def test_package_files_hold_a_docstring_and_nothing_else(project_root: Path, package: str) -> None:
    """Importing a package must open and start nothing; names are imported from where they live."""
    for name in (".", *{"handlers": ["telegram", "web"]}.get(package, [])):
        lines = (project_root / package / name / "__init__.py").read_text().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith('"""')


def test_ci_runs_what_the_readme_says(project_root: Path) -> None:
    """There is one way to test, for people and for machines."""
    script = project_root / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)], timeout=10, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("#!/bin/sh\nexit 1\n", "No Python 3.11 or later was found at"),
        ('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexit 0\n', "comes without venv: install it"),
    ],
)
def test_make_says_what_is_wrong_with_python(project_root: Path, tmp_path: Path, python: str, sentence: str) -> None:
    """An old Python or one without venv gets a sentence; nothing is half installed."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(project_root / name, tmp_path / name)
    interpreter = tmp_path / "some python"
    interpreter.write_text(python)
    interpreter.chmod(0o755)
    ended = subprocess.run(
        ["make", "install", f"PYTHON={interpreter}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert sentence in ended.stderr
    assert not (tmp_path / ".venv").exists()
