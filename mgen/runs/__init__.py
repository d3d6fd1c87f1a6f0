"""What a run is: its folder, checkpoints, trackers, samples, and the judges that its options name."""
