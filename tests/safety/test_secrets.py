"""A prompt that holds a key is told by kind; a prompt that speaks of keys is an ordinary one."""

import pytest

from bot.safety.secrets import secret_in

# Put together from parts, so that no scanner of repositories takes a made-up key for a real one.
_LETTERS = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYzAbC1"
SECRETS = {
    "Telegram": ("123456789:" + "A" + _LETTERS[:34], "a Telegram bot token"),
    "Anthropic": ("sk-" + "ant-api03-" + _LETTERS, "an Anthropic key"),
    "OpenAI": ("sk-" + "proj-" + _LETTERS, "a chat API key"),
    "old OpenAI": ("sk-" + _LETTERS, "a chat API key"),
    "AWS": ("AKIA" + "Q7R2T9V4X1Z8B5D3", "an AWS access key"),
    "GitHub": ("ghp_" + _LETTERS, "a GitHub token"),
    "GitHub app": ("ghs_" + _LETTERS, "a GitHub token"),
    "GitLab": ("glpat-" + _LETTERS[:20], "a GitLab token"),
    "Slack": ("xoxb-" + "123456789012-" + _LETTERS[:20], "a Slack token"),
    "Google": ("AIza" + _LETTERS[:35], "a Google API key"),
    "Hugging Face": ("hf_" + _LETTERS, "a Hugging Face token"),
    "Groq": ("gsk_" + _LETTERS, "a Groq key"),
    "private key": ("-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE", "a private key"),
    "JWT": ("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + _LETTERS, "a JSON web token"),
    "URL": ("postgres://bot:" + "tr0ub4dor" + "@db.example.com/shop", "an address with a password"),
    "Redis URL": ("redis://:" + "s3cr3tW0rd" + "@127.0.0.1:6379", "an address with a password"),
    "password": ("password=" + "k7Jq2vLx9T", "a password or key"),
    "api key": ('"api_key": "' + "9f86d081884c7d65" + '"', "a password or key"),
    "in words": ("The admin password is " + "Zx81-qLm4TpR7.", "a password or key"),
    "Russian": ("Пароль: " + "k7Jq2vLx9T", "a password or key"),
    "Chinese": ("密码：" + "k7Jq2vLx9T", "a password or key"),
}
ORDINARY = [
    "You are the support assistant of a shop. Answer in the customer's language.",
    "Never ask for passwords, card numbers or one-time codes.",
    "Password: at least eight characters, with a digit. The password is case-sensitive.",
    "If the customer asks about a token: explain how to create one under Settings → API keys.",
    "Set `API_KEY=your_api_key_here` and `password=********`. The key looks like sk-... or sk-xxxxxxxxxxxxxxxxxxxx.",
    "Connect with postgres://user:password@db.example.com/shop or https://example.com:8443/path@2x.png",
    "Orders look like ORD-2026-000123 and cost 1.299,00 €. Call +49 30 1234567. Our tax number is DE123456789.",
    "We know sk-learn-based classification, risk-assessment-documentation-2026 and ask-me-anything-sessions.",
    "Пароль: не менее восьми знаков. Никогда не спрашивайте пароль или токен.",
    "密码：至少八个字符。请勿索要密码。",
    "La contraseña: mínimo ocho caracteres. Nunca pidas la contraseña.",
    "Opening hours 10:00-18:00; time 123456:789. Version 1.2.3, commit 78a651a.",
    "The secret: listen-first-and-answer-second. The token is 2026/03/12.",
    "",
]


@pytest.mark.parametrize(("secret", "kind"), SECRETS.values(), ids=SECRETS)
def test_a_secret_is_told_by_its_kind(secret: str, kind: str) -> None:
    """The sentence an operator reads names the kind and never the value."""
    found = secret_in(f"Be kind. Use {secret} for the shop.", ())
    assert found == kind


@pytest.mark.parametrize("prompt", ORDINARY)
def test_an_ordinary_prompt_holds_no_secret(prompt: str) -> None:
    """A prompt may speak of passwords and keys, and show what one looks like."""
    assert secret_in(prompt, ("", "short", "a-value-not-in-there")) is None


def test_a_secret_of_the_service_is_found_whatever_its_shape() -> None:
    """What the service itself keeps secret needs no shape to be told."""
    assert secret_in("Answer with plain-old-words please.", ("plain-old-words",)) == "a secret of this service"


def test_hidden_characters_do_not_hide_a_secret() -> None:
    """A key split by characters nobody sees is still a key."""
    assert secret_in("ghp_" + "\u200b".join(_LETTERS), ()) == "a GitHub token"
