"""Which charts and figures a report has: from the data to titles, captions and SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from stillroom.report import charts
from stillroom.report.charts import Point, Series, number
from stillroom.report.data import Arm, Curve, Estimate, ReportData, Selection

MAX_CURVES = 24
MAX_POINTS = 240
MAX_REINFORCED = 6
_BESIDE_TRUTH = {"reward": "reward", "correct": "right rollouts", "held_out": "right on held-out problems"}
"""Metrics of a reinforced policy that belong together, and their names in words."""


@dataclass(frozen=True)
class Figure:
    """A chart with what stands around it."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[tuple[str, int], ...] = ()
    """(label, colour slot) of each series, where there is more than one."""


@dataclass(frozen=True)
class Tile:
    """A headline number."""

    label: str
    value: str
    note: str = ""


def slots(data: ReportData) -> dict[str, int]:
    """Each arm's colour, the same in every chart."""
    names = [*(arm.name for arm in data.result.arms), *(curve.arm for curve in data.curves if curve.arm)]
    return {name: slot for slot, name in enumerate(dict.fromkeys(names))}


def tiles(data: ReportData) -> list[Tile]:
    """The few numbers that the reader came for; only those that were measured."""
    arms = {arm.name: arm for arm in data.result.arms}
    base, student, cost = arms.get("base"), arms.get("student"), data.result.cost
    found: list[Tile] = []
    if student and student.accuracy.value is not None:
        found.append(Tile("Student accuracy", number(student.accuracy.value, True), interval_note(student.accuracy)))
        if base and base.accuracy.value is not None:
            gain = 100 * (student.accuracy.value - base.accuracy.value)
            note = f"percentage points, from {number(base.accuracy.value, True)}"
            found.append(Tile("Gain over base", f"{gain:+.1f}".replace("-", "−"), note))
    if student and student.tokens.mean is not None:
        versus = arms["teacher"].tokens.mean if "teacher" in arms else None
        note = "" if versus is None else f"teacher {number(round(versus))}"
        found.append(Tile("Tokens per answer", number(round(student.tokens.mean)), note))
    if cost.wall_s is not None:
        note = "" if cost.cpu_s is None else f"{duration(cost.cpu_s)} of CPU time"
        found.append(Tile("Wall time", duration(cost.wall_s), note))
    if cost.usd is not None:
        found.append(Tile("Money", f"${cost.usd:,.2f}"))
    return found


def arm_label(arm: Arm) -> str:
    """Its name, and its seed where it has one."""
    return arm.name if arm.seed is None else f"{arm.name} · {arm.seed}"


def interval_note(estimate: Estimate) -> str:
    """``[68%, 74.1%], n = 500``, as far as it is known."""
    known = estimate.low is not None and estimate.high is not None
    span = f"[{number(estimate.low, True)}, {number(estimate.high, True)}]" if known else ""
    return ", ".join(part for part in (span, f"n = {estimate.n:,}" if estimate.n is not None else "") if part)


def duration(seconds: float) -> str:
    """``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(round(seconds, 1))} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def result_figures(data: ReportData) -> list[Figure]:
    """Arms with intervals, accuracy by level, accuracy against tokens."""
    colour, arms = slots(data), data.result.arms
    measured = [arm for arm in arms if arm.accuracy.value is not None]
    figures: list[Figure] = []
    if measured:
        rows = [(arm_label(arm), _point(0.0, arm.accuracy, flat=True), colour[arm.name]) for arm in measured]
        baselines = {arm.majority_baseline for arm in measured if arm.majority_baseline is not None}
        references = [("most frequent answer", value) for value in sorted(baselines)]
        svg = charts.intervals("Accuracy by arm", rows, "accuracy", percent=True, references=references)
        figures.append(Figure("Accuracy by arm", svg, "With 95% intervals over problems."))
    levels = sorted({level for arm in arms for level in arm.by_level}, key=_level_order)
    if len(levels) > 1:
        places = {level: float(index) for index, level in enumerate(levels)}
        # Beside one another, so that intervals of several arms at one level do not hide each other.
        step = min(0.08, 0.6 / len(arms))
        series = [
            Series(
                arm.name,
                tuple(
                    _point(places[level] + step * (index - (len(arms) - 1) / 2), arm.by_level[level])
                    for level in levels
                    if level in arm.by_level and arm.by_level[level].value is not None
                ),
                colour[arm.name],
            )
            for index, arm in enumerate(arms)
        ]
        series = [one for one in series if one.points]
        if series:
            named = [(place, level) for level, place in places.items()]
            svg = charts.lines(
                "Accuracy by level", series, "level", "accuracy", percent=True, marked=True, x_ticks=named
            )
            figures.append(Figure("Accuracy by level", svg, "", _legend(series)))
    # A strategy in several sizes (vote:n=2, vote:n=4) is one curve.
    families: dict[tuple[str, int | None], list[Arm]] = {}
    for arm in sorted(measured, key=lambda arm: arm.tokens.mean or 0.0):
        if arm.tokens.mean is not None:
            families.setdefault((arm.name.partition(":")[0], arm.seed), []).append(arm)
    series = [
        Series(
            family if len(found) > 1 else found[0].name,
            tuple(_point(arm.tokens.mean or 0.0, arm.accuracy) for arm in found),
            colour[found[0].name],
        )
        for (family, _), found in families.items()
    ]
    if series:
        svg = charts.lines(
            "Accuracy against tokens",
            series,
            "mean tokens per answer",
            "accuracy",
            percent=True,
            marked=True,
            from_zero=True,
        )
        figures.append(Figure("Accuracy against tokens", svg, "Up and to the left is better.", _legend(series)))
    return figures + context_figures(data)


def context_figures(data: ReportData) -> list[Figure]:
    """What a model had before it while one problem was answered, arm by arm; none where every answer took one call."""
    if not data.contexts:
        return []
    colour = slots(data)
    series = [
        Series(found.arm, tuple(Point(x, y) for x, y in found.points), colour.get(found.arm, slot))
        for slot, found in enumerate(data.contexts)
    ]
    svg = charts.lines("Context while answering", series, "tokens written", "tokens of context", from_zero=True)
    caption = f"The answers to {data.contexts[0].problem}; a call that begins anew drops what was written before."
    return [Figure("Context while answering", svg, caption, _legend(series))]


def curve_figures(data: ReportData) -> tuple[list[Figure], int]:
    """One chart per stage and metric, losses and accuracies first; and how many charts were left out."""
    colour = slots(data)
    grouped: dict[tuple[str, str], list[Curve]] = {}
    for curve in data.curves:
        grouped.setdefault((curve.stage, curve.metric), []).append(curve)
    keys = sorted(grouped, key=lambda key: (key[0] != "train", key[0], _metric_order(key[1]), key[1]))
    figures = []
    for stage, metric in keys[:MAX_CURVES]:
        curves = grouped[stage, metric]
        arms = {curve.arm for curve in curves}
        series = []
        for index, curve in enumerate(curves[:40]):
            by_seed = len(arms) == 1 and len(curves) > 1
            label = f"seed {curve.seed}" if by_seed else curve.arm or metric
            slot = index if by_seed else colour.get(curve.arm, 0)
            series.append(Series(label, tuple(Point(x, y) for x, y in thin(curve.points)), slot))
        values = [point.y for one in series for point in one.points]
        percent = any(word in metric for word in ("accuracy", "share", "rate")) and all(0 <= v <= 1 for v in values)
        title = f"{stage}: {metric}" if stage else metric
        svg = charts.lines(title, series, "step", metric, percent=percent and metric != "learning_rate")
        figures.append(Figure(title, svg, "", _legend(series)))
    return figures, len(keys) - len(figures)


def reinforcement_figures(data: ReportData) -> list[Figure]:
    """Reward beside truth, once per arm and seed that was reinforced, with a line where an alarm was raised."""
    found: dict[tuple[str, str], dict[str, Curve]] = {}
    for curve in data.curves:
        if curve.stage == "rl":
            found.setdefault((curve.arm, curve.seed), {})[curve.metric] = curve
    figures = []
    for (arm, seed), curves in list(found.items())[:MAX_REINFORCED]:
        shown = [(name, curves[name]) for name in _BESIDE_TRUTH if name in curves]
        if not shown:
            continue
        series = [
            Series(_BESIDE_TRUTH[name], tuple(Point(x, y) for x, y in thin(curve.points)), slot)
            for slot, (name, curve) in enumerate(shown)
        ]
        alarms = [("alarm at", x) for x, y in curves["alarms"].points if y > 0] if "alarms" in curves else []
        title = "Reward beside truth" + "".join(f", {part}" for part in (arm, seed and f"seed {seed}") if part)
        svg = charts.lines(title, series, "step", "reward, share right", events=alarms)
        caption = "A reward that rises while held-out answers get worse is gamed; the alarms stand at the top."
        figures.append(Figure(title, svg, caption, _legend(series)))
    return figures


def thin(points: Sequence[tuple[float, float]], most: int = MAX_POINTS) -> tuple[tuple[float, float], ...]:
    """At most `most` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return tuple(points)
    buckets = most // 2
    kept: list[tuple[float, float]] = []
    for index in range(buckets):
        stretch = points[index * len(points) // buckets : (index + 1) * len(points) // buckets]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return tuple(kept)


def selection_figures(data: ReportData) -> list[Figure]:
    """The funnel of the selection and the histogram of pass rates."""
    figures: list[Figure] = []
    if data.result.selection is not None:
        rows = _funnel(data.result.selection)
        if rows:
            svg = charts.bars("Selection", rows, "traces")
            figures.append(Figure("Selection of traces", svg, "How many traces came in, why some went, what was kept."))
    if data.pass_rates:
        edges = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        inner = [
            (f"≤{100 * high:.0f}", sum(low < rate <= high and rate < 1.0 for rate in data.pass_rates))
            for low, high in pairwise(edges)
        ]
        inner[-1] = ("<100", inner[-1][1])
        none, all_ = sum(r == 0.0 for r in data.pass_rates), sum(r == 1.0 for r in data.pass_rates)
        svg = charts.columns("Pass rates", [("0", none), *inner, ("100", all_)], "pass rate, %", "problems")
        caption = f"{len(data.pass_rates):,} problems; the share of each one's judged traces that are correct."
        figures.append(Figure("Difficulty: pass rate per problem", svg, caption))
    return figures


def _funnel(selection: Selection) -> list[tuple[str, float, str]]:
    rows: list[tuple[str, float, str]] = []
    if selection.input is not None:
        rows.append(("before selection", selection.input, "input"))
    dropped = sorted(selection.dropped.items(), key=lambda item: -item[1])
    rows += [(f"− {reason}", count, "dropped") for reason, count in dropped[:20]]
    if len(dropped) > 20:
        rows.append((f"− {len(dropped) - 20} other reasons", sum(count for _, count in dropped[20:]), "dropped"))
    if selection.kept is not None:
        rows.append(("kept", selection.kept, "kept"))
    return rows


def cost_rows(data: ReportData) -> list[tuple[str, str]]:
    """The measured parts of the budget vector, named and with units."""
    cost = data.result.cost
    counts = (
        ("Teacher tokens", cost.teacher_tokens),
        ("Student tokens sampled", cost.student_tokens),
        ("Trained tokens", cost.trained_tokens),
        ("Optimiser updates", cost.updates),
        ("Floating-point operations", cost.flops),
    )
    times = (("CPU time", cost.cpu_s), ("Wall time", cost.wall_s))
    shown = [(name, number(count)) for name, count in counts if count is not None]
    shown += [(name, duration(time)) for name, time in times if time is not None]
    if cost.usd is not None:
        shown.append(("Money", f"${cost.usd:,.4f}"))
    elif shown:
        shown.append(("Money", "no price known"))
    return shown


def _point(x: float, estimate: Estimate, *, flat: bool = False) -> Point:
    value = estimate.value if estimate.value is not None else 0.0
    return Point(value if flat else x, value, estimate.low, estimate.high)


def _legend(series: Sequence[Series]) -> tuple[tuple[str, int], ...]:
    entries = tuple(dict.fromkeys((one.label, one.slot) for one in series))
    return entries if len(entries) > 1 else ()


def _level_order(level: str) -> tuple[int, float, str]:
    try:
        return 0, float(level), level
    except ValueError:
        return 1, 0.0, level


def _metric_order(metric: str) -> int:
    return 0 if "loss" in metric else 1 if "accuracy" in metric or "reward" in metric else 2


def arm_rows(data: ReportData) -> list[tuple[int, tuple[str, ...]]]:
    """The table of arms: each one's colour, and its cells as text in the order of the header."""
    colour = slots(data)
    return [(colour[arm.name], _cells(arm)) for arm in data.result.arms]


def _cells(arm: Arm) -> tuple[str, ...]:
    return (
        arm_label(arm),
        number(arm.accuracy.value, True),
        f"{number(arm.accuracy.low, True)} – {number(arm.accuracy.high, True)}",
        number(arm.accuracy.n),
        number(arm.unjudged),
        *("–" if tokens is None else f"{tokens:,.1f}" for tokens in (arm.tokens.mean, arm.tokens.p50, arm.tokens.p90)),
        "–" if arm.calls is None else f"{arm.calls:,.1f}",
        number(arm.peak_context.max if arm.peak_context else None),
        number(arm.truncated, True),
        number(arm.format_failures, True),
        number(arm.majority_baseline, True),
    )
