"""The style critic: P(style | piece), calibrated."""
