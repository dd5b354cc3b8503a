"""Folders of checkpoints: the last one is kept, finished ones are moved into place whole."""

import os
import shutil
from pathlib import Path


def keep_last(folder: Path) -> None:
    """Remove all but the newest ``step-*``."""
    for old in sorted(folder.glob("step-*"))[:-1]:
        remove(old)


def newest(folder: Path) -> Path | None:
    """The newest ``step-*``; None when there is none."""
    return max(folder.glob("step-*"), default=None)


def move_into_place(source: Path, target: Path) -> None:
    """Move a folder; a target without a source was moved by an attempt that was killed right after."""
    if source.exists():
        remove(target)
        os.replace(source, target)


def remove(folder: Path) -> None:
    """Remove a folder, if it is there."""
    shutil.rmtree(folder, ignore_errors=True)
