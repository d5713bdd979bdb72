"""The bench itself: that it runs and judges, not what it measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads CPU times from /proc")
def test_bench_measures_relay_and_service_and_judges_them(project_root: Path, tmp_path: Path) -> None:
    """One short round answers every question on both sides, each stop ends its request, and the exit code says what
    the gates say."""
    figures = tmp_path / "figures.json"
    parts = [word for part in ("throughput", "streaming", "stop") for word in ("--only", part)]
    command = [sys.executable, "-m", "tests.bench", "--quick", *parts, "--seconds", "0.5"]
    ended = subprocess.run(
        [*command, "--json", str(figures)], cwd=project_root, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode in {0, 1}, ended.stderr
    result = json.loads(figures.read_text())
    assert len(set(result["processors"])) == min(2, len(os.sched_getaffinity(0)))
    for system in result["rounds"][0].values():
        assert system["one_chunk"]["answers"] > 0
        assert system["one_chunk"]["lost"] == system["twenty_chunks"]["lost"] == system["streaming"]["lost"] == 0
        assert system["streaming"]["first_text_ms"]["max"] > 0
    for way in ("button", "command"):
        assert result["stop"][way]["presses"] >= 6
        assert result["stop"][way]["ignored"] == 0
    assert ended.returncode == (0 if all(gate["passed"] for gate in result["gates"]) else 1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads CPU times from /proc")
def test_bench_reads_streams_counts_a_long_conversation_and_exports(project_root: Path, tmp_path: Path) -> None:
    """Every answer comes whole with every client, a conversation of a thousand turns keeps what it owes, and an export
    is one document and more."""
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--quick",
        "--only",
        "streams",
        "--only",
        "long",
        "--only",
        "export",
    ]
    ended = subprocess.run(
        [*command, "--json", str(figures)], cwd=project_root, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode in {0, 1}, ended.stderr
    result = json.loads(figures.read_text())
    for reader in ("ours", "httpx", "openai"):
        assert result["streams"]["narrow"][0][reader]["whole"] == 20
    assert {(talk["budget"], talk["summed_up"]) for talk in result["long"]} == {
        (budget, summed_up) for budget in (2_000, 16_000) for summed_up in (False, True)
    }
    for talk in result["long"]:
        assert talk["known"]
        assert talk["largest"] <= talk["budget"]
    assert result["export"]["messages"] >= 20_000
    assert result["export"]["bytes"] > 0
