"""Telegram's face: customers and operators in a chat."""

from handlers.telegram import models as models  # before anything imports aiogram on its own
