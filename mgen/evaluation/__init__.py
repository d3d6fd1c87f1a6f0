"""How music is judged: metrics, the two-sample test, the evaluation's own judge. Never imports rewards or critics."""
