"""Accidents of the machine, as libraries report them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal

import pytest
import torch
from safetensors import SafetensorError

from mgen.accidents import describe_accident


def follows(error, cause):
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device", "runs/a/model")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FULL, "runs/a/model: no space left on the device; free some space"),
        (OSError(errno.EFBIG, "File too large"), "no space left on the device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
            "no space left",
        ),
        (follows(RuntimeError("[enforce fail] . unexpected pos 64 vs 0"), FULL), "no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied; choose another place"),
        (MemoryError(), "not enough memory; lower the batch size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory",
        ),
        (
            RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:42"),
            "another process",
        ),
        (torch.distributed.DistBackendError("timeout"), "another process of this run has ended"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.mid"), "a.mid: No such file or directory"),
        (OSError("no number"), None),
        (RuntimeError("shapes differ"), None),
        (ValueError("x"), None),
    ],
)
def test_an_accident_is_recognised_by_type_or_text(error, message):
    found = describe_accident(error)
    assert (found is None) if message is None else (message in found and "\n" not in found)


def test_a_real_failed_write_of_torch_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.save({"a": torch.zeros(1000)}, "/dev/full")  # a device that is always full
    assert "no space left" in describe_accident(caught.value)


def _one_of_two(rank, folder):
    """Two processes sum a number; then one is gone and the other tries again."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.distributed.all_reduce(torch.ones(1))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        torch.distributed.all_reduce(torch.ones(1))
    except RuntimeError as error:
        (folder / "said").write_text(str(describe_accident(error)))


def test_a_killed_process_ends_the_others_with_a_line(tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=_one_of_two, args=(i, tmp_path)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert processes[1].exitcode == -signal.SIGKILL
    assert (tmp_path / "said").read_text().startswith("another process of this run has ended")
