"""`stillroom judge …`: verdicts in both orders, the four biases, and what a detector does to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stillroom.judge.asking import Judge
    from stillroom.judge.files import Paired
    from stillroom.judge.metrics import BiasReport, Detection, PairScores

app = typer.Typer(name="judge", help="How good and how biased a judge is, and debiasing it.", no_args_is_help=True)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="JSON files or folders of them; or: verdicts.")]
JudgeSpec = Annotated[str | None, typer.Option("--judge", help="openai:NAME@URL, local:PATH, or proxy:NAME.")]
Rows = Annotated[int | None, typer.Option("--n", min=1, help="Only so many rows of each bias.")]
Tries = Annotated[int, typer.Option(min=1, help="Questions to get one readable verdict.")]
Tokens = Annotated[int, typer.Option(min=1, help="Longest answer.")]
Seed = Annotated[int, typer.Option(help="Of what is drawn.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Keeps verdicts, and a server's answers; then paid once.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PriceOption = Annotated[str | None, typer.Option("--price", metavar="IN,OUT", help="US dollars per million tokens.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Most that a server may cost.")]
WORLD = "verdicts"


@app.command()
def pairs(
    files: Files,
    judge: JudgeSpec = None,
    n: Rows = None,
    tries: Tries = 3,
    max_new_tokens: Tokens = 1024,
    warning: Annotated[bool, typer.Option(help="Tell the judge that length, order and tone must not matter.")] = False,
    price: PriceOption = None,
    budget_usd: BudgetUsd = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Judge pairs in both orders: accuracy in each, right in both, the same answer in both, first place chosen.

    Rows are LLMBar's: input, output_1, output_2, label.

    Example: stillroom judge pairs data/llmbar --judge openai:my-model@http://localhost:8000/v1 --out judged
    """
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.judge.debias import judged
    from stillroom.judge.files import read_pairs
    from stillroom.judge.metrics import Both, pair_scores

    found = read_pairs(files)
    items = found.items[:n]
    whose = _judge(judge, max_new_tokens, tries, warning, out, device, price, budget_usd, sums=False)
    rows = [Both(o.item, o.verdict, o.other) for o in judged(whose, items, "clean", "judge")]
    _keep(
        out, "pairs.jsonl", [{"id": r.item.id, "gold": r.item.gold, "verdicts": [r.verdict, r.verdict_b]} for r in rows]
    )
    sources = list(dict.fromkeys(item.source for item in items))
    scores = {source: pair_scores(row for row in rows if row.item.source == source) for source in sources}
    scores["all"] = pair_scores(rows)
    read = [verdict for row in rows for verdict in (row.verdict, row.verdict_b) if verdict is not None]
    first = sum(verdict == "a" for verdict in read) / len(read) if read else None
    if as_json:
        shown = {name: score.model_dump() for name, score in scores.items()}
        emit_json({"scores": shown, "first_place": first, "left_out": [left.model_dump() for left in found.left]})
        return
    emit(aligned([_PAIR_HEAD, *([name, *_pair_cells(score)] for name, score in scores.items())]))
    emit(f"the first place was chosen in {_percent(first)} of {len(read)} verdicts")
    _tell_left(found)


@app.command()
def bias(
    files: Files,
    judge: JudgeSpec = None,
    n: Rows = None,
    tries: Tries = 3,
    max_new_tokens: Tokens = 1024,
    warning: Annotated[bool, typer.Option(help="Tell the judge that length, order and tone must not matter.")] = False,
    price: PriceOption = None,
    budget_usd: BudgetUsd = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Measure verbosity, position, bandwagon and sentiment bias on paired files.

    Without --judge the pairs are built and checked only: what is left out, and why. A CSV file of recorded verdicts is
    scored as it is: how well its detector predicts the computed labels. `verdicts` is the proxies' own world.

    Example: stillroom judge bias verdicts --judge proxy:judge-0.4m --n 20
    """
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.judge.debias import judged, undisturbed
    from stillroom.judge.metrics import bias_reports

    tables = [path for path in files if path.suffix == ".csv"]
    if tables:
        _recorded(files, as_json)
        return
    found = _items(files, n, seed)
    if judge is None:
        counts = {b: sum(item.bias == b for item in found.items) for b in dict.fromkeys(i.bias for i in found.items)}
        if as_json:
            left, doubtful = ([row.model_dump() for row in rows] for rows in (found.left, found.doubtful))
            emit_json({"rows": found.rows, "items": counts, "left_out": left, "doubtful": doubtful})
            return
        emit(aligned([["bias", "items"], *([name, str(count)] for name, count in counts.items())]))
        _tell_left(found, every=True)
        return
    whose = _judge(judge, max_new_tokens, tries, warning, out, device, price, budget_usd, sums=_of_world(files))
    clean, biased = (
        undisturbed(judged(whose, found.items, v, "judge", both_orders=False)) for v in ("clean", "biased")
    )
    _keep(out, "bias.jsonl", [o.model_dump(mode="json") for o in (*clean, *biased)])
    reports = bias_reports(clean, biased)
    if as_json:
        left = [row.model_dump() for row in found.left]
        emit_json({"biases": {r.bias: r.before.model_dump() for r in reports}, "left_out": left})
        return
    emit(aligned([_PAIR_HEAD, *([r.bias, *_pair_cells(r.before)] for r in reports)]))
    _tell_left(found)


@app.command()
def debias(
    files: Files,
    judge: JudgeSpec = None,
    detector: Annotated[str | None, typer.Option(help="As --judge: who looks for biases.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Looks at what was flagged and revised.")] = 1,
    label_only: Annotated[bool, typer.Option(help="Control: tell the judge the label without the analysis.")] = False,
    evaluator: Annotated[str, typer.Option(help="The judge's name, which the detector is told.")] = "the judge",
    n: Rows = None,
    tries: Tries = 3,
    max_new_tokens: Tokens = 2048,
    price: PriceOption = None,
    budget_usd: BudgetUsd = None,
    seed: Seed = 0,
    device: Device = "cpu",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Let a detector look at a judge's verdicts and the judge look again at those that it flags; before and after.

    Example: stillroom judge debias verdicts --judge proxy:judge-0.4m --detector local:runs/rbd/seed-0/rbd
    """
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.errors import UserError
    from stillroom.judge.debias import Debiased, analysis_and_label
    from stillroom.judge.debias import label_only as only_label
    from stillroom.judge.metrics import bias_reports

    if detector is None:
        raise UserError("judge debias needs a detector: --detector openai:NAME@URL, local:PATH or proxy:NAME")
    found = _items(files, n, seed)
    sums = _of_world(files)
    spec = (max_new_tokens, tries, False)
    rest = (device, price, budget_usd)
    helped = Debiased(
        {evaluator: _judge(judge, *spec, out, *rest, sums=sums)},
        _judge(detector, *spec, None if out is None else out / "detector", *rest, sums=sums),
        rounds=rounds,
        feedback=only_label if label_only else analysis_and_label,
    )
    clean, biased = (helped.run(found.items, version, evaluator) for version in ("clean", "biased"))
    _keep(out, "debias.jsonl", [o.model_dump(mode="json") for o in (*clean, *biased)])
    reports = bias_reports(clean, biased)
    if as_json:
        emit_json({"biases": [r.model_dump() for r in reports], "left_out": [row.model_dump() for row in found.left]})
        return
    emit(aligned([_DEBIAS_HEAD, *map(_debias_cells, reports)]))
    _tell_left(found)


_PAIR_HEAD = ["", "rows", "dropped", "Acc(D)", "Acc(D_bias)", "right twice", "same twice"]
_DEBIAS_HEAD = [
    *("", "rows", "Acc(D_bias)", "after", "right twice", "after", "flagged", "insisted"),
    *("to right", "to wrong", "malformed", "clean", "after"),
]


def _pair_cells(score: "PairScores") -> list[str]:
    shares = (score.accuracy, score.accuracy_b, score.consistency, score.agreement)
    return [str(score.n), str(score.dropped), *map(_percent, shares)]


def _debias_cells(r: "BiasReport") -> list[str]:
    moved = (r.biased.flagged, r.biased.insisted, r.biased.wrong_to_right, r.biased.right_to_wrong, r.biased.malformed)
    shares = (r.before.accuracy_b, r.after.accuracy_b, r.before.consistency, r.after.consistency)
    harm = (r.clean.accuracy_before, r.clean.accuracy_after)
    return [r.bias, str(r.before.n), *map(_percent, shares), *map(str, moved), *map(_percent, harm)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _of_world(files: "Sequence[Path]") -> bool:
    return [str(path) for path in files] == [WORLD]


def _items(files: "Sequence[Path]", n: int | None, seed: int) -> "Paired":
    from stillroom.judge.files import Paired, read_biased

    if _of_world(files):
        from stillroom.tasks import load_task
        from stillroom.tasks.verdicts import item_of

        problems = load_task(WORLD).problems("test", 4 * (n or 100), seed)
        return Paired([item_of(problem) for problem in problems], [], [], len(problems))
    found = read_biased(files, seed=seed)
    if n is None:
        return found
    kept = [[item for item in found.items if item.bias == b][:n] for b in dict.fromkeys(i.bias for i in found.items)]
    return found._replace(items=[item for group in kept for item in group])


def _judge(
    spec: str | None,
    max_new_tokens: int,
    tries: int,
    warning: bool,
    folder: Path | None,
    device: str,
    price: str | None,
    budget_usd: float | None,
    *,
    sums: bool,
) -> "Judge":
    from tempfile import mkdtemp

    from stillroom.errors import UserError
    from stillroom.judge.asking import Judge, Ladder
    from stillroom.judge.wording import ENGLISH, SUMS
    from stillroom.samplers import make_sampler

    if spec is None:
        raise UserError("say who judges: --judge openai:NAME@URL, local:PATH or proxy:NAME")
    if spec.startswith("proxy:"):
        from stillroom.models.policy import resolve_student

        spec = f"local:{resolve_student(spec)}"
    server: dict[str, Any] = {}
    if spec.startswith("openai:"):
        server = {"folder": folder or Path(mkdtemp(prefix="stillroom-judge-")), "budget_usd": budget_usd}
        server["price"] = None if price is None else _price(price)
    sampler = make_sampler(spec, device=device, **server)
    limit = min(max_new_tokens, 96) if sums else max_new_tokens
    return Judge(sampler, SUMS if sums else ENGLISH, Ladder(tries=tries), limit, warning)


def _price(text: str) -> tuple[float, float]:
    from stillroom.errors import UserError

    try:
        given, received = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--price {text!r} is not IN,OUT; for example --price 0.3,1.2") from None
    return given, received


def _recorded(files: "Sequence[Path]", as_json: bool) -> None:
    from stillroom.cli.show import aligned, emit, emit_json
    from stillroom.errors import UserError
    from stillroom.judge.files import read_recorded
    from stillroom.judge.metrics import detection

    if len(files) > 1:
        raise UserError("give one CSV file of recorded verdicts alone")
    rows = read_recorded(files[0])
    names = list(dict.fromkeys(row.bias for row in rows))
    found = {name: detection((row.label, row.said) for row in rows if row.bias == name) for name in names}
    found["all"] = detection((row.label, row.said) for row in rows)
    if as_json:
        emit_json({name: score.model_dump() for name, score in found.items()})
        return
    head = ["", "accuracy", "recall", "precision", "F1", "malformed"]
    emit(aligned([head, *([name, *_detection_cells(score)] for name, score in found.items())]))


def _detection_cells(score: "Detection") -> list[str]:
    yes, said = score.true_yes + score.false_no, score.true_yes + score.false_yes
    return [
        f"{score.true_yes + score.true_no}/{score.n} = {_percent(score.accuracy)}",
        f"{score.true_yes}/{yes} = {_percent(score.recall)}",
        f"{score.true_yes}/{said} = {_percent(score.precision)}",
        _percent(score.f1),
        str(score.malformed),
    ]


def _tell_left(found: "Paired", *, every: bool = False) -> None:
    """Rows that were left out: counted by reason, with their numbers when asked for."""
    from stillroom.cli.show import emit

    for what, rows in (("left out", found.left), ("worth a look", found.doubtful)):
        reasons: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            reasons.setdefault((row.source, row.reason), []).append(row.row)
        for (source, reason), numbers in reasons.items():
            shown = f": rows {', '.join(map(str, numbers))}" if every and what == "left out" else ""
            if every or what == "left out":
                emit(f"{what}: {len(numbers)} of {source}: {reason}{shown}")


def _keep(out: Path | None, name: str, rows: "Sequence[dict[str, Any]]") -> None:
    import json

    from stillroom.io import write_atomic

    if out is not None:
        write_atomic(out / name, "".join(json.dumps(row) + "\n" for row in rows))
