"""`stillroom proxies …`: the tiny models that experiments start from."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(name="proxies", help="The tiny models that experiments start from.", no_args_is_help=True)


@app.command()
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all that are absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: the cache of this user.")] = None,
) -> None:
    """Pre-train proxies from their recipes; minutes each on one core.

    Example: stillroom proxies build student-0.4m --out /tmp/proxies
    """
    from stillroom.cli.show import emit, progress_bars
    from stillroom.errors import unknown_name
    from stillroom.lab import proxies

    wanted = names or [name for name in proxies.RECIPES if proxies.check(name).state != "ready"]
    for name in wanted:
        if name not in proxies.RECIPES:
            raise unknown_name("proxy", name, proxies.RECIPES)
    with progress_bars(quiet=False) as progress:
        for name in wanted:
            recipe = proxies.RECIPES[name]

            def on_step(step: int, loss: float, name: str = name, total: int = recipe.steps) -> None:
                progress(name, step, total)

            emit(str(proxies.build(recipe, out or proxies.default_folder(), on_step=on_step)))


@app.command()
def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Open every proxy and compare its recipe with today's; exit code 1 when one is absent or stale.

    Example: stillroom proxies check
    """
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.lab import proxies

    found = [proxies.check(name) for name in proxies.RECIPES]
    if as_json:
        emit_json([status.model_dump() for status in found])
    else:
        rows = [["name", "state", "weights", "kB"]]
        rows += [[s.name, s.state, f"{s.parameters:,}", f"{s.bytes // 1024}"] for s in found]
        emit(aligned(rows))
        for status in found:
            emit(f"{status.name}: {status.summary}")
    if any(status.state != "ready" for status in found):
        raise typer.Exit(1)
