"""What real servers say when they refuse or fail, and what it means to us. The shapes were seen in their documentation
and in public reports; hosts, keys and names are made up."""

import json
import random
from typing import Any

import pytest

from bot.chat_api.failures import failure, failure_in
from bot.errors import ChatApiError, ChatApiRefusedError, ChatApiUnavailableError, Reason

SENT = frozenset({"stream_options", "max_tokens", "temperature", "prompt_cache_key", "role"})
PASSES = "passes"


def openai(message: str, kind: str = "invalid_request_error", code: Any = None, param: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def gemini(code: int, message: str, status: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def vllm(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def dify(status: int, code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


def extra(*loc: str) -> dict[str, Any]:
    return {"type": "extra_forbidden", "loc": ["body", *loc], "msg": "Extra inputs are not permitted", "input": True}


_CONTEXT = (
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9031 tokens. Please reduce "
    "the length of the messages."
)
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_FILTER = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
_CREDITS = "This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens."
_DIFY_LOST = (
    "Conversation Not Exists. You have requested this URI [/v1/chat-messages] but did you mean /v1/chat-messages or "
    "/v1/chat-messages/<string:task_id>/stop ?"
)
_CONV = "conv_" + "68542dc602388199a30af27d040cefd4087a04b576bfeb24"
_TPM = "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 40123."

SEEN: list[tuple[str, int, Any, Reason | str]] = [
    ("openai key", 401, openai("Incorrect API key provided: sk-*.", code="invalid_api_key"), Reason.KEY),
    ("openai region", 403, openai("Country, region, or territory not supported"), Reason.KEY),
    ("openai quota", 429, openai(_QUOTA, "insufficient_quota", "insufficient_quota"), Reason.CREDIT),
    ("openai rate", 429, openai("Rate limit reached for gpt-x", "tokens", "rate_limit_exceeded"), PASSES),
    ("openai one request too large", 429, openai(_TPM, "tokens", "rate_limit_exceeded"), Reason.SIZE),
    ("openai context", 400, openai(_CONTEXT, code="context_length_exceeded", param="messages"), Reason.SIZE),
    ("openai long text", 400, openai("Invalid 'input'.", code="string_above_max_length", param="input"), Reason.SIZE),
    ("openai model", 404, openai("The model `gpt-y` does not exist", code="model_not_found"), Reason.MODEL),
    ("openai lost response", 400, openai("Previous response with id 'resp_1' not found.",
     code="previous_response_not_found", param="previous_response_id"), Reason.STATE),
    ("openai lost conversation", 404, openai(f"Conversation with id '{_CONV}' not found."), Reason.STATE),
    ("openai locked", 400, openai("Another process is currently operating on this conversation.",
     code="conversation_locked"), PASSES),
    ("openai server", 500, openai("The server had an error processing your request", "server_error"), PASSES),
    ("openai overloaded", 503, openai("The engine is currently overloaded", "server_error"), PASSES),
    ("openai field", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
     "'max_completion_tokens' instead.", code="unsupported_parameter", param="max_tokens"), "max_tokens"),
    ("openai field without param", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model. "
     "Use 'max_completion_tokens' instead."), "max_tokens"),
    ("openai value", 400, openai("Unsupported value: 'temperature' does not support 0.2 with this model.",
     code="unsupported_value", param="temperature"), "temperature"),
    ("openai role", 400, openai("Unsupported value: 'messages[0].role' does not support 'system' with this model.",
     code="unsupported_value", param="messages[0].role"), "role"),
    ("azure filter", 400, {"error": {"message": _FILTER, "type": None, "param": "prompt", "code": "content_filter",
     "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, Reason.CONTENT),
    ("azure deployment", 404, {"error": {"code": "DeploymentNotFound", "message":
     "The API deployment for this resource does not exist."}}, Reason.MODEL),
    ("azure address", 404, {"error": {"code": "404", "message": "Resource not found"}}, Reason.ADDRESS),
    ("azure key", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}},
     Reason.KEY),
    ("azure field", 400, openai("Unrecognized request argument supplied: stream_options"), "stream_options"),
    ("anthropic context", 400, anthropic("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum"),
     Reason.SIZE),
    ("anthropic credit", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the API. "
     "Please go to Plans & Billing."), Reason.CREDIT),
    ("anthropic overloaded", 529, anthropic("overloaded_error", "Overloaded"), PASSES),
    ("anthropic key", 401, anthropic("authentication_error", "invalid x-api-key"), Reason.KEY),
    ("anthropic permission", 403, anthropic("permission_error", "Your API key has no leave for it"), Reason.KEY),
    ("anthropic large", 413, anthropic("request_too_large", "Request exceeds the maximum size"), Reason.SIZE),
    ("gemini key", 400, gemini(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), Reason.KEY),
    ("gemini field", 400, gemini(400, 'Invalid JSON payload received. Unknown name "stream_options": Cannot find '
     "field.", "INVALID_ARGUMENT"), "stream_options"),
    ("gemini minute", 429, gemini(429, _QUOTA, "RESOURCE_EXHAUSTED", {"retryDelay": "28s"}), PASSES),
    ("gemini plan", 429, gemini(429, _QUOTA, "RESOURCE_EXHAUSTED"), Reason.CREDIT),
    ("gemini busy", 503, gemini(503, "The model is overloaded.", "UNAVAILABLE"), PASSES),
    ("gemini model", 404, gemini(404, "models/x is not found for API version v1main", "NOT_FOUND"), Reason.MODEL),
    ("mistral field", 422, {"object": "error", "message": {"detail": [extra("stream_options", "include_usage")]},
     "type": "invalid_request_error", "param": None, "code": None}, "stream_options"),
    ("mistral fields", 422, {"detail": [extra("prompt_cache_key"), extra("max_tokens")]}, "prompt_cache_key"),
    ("mistral quoted", 422, {"object": "error", "message": json.dumps({"detail": [extra("temperature")]}),
     "type": "internal_error_proxy", "param": None, "code": "1000"}, "temperature"),
    ("mistral key", 401, {"detail": "Unauthorized"}, Reason.KEY),
    ("mistral model", 400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
     Reason.MODEL),
    ("groq field", 400, {"error": {"message": "property 'prompt_cache_key' is unsupported, did you mean 'stop'?",
     "type": "invalid_request_error"}}, "prompt_cache_key"),
    ("groq model", 400, openai("The model `x` has been decommissioned and is no longer supported.",
     code="model_decommissioned"), Reason.MODEL),
    ("groq size", 413, openai("Request too large for model `x` on tokens per minute (TPM)", "tokens",
     "rate_limit_exceeded"), Reason.SIZE),
    ("openrouter credits", 402, {"error": {"message": "Insufficient credits.", "code": 402}}, Reason.CREDIT),
    ("openrouter fewer", 402, {"error": {"message": _CREDITS, "code": 402}}, Reason.CREDIT),
    ("openrouter model", 400, {"error": {"message": "x/y is not a valid model ID", "code": 400}, "user_id": "u"},
     Reason.MODEL),
    ("openrouter endpoints", 404, {"error": {"message": "No endpoints found for x/y.", "code": 404}}, Reason.MODEL),
    ("openrouter upstream", 502, {"error": {"message": "Provider returned error", "code": 502}}, PASSES),
    ("openrouter moderated", 403, {"error": {"message": "x/y requires moderation. Your input was flagged", "code": 403,
     "metadata": {"reasons": ["violence"]}}}, Reason.CONTENT),
    ("deepseek balance", 402, openai("Insufficient Balance", "unknown_error", "invalid_request_error"), Reason.CREDIT),
    ("deepseek key", 401, openai("Authentication Fails, Your api key: *** is invalid", "authentication_error"),
     Reason.KEY),
    ("deepseek model", 400, openai("Model Not Exist", code="invalid_request_error"), Reason.MODEL),
    ("deepseek risk", 400, openai("Content Exists Risk", code="invalid_request_error"), Reason.CONTENT),
    ("qwen inspection", 400, openai("Input data may contain inappropriate content.", code="data_inspection_failed"),
     Reason.CONTENT),
    ("qwen overdue", 400, openai("Access denied, please make sure your account is in good standing.", code="Arrearage"),
     Reason.CREDIT),
    ("vllm context", 400, vllm(_CONTEXT, "BadRequestError", 400), Reason.SIZE),
    ("vllm limit", 400, vllm("'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context "
     "length is 8192 tokens.", "BadRequestError", 400), Reason.SIZE),
    ("vllm model", 404, vllm("The model `x` does not exist.", "NotFoundError", 404), Reason.MODEL),
    ("vllm lost response", 404, vllm("Response with id 'resp_0f' not found.", "invalid_request_error", 404),
     Reason.STATE),
    ("vllm key", 401, {"error": "Unauthorized"}, Reason.KEY),
    ("vllm validation", 400, {"error": {"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'prompt_cache_key')}]",
     "type": "Bad Request", "code": 400}}, "prompt_cache_key"),
    ("llama.cpp loading", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
     PASSES),
    ("llama.cpp context", 400, {"error": {"code": 400, "message": "the request exceeds the available context size",
     "type": "exceed_context_size_error", "n_ctx": 256}}, Reason.SIZE),
    ("llama.cpp context, older", 500, {"error": {"code": 500, "message": "the request exceeds the available context "
     "size.", "type": "exceed_context_size_error"}}, Reason.SIZE),
    ("llama.cpp context, late", 500, {"error": {"code": 500, "message": "Context size has been exceeded.",
     "type": "server_error"}}, Reason.SIZE),
    ("llama.cpp key", 401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}},
     Reason.KEY),
    ("ollama model", 404, openai('model "x" not found, try pulling it first', "api_error"), Reason.MODEL),
    ("ollama runner", 500, {"error": "model runner has unexpectedly stopped"}, PASSES),
    ("ollama plain", 404, b"404 page not found", Reason.ADDRESS),
    ("litellm budget", 400, openai("Budget has been exceeded! Current cost: 0.37, Max budget: 0.35", "budget_exceeded",
     "400"), Reason.CREDIT),
    ("litellm user's budget", 429, openai("LiteLLM User: x, exceeded budget for model=y", "budget_exceeded", "429"),
     Reason.CREDIT),
    ("litellm cool-down", 429, openai("No deployments available for selected model, Try again in 5 seconds.", "None",
     "429"), PASSES),
    ("litellm field", 400, openai("litellm.UnsupportedParamsError: ollama does not support parameters: "
     "['stream_options'], for model=x", "None", "400"), "stream_options"),
    ("litellm model", 400, openai("/chat/completions: Invalid model name passed in model=x", code="400"), Reason.MODEL),
    ("litellm key", 401, openai("Authentication Error, Invalid proxy server token passed.", "auth_error", "401"),
     Reason.KEY),
    ("dify lost", 404, dify(404, "not_found", _DIFY_LOST), Reason.STATE),
    ("dify quota", 400, dify(400, "provider_quota_exceeded", "Your quota for the hosted provider has been exhausted."),
     Reason.CREDIT),
    ("dify model", 400, dify(400, "model_currently_not_support", "The trial does currently not support this model."),
     Reason.MODEL),
    ("dify key", 401, dify(401, "unauthorized", "Access token is invalid"), Reason.KEY),
    ("dify no credentials", 400, dify(400, "provider_not_initialize", "Model provider credentials not found."),
     Reason.KEY),
    ("dify unavailable", 400, dify(400, "app_unavailable", "App unavailable, please check your app configurations."),
     Reason.ADDRESS),
    ("dify upstream rate", 400, dify(400, "completion_request_error", "[openai] Rate Limit Error, Error code: 429"),
     PASSES),
    ("dify param", 400, dify(400, "invalid_param", "query is required"), Reason.REQUEST),
    ("fastapi", 500, {"detail": "Internal Server Error"}, PASSES),
    ("proxy page", 502, b"<html><head><title>502 Bad Gateway</title></head></html>", PASSES),
    ("proxy large", 413, b"<html><head><title>413 Request Entity Too Large</title></head></html>", Reason.SIZE),
    ("redirect", 302, b"", Reason.ADDRESS),
    ("method", 405, {"detail": "Method Not Allowed"}, Reason.ADDRESS),
    ("conflict", 409, openai("Conflict"), PASSES),
    ("empty", 400, b"", Reason.REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "wanted"), [seen[1:] for seen in SEEN], ids=[seen[0] for seen in SEEN])
def test_a_refusal_is_understood(status: int, body: Any, wanted: Reason | str) -> None:
    """Passing ones may be tried again, the others never; and nothing of their words is kept."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = failure(status, {}, content, SENT)
    if wanted == PASSES:
        assert isinstance(found, ChatApiUnavailableError)
        return
    assert isinstance(found, ChatApiRefusedError)
    if isinstance(wanted, Reason):
        assert (found.reason, found.field) == (wanted, "")
    else:
        assert (found.reason, found.field) == (Reason.FIELD, wanted)


@pytest.mark.parametrize("shape", [lambda text: {"error": text}, openai, lambda text: gemini(400, text, "X"), str])
def test_an_error_says_nothing_of_what_the_server_wrote(shape: Any) -> None:
    """It may quote the request, and our errors are logged."""
    found = failure(400, {}, json.dumps(shape("secret words of a customer")).encode())
    assert "secret" not in f"{found} {found.args} {vars(found)}"
    found = failure(400, {}, json.dumps(openai("x", code="secret words of a customer")).encode())
    assert "secret" not in f"{found} {found.args} {vars(found)}"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0), ({"retry-after": "1.5"}, 1.5), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25), ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({}, None), ({"retry-after": "soon"}, None), ({"retry-after": "²"}, None), ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 400}, None), ({"retry-after": "nan"}, None), ({"retry-after": "."}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)  # fmt: skip
def test_a_named_time_is_read(headers: dict[str, str], seconds: float | None) -> None:
    """Milliseconds go before seconds; a date that is past means now; what is no time is none."""
    found = failure(429, headers, b"")
    assert isinstance(found, ChatApiUnavailableError)
    assert found.retry_after == seconds


def test_a_named_date_is_read() -> None:
    """Seconds from now on, as far as it lies ahead."""
    found = failure(503, {"retry-after": "Fri, 31 Dec 2199 23:59:59 GMT"}, b"")
    assert isinstance(found, ChatApiUnavailableError)
    assert (found.retry_after or 0) > 1e9


def test_a_time_in_the_body_is_read() -> None:
    """Gemini names it there; a header goes before it."""
    body = json.dumps(gemini(429, _QUOTA, "RESOURCE_EXHAUSTED", {"retryDelay": "28.5s"})).encode()
    for headers, seconds in (({}, 28.5), ({"retry-after": "2"}, 2.0)):
        found = failure(429, headers, body)
        assert isinstance(found, ChatApiUnavailableError)
        assert found.retry_after == seconds


UNDER_200: list[tuple[dict[str, Any], Reason | str | None]] = [
    ({"choices": []}, None),
    ({"error": None, "type": "response.created"}, None),
    ({"event": "message", "answer": "error"}, None),
    (openai("The server had an error", "server_error"), PASSES),
    (openai("Rate limit reached", code="rate_limit_exceeded"), PASSES),
    (openai(_CONTEXT, code="context_length_exceeded"), Reason.SIZE),
    ({"error": {"message": "Provider returned error", "code": 502}}, PASSES),
    ({"error": {"message": "Insufficient credits", "code": 402}, "choices": []}, Reason.CREDIT),
    ({"error": {"message": "No auth credentials found", "code": 401}}, Reason.KEY),
    ({"error": "model runner has unexpectedly stopped"}, PASSES),
    ({"error": {"message": "strange", "code": 400}}, PASSES),
    ({"error": {"message": "x", "code": "²"}}, PASSES),
    ({"error": {"message": "x", "code": "9" * 5000}}, PASSES),
    ({"error": {"message": "x", "code": True, "status": [400]}}, PASSES),
    (anthropic("overloaded_error", "Overloaded"), PASSES),
    ({"type": "error", "code": "server_error", "message": "x", "param": None}, PASSES),
    ({"event": "error", "status": 400, "code": "provider_quota_exceeded", "message": "x"}, Reason.CREDIT),
    ({"event": "error", "status": 400, "code": "completion_request_error", "message": "x"}, PASSES),
    ({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error", "message": "x"},
     "instructions": "Never speak of billing, safety or moderation."}}, PASSES),
    ({"type": "response.failed", "response": {"status": "failed", "error": None}}, PASSES),
    ({"type": "response.failed", "response": {"status": "failed",
     "error": {"code": "context_length_exceeded", "message": "x"}}}, Reason.SIZE),
    ({"type": "response.completed", "response": {"status": "completed", "error": None}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("event", "wanted"), UNDER_200)
def test_an_error_under_200_is_understood(event: dict[str, Any], wanted: Reason | str | None) -> None:
    """In a stream, or as the whole reply: what was taken at first and failed may pass, unless it says otherwise."""
    found = failure_in(event)
    if wanted is None:
        assert found is None
    elif wanted == PASSES:
        assert isinstance(found, ChatApiUnavailableError)
    else:
        assert isinstance(found, ChatApiRefusedError)
        assert found.reason is wanted


def test_no_body_is_too_strange() -> None:
    """Whatever JSON stands where, the failure is one of ours."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    leaves: list[Any] = [None, True, 0, -1, 404, 1e300, "", "²", "404", "x" * 5000, "model not found", [], {}, "\ud800"]
    names = ["error", "code", "status", "type", "param", "detail", "loc", "message", "response", "event"]

    def made(depth: int) -> Any:
        if depth == 0 or source.random() < 0.2:
            return source.choice(leaves)
        if source.random() < 0.2:
            return [made(depth - 1) for _ in range(source.randint(0, 3))]
        return {source.choice(names): made(depth - 1) for _ in range(source.randint(0, 4))}

    for _ in range(4000):
        body = made(4)
        found = failure(source.choice([200, 302, 400, 404, 422, 429, 500, 599]), {}, json.dumps(body).encode(), SENT)
        assert isinstance(found, ChatApiError)
        if isinstance(body, dict) and "\\ud800" not in json.dumps(body):
            assert failure_in(body) is None or isinstance(failure_in(body), ChatApiError)
