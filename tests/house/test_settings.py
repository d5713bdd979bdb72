"""Settings: what may be written, what it means, and the sentence for what may not."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import ValidationError

from bot.errors import SettingsError
from bot.settings import TELEGRAM_URL, Settings, load_settings

TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
WORKING = {"BOT_TOKEN": TOKEN, "CHAT_API_URL": "https://llm.example.com/v1"}
DERIVED = {"KEYRING_URL", "SYSTEM_PROMPT"}  # empty in the example: one follows MASTER_KEY_FILE, one is long


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    """Puts settings into the environment."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def problems(env_file: Path | None = None) -> list[str]:
    """The sentences for the settings as they stand, `run`'s own included."""
    with pytest.raises(SettingsError) as caught:
        load_settings(env_file).require_for_run()
    return list(caught.value.problems)


def shown(value: object) -> str:
    """A default as it is written in a file."""
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_example_file_names_every_setting_with_its_default(project_root: Path) -> None:
    """`.env.example` is the list of settings: complete, nothing else in it, defaults as in the code."""
    example = dotenv_values(project_root / ".env.example")
    defaults = {name.upper(): shown(getattr(Settings(), name)) for name in Settings.model_fields}
    assert set(example) == set(defaults)
    assert {name: value for name, value in example.items() if name not in DERIVED} == {
        name: value for name, value in defaults.items() if name not in DERIVED
    }


def test_example_file_copied_as_it_is_changes_nothing(project_root: Path) -> None:
    """Copying the example is the first thing people do; it must mean the defaults."""
    assert load_settings(project_root / ".env.example") == load_settings(None)


def test_example_file_explains_every_setting(project_root: Path) -> None:
    """Each setting stands under a comment, or right after another one that does."""
    lines = (project_root / ".env.example").read_text().splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if "=" in line and not line.startswith("#") and not before
    ]
    assert bare == []


def test_readme_table_names_every_setting_with_its_default(project_root: Path) -> None:
    """The README's table is read by people who decide on it."""
    rows = re.findall(r"^\| `([A-Z_]+)` \|(.*?)\|", (project_root / "README.md").read_text(), re.MULTILINE)
    defaults = {name.upper(): shown(getattr(Settings(), name)) for name in Settings.model_fields}
    assert [name for name, _ in rows] == list(defaults)
    assert {name: default.strip(" `") for name, default in rows if name != "SYSTEM_PROMPT"} == {
        name: default for name, default in defaults.items() if name != "SYSTEM_PROMPT"
    }


def test_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty variable, as containers pass it on, does not hide the file's value."""
    env_file = tmp_path / ".env"
    env_file.write_text("HTTP_PORT=1000\nCHAT_MODEL=from-file\nUNKNOWN_THING=1\n")
    set_all(monkeypatch, {"http_port": "2000", "CHAT_MODEL": ""})
    settings = load_settings(env_file)
    assert (settings.http_port, settings.chat_model) == (2000, "from-file")


def test_blanks_around_values_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whitespace is trimmed, blank means not set, words may be in any case."""
    set_all(
        monkeypatch,
        {"BOT_TOKEN": f"  {TOKEN} ", "CHAT_MODEL": "   ", "LOG_LEVEL": " DEBUG", "CHAT_API_URL": " Offline "},
    )
    settings = load_settings(None)
    assert settings.bot_token is not None
    assert settings.bot_token.get_secret_value() == TOKEN
    assert (settings.chat_model, settings.log_level, settings.chat_api_url) == ("", "debug", "offline")


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks and empty places in a list do not count."""
    set_all(monkeypatch, {"OPERATOR_IDS": "1, 22 ,,333,", "CHAT_FALLBACKS": "http://a.example/v1/, offline"})
    settings = load_settings(None)
    assert settings.operator_ids == (1, 22, 333)
    assert settings.chat_fallbacks == ("http://a.example/v1", "offline")


def test_keyring_lies_beside_the_master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moves the master key moves the keyring with it, unless told otherwise."""
    assert load_settings(None).keyring_url == "sqlite:secrets/keyring.db"
    monkeypatch.setenv("MASTER_KEY_FILE", "/srv/keys/master.key")
    assert load_settings(None).keyring_url == "sqlite:/srv/keys/keyring.db"
    monkeypatch.setenv("KEYRING_URL", "redis://keys.example.com")
    assert load_settings(None).keyring_url == "redis://keys.example.com"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BOT_TOKEN", "hunter2-hunter2", "does not look like a bot token"),
        ("BOT_TOKEN", "12ab:hunter2hunter2", "does not look like a bot token"),
        ("TELEGRAM_API_URL", "hunter2.example.com", "is not an http or https address"),
        ("TELEGRAM_PROXY", "socks5://hunter2@proxy", "is not an http or https address"),
        ("TELEGRAM_MODE", "hunter2", "write polling or webhook"),
        ("WEBHOOK_URL", "hunter2", "is not an http or https address"),
        ("WEBHOOK_SECRET", "hunter 2", "characters"),
        ("WEBHOOK_SECRET", "hunter2 hunter2", "characters that Telegram does not allow"),
        ("GROUP_ANSWERS", "hunter2", "write all or addressed"),
        ("CHAT_API_URL", "ftp://hunter2", "is not an http or https address"),
        ("CHAT_API_URL", "https://hunter2 hunter2/v1", "is not an http or https address"),
        ("CHAT_API_URL", "http://[hunter2", "is not an http or https address"),
        ("CHAT_API_URL", "http://host:99999/hunter2", "is not an http or https address"),
        ("CHAT_API_DIALECT", "hunter2", "write completions, responses or dify"),
        ("CHAT_CONVERSATION_FIELD", "hunter2 hunter2", "is not of the expected form"),
        ("CHAT_FALLBACKS", "https://a.example/v1,hunter2", "is not an http or https address"),
        ("CHAT_API_PROXY", "hunter2", "is not an http or https address"),
        ("CONTEXT_TOKENS", "16k-hunter2", "is not a whole number"),
        ("CONTEXT_TOKENS", "1", "is too small"),
        ("MAX_OUTPUT_TOKENS", "0", "is too small"),
        ("CHAT_TEMPERATURE", "hunter2", "is not a number"),
        ("CHAT_TEMPERATURE", "nan", "is not a number"),
        ("CHAT_TEMPERATURE", "3", "is too large"),
        ("SYSTEM_PROMPT", "hunter2" * 20_000, "is too long"),
        ("KEYRING_URL", "hunter2", "names no keyring"),
        ("KEYRING_URL", "sqlite:", "names no keyring"),
        ("OPERATOR_IDS", "1,@hunter2", "is not a whole number"),
        ("OPERATOR_GROUP_ID", "100", "starts with a minus"),
        ("SUPPORT_CONTACT", "hunter2" * 100, "is too long"),
        ("HTTP_HOST", "hunter2 hunter2", "is not of the expected form"),
        ("HTTP_PORT", "hunter2", "is not a whole number"),
        ("HTTP_PORT", "70000", "is too large"),
        ("RETENTION_DAYS", "0", "is too small"),
        ("RETENTION_DAYS", "1.5", "is not a whole number"),
        ("CONSENT_REQUIRED", "hunter2", "is neither true nor false"),
        ("LOG_LEVEL", "hunter2", "write debug, info, warning or error"),
        ("LOG_FORMAT", "hunter2", "write console or json"),
    ],
)
def test_wrong_value_gets_one_sentence_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """Which setting, what is wrong, what to write; never what was written, which may be a secret in the wrong place."""
    set_all(monkeypatch, {**WORKING, name: value})
    (told,) = problems()
    assert told.startswith(f"{name} ")
    assert sentence in told
    assert "write " in told
    assert told.endswith(".")
    assert "hunter2" not in told


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should have to start five times to learn of five mistakes."""
    set_all(monkeypatch, {"HTTP_PORT": "x", "LOG_LEVEL": "x", "MASTER_KEY_FILE": "a/b", "OPERATOR_IDS": "x,y"})
    assert [told.split()[0] for told in problems()] == ["OPERATOR_IDS", "HTTP_PORT", "LOG_LEVEL"]


def test_run_without_a_token_names_the_sandbox() -> None:
    """The first start of most people has no token; the sentence says how to go on without."""
    told = problems()[0]
    assert told.startswith("BOT_TOKEN is not set")
    assert "make run" in told
    assert "python -m bot sandbox" in told


def test_run_without_a_chat_api_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real token must not be answered by the built-in model unless somebody says so."""
    monkeypatch.setenv("BOT_TOKEN", TOKEN)
    (told,) = problems()
    assert told.startswith("CHAT_API_URL is not set")
    monkeypatch.setenv("CHAT_API_URL", "offline")
    load_settings(None).require_for_run()


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"WEBHOOK_URL": "https://bot.example.com"}, "WEBHOOK_SECRET is not set"),
        ({"WEBHOOK_SECRET": "hunter2hunter2"}, "WEBHOOK_URL is not set"),
        (
            {"WEBHOOK_URL": "http://bot.example.com", "WEBHOOK_SECRET": "hunter2hunter2"},
            "WEBHOOK_URL does not start with https://",
        ),
    ],
)
def test_webhook_mode_needs_address_and_secret(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    """Without the secret anybody could feed the service messages: it does not start."""
    set_all(monkeypatch, {**WORKING, "TELEGRAM_MODE": "webhook", **given})
    (told,) = problems()
    assert told.startswith(missing)


def test_webhook_over_plain_http_is_allowed_for_a_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Bot API server on the same machine may call without TLS."""
    webhook = {"TELEGRAM_MODE": "webhook", "WEBHOOK_URL": "http://127.0.0.1:9000/", "WEBHOOK_SECRET": "long-enough"}
    set_all(monkeypatch, {**WORKING, **webhook, "TELEGRAM_API_URL": "http://127.0.0.1:8081/"})
    settings = load_settings(None)
    settings.require_for_run()
    assert settings.telegram_api_url == "http://127.0.0.1:8081"
    assert settings.webhook_address == "http://127.0.0.1:9000/telegram/webhook"


@pytest.mark.parametrize("dialect", ["completions", "responses", "dify"])
def test_every_dialect_is_taken(monkeypatch: pytest.MonkeyPatch, dialect: str) -> None:
    """In any case of letters."""
    set_all(monkeypatch, {**WORKING, "CHAT_API_DIALECT": dialect.upper()})
    settings = load_settings(None)
    settings.require_for_run()
    assert settings.chat_api_dialect == dialect


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CHAT_FIRST_SECONDS", "0", "is too small"),
        ("CHAT_GAP_SECONDS", "4000", "is too large"),
        ("CHAT_TOTAL_SECONDS", "soon", "is not a number"),
        ("OUTAGE_MINUTES", "-1", "is too small"),
        ("CUSTOMER_LIMITS", "messages 20/hour", '"messages 20/hour" is not a limit such as'),
        ("TOTAL_LIMITS", "tokens 1/day, tokens 2/day", '"tokens 2/day" is a second limit'),
        ("PRICES", "gpt-x=1", "does not hold two or three prices"),
        ("BANNED_IDS", "17,@somebody", "is not a whole number"),
        ("SUMMARIES", "perhaps", "is neither true nor false"),
    ],
)
def test_a_wrong_limit_or_price_names_the_part(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """In a long list the wrong part is hard to find, and none of it is a secret."""
    set_all(monkeypatch, {**WORKING, name: value})
    (told,) = problems()
    assert told.startswith(f"{name} ")
    assert sentence in told
    assert ": write " in told


def test_unreadable_certificates_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wrong CA_FILE would otherwise end in a traceback of the TLS library."""
    set_all(monkeypatch, {**WORKING, "CA_FILE": str(tmp_path / "none.pem")})
    (told,) = problems()
    assert told.startswith("CA_FILE cannot be read (No such file or directory)")


def test_address_without_version_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgetting /v1 is the commonest mistake with chat APIs; some servers really have none, so it is a hint."""
    set_all(monkeypatch, {**WORKING, "CHAT_MODEL": "m", "CHAT_API_KEY": "k"})
    assert load_settings(None).hints() == []
    monkeypatch.setenv("CHAT_API_URL", "https://llm.example.com")
    (hint,) = load_settings(None).hints()
    assert "/v1" in hint


def test_bot_id_is_the_number_in_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of the store carries it; without a token there is none to make up."""
    with pytest.raises(SettingsError, match="BOT_TOKEN"):
        _ = load_settings(None).bot_id
    monkeypatch.setenv("BOT_TOKEN", "4242:abc")
    assert load_settings(None).bot_id == 4242


def test_secrets_are_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings end up in debuggers and assertion messages; the secrets in them must not."""
    secrets = {
        "BOT_TOKEN": "4242:hunter2hunter2",
        "WEBHOOK_SECRET": "hunter2hunter2",
        "CHAT_API_KEY": "hunter2hunter2",
        "CHAT_API_URL": "https://user:hunter2hunter2@llm.example.com/v1",
        "REDIS_URL": "redis://:hunter2%20hunter2@store.example.com/0",
        "KEYRING_URL": "redis://:hunter2hunter2@keys.example.com/0",
        "TELEGRAM_PROXY": "http://user:hunter2hunter2@proxy.example.com",
        "CHAT_API_PROXY": "http://user:hunter2hunter2@proxy.example.com",
        "CHAT_FALLBACKS": "https://user:hunter2hunter2@other.example.com/v1",
    }
    set_all(monkeypatch, secrets)
    settings = load_settings(None)
    assert "hunter2" not in repr(settings) + str(settings)
    assert set(settings.secret_values()) == {
        "4242:hunter2hunter2", "hunter2hunter2", "hunter2%20hunter2", "hunter2 hunter2",
    }  # fmt: skip


def test_a_wrong_value_is_not_in_the_library_s_own_error() -> None:
    """Whoever builds settings directly gets the library's error; it must not quote what was given either."""
    with pytest.raises(ValidationError) as caught:
        Settings(bot_token="hunter2", http_port="hunter2")
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"CHAT_MODEL=\xff\xfe\x00", "is not UTF-8 text"),
        (b"\xef\xbb\xbfHTTP_PORT=x\n", "HTTP_PORT is not a whole number"),
    ],
)
def test_odd_files_are_told_in_words(tmp_path: Path, content: bytes, sentence: str) -> None:
    """A file of another encoding gets a sentence; the mark that some editors put in front is skipped."""
    env_file = tmp_path / ".env"
    env_file.write_bytes(content)
    assert sentence in problems(env_file)[0]


def test_missing_file_is_no_fault(tmp_path: Path) -> None:
    """In containers the environment gives everything."""
    assert load_settings(tmp_path / ".env").telegram_api_url == TELEGRAM_URL


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SYSTEM_PROMPT", "Our key is sk-hunter2hunter2hunter2hunter2hunter2", "holds a chat API key"),
        ("SYSTEM_PROMPT", f"Never tell {WORKING['BOT_TOKEN']} to anybody.", "holds a secret of this service"),
        ("LINK_HOSTS", "https://example.com/hunter2", "is wrong"),
        ("MODERATION_RULES", "/no/such/file", "cannot be used: No such file"),
    ],
)
def test_what_would_not_be_safe_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    """A prompt with a key in it, a list of hosts that holds none, rules that nobody can read."""
    set_all(monkeypatch, {**WORKING, name: value})
    (told,) = problems()
    assert told.startswith(f"{name} ")
    assert sentence in told
    assert "sk-hunter2" not in told
    assert WORKING["BOT_TOKEN"] not in told


def test_a_moderation_rule_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By its line."""
    rules = tmp_path / "rules.txt"
    rules.write_text("refuse: fine\nperhaps: what?\n")
    set_all(monkeypatch, {**WORKING, "MODERATION_RULES": str(rules)})
    (told,) = problems()
    assert "ine 2" in told
