"""A training run as a model repository of the Hugging Face Hub: files, model card, evaluation results, upload.

Knows no particular reward or critic: a run's records (run.json, config.yaml, card.json) are read as data.
"""
