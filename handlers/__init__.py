"""Faces: what arrives from outside is turned into calls on the service."""
