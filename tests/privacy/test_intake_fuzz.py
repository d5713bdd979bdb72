"""Strangers' archives by the thousand: refused with a reason or, where nothing signed has changed, taken."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bot.privacy.intake import Reason
from tests.privacy.mutations import WHOLE, campaign, judged

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


def test_the_archive_that_is_mutated_is_taken_as_it_is() -> None:
    """Else all refusals would mean nothing."""
    assert judged(WHOLE, is_signed=False) == "taken"


def test_no_archive_breaks_the_intake() -> None:
    """No error but a refusal, and nothing altered is ever taken."""
    print(f"SEED={SEED}")
    assert sum(campaign(2_000, SEED).values()) == 2_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_thirty_thousand_archives_are_judged_in_little_memory(project_root: Path) -> None:
    """Every reason occurs, and no bomb grows the process by more than 32 MiB."""
    print(f"SEED={SEED}")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.privacy.mutations", "30000", str(SEED)],
        cwd=project_root, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout)
    print(found)
    assert found.pop("grown_kib") < 32 * 1024
    assert sum(found.values()) == 30_000
    assert set(found) >= {reason.value for reason in Reason} - {Reason.NEWER, Reason.NOT_YOURS}
    assert found["taken"] > 300
