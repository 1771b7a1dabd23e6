"""How this process takes memory from the system and gives it back."""

from __future__ import annotations

import ctypes

#: ``M_MMAP_THRESHOLD`` of mallopt(3).
_MMAP_THRESHOLD = -3
#: Blocks above this are given back as soon as they are free. Batches of usual documents stay
#: below and are used again; without a limit of ours the allocator raises its own to 32 MB after
#: the first large document and keeps such blocks for every thread (seen: 540 MB in place of
#: 200 MB with 16 MB documents).
_RETURNED_BYTES = 8 * 1024 * 1024


def return_large_blocks() -> bool:
    """Have large blocks given back at once; False where the C library has no such setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _RETURNED_BYTES))
