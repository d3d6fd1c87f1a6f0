"""Baselines that learn little or nothing; a model whose metrics are not better has learned nothing useful."""
