"""The choice of precision and compilation, and what is taken where something is missing."""

from __future__ import annotations

import pytest
import torch

from mgen import speed as module
from mgen.speed import PLAIN, Speed, SpeedOptions, choose_speed

MUCH = 1e20  # operations that any machine compiles for


@pytest.fixture(autouse=True)
def not_chosen_yet():
    for choice in (module._cpu_units, module.compile_problem):
        choice.cache_clear()
    yield
    for choice in (module._cpu_units, module.compile_problem):
        choice.cache_clear()


@pytest.fixture
def fast_units(monkeypatch):
    """A processor with bf16 units that are twice as fast as its float32 ones."""
    monkeypatch.setattr(module, "BF16_UNITS", {"UNITS": "is_available"})  # a function of torch.cpu that says True
    monkeypatch.setattr(module, "product_seconds", lambda matrix: matrix.element_size())


def no_call(*_, **__):
    raise AssertionError("not needed, so not to be called")


def test_plain_measures_and_compiles_nothing(monkeypatch):
    monkeypatch.setattr(torch, "compile", no_call)
    monkeypatch.setattr(module, "product_seconds", no_call)
    assert choose_speed("plain", "cpu", MUCH) == PLAIN == Speed(None, False, "speed: float32, eager (plain)")


def test_bf16_where_its_units_are_faster(fast_units):
    choice = choose_speed("auto", "cpu")
    assert (choice.dtype, choice.compiled) == (torch.bfloat16, False)
    assert choice.reason == "speed: bf16 autocast, eager (UNITS)"
    square = torch.ones(2, 2)
    with choice.autocast("cpu"):
        assert (square @ square).dtype == torch.bfloat16
    with PLAIN.autocast("cpu"):
        assert (square @ square).dtype == torch.float32


@pytest.mark.parametrize("units", [{}, {"UNITS": "no_function_of_torch"}])
def test_a_processor_without_bf16_units_calculates_in_float32(units, fast_units, monkeypatch):
    monkeypatch.setattr(module, "BF16_UNITS", units)
    assert choose_speed("auto", "cpu").reason == "speed: float32, eager (no faster bf16)"


def test_emulated_bf16_is_not_used(fast_units, monkeypatch):
    monkeypatch.setattr(module, "product_seconds", lambda matrix: 1 / matrix.element_size())
    assert choose_speed("auto", "cpu").dtype is None


def test_measuring_leaves_the_threads_as_they_were():
    before = torch.get_num_threads()
    assert module.bf16_is_faster() in (True, False)
    assert torch.get_num_threads() == before


def test_little_work_is_not_compiled(fast_units, monkeypatch):
    monkeypatch.setattr(torch, "compile", no_call)
    work = 0.99 * module.WORTH_COMPILING * torch.get_num_threads()
    assert choose_speed("auto", "cpu", work).reason.endswith("eager (UNITS; too short to pay for compiling)")


def test_a_failing_compiler_is_one_line(fast_units, monkeypatch):
    def fail(_):
        raise RuntimeError("\n  No working C++ compiler found\nStack trace\n")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    choice = choose_speed("auto", "cpu", MUCH)
    assert choice == Speed(
        torch.bfloat16,
        False,
        "speed: bf16 autocast, eager (UNITS; torch.compile fails: No working C++ compiler found)",
    )


def test_a_compiler_that_works_is_used(fast_units, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert choose_speed("auto", "cpu", MUCH).compiled


@pytest.mark.parametrize(
    ("asked", "bf16", "use_cpu"),
    [
        ({}, True, True),
        ({"bf16": False}, False, False),
        ({"speed": "plain"}, False, False),
        ({"speed": "plain", "bf16": True}, True, True),
    ],
)
def test_options_of_training(asked, bf16, use_cpu, fast_units, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options = SpeedOptions(**asked)
    options.set_precision()
    assert (options.bf16, options.use_cpu, options.chosen_speed().bf16) == (bf16, use_cpu, bf16)
