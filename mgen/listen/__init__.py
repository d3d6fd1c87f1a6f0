"""Blind listening studies: clips, pairs, the page, votes, ranking. Knows no model and no judge."""
