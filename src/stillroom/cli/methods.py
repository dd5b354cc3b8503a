"""`stillroom list` and `stillroom show`: the catalogue on the command line."""

import json
import sys
from typing import Annotated, Any

import typer

from stillroom.cli.show import emit
from stillroom.errors import UserError, unknown_name


def list_methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")] = False,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
) -> None:
    """List the 83 methods, what each does and which are done.

    Example: stillroom list --family reinforcement-learning
    """
    from stillroom.methods import registry

    methods = registry.catalogue()
    if family is not None:
        if family not in registry.families():
            raise unknown_name("family", family, registry.families())
        methods = [info for info in methods if info.family == family]
    if as_json:
        emit(json.dumps([info.model_dump(exclude={"paper"}) for info in methods], indent=2, ensure_ascii=False))
        return

    if not sys.stdout.isatty():
        # A pipe gets one line per method, tab-separated, so that grep and cut work.
        rows = [(i.number, i.name, i.alias, i.family, i.status, i.summary) for i in methods]
        emit("\n".join("\t".join(str(value) for value in row) for row in rows))
        return

    from rich import box
    from rich.table import Table

    table = Table("no.", "name", "status", box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.columns[0].justify = "right"
    table.columns[1].no_wrap = True
    table.add_column("what it does", no_wrap=True, overflow="ellipsis", ratio=1)
    for info in methods:
        table.add_row(str(info.number), info.name, info.status, info.summary)
    _render(table)
    done = sum(info.status == "done" for info in methods)
    core = ", ".join(registry.CORE_RECIPES)
    emit(f"{done} of {len(methods)} done. Core recipes: {core}. One in full: stillroom show NAME")


def show_method(
    key: Annotated[str, typer.Argument(metavar="NAME", help="A method's name, alias or number; or a core recipe.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show one method: its paper, what it does, its page and its published result.

    Example: stillroom show dart-math
    """
    from stillroom.methods import registry

    if key in registry.CORE_RECIPES:
        core = _page_text(f"{registry.__package__}.{key}")
        emit(json.dumps({"name": key, "page": core}, indent=2) if as_json else f"{key}: core recipe\n\n{core}")
        return
    try:
        info = registry.resolve(key)
    except UserError as error:
        raise UserError(f"{error}; core recipes: {', '.join(registry.CORE_RECIPES)}") from error
    page = _page_text(registry.page_module(info)) if registry.has_page(info) else None
    claim = registry.claim(info)
    if as_json:
        shown = {**info.model_dump(), "page": page, "arms": _arms(claim), "claim": claim}
        emit(json.dumps(shown, indent=2, ensure_ascii=False))
        return

    lines = [
        f"{info.number} {info.name} ({info.alias}): {info.status}",
        info.title,
        info.paper,
        f"family: {info.family}",
        "",
        info.summary,
    ]
    if page:
        lines += ["", page]
    if claim:
        lines += ["", *_claim_lines(claim)]
    elif page:
        lines += ["", f"No published result yet; measure it: stillroom run {info.name}"]
    else:
        lines += ["", "Planned: no page yet."]
    emit("\n".join(lines))


def _page_text(module: str) -> str:
    """The docstring of a page, read without importing it: a page may import torch, and this command should not wait."""
    import ast
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise UserError(f"the module {module} is missing; install stillroom again")
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _arms(claim: dict[str, Any] | None) -> list[str]:
    """The arms that the claim contrasts, in order of appearance."""
    contrasts = claim["claims"] if claim else []
    return list(dict.fromkeys(arm for contrast in contrasts for arm in contrast.get("arms", [])))


def _claim_lines(claim: dict[str, Any]) -> list[str]:
    seeds = claim["seeds"]
    count = len(seeds) if isinstance(seeds, list) else seeds
    lines = [f"result: {claim['verdict']} ({count} seeds)", f"arms: {', '.join(_arms(claim))}"]
    for contrast in claim["claims"]:
        text = contrast.get("text") or f"{' against '.join(contrast['arms'])} on {contrast['metric']}"
        effect, interval = contrast["effect"], contrast["interval"]
        lines.append(
            f"  {contrast.get('verdict', '-')}: {text}: {effect:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"
        )
    return [*lines, f"measured by: {claim['command']} (commit {claim['commit'][:12]})"]


def _render(table: Any) -> None:
    from rich.console import Console

    console = Console()
    with console.capture() as capture:
        console.print(table)
    emit(capture.get().rstrip("\n"))
