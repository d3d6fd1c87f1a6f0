"""Changes to `Notes`: corruptions, format augmentations, degenerate inputs, edit operators."""
