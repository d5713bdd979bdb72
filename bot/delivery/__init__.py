"""How words reach Telegram: the wire, form, pace, previews, and the protocol behind one visible answer."""
