"""Pieces and numbers for a reader: audio, piano-rolls, charts."""
