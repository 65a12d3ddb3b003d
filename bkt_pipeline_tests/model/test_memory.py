"""A large skill fits into little memory."""

import subprocess
import sys

import pytest

from bkt_pipeline.model import warm_up

# 100,000 different sequences of 20 answers. The peak is that of the whole process, in KiB; `ru_maxrss` would count
# what the parent held when it forked.
LARGE = """
import numpy as np
from bkt_pipeline.model import AttemptWindow, calibrate
from datetime import datetime, timezone
n, length = 100_000, 20
as_of = datetime(2026, 1, 1, tzinfo=timezone.utc)
bits = (np.arange(n)[:, None] * 8 + 5 >> np.arange(length)) & 1
end = int(as_of.timestamp()) * 1_000_000
times = np.tile(end - np.arange(length, 0, -1), n)
window = AttemptWindow("large", tuple(map(str, range(n))), bits.reshape(-1).astype(np.uint8), times,
                       np.arange(n + 1) * length, as_of, 30)
assert calibrate(window).n_distinct == n
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_a_hundred_thousand_different_sequences_fit_in_300_mb():
    # Into the cache: the compiler's own memory is not what is measured.
    warm_up()
    # The compiler's own memory, where there is no cache yet, is not the fit's.
    subprocess.run([sys.executable, "-c", "from bkt_pipeline.model import warm_up; warm_up()"], check=True)
    result = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(result.stdout) < 300 * 1024
