"""The command line as a person uses it: real processes, their words, their exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.test_settings import TOKEN


def bot(project_root: Path, folder: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`python -m bot WORDS` in an empty folder, with these settings and no others."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project_root), **settings}
    return subprocess.run(
        [sys.executable, "-m", "bot", *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_run_without_settings_tells_and_ends_with_2(project_root: Path, tmp_path: Path) -> None:
    """The sandbox is named and not started; nothing is left behind in the folder."""
    ended = bot(project_root, tmp_path, "run")
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("BOT_TOKEN is not set")
    assert "python -m bot sandbox" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "sandbox", "start", "check"])
def test_wrong_settings_end_in_sentences_and_never_in_a_traceback(
    project_root: Path, tmp_path: Path, command: str
) -> None:
    """One sentence for each wrong setting, whatever the command; secrets are not among the words."""
    wrong = {"BOT_TOKEN": "hunter2-hunter2", "OPERATOR_IDS": "@owner", "HTTP_PORT": "web", "LOG_LEVEL": "loud"}
    ended = bot(project_root, tmp_path, command, **wrong)
    assert ended.returncode == 2
    assert [line.split()[0] for line in ended.stderr.splitlines()] == list(wrong)
    assert "Traceback" not in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_start_with_a_token_does_not_fall_back_to_the_sandbox(project_root: Path, tmp_path: Path) -> None:
    """The sandbox never starts by accident: with a token `make run` means the service, or a refusal."""
    (tmp_path / ".env").write_text(f"bot_token='{TOKEN}'\n")
    ended = bot(project_root, tmp_path, "start")
    assert ended.returncode == 2
    assert ended.stderr.startswith("CHAT_API_URL is not set")


def test_a_named_file_must_exist(project_root: Path, tmp_path: Path) -> None:
    """A slip in the name of the file must not start the service with defaults."""
    ended = bot(project_root, tmp_path, "run", "--env-file", "prod.env")
    assert ended.returncode == 2
    assert ended.stderr.startswith("prod.env is not there")


def test_unknown_part_is_refused_with_the_known_ones(project_root: Path, tmp_path: Path) -> None:
    """`--only` takes ingress, worker and web."""
    ended = bot(project_root, tmp_path, "run", "--only", "poller")
    assert ended.returncode == 2
    assert all(part in ended.stderr for part in ("ingress", "worker", "web"))
    assert "Traceback" not in ended.stderr


def started(project_root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`start.py` of the folder, run to its end with working settings."""
    settings = {"BOT_TOKEN": TOKEN, "CHAT_API_URL": "offline"}
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project_root), **settings}
    return subprocess.run(
        [sys.executable, "start.py"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def fake_service(folder: Path, body: str) -> None:
    """A stand-in for what the command line starts: here its own handling of every end is the thing under test."""
    (folder / "start.py").write_text(
        "import sys, types, runpy, asyncio, os, signal\n"
        "from bot.errors import SettingsError\n"
        "from storage.errors import StoreRefusedError\n"
        "app = types.ModuleType('bot.app')\n"
        f"async def serve(settings, roles=None):\n    {body}\n"
        "app.run = app.sandbox = serve\n"
        "import bot; bot.app = sys.modules['bot.app'] = app\n"
        "sys.argv = ['bot', 'run']\n"
        "runpy.run_module('bot', run_name='__main__')\n"
    )


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("return 0", 0, ""),
        ("return 7", 7, ""),
        ("print(type(asyncio.get_running_loop()).__module__, file=sys.stderr); return 0", 0, "uvloop\n"),
        ("print(sorted(roles), file=sys.stderr); return 0", 0, "['ingress', 'web', 'worker']\n"),
        ("raise SettingsError(['One thing.', 'Another.'])", 2, "One thing.\nAnother.\n"),
        ("raise StoreRefusedError('The folder is in use.')", 2, "The folder is in use.\n"),
        ("raise ExceptionGroup('x', [StoreRefusedError('The folder is in use.')])", 2, "The folder is in use.\n"),
        ("os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(30)", 130, ""),
    ],
)
def test_every_end_has_its_exit_code_and_words(
    project_root: Path, tmp_path: Path, body: str, code: int, told: str
) -> None:
    """0 done, 2 told in sentences, 130 interrupted: what scripts and service managers rely on."""
    fake_service(tmp_path, body)
    ended = started(project_root, tmp_path)
    assert (ended.returncode, ended.stderr) == (code, told)


def test_a_crash_is_logged_without_words_and_ends_with_1(project_root: Path, tmp_path: Path) -> None:
    """What nobody foresaw shows where it happened, not what a customer wrote or what the token is."""
    fake_service(tmp_path, "int('Mortimer ' + settings.bot_token.get_secret_value())")
    ended = started(project_root, tmp_path)
    assert ended.returncode == 1
    assert "process.crashed" in ended.stderr
    assert "ValueError" in ended.stderr
    assert TOKEN.partition(":")[2] not in ended.stderr
