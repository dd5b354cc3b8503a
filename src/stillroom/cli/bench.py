"""`stillroom bench …`: measurements of Stillroom itself; exit code 1 when a bar is missed."""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(name="bench", help="Measure Stillroom itself; every result is a file.", no_args_is_help=True)

Out = Annotated[Path, typer.Option(metavar="FILE.json", help="Where the result goes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command("kill-resume")
def kill_resume(
    out: Out,
    moments: Annotated[int, typer.Option(min=1, help="How many kills.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Kill a small main job at random moments, resume it, compare bit for bit with an uninterrupted one; minutes.

    Example: stillroom bench kill-resume --out kill-resume.json
    """
    from stillroom.bench.kill_resume import measure
    from stillroom.cli.show import progress_bars

    with progress_bars(quiet=as_json) as progress:
        result = measure(moments, seed, on_moment=lambda number, what: progress("kills", number, moments))
    _write(out, result, as_json, f"{result['equal']} of {moments} resumed runs equal the uninterrupted one bit for bit")


@app.command()
def verifier(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds gsm8k/ with the recorded answers.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Compare our verdicts with those recorded beside 14,000 real answers, and list every disagreement.

    Example: stillroom bench verifier --data ../data --out agreement.json
    """
    from stillroom.bench.verifier import measure

    result = measure(data)
    _write(
        out,
        result,
        as_json,
        f"{result['answers']:,} answers, agreement {result['agreement']:.4%} (bar {result['bar']:.2%}), "
        f"disagreements {result['who_is_right']}",
    )


def _write(out: Path, result: dict[str, Any], as_json: bool, line: str) -> None:
    from stillroom.cli.show import emit, emit_json
    from stillroom.io import write_json

    write_json(out, result)
    emit_json(result) if as_json else emit(line)
    if not result["passed"]:
        raise typer.Exit(1)
