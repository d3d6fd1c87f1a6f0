"""The realism critic: real against generated music."""
