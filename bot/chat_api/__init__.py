"""The model's side: one client, one small module per dialect."""
