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


@app.command("hard-pairs")
def hard_pairs(out: Out, as_json: AsJson = False) -> None:
    """Judge pairs of gold and answer that fool verifiers, with the truth about each, ours beside math-verify.

    Example: stillroom bench hard-pairs --out hard-pairs.json
    """
    from stillroom.bench.hard_pairs import measure

    result = measure()
    tracker, own = result["tracker"], result["own"]
    _write(
        out,
        result,
        as_json,
        f"{tracker['ours_as_given']} of math-verify's {tracker['pairs']} hard pairs right "
        f"(math-verify {tracker['math_verify_as_given']}); of our {own['pairs']}, {own['ours_as_given']} "
        f"(math-verify {own['math_verify_as_given']})",
    )


@app.command("math-verify")
def math_verify(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds gsm8k/ and math/math500.jsonl.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Compare our verdicts with math-verify's on recorded answers and MATH-500, and list every difference; minutes.

    Example: stillroom bench math-verify --data ../data --out agreement.json
    """
    from stillroom.bench.math_verify_agreement import measure

    result = measure(data)
    _write(
        out,
        result,
        as_json,
        f"{result['pairs']:,} pairs, the same verdict on {result['agree']:,}; the others: {result['who_is_right']}",
    )


@app.command()
def importance(
    model: Annotated[str, typer.Option(metavar="MODEL", help="proxy:NAME, a checkpoint folder, or a hub id.")],
    task: Annotated[str, typer.Option(metavar="SPEC", help="A task with a solver: NAME[:option=value].")],
    out: Out,
    split: Annotated[str, typer.Option(help="Problems to measure on: train, dev or test.")] = "test",
    problems: Annotated[int, typer.Option(min=4, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Disturb the weights that each selection score picks, LIFT's among them, and see which disturbance hurts most.

    Example: stillroom bench importance --model proxy:student-0.4m --task arithmetic --out importance.json
    """
    from stillroom.bench.importance import measure
    from stillroom.cli.show import progress_bars
    from stillroom.errors import unknown_name

    if split not in ("train", "dev", "test"):
        raise unknown_name("split", split, ("train", "dev", "test"))
    with progress_bars(quiet=as_json) as progress:
        result = measure(
            model,
            task,
            split=split,  # type: ignore[arg-type]
            problems=problems,
            seed=seed,
            on_row=lambda done, total: progress("noise", done, total),
        )
    orders = "; ".join(f"{density}: {', '.join(order)}" for density, order in result["most_harmful_first"].items())
    _write(out, result, as_json, f"loss {result['undisturbed']['loss']:.3f} undisturbed; most harmful first, {orders}")


@app.command()
def speed(
    only: Annotated[list[str] | None, typer.Option(metavar="BAR", help="This bar; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every side; published are 5 or more.")] = 5,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Each bar becomes DIR/BAR.json.")] = Path("results/speed"),
    peers: Annotated[
        Path, typer.Option(metavar="DIR", help="The peers' sides; `make peers` installs what they need.")
    ] = (Path("bench/peers")),
    as_json: AsJson = False,
) -> None:
    """Measure Stillroom beside its peers, from the root of a checkout, in turn and on the same work; minutes a bar.

    Example: stillroom bench speed --only sampling-full-0.4m --out results/speed
    """
    from stillroom.bench.speed import bar, bars
    from stillroom.bench.speed.pairing import measure
    from stillroom.cli.show import emit, emit_json, progress_bars
    from stillroom.io import write_json

    results = []
    for wanted in [bar(name) for name in only] if only else bars():
        with progress_bars(quiet=as_json) as progress:
            result = measure(
                wanted,
                rounds=rounds,
                peers=peers,
                on_round=lambda done, name=wanted.name: progress(name, done, rounds),  # type: ignore[misc]
            )
        write_json(out / f"{wanted.name}.json", result)
        results.append(result)
        if not as_json:
            verdict = "aim" if wanted.kind == "aim" else "passed" if result["passed"] else "missed"
            emit(
                f"{wanted.name}: {result['ratio']:.2f} × {result['peer_label']} (target {wanted.target}: {verdict}); "
                f"{result['ours']:,.0f} beside {result['peer']:,.0f} {wanted.unit}"
            )
    if as_json:
        emit_json(results)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


@app.command("traces")
def trace_pipeline(
    problems: Annotated[
        list[int], typer.Option(min=1, help="Of eight traces; repeat it to compare sizes with the first.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Each size becomes DIR/traces-SIZE.json.")] = Path(
        "results/speed"
    ),
    as_json: AsJson = False,
) -> None:
    """Time statistics, duplicates, contamination and selection on made-up traces; 1 GB of disk per million of them.

    Example: stillroom bench traces --problems 125000 --problems 1250000
    """
    from stillroom.bench.speed.traces import measure_scale
    from stillroom.cli.show import emit, emit_json, progress_bars
    from stillroom.io import write_json

    results = []
    with progress_bars(quiet=as_json) as progress:
        for result in measure_scale(problems):
            write_json(out / f"{result['bar']}.json", result)
            results.append(result)
            progress("sizes", len(results), len(problems))
            if not as_json:
                emit(
                    f"{result['bar']}: {result['wall_s']:.0f} s, {result['cpu_s']:.0f} CPU-s, "
                    f"{result['peak_gb']:.2f} GB at most; {'passed' if result['passed'] else 'missed'}"
                )
    if as_json:
        emit_json(results)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


@app.command()
def reinforce(
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds at the same time.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a proxy with grpo from less than half right, once per seed; minutes.

    Example: stillroom bench reinforce --out grpo.json
    """
    from stillroom.bench.reinforcing import measure_gain

    result = measure_gain(seeds, jobs)
    shown = "; ".join(f"{row['start']:.1%} to {row['end']:.1%} in {row['cpu_s']:.0f} CPU-s" for row in result["seeds"])
    _write(out, result, as_json, shown)


@app.command("kill-reinforce")
def kill_reinforce(
    out: Out,
    moments: Annotated[int, typer.Option(min=1, help="Kills in each phase.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Kill reinforcement amid rollouts, rewards, updates and checkpoints, go on, compare bit for bit; minutes.

    Example: stillroom bench kill-reinforce --out kill-resume.json
    """
    from stillroom.bench.kill_reinforce import PHASES, measure
    from stillroom.cli.show import progress_bars

    total = moments * len(PHASES)
    with progress_bars(quiet=as_json) as progress:
        result = measure(moments, seed, on_moment=lambda number, what: progress("kills", number, total))
    _write(out, result, as_json, f"{result['equal']} of {total} killed runs equal the uninterrupted one bit for bit")


@app.command("reward-hack")
def reward_hack(
    out: Out,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Reinforce with rewards that pay for length or a marker, and with an honest one, and see which alarms come.

    Example: stillroom bench reward-hack --out reward-hack.json
    """
    from stillroom.bench.reinforcing import measure_hacks

    result = measure_hacks(seeds, jobs)
    _write(out, result, as_json, "; ".join(f"{r['reward']}: {r['alarms'] or 'no alarm'}" for r in result["runs"]))


@app.command()
def sandbox(
    out: Out,
    copies: Annotated[int, typer.Option(min=20, help="How many, of each state.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Time how long a copy of an interpreter's state takes to make, for states of several sizes.

    Example: stillroom bench sandbox --out sandbox.json
    """
    from stillroom.bench.sandbox import measure

    result = measure(copies)
    shown = ", ".join(f"{state['megabytes']} MB {state['p95_ms']:.1f} ms" for state in result["states"])
    _write(out, result, as_json, f"95 % of copies take less than: {shown} (bar {result['bar_ms']} ms)")


@app.command()
def worlds(
    only: Annotated[list[str] | None, typer.Option(metavar="TASK", help="This task; may be repeated.")] = None,
    problems: Annotated[
        int | None, typer.Option(min=1, help="How many of each task; default: 10,000, or 1,000 puzzles.")
    ] = None,
    hostile: Annotated[int, typer.Option(min=1, help="Hostile responses for each verifier.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of the problems and responses.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Each task becomes DIR/TASK.json.")] = Path("results/worlds"),
    as_json: AsJson = False,
) -> None:
    """Try every task: its solver's answers, wrong ones, splits, speed, and hostile responses; a minute each.

    Example: stillroom bench worlds --only instructions --out results/worlds
    """
    from stillroom.bench.worlds import measure, names
    from stillroom.cli.show import emit, emit_json
    from stillroom.io import write_json

    results = []
    for name in only or names():
        result = measure(name, problems=problems, hostile=hostile, seed=seed)
        write_json(out / f"{name.replace(':', '-')}.json", result)
        results.append(result)
        if not as_json:
            attacked = result["hostile"]
            shown = f"{name}: {'passed' if result['passed'] else 'MISSED'}; "
            if "solutions" in result:
                shown += (
                    f"{result['solutions_verified']:,} of {result['solutions']:,} answers verify, "
                    f"{result['corrupted_accepted']} of {result['corrupted']:,} wrong ones do; "
                    f"{result['problems_per_s']:,.0f} problems/s; "
                )
            emit(
                f"{shown}{attacked['responses']:,} hostile responses, {attacked['crashes']} crashes, "
                f"{attacked['slowest_cpu_s']:.2f} s at most"
            )
    if as_json:
        emit_json(results)
    if not all(result["passed"] for result in results):
        raise typer.Exit(1)


@app.command()
def parsers(
    out: Out,
    hostile: Annotated[int, typer.Option(min=1, help="Hostile responses for each reader.")] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Try every reader of what models write (thoughts, rounds, verdicts, actions) with hostile responses; minutes.

    Example: stillroom bench parsers --out parsers.json
    """
    from stillroom.bench.parsers import READERS, measure
    from stillroom.cli.show import progress_bars

    result = dict[str, Any]()
    with progress_bars(quiet=as_json) as progress:
        for result in measure(hostile):
            progress("readers", len(result["readers"]), len(READERS))
    met = sum(found["responses"] for found in result["readers"].values())
    crashes = sum(found["crashes"] for found in result["readers"].values())
    _write(out, result, as_json, f"{len(result['readers'])} readers, {met:,} hostile responses, {crashes} crashes")


@app.command()
def puzzles(
    out: Out,
    boards: Annotated[int, typer.Option(min=10, help="Right ones of each kind, and as many wrong ones.")] = 1000,
    only: Annotated[list[str] | None, typer.Option(metavar="KIND", help="This kind; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge boards of every kind of puzzle, right and wrong, beside OR-tools CP-SAT; minutes.

    Example: stillroom bench puzzles --out puzzles.json
    """
    from stillroom.bench.puzzles import measure
    from stillroom.cli.show import progress_bars
    from stillroom.io import write_json
    from stillroom.tasks.puzzles.kinds import KINDS

    kinds, result = tuple(only or KINDS), dict[str, Any]()
    with progress_bars(quiet=as_json) as progress:
        for result in measure(boards, kinds):
            write_json(out, result)  # minutes of work, kind by kind
            progress("kinds", len(result["kinds"]), len(kinds))
    judged = sum(row["counts"]["valid"] + row["counts"]["corrupted"] for row in result["kinds"])
    alike = sum(row["counts"]["valid agree"] + row["counts"]["corrupted agree"] for row in result["kinds"])
    _write(
        out,
        result,
        as_json,
        f"{judged:,} boards of {len(kinds)} kinds, {judged - alike} judged otherwise than by CP-SAT; "
        f"at least {result['slowest_puzzles_per_s']:.1f} puzzles made and {result['slowest_pictures_per_s']:.0f} "
        "pictures drawn a CPU-second",
    )


@app.command()
def protoqa(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that holds protoqa/ with the recorded lists.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Score the lists that were published with ProtoQA, humans' and a model's, in every variant of its metric.

    Example: stillroom bench protoqa --data ../data --out protoqa-recorded.json
    """
    from stillroom.bench.protoqa import measure

    result = measure(data)
    shown = {who: found["exact"]["answers@3"] for who, found in result["scores"].items()}
    _write(out, result, as_json, "Answers@3: " + ", ".join(f"{who} {100 * value:.1f}" for who, value in shown.items()))


def _write(out: Path, result: dict[str, Any], as_json: bool, line: str) -> None:
    from stillroom.cli.show import emit, emit_json
    from stillroom.io import write_json

    write_json(out, result)
    emit_json(result) if as_json else emit(line)
    if not result["passed"]:
        raise typer.Exit(1)
