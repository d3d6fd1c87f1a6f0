"""Supervised training: next-token training of a policy, preference pairs, streamed data."""
