"""A random campaign: FAULTS of them (50 unless the environment says otherwise), from a SEED that is printed."""

import os

import pytest

from tests.crash.campaign import campaign, given_seed


@pytest.mark.crash
async def test_whatever_dies_when_every_question_has_one_visible_outcome() -> None:
    """0 lost, 0 double, 0 inversions, 0 strays, the history as it was seen."""
    faults = int(os.environ.get("FAULTS") or 50)
    report = await campaign(faults, given_seed(), say=faults > 50)
    print(report.table())
    assert report.clean, report.table()
    assert report.faults.total() >= faults
