"""The service itself, whatever face it shows; `bot.app` alone puts everything together."""
