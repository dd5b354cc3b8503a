"""The board: one line per claim of every published result, made from the files that the measuring commands wrote."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stillroom.errors import DataError, UserError
from stillroom.io import read_json
from stillroom.report.charts import difference
from stillroom.report.data import Claim, Part
from stillroom.report.figures import duration
from stillroom.report.text import shown


class Claims(Part):
    """`results/claims/NN-name.json`, as far as the board reads it."""

    method: str
    number: int
    verdict: str
    claims: tuple[Claim, ...] = ()
    seeds: tuple[int, ...] | int = ()
    budget: Any = None
    command: str = ""
    cpu_s: float | None = None
    wall_s: float | None = None


def board(results_folder: Path) -> str:
    """The board as Markdown; refuted and void claims stand in it like any others.

    Raises:
        UserError: no such folder. DataError: a claim file of the wrong form; the message names it.
    """
    folder = Path(results_folder)
    if not folder.is_dir():
        raise UserError(f"no results folder at {str(folder)!r}; give the folder that holds claims/*.json")
    results = sorted((_read(path) for path in folder.glob("claims/*.json")), key=lambda result: result.number)
    rows = [
        _row(result, claim, first=index == 0)
        for result in results
        for index, claim in enumerate(result.claims or (Claim.model_validate({}),))
    ]
    counts = ", ".join(
        f"{sum(result.verdict == word for result in results)} {word}"
        for word in ("supported", "refuted", "inconclusive", "void")
    )
    head = (
        "# The board\n\n"
        "What the methods claim and what came out here, on the proxies, under equal budgets. Each line is read from\n"
        "the file that its command wrote; refuted and void results are shown like any others.\n\n"
        f"{len(results)} of 83 methods measured: {counts}.\n"
    )
    if not rows:
        return head
    table = [
        "| No. | Method | Verdict | Claim | Arms | Metric | Effect [interval] | Seeds | CPU time |",
        "|--:|---|---|---|---|---|--:|---|--:|",
        *rows,
    ]
    commands = [
        f"- {result.number} {cell(result.method)}: {_code(result.command)}" for result in results if result.command
    ]
    again = ["", "## Run again", "", *commands] if commands else []
    return "\n".join([head, *table, *again]) + "\n"


def _read(path: Path) -> Claims:
    try:
        return Claims.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _row(result: Claims, claim: Claim, *, first: bool) -> str:
    effect = difference(claim.effect, claim.percent)
    if claim.interval is not None:
        effect += f" [{difference(claim.interval[0], claim.percent)}, {difference(claim.interval[1], claim.percent)}]"
    cells = [
        str(result.number) if first else "",
        cell(result.method) if first else "",
        f"**{cell(claim.verdict or result.verdict)}**",
        cell(claim.text),
        " − ".join(cell(arm) for arm in claim.arms),
        cell(claim.measured),
        effect,
        " ".join(_sign(seed) for seed in claim.seeds),
        duration(result.cpu_s) if first and result.cpu_s is not None else "",
    ]
    return f"| {' | '.join(cells)} |"


def _sign(seed: float | str) -> str:
    if isinstance(seed, str):
        return cell(seed)
    return "+" if seed > 0 else "−" if seed < 0 else "0"


def cell(text: str) -> str:
    """A text that Markdown shows as it is, on one line: neither markup nor HTML nor the end of a table cell."""
    flat = re.sub(r"\s+", " ", shown(text, max_text=2_000)).strip()
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", flat)


def _code(text: str) -> str:
    # A code span cannot hold a longer run of backticks than its fence.
    flat = re.sub(r"\s+", " ", shown(text, max_text=2_000)).strip()
    fence = "`" * (max((len(run) for run in re.findall(r"`+", flat)), default=0) + 1)
    return f"{fence} {flat} {fence}" if "`" in flat else f"`{flat}`"
