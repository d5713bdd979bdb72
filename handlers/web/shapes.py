"""What the admin API takes and gives, as its description tells it."""

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from bot.privacy.rights import MOST_CHAT_ID


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExportOrder(_Strict):
    """Of whom an export is wanted."""

    chat_id: StrictInt = Field(gt=-MOST_CHAT_ID, lt=MOST_CHAT_ID)


class ExportState(BaseModel):
    """Where the parts of an export can be had, each a zip, until when (UTC)."""

    id: str
    parts: list[str]
    expires: str


class Accepted(BaseModel):
    """What was asked for will be done; the receipt tells when it is."""

    receipt: str


class Providers(BaseModel):
    """Things that chat APIs were asked to delete, those they confirmed, and those they never did."""

    asked: int
    confirmed: int
    given_up: int


class ReceiptState(BaseModel):
    """What became of a request. Times in UTC; ``done`` is null while it is open; ``beyond``: what is out of reach,
    until when."""

    id: str
    kind: str = Field(description="erasure, export or import")
    by: str = Field(description="customer, operator or retention")
    scope: str | None
    asked: str
    done: str | None
    due: str = Field(description="one month after it was asked for: GDPR, Art. 12 (3)")
    counts: dict[str, int]
    beyond: dict[str, str | None]
    providers: Providers


class Requests(BaseModel):
    """Newest first. ``next`` is where those before them are, null where there are none."""

    requests: list[ReceiptState]
    next: str | None


class Invalid(BaseModel):
    """One rule that the request breaks."""

    where: str
    why: str


class ProblemDetails(BaseModel):
    """A refusal, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Invalid] | None = None


class Offered(BaseModel):
    """What an archive would bring back into a chat. Times in UTC, null where no message has one."""

    chat_id: int
    made: str | None
    part: int
    parts: int
    counts: dict[str, int]
    earliest: str | None
    latest: str | None
