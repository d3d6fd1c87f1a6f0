"""Encodings: notes to token ids and back."""
