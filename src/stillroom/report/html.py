"""The run report: one HTML file that stands alone, holds its own traces, and trusts no text that it shows."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stillroom.io import write_atomic
from stillroom.report import charts, figures
from stillroom.report.data import ReportData, load
from stillroom.report.text import embed_json, marked, shown
from stillroom.report.views import TraceView
from stillroom.seeds import digest

MAX_BYTES = 20_000_000
_MARGIN = 100_000


def build(run_folder: Path) -> Path:
    """Write `report.html` into a run folder, finished or not, and return its path; raises as `data.load` does."""
    path = Path(run_folder) / "report.html"
    write_atomic(path, render(load(Path(run_folder))))
    return path


def render(data: ReportData) -> str:
    """The report as HTML of at most `MAX_BYTES`: traces that do not fit are left out, and the page says how many."""
    curves, left_out = figures.curve_figures(data)

    def page(traces: Sequence[str]) -> str:
        return (
            environment()
            .get_template("report.html.j2")
            .render(
                data=data,
                result=data.result,
                alarms=[*data.result.alarms, *data.alarms],
                tiles=figures.tiles(data),
                results=figures.result_figures(data),
                arm_rows=figures.arm_rows(data),
                curves=[*figures.reinforcement_figures(data), *curves],
                curves_left_out=left_out,
                selection=figures.selection_figures(data),
                cost=figures.cost_rows(data),
                n_shown=len(traces),
                traces=Markup(f"[{','.join(traces)}]"),
                style=asset("style.css"),
                script=asset("viewer.js"),
                policy=policy(),
            )
        )

    bare = len(page(()).encode())
    return page(fit(data.traces, MAX_BYTES - bare - _MARGIN))


def policy() -> str:
    """The content security policy: our style sheet and our script by their hashes, and nothing else at all."""
    return (
        f"default-src 'none'; style-src '{hash_source(asset('style.css'))}'; "
        f"script-src '{hash_source(asset('viewer.js'))}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def fit(views: Sequence[TraceView], budget: int) -> list[str]:
    """As many views as fit into `budget` bytes, each as JSON; the rest is drawn by hash over all of them."""
    written = [embed_json(view.model_dump(exclude={"task", "sampler"})) for view in views]
    kept: list[int] = []
    for position in sorted(range(len(views)), key=lambda position: digest("fit", str(position))):
        size = len(written[position].encode()) + 1
        if size <= budget:
            budget -= size
            kept.append(position)
    return [written[position] for position in sorted(kept)]


@cache
def environment() -> Environment:
    """Templates that escape every value and make its hidden characters visible."""
    found = Environment(
        loader=PackageLoader("stillroom.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": charts.number, "difference": charts.difference, "marked": marked}
    found.globals |= {"swatch": charts.swatch, "effect": charts.effect}
    return found


def _finalize(value: Any) -> Any:
    # Markup is our own; every other string may come from a model.
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def asset(name: str) -> Markup:
    """A style sheet or script of ours, to stand inside its element as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def hash_source(source: str) -> str:
    """A source for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
