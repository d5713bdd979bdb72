"""What is said: intents, context, turns."""
