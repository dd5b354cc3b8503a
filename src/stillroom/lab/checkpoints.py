"""Folders of checkpoints: the last one is kept, finished ones are moved into place whole."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path


class Checkpoints:
    """The ``step-*`` folders of one training run: at most one every `every_s` seconds, of which the newest is kept."""

    def __init__(self, folder: Path, every_s: float) -> None:
        self.folder = folder
        self._every_s = every_s
        self._last = time.monotonic()

    def newest(self) -> Path | None:
        """The one to go on from; None when there is none."""
        return max(self.folder.glob("step-*"), default=None)

    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.monotonic() - self._last >= self._every_s

    def write(self, step: int, save: Callable[[Path], None]) -> None:
        """Save to the folder of a step, then remove the older ones."""
        save(self.folder / f"step-{step:07d}")
        for old in sorted(self.folder.glob("step-*"))[:-1]:
            remove(old)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove all of them."""
        remove(self.folder)


def move_into_place(source: Path, target: Path) -> None:
    """Move a folder; a target without a source was moved by an attempt that was killed right after."""
    if source.exists():
        remove(target)
        os.replace(source, target)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
