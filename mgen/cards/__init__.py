"""Reward cards: how a judge scores real, corrupted and degenerate music, what it costs, and how it is exploited.

Judges are functions from `Notes` to `Judgement`; no particular reward or critic is known here.
"""
