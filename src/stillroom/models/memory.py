"""Keep what a training step or a round of sampling gives back for the next one."""

import ctypes
import os
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""
LARGEST = 32 << 20
"""Bytes of a piece of memory that is still kept; glibc allows no more."""
KEPT = 256 << 20
"""Bytes at the end of the heap that are not handed back."""
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@cache
def keep_memory() -> bool:
    """Tell glibc not to hand freed tensors of a few megabytes back to the system; returns whether it was told.

    By default it does so after nearly every operation of a small model, and the system clears each page before it gives
    it out again: a tenth of the time of a training step. Nothing is changed where the user set the allocator up (one of
    glibc's own variables), nor where there is no glibc.
    """
    if any(name in os.environ for name in _OWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, KEPT))
