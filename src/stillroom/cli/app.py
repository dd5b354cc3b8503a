"""All commands under one roof. Every module here imports torch and its like inside the command that needs it."""

from typing import Annotated

import typer

from stillroom.cli import bench, distill, evaluate, judge, methods, proxies, runs, tasks, traces

app = typer.Typer(
    name="stillroom",
    help="Distil reasoning into small language models: make, verify and select traces, fine-tune, measure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def stillroom(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from stillroom import __version__

        typer.echo(__version__)
        raise typer.Exit


app.command("distill")(distill.distill)
app.command("run")(runs.run)
app.command("resume")(runs.resume)
app.command("view")(runs.view)
app.command("list")(methods.list_methods)
app.command("show")(methods.show_method)
app.command("eval")(evaluate.evaluate)
app.command("chat")(evaluate.chat)
app.add_typer(tasks.app)
app.add_typer(traces.app)
app.add_typer(judge.app)
app.add_typer(proxies.app)
app.add_typer(bench.app)
