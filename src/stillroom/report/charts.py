"""Five small charts as inline SVG, without a plotting library.

The report must stand alone, stay light, follow the reader's dark mode and be read aloud. A plotting library's SVG
carries its own fonts, colours and style attributes (which the page's content policy forbids); these charts carry class
names only, and the style sheet does the rest. Every mark has a hover title, every chart a spoken description.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from stillroom.report.text import shown

WIDTH, HEIGHT = 400.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 14.0, 28.0, 44.0
SLOTS = 7
"""Colours in the palette; a mark's shape repeats only after `SLOTS` too."""


@dataclass(frozen=True)
class Point:
    """A value with its interval, in data units."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one colour; `slot` numbers the colour, so that an arm keeps it from chart to chart."""

    label: str
    points: tuple[Point, ...]
    slot: int = 0


def number(value: float | None, percent: bool = False) -> str:
    """A figure as people write it: ``12,345``, ``0.042``, ``71.0%``; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if percent:
        return f"{100 * value:.1f}%".replace("-", "−")
    size = abs(value)
    if size >= 1e10 or 0 < size < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    elif value == int(value):
        text = f"{int(value):,}"
    else:
        text = f"{value:,.0f}" if size >= 1000 else f"{value:.3g}" if size < 1 else f"{value:.4g}"
    return text.replace("-", "−")


def difference(value: float | None, percent: bool = False) -> str:
    """A signed figure: ``+4.2 pp`` (percentage points) between shares, else ``−0.31``; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{100 * value:+.1f} pp" if percent else f"{'+' if value > 0 else ''}{number(value)}"
    return text.replace("-", "−")


def _round(value: float, percent: bool) -> str:
    """A tick's name: `number`, without a needless decimal."""
    return number(value, percent).replace(".0%", "%")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that cover [low, high]; always at least two, rising."""
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-280):  # too close for floating point to tell ticks apart
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def lines(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    percent: bool = False,
    joined: bool = True,
    marked: bool = False,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    from_zero: bool = False,
    events: Sequence[tuple[str, float]] = (),
) -> Markup:
    """Series over a numeric x axis: joined by lines or scattered, marked with shapes and intervals or plain.

    Args:
        x_ticks: named places on the x axis instead of round numbers.
        from_zero: both axes start at 0.
        events: named places on the x axis, drawn as dashed upright lines.
    """
    points = [point for one in series for point in one.points]
    spread = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    y_axis = ticks(min([*spread, 0.0] if from_zero else spread), max(spread))
    if percent:
        shares = [tick for tick in y_axis if -1e-9 <= tick <= 1 + 1e-9]
        y_axis = shares if len(shares) > 1 else [0.0, 0.5, 1.0]
    xs = [*(point.x for point in points), *(place for _, place in events)]
    named = (
        x_ticks
        if x_ticks is not None
        else [(t, _round(t, False)) for t in ticks(min([*xs, 0.0] if from_zero else xs), max(xs))]
    )
    margin = 0.5 if x_ticks is not None else 0.0
    x_low, x_high = named[0][0] - margin, named[-1][0] + margin
    y_low, y_high = min(y_axis[0], *spread), max(y_axis[-1], *spread)

    def across(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    body = [_frame([(down(t), _round(t, percent)) for t in y_axis], [(across(x), name) for x, name in named])]
    body.append(_text(8, 12, y_label, "axis", "start"))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "axis", "middle"))
    for name, place in events:
        body.append(_stroke(across(place), TOP - 8, across(place), HEIGHT - BOTTOM, "reference"))
        body.append(_text(across(place), TOP - 13, f"{name} {number(place)}", "tick", "middle"))
    for one in series:
        colour = f"s{one.slot % SLOTS}"
        if joined and len(one.points) > 1:
            path = "M" + "L".join(f"{across(p.x):.1f} {down(p.y):.1f}" for p in one.points)
            body.append(Markup('<path class="line {}" d="{}"/>').format(colour, path))
        every = max(1, len(one.points) // 60)
        for point in one.points if marked else one.points[::every]:
            x, y = across(point.x), down(point.y)
            note = f"{one.label}: {number(point.y, percent)}{_span(point.low, point.high, percent)}"
            where = next((name for place, name in named if place == point.x), number(point.x))
            mark = _mark(x, y, one.slot) if marked else Markup("")
            if marked and point.low is not None and point.high is not None:
                mark = _stroke(x, down(point.low), x, down(point.high), f"whisker {colour}") + mark
            body.append(_hover(x, y, mark, f"{note} at {x_label} {where}"))
    spoken = f"{y_label} by {x_label}. {_speak(series, percent)}"
    happened = "".join(f" {name} {number(place)}." for name, place in events)
    return _svg(title, spoken + happened, HEIGHT, body)


def intervals(
    title: str,
    rows: Sequence[tuple[str, Point, int]],
    x_label: str,
    *,
    percent: bool = False,
    references: Sequence[tuple[str, float]] = (),
) -> Markup:
    """One row per (label, point, colour slot): a mark at ``point.x`` with its interval, over a shared x axis from 0.

    Args:
        references: named values, drawn as dashed upright lines.
    """
    spread = [v for _, p, _ in rows for v in (p.x, p.low, p.high) if v is not None]
    axis = ticks(min([0.0, *spread]), max([*spread, *(v for _, v in references)]))
    if percent:
        axis = [tick for tick in axis if tick <= 1 + 1e-9]
    low, high = min(axis[0], *spread), max(axis[-1], *spread)
    left, step = 118.0, 34.0
    height = TOP + step * len(rows) + BOTTOM

    def across(x: float) -> float:
        return left + (x - low) / (high - low) * (WIDTH - left - 64)

    floor = height - BOTTOM
    body = [_stroke(across(t), TOP - 8, across(t), floor, "grid") for t in axis]
    body += [_text(across(t), floor + 17, _round(t, percent), "tick", "middle") for t in axis]
    body.append(_text(left, height - 6, x_label, "axis", "start"))
    for name, value in references:
        body.append(_stroke(across(value), TOP - 8, across(value), floor, "reference"))
        body.append(_text(across(value), TOP - 13, f"{name} {number(value, percent)}", "tick", "middle"))
    for index, (label, point, slot) in enumerate(rows):
        y = TOP + step * (index + 0.5)
        mark = _mark(across(point.x), y, slot)
        if point.low is not None and point.high is not None:
            mark = _stroke(across(point.low), y, across(point.high), y, f"whisker s{slot % SLOTS}") + mark
        body.append(_text(left - 10, y + 4, _fit(label, 17), "label", "end", hover=label))
        body.append(_text(WIDTH - 4, y + 4, number(point.x, percent), "figure", "end"))
        body.append(
            _hover(
                across(point.x), y, mark, f"{label}: {number(point.x, percent)}{_span(point.low, point.high, percent)}"
            )
        )
    spoken = "; ".join(f"{label} {number(p.x, percent)}{_span(p.low, p.high, percent)}" for label, p, _ in rows)
    return _svg(title, f"{x_label}: {spoken}.", height, body)


def bars(title: str, rows: Sequence[tuple[str, float, str]], unit: str) -> Markup:
    """Horizontal bars from 0: (label, value, class) per row, where the class picks the style's colour."""
    step, left = 30.0, 134.0
    height = step * len(rows) + 8
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    body = []
    for index, (label, value, kind) in enumerate(rows):
        y = 4 + step * index
        width = max(value / most * (WIDTH - left - 58), 1.0 if value else 0.0)
        body.append(_text(left - 10, y + step / 2 + 3, _fit(label, 19), "label", "end", hover=label))
        body.append(_bar(left, y + 4, width, step - 10, kind, f"{label}: {number(value)} {unit}"))
        body.append(_text(left + width + 8, y + step / 2 + 3, number(value), "figure", "start"))
    return _svg(title, "; ".join(f"{label} {number(value)}" for label, value, _ in rows) + f" {unit}.", height, body)


def columns(title: str, counts: Sequence[tuple[str, int]], x_label: str, y_label: str) -> Markup:
    """Upright bars of counts from 0, one per named bin in order."""
    axis = ticks(0, max(max((count for _, count in counts), default=0), 1), most=5)
    wide = (WIDTH - LEFT - RIGHT) / max(len(counts), 1)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - y / axis[-1] * (HEIGHT - TOP - BOTTOM)

    middles = [(LEFT + wide * (i + 0.5), name) for i, (name, _) in enumerate(counts)]
    body = [_frame([(down(t), number(t)) for t in axis], middles)]
    body.append(_text(8, 12, y_label, "axis", "start"))
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_label, "axis", "middle"))
    for (middle, name), (_, count) in zip(middles, counts, strict=True):
        top = down(count)
        note = f"{x_label} {name}: {number(count)}"
        body.append(_bar(middle - wide * 0.38, top, wide * 0.76, HEIGHT - BOTTOM - top, "kept", note))
    return _svg(title, "; ".join(f"{name}: {count}" for name, count in counts) + f" {y_label}.", HEIGHT, body)


def effect(value: float, low: float | None, high: float | None, percent: bool) -> Markup:
    """A small interval beside its zero line, for a row of a table."""
    reach = max(abs(v) for v in (value, low, high) if v is not None) * 1.1 or 1.0
    width, middle = 160.0, 12.0

    def across(x: float) -> float:
        return width / 2 + x / reach * (width / 2 - 8)

    mark = _mark(across(value), middle, 0)
    if low is not None and high is not None:
        mark = _stroke(across(low), middle, across(high), middle, "whisker s0") + mark
    known = low is not None and high is not None
    spoken = difference(value, percent)
    spoken += f" [{difference(low, percent)}, {difference(high, percent)}]" if known else ""
    body = [_stroke(width / 2, 2, width / 2, 22, "reference"), _hover(across(value), middle, mark, spoken)]
    return _svg("effect", spoken, 24.0, body, width=width, kind="effect")


def _svg(
    title: str, spoken: str, height: float, body: Iterable[Markup], width: float = WIDTH, kind: str = "chart"
) -> Markup:
    label = f"{title}. {spoken}"
    head = Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">')
    return head.format(kind, width, height, shown(label, max_line=1_500)) + Markup("").join(body) + Markup("</svg>")


def _frame(rows: Sequence[tuple[float, str]], marks: Sequence[tuple[float, str]]) -> Markup:
    floor = HEIGHT - BOTTOM
    parts = [_stroke(LEFT, y, WIDTH - RIGHT, y, "grid") for y, _ in rows]
    parts += [_text(LEFT - 7, y + 4, name, "tick", "end") for y, name in rows]
    parts += [_text(x, floor + 17, _fit(name, 9), "tick", "middle", hover=name) for x, name in marks]
    return Markup("").join(parts)


def _text(x: float, y: float, text: str, kind: str, anchor: str, *, hover: str = "") -> Markup:
    inner = escape(shown(text)) + (Markup("<title>{}</title>").format(shown(hover)) if hover not in ("", text) else "")
    head = Markup('<text x="{:.1f}" y="{:.1f}" class="{} {}">')
    return head.format(x, y, kind, anchor) + inner + Markup("</text>")


def _stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _bar(x: float, y: float, width: float, height: float, kind: str, note: str) -> Markup:
    box = Markup('<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2">')
    return box.format(kind, x, y, width, height) + Markup("<title>{}</title></rect>").format(shown(note))


def _hover(x: float, y: float, mark: Markup, note: str) -> Markup:
    hit = Markup('<circle class="hit" cx="{:.1f}" cy="{:.1f}" r="9"/>').format(x, y)
    return Markup("<g><title>{}</title>").format(shown(note)) + mark + hit + Markup("</g>")


_SHAPES: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 4.5:.1f} {y:.1f}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
    lambda x, y: f"M{x - 4:.1f} {y - 4:.1f}h8v8h-8z",
    lambda x, y: f"M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
    lambda x, y: f"M{x:.1f} {y - 5.5:.1f}l5.5 9.5h-11z",
    lambda x, y: f"M{x:.1f} {y + 5.5:.1f}l5.5 -9.5h-11z",
    lambda x, y: f"M{x - 5:.1f} {y - 2:.1f}h10v4h-10z",
    lambda x, y: f"M{x - 2:.1f} {y - 5:.1f}h4v10h-4z",
)


def _mark(x: float, y: float, slot: int) -> Markup:
    return Markup('<path class="mark s{}" d="{}"/>').format(slot % SLOTS, _SHAPES[slot % SLOTS](x, y))


def swatch(slot: int) -> Markup:
    """A series' mark alone, for a legend."""
    return Markup('<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">') + _mark(7, 7, slot) + Markup("</svg>")


def _span(low: float | None, high: float | None, percent: bool) -> str:
    return "" if low is None or high is None else f" [{number(low, percent)}, {number(high, percent)}]"


def _fit(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _speak(series: Sequence[Series], percent: bool) -> str:
    ends = ((one.label, one.points[0].y, one.points[-1].y) for one in series if one.points)
    return "; ".join(f"{label} from {number(a, percent)} to {number(b, percent)}" for label, a, b in ends) + "."
