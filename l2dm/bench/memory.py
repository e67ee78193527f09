"""Peak memory of a stretch of work, where the system can tell: the GPU's where there is one, else this process's."""

from __future__ import annotations

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
    """MB (10^6 bytes): allocated on the GPU; without one resident, since ``reset_peak`` on Linux and since the start elsewhere."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    try:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except (OSError, StopIteration):
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, 1)
