import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from stillroom.report import charts
from stillroom.report.charts import Point, Series
from stillroom.report.data import Arm, Curve, Estimate, ReportData, Result
from stillroom.report.figures import (
    arm_rows,
    curve_figures,
    duration,
    reinforcement_figures,
    result_figures,
    thin,
)

reals = st.floats(min_value=-1e29, max_value=1e29)


def parse(svg: Markup) -> ET.Element:
    assert "nan" not in str(svg)
    assert "inf" not in str(svg)
    return ET.fromstring(str(svg))


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (None, False, "–"),
        (0.0, False, "0"),
        (0.0, True, "0.0%"),
        (0.7154, True, "71.5%"),
        (12345, False, "12,345"),
        (-0.25, False, "−0.25"),
        (0.0008, False, "0.0008"),
        (0.00002, False, "2e-5".replace("-", "−")),
        (2.96e12, False, "2.96e12"),
        (3.14159, False, "3.142"),
    ],
)
def test_numbers(value: float | None, percent: bool, text: str) -> None:
    assert charts.number(value, percent) == text


def test_differences_are_signed_and_in_percentage_points() -> None:
    assert charts.difference(0.042, True) == "+4.2 pp"
    assert charts.difference(-1.5) == "−1.5"
    assert charts.difference(None) == "–"


def test_durations() -> None:
    assert [duration(s) for s in (0.42, 59.2, 96, 7500)] == ["0.4 s", "59.2 s", "1 min 36 s", "2 h 5 min"]


def test_ticks_by_hand() -> None:
    assert charts.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert charts.ticks(3, 3) == pytest.approx([2.6, 2.8, 3.0, 3.2, 3.4])


@given(reals, reals)
def test_ticks_cover_the_range(one: float, other: float) -> None:
    low, high = sorted((one, other))
    ticks = charts.ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert all(a < b for a, b in pairwise(ticks))
    slack = 1e-6 * (ticks[-1] - ticks[0])
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack


def test_a_line_is_where_it_belongs() -> None:
    series = Series("a", (Point(0, 0), Point(10, 10)))
    root = parse(charts.lines("t", [series], "step", "loss"))
    (path,) = [element for element in root.iter("path") if element.get("class") == "line s0"]
    # From the lower left to the upper right corner of a plot of 400 × 270 with margins 50, 14, 28, 44.
    assert path.get("d") == "M50.0 226.0L386.0 28.0"
    assert [title.text for title in root.iter("title")] == ["a: 0 at step 0", "a: 10 at step 10"]


def test_an_interval_is_where_it_belongs() -> None:
    root = parse(charts.intervals("t", [("arm", Point(0.5, 0.5, 0.0, 1.0), 2)], "accuracy", percent=True))
    (whisker,) = [element for element in root.iter("line") if element.get("class") == "whisker s2"]
    assert (whisker.get("x1"), whisker.get("x2")) == ("118.0", "336.0")
    assert "arm 50.0% [0.0%, 100.0%]" in str(root.get("aria-label"))


def test_bars_grow_with_their_values() -> None:
    root = parse(charts.bars("t", [("in", 100, "input"), ("gone", 25, "dropped"), ("none", 0, "kept")], "traces"))
    widths = [float(str(element.get("width"))) for element in root.iter("rect")]
    assert widths[1] == pytest.approx(widths[0] / 4)
    assert widths[2] == 0


@given(
    st.lists(st.tuples(reals, reals, st.none() | reals), min_size=1, max_size=30),
    st.text(max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_charts_hold_any_numbers_and_any_names(
    values: list[tuple[float, float, float | None]], name: str, percent: bool, flag: bool
) -> None:
    points = tuple(Point(x, y, low, None if low is None else max(low, y)) for x, y, low in values)
    parse(charts.lines(name, [Series(name, points)], name, name, percent=percent, marked=flag, from_zero=flag))
    parse(charts.intervals(name, [(name, point, 9) for point in points], name, percent=percent))
    parse(charts.bars(name, [(name, abs(point.y), "kept") for point in points], name))
    parse(charts.columns(name, [(name, int(abs(point.y))) for point in points], name, name))
    parse(charts.effect(points[0].y, points[0].low, points[0].high, percent))


@given(st.lists(reals, min_size=1, max_size=2000))
def test_thinning_keeps_every_extreme(values: list[float]) -> None:
    points = [(float(step), value) for step, value in enumerate(values)]
    thinned = thin(points, 100)
    assert len(thinned) <= 100
    assert list(thinned) == sorted(set(thinned) & set(points))
    assert min(values) == min(value for _, value in thinned)
    assert max(values) == max(value for _, value in thinned)


def test_an_arm_keeps_its_colour_and_seeds_share_it() -> None:
    def curve(metric: str, arm: str, seed: str) -> Curve:
        return Curve("train", metric, arm, seed, ((0.0, 1.0), (1.0, 2.0)))

    made = [curve("loss", "a", "0"), curve("loss", "b", "0"), curve("loss", "b", "1"), curve("reward", "b", "0")]
    (loss, reward), left_out = curve_figures(ReportData("run", curves=tuple(made)))
    assert left_out == 0
    assert loss.legend == (("a", 0), ("b", 1))
    assert reward.legend == ()
    assert 'class="line s1"' in reward.svg


def test_seeds_of_an_arm_share_its_colour_and_its_legend() -> None:
    half = Estimate(value=0.5)
    arms = [Arm(name=n, seed=s, accuracy=half, by_level={"1": half, "2": half}) for n in "ab" for s in (0, 1)]
    data = ReportData("run", result=Result(arms=tuple(arms)))
    by_arm, by_level = result_figures(data)
    assert by_level.legend == (("a", 0), ("b", 1))
    assert [title.text for title in parse(by_arm.svg).iter("title")] == [
        f"{n} · {s}: 50.0%" for n in "ab" for s in (0, 1)
    ]
    assert [(slot, cells[0]) for slot, cells in arm_rows(data)] == [
        (0, "a · 0"),
        (0, "a · 1"),
        (1, "b · 0"),
        (1, "b · 1"),
    ]


def test_reward_stands_beside_truth_with_a_line_where_an_alarm_was_raised() -> None:
    def rl(metric: str, *values: float) -> Curve:
        return Curve("rl", metric, "student", "", tuple((float(step), y) for step, y in enumerate(values, 1)))

    reward, truth = rl("reward", 0.1, 0.5, 0.9), rl("held_out", 0.4, 0.3, 0.1)
    (honest,) = reinforcement_figures(ReportData("run", curves=(reward, rl("loss", 1, 2, 3), rl("alarms", 0, 0, 0))))
    assert honest.title == "Reward beside truth, student"
    assert not [line for line in parse(honest.svg).iter("line") if line.get("class") == "reference"]
    (hacked,) = reinforcement_figures(ReportData("run", curves=(reward, truth, rl("alarms", 0, 1, 0))))
    (alarm,) = [line for line in parse(hacked.svg).iter("line") if line.get("class") == "reference"]
    # Step 2 lies in the middle of steps 1 to 3.
    middle = (charts.LEFT + charts.WIDTH - charts.RIGHT) / 2
    assert (float(alarm.get("x1", 0)), float(alarm.get("x2", 0))) == (middle, middle)
    assert [label for label, _ in hacked.legend] == ["reward", "right on held-out problems"]
    assert "alarm at 2." in str(hacked.svg)
    assert (
        reinforcement_figures(ReportData("run", curves=(Curve("train", "loss", "student", "", reward.points),))) == []
    )
