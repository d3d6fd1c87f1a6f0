"""Learned judges. A rule lives in `rewards`; what had to be learned from music lives here."""
