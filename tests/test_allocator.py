"""Memory that was freed is used again, and not fetched anew from the system."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from ddim_interp.allocator import keep_large_blocks
if "keep" in sys.argv and not keep_large_blocks():
    sys.exit("no glibc")
block = bytes(2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    bytearray(2**26 - 2**12)  # freed at once; Linux maps every block of this size anew
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_kept_blocks_are_not_cleared_again_by_the_system():
    def faults(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60
        )
        return None if "no glibc" in done.stderr else int(done.stdout)

    kept, plain = faults("keep"), faults()
    if kept is None:
        pytest.skip("this C library has no mallopt")
    assert kept < plain / 4
