"""The course of the context: points by hand, which problem is drawn, and a report that shows it."""

from pathlib import Path

import pytest
from fake_run import trace

from stillroom.io import write_json
from stillroom.report import build, load
from stillroom.report.figures import context_figures, result_figures
from stillroom.report.sawtooth import points, read_contexts
from stillroom.traces import store
from stillroom.types import Trace, Usage


def answer(problem: str, arm: str, calls: list[list[int]] | None, index: int = 0) -> Trace:
    made = trace(f"{problem}#{arm}#{index}", "5", problem=problem, index=index)
    usage = Usage(prompt_tokens=10, completion_tokens=40, calls=1)
    return made.model_copy(update={"sampler": arm, "usage": usage, "meta": {"calls": calls} if calls else {}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plain = [answer("p0", "vanilla", None), answer("p1", "vanilla", None)]
    rounds = [
        answer("p0", "rounds", [[10, 5], [12, 3]]),
        answer("p1", "rounds", [[10, 5], [12, 6], [12, 2]]),
        answer("p1", "rounds", [[1, 1]] * 9, index=1),
    ]
    for name, traces in (("vanilla", plain), ("00-rounds", rounds)):
        store.write_shard(tmp_path / "evals", name, traces)
    return tmp_path


def test_context_grows_while_writing_and_drops_with_a_call() -> None:
    assert points([(10, 5), (12, 6), (12, 2)]) == ((0, 10), (5, 15), (5, 12), (11, 18), (11, 12), (13, 14))


def test_the_problem_with_the_most_calls_is_drawn_for_every_arm(folder: Path) -> None:
    rounds, vanilla = read_contexts(folder)
    assert (rounds.arm, rounds.problem, rounds.points) == ("rounds", "p1", points([(10, 5), (12, 6), (12, 2)]))
    assert (vanilla.arm, vanilla.points) == ("vanilla", ((0, 10), (40, 50)))


def test_single_calls_give_no_chart(tmp_path: Path) -> None:
    store.write_shard(tmp_path / "evals", "vanilla", [answer("p0", "vanilla", None)])
    assert read_contexts(tmp_path) == ()
    assert context_figures(load(tmp_path)) == []


@pytest.mark.parametrize(
    "calls", ["x", [1, 2], [["a", 1], [2, 3]], [[-1, 2]], [[True, 1]], [[1, 2, 3]], [[10**400, 1]]]
)
def test_calls_that_make_no_sense_are_passed_over(tmp_path: Path, calls: list[list[int]]) -> None:
    store.write_shard(tmp_path / "evals", "a", [answer("p0", "a", calls)])
    for found in read_contexts(tmp_path):
        assert found.points


def test_the_report_shows_the_sawtooth_and_the_curve(folder: Path) -> None:
    accuracy = {1: 0.4, 2: 0.5, 4: 0.6}
    arms = [
        {
            "name": f"vote:n={n}",
            "accuracy": {"value": accuracy[n], "low": 0.3, "high": 0.9},
            "tokens": {"mean": 10 * n},
            "calls": n,
            "peak_context": {"mean": 20.0, "max": 1234},
        }
        for n in (4, 1, 2)
    ]
    write_json(folder / "result.json", {"kind": "evaluation", "arms": arms})
    data = load(folder)
    curve = next(figure for figure in result_figures(data) if figure.title == "Accuracy against tokens")
    assert curve.svg.count('class="line') == 1  # one strategy in three sizes, joined by rising tokens
    page = build(folder).read_text(encoding="utf-8")
    assert "Context while answering" in page
    assert "The answers to p1" in page
    assert "1,234" in page
