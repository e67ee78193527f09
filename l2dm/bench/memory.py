"""Peak memory of a stretch of work, where the system can tell: the GPU's where there is one, else this
process's.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch


def reset_peak() -> None:
    """Start measuring anew, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """MB (10^6 bytes): allocated on the GPU; without one resident, since ``reset_peak`` on Linux and since
    the start elsewhere.
    """
    return round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch.cuda.is_available() else resident_mb()


def resident_mb(process: int | str = "self") -> float:
    """MB at the peak of a process; of others than this one on Linux alone, and 0 where it cannot be told."""
    try:
        return round(
            int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text()).group(1))
            * 1024
            / 1e6,
            1,
        )
    except (OSError, AttributeError):  # no such file, no such line
        if process != "self":
            return 0.0
        try:
            import resource
        except ImportError:  # Windows
            return 0.0
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
