"""The customer's data: what is handed out, taken in, and erased."""
