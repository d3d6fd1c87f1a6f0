"""Sampling from policies: prompts, rollouts, the systems that are evaluated. Knows no judges."""
