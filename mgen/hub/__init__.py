"""A trained run as a model repository of the Hugging Face Hub: files, card, measured results, and the way there.

Knows no particular reward or critic: what a run says of itself (run.json, config.yaml, card.json) is read as data.
"""
