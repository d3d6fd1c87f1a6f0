"""Policies: stock architectures in named sizes."""
