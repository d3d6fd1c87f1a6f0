"""The blind listening page: takes, pairs, votes, ranking. It knows no model and no judge."""
