"""How this process takes memory from the system and gives it back."""

from __future__ import annotations

import ctypes

#: ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Blocks above this are given back as soon as they are free. Batches of usual documents stay
#: below and are used again; without a limit of ours the allocator raises its own to 32 MB after
#: the first large document and keeps such blocks for every thread (seen: 540 MB in place of
#: 200 MB with 16 MB documents).
_RETURNED_BYTES = 8 * 1024 * 1024
#: What each thread keeps of what it has freed, to use it again: all blocks of one batch. By itself
#: it keeps 128 kB, and the system clears the pages of every batch anew, which took a fifth of all
#: CPU of a copy.
_KEPT_BYTES = 32 * 1024 * 1024


def return_large_blocks() -> bool:
    """
    Have blocks of a few MB used again, and large ones given back at once.

    False where the C library has no such settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = ((_MMAP_THRESHOLD, _RETURNED_BYTES), (_TRIM_THRESHOLD, _KEPT_BYTES))
    return all(mallopt(name, value) for name, value in settings)
