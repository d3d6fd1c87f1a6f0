"""Musical structure in `Notes`: onset clusters, voices, chords, n-grams, metrics and features. Pure numpy."""
