"""A tiny policy that writes notes, and a judge of them, for tests of reinforcement learning."""

from __future__ import annotations

import numpy as np
import torch

from mgen.judgement import Judgement


def high_pitches(notes):
    """1 for every four notes above middle C, with credit on those notes; -1 for a piece without notes."""
    credit = (notes.pitch > 60).astype(np.float32) / 4
    score = np.bincount(notes.piece, weights=credit, minlength=notes.n_pieces).astype(np.float32)
    defined = notes.counts > 0
    return Judgement(np.where(defined, score, -1).astype(np.float32), credit, defined)


def draw(pieces, n):
    """The first n pieces, as draws of real music: no two of the same work."""
    return pieces.pieces(range(n)), np.arange(n).astype(str)


def policy_that_writes_notes(tiny_policy, remi):
    """A tiny policy that has learned to write notes, so that a reward on notes has something to go by."""
    policy = tiny_policy()
    names = {name: i for i, name in enumerate(remi.names)}
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(64):
        row = [remi.bos_id, names["Bar_None"], names["TimeSig_4/4"]]
        for position in range(0, 72, 6):
            row += [
                names[f"Position_{position}"],
                names[f"Pitch_{generator.integers(40, 80)}"],
                names["Velocity_63"],
                names["Duration_0.6.24"],
            ]
        rows.append(row)
    ids = torch.tensor(rows)
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-2)
    for _ in range(60):
        loss = policy(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy
