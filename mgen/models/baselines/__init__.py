"""Rivals that learn little or nothing: what a model has to beat before its numbers mean anything."""
