"""Next-token training: windows, checkpoints, the trainer."""
