"""Every failure that Stillroom raises on purpose.

A `UserError` is a mistake that its message tells how to mend: the command line prints it bare and exits with 2.
Anything else that escapes is a bug and keeps its traceback. Each class is also a standard-library type, so that
callers who do not know Stillroom can catch it.
"""

import difflib
from collections.abc import Iterable


class StillroomError(Exception):
    """Base of every deliberate failure."""


class UserError(StillroomError, ValueError):
    """Bad input; the message holds the value received and what to give instead."""


class MissingExtraError(UserError, ImportError):
    """An optional dependency is absent."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'stillroom[{extra}]'")


class BudgetExceeded(StillroomError, RuntimeError):
    """The next request could cost more than what is left; nothing was sent."""


class DataError(UserError):
    """A file whose rows cannot be used; the message names rows and reasons."""


class CheckpointError(UserError):
    """A checkpoint that is truncated, foreign or of an unsupported layout."""


class TrainingStopped(StillroomError, RuntimeError):
    """Training would have gone on with a spoilt result (NaN, no trained token); names step and trace ids."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not registered: what was given, the nearest valid names, where to list them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")
