"""The command line: thin, lazy, quiet when piped; a user's mistake is one line and exit code 2."""

import sys


def main() -> None:
    """Entry point of `stillroom`."""
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
