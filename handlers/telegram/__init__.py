"""Telegram's face: customers and operators in a chat."""
