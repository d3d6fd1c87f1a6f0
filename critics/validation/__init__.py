"""How a style critic is accepted: leave-one-collection-out, shortcut baseline, degenerate inputs, card."""
