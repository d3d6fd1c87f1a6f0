"""Broken weights are described in words."""

from __future__ import annotations

import math

import pytest
import torch

from mgen.runs.divergence import divergence, weight_norm


@pytest.mark.parametrize(
    ("values", "norm"),
    [([3.0, 4.0], 5.0), ([], 0.0), ([1e30, 1.0], math.inf), ([math.inf, 1.0], math.inf), ([math.nan, 1.0], math.nan)],
)
def test_the_norm_is_over_all_weights(values, norm):
    found = weight_norm([torch.tensor([value], requires_grad=True) for value in values])
    assert found == norm or (math.isnan(found) and math.isnan(norm))


@pytest.mark.parametrize(
    ("norm", "problem"),
    [(12.0, None), (9e3, None), (2e4, "have grown 2e+03 times"), (math.nan, "are not numbers"), (math.inf, "infinite")],
)
def test_weights_are_broken_if_they_are_no_numbers_or_a_thousand_times_larger(norm, problem):
    found = divergence(norm, start=10.0)
    assert (found is None) if problem is None else problem in found
