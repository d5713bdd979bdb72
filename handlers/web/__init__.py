"""The web's face: webhook, health and metrics."""
