"""How music is judged: metrics, the two-sample test, the evaluation's own judge.

Nothing here imports rewards or critics: a model is never judged with what rewarded it.
"""
