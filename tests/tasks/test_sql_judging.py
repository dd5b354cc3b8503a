"""Candidate queries, their labels by execution, verdicts in JSON, and how well costs rank."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import get_format, render
from stillroom.measures.ranking import UNUSABLE, chosen, cost, ranking
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style
from stillroom.tasks.sql import sql_task
from stillroom.tasks.sql_judging import LAYOUTS, candidates, label, read_verdict, result_text, soft_score, sql_judging

TASK = sql_judging()
THINK = get_format("think")


def test_candidates_are_labelled_by_every_instance() -> None:
    kinds: Counter[str] = Counter()
    for problem in sql_task().problems("train", 25, 0):
        found = candidates(problem, 5, derive_rng("candidates", problem.id))
        assert len({candidate.sql for candidate in found}) == len(found) >= 3
        (gold,) = [candidate for candidate in found if candidate.kind == "gold"]
        assert (gold.sql, gold.right, gold.runs) == (problem.reference, True, True)
        for candidate in found:
            kinds[candidate.kind] += 1
            verdict = sql_task().verify(problem, candidate.sql)
            assert verdict.correct is candidate.right
            assert candidate.runs == (candidate.kind != "syntax")
    assert len(kinds) >= 7
    assert not label(problem, "SELECT 'no such thing'").right


def test_half_are_right_and_golds_verify() -> None:
    problems = TASK.problems("train", 80, 0)
    right = sum(problem.reference == '{"correct": true}' for problem in problems)
    assert 25 <= right <= 55
    report = validate(TASK, 60)
    assert report.ok, report.failures
    (shown,) = load_task("sql-judging:result=true").problems("train", 1, 0)
    assert "\nResult: " in shown.messages[0].content


def test_the_comparison_ends_in_the_verdict_and_slips_are_labelled() -> None:
    assert TASK.solve is not None
    other = 0
    for problem in TASK.problems("train", 40, 1):
        for layout in LAYOUTS:
            solution = TASK.solve(problem, Style(layout=layout), derive_rng(0))
            verdict = TASK.verify(problem, render(THINK, solution.thought, solution.answer))
            assert (solution.answer, verdict.correct) == (problem.reference, True)
        slipped = TASK.solve(problem, Style(error_rate=0.4), derive_rng("slip", problem.id))
        other += slipped.answer != problem.reference
        if slipped.answer != problem.reference:
            assert not slipped.spans[-1].data["correct"]
    assert other > 8


def test_results_are_shown_column_by_column() -> None:
    problem = sql_task().problems("train", 1, 0)[0]
    assert result_text(problem, "VALUES (1, 'a'), (2, 'b')") == "1, 2; a, b"
    assert result_text(problem, "SELECT nope").startswith("error: no such column")
    assert result_text(problem, "SELECT 1 WHERE 0") == "nothing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"correct": true}', True),
        ('So {"correct": "False"}.', False),
        ('{"correct": true} no, {"correct": false}', False),
        ('```json\n{"correct": True,}\n```', True),
        ('{"why": {"deep": 1}, "correct": true}', True),
        ('{"correct": false, "why": {"deep": 1}}', False),
        ('<think>{"correct": true}</think> it is {"correct": false}', False),
        ('<think>{"correct": true}</think> it is', None),
        ('<think>{"correct": true}', None),
        ('{"correct": 1}', None),
        ('{"correct": true', None),
        ('{"wrong": true}', None),
        ("", None),
    ],
)
def test_the_last_verdict_that_can_be_read_counts(text: str, said: bool | None) -> None:
    found = read_verdict(text)
    assert (found and found.correct) == said
    if found is not None:
        assert text[found.start : found.end].lower() == str(said).lower()


@given(st.text() | st.text(alphabet='{}"corect: rufalsTF,<think/>\n', max_size=80))
def test_any_text_has_a_verdict_or_none(text: str) -> None:
    found = read_verdict(text)
    assert found is None or text[found.start : found.end].lower() in ("true", "false")


def test_soft_scores_and_costs_keep_their_order() -> None:
    true, false = read_verdict('{"correct": true}'), read_verdict('{"correct": false}')
    assert [soft_score(true, 0.8), soft_score(false, 0.8), soft_score(true, None), soft_score(false, None)] == (
        pytest.approx([0.8, 0.2, 1, 0])
    )
    assert soft_score(None, 0.8) is None
    # true < unread < false < broken; with the other policy unread stands after false.
    assert cost(0.8) < cost(None) < cost(0.2) < cost(None, unread=0.5) < UNUSABLE
    assert chosen([0.3, -0.2, -0.2, float("nan")]) == 1
    assert chosen([float("nan"), 1.0]) == 1


def test_ranking_by_hand() -> None:
    costs = [[-0.9, -0.1, -0.5], [-0.2, -0.2], [0.5, -0.5]]
    found = ranking(costs, [[False, True, True], [True, False], [False, False]])
    # Pairs: (-0.1, -0.9) and (-0.5, -0.9) are lost, and (-0.2, -0.2), a tie, too. Ranks: second, first, none.
    assert found == (3, 0.0, 3, 1 / 3, (1 / 2 + 1 + 0) / 3, 2 / 3)
    assert ranking([[-1.0, 0.0]], [[True, False]])[1:4] == (1.0, 1, 1.0)
    assert ranking([], []) == (0, None, 0, None, None, None)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        ranking([[1.0]], [[True, False]])
