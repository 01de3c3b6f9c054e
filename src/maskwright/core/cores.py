"""How many cores there are for this process: runtimes that count the machine's own start more threads than can run, which wait
for each other and slow down whatever computes beside them.
"""

from __future__ import annotations

import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of CPU time in each period, or "max"


def usable_cores() -> int:
    """Cores this process may use: its affinity and its container's quota, where the system tells them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file, or no limit
        return cores


def threads() -> int:
    """What a network computes with: a thread for each usable core, or as many as OMP_NUM_THREADS says, if these are fewer."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(told)) if told.isdecimal() and int(told) > 0 else usable_cores()
