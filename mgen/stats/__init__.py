"""Statistics on sets of pieces: intervals, two-sample tests, calibration, distances, diversity."""
