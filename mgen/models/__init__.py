"""Policies of any architecture, and baselines."""
