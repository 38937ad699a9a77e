"""Freed memory stays with a process that asked for that, or leaves it, each in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys
from functools import partial

import pytest

_FAULTS = """
import resource, sys
import torch
from ProMISeCore.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(16):  # the heap finds its shape
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)  # 64 MB: more than glibc comes to keep by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


_LEFT = """
import sys, threading
import numpy as np
from ProMISeCore.allocator import return_freed_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) // 256  # MB
np.ones(2**24, np.uint8)  # glibc takes its size for one that comes often
kept, before = [], resident()
def work():
    large = []
    for _ in range(60):
        large.append(np.ones(2**21, np.uint8))
        kept.append(np.ones(2**12, np.uint8))
thread = threading.Thread(target=work)
thread.start()
thread.join()
if sys.argv[1] == "return":
    assert return_freed_memory()
print(resident() - before)
"""
only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything")


def told(program: str, *ways: str) -> dict[str, int]:
    """What the program prints when it is told to do it in these ways."""
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    return {way: int(run([sys.executable, "-c", program, way]).stdout) for way in ways}


@only_glibc
def test_memory_is_used_again_without_page_faults() -> None:
    faults = told(_FAULTS, "keep", "leave")
    assert faults["keep"] < 100 < faults["leave"], faults


@only_glibc
def test_holes_between_what_stays_go_back_to_the_system() -> None:
    megabytes = told(_LEFT, "return", "leave")
    assert megabytes["return"] < 20 < 100 < megabytes["leave"], megabytes
