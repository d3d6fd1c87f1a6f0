"""From music files to a corpus: scan, clean, encode in worker processes, split by work, write shards."""
