"""Tests of the start of TensorFlow: memory that is freed is used again."""

import sys

import pytest

from tests.conftest import run_command

_COUNT_FAULTS = """
import resource, sys
import numpy as np
from trainer import tf_startup

if sys.argv[1] == "keep":
    tf_startup._keep_freed_memory()
for _ in range(20):
    np.ones(5_000_000)  # 40 MB, which the allocator would return to the system
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_used_again():
    faults = {}
    for mode in ("keep", "return"):
        result = run_command("-c", _COUNT_FAULTS, mode)
        assert result.returncode == 0, result.stderr
        faults[mode] = int(result.stdout)
    # Huge pages need fewer faults, but the same share of them.
    assert faults["keep"] < faults["return"]
