"""Local stand-ins for the two servers that the service talks to: Telegram's Bot API and a chat API."""

from bot.sandbox.call_log import Call
from bot.sandbox.chat_api import NATURAL, ChatApiServer, ChatBehaviour, ChatCall, ChatRequest
from bot.sandbox.chat_faults import ChatFault
from bot.sandbox.faults import Fault, FaultPlan
from bot.sandbox.flood import FloodLimits
from bot.sandbox.people import BOT_TOKEN, OPERATOR_ID, OPERATOR_NAME
from bot.sandbox.telegram_server import TelegramServer
from bot.sandbox.world import SeenMessage

__all__ = [
    "BOT_TOKEN",
    "NATURAL",
    "OPERATOR_ID",
    "OPERATOR_NAME",
    "Call",
    "ChatApiServer",
    "ChatBehaviour",
    "ChatCall",
    "ChatFault",
    "ChatRequest",
    "Fault",
    "FaultPlan",
    "FloodLimits",
    "SeenMessage",
    "TelegramServer",
]
