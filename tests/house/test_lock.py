"""The lock: complete for every platform and Python it promises, and silent about where packages come from."""

import re
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("requirements.lock", "requirements-dev.lock")
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+?)(?: ; (.+?))? \\$", re.MULTILINE)
PYTHONS = ("3.11.0", "3.11.2", "3.11.9", "3.12.0", "3.13.0")
PLATFORMS = (
    ("linux", "Linux", "x86_64"),
    ("linux", "Linux", "aarch64"),
    ("darwin", "Darwin", "x86_64"),
    ("darwin", "Darwin", "arm64"),
)


def targets() -> list[dict[str, str]]:
    """The marker environments of all machines the lock is for."""
    return [
        {
            **{name: str(value) for name, value in default_environment().items()},
            "python_full_version": python,
            "python_version": python.rpartition(".")[0],
            "sys_platform": sys_platform,
            "platform_system": system,
            "platform_machine": machine,
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        for python, (sys_platform, system, machine) in product(PYTHONS, PLATFORMS)
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_host_and_no_path(project_root: Path, lock: str) -> None:
    """A lock says what is installed, not from where: no address, no index option, no file of some machine."""
    text = (project_root / lock).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i\b|-f\b|--(?!hash=))", text, re.MULTILINE)
    assert not re.search(r"(?<![\w.])/[a-z]|@ file", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_the_lock_carries_a_hash(project_root: Path, lock: str) -> None:
    """pip refuses a whole installation for one package without a hash."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (project_root / lock).read_text())
    assert len(blocks) > 20
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_what_each_machine_needs(project_root: Path, lock: str) -> None:
    """A lock is made on one machine; what packages ask for elsewhere (another Python, macOS) must be in it as well.

    redis asks for async-timeout on Python below 3.11.3 only: a lock made on 3.11.7 left it out, and every hashed
    installation on Debian 12 was refused.
    """
    pinned = {canonicalize_name(found[1]) for found in PINNED.finditer((project_root / lock).read_text())}
    missing = set()
    for name in pinned:
        try:
            asked = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # pinned for a machine that is not this one
        for requirement in map(Requirement, asked):
            marker = requirement.marker
            wanted = marker is None or any(marker.evaluate({**target, "extra": ""}) for target in targets())
            if wanted and canonicalize_name(requirement.name) not in pinned:
                missing.add(f"{requirement.name} for {name}")
    assert missing == set()


def test_both_locks_pin_the_same_versions(project_root: Path) -> None:
    """What is tested is what runs."""
    running, testing = (
        {found[1]: found[2] for found in PINNED.finditer((project_root / lock).read_text())} for lock in LOCKS
    )
    assert {name: testing.get(name) for name in running} == running


def test_uvloop_is_left_out_on_windows_only(project_root: Path) -> None:
    """uvloop has no wheel for Windows; everywhere else it runs the loop."""
    for lock in LOCKS:
        markers = {found[1]: found[3] for found in PINNED.finditer((project_root / lock).read_text())}
        assert markers["uvloop"] == 'sys_platform != "win32"'
