"""The command line: thin, lazy, quiet when piped; a user's mistake is one line and exit code 2."""

import atexit
import gc
import sys

GARBAGE = 50_000, 20, 20
"""New objects before the youngest, the middle and all are looked through. Imports and traces are some million objects
that stay, and Python's default, 700, looks through them for a tenth of the time of a short command."""


def main() -> None:
    """Entry point of `stillroom`."""
    gc.set_threshold(*GARBAGE)
    # At the end Python would look through all of them once more: a second after torch and transformers.
    atexit.register(gc.freeze)
    from stillroom.cli.app import app
    from stillroom.errors import StillroomError

    try:
        app()
    except StillroomError as error:
        sys.stderr.write(f"stillroom: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stillroom: stopped; a run that was started goes on with `stillroom resume FOLDER`\n")
        sys.exit(130)
