"""mgen: reinforcement-learning fine-tuning of symbolic-music models with critic models."""

__version__ = "0.1.0"
