"""The ProtoQA metric: the evaluator's own cases, hand arithmetic, another solver of assignments, and the real data."""

import importlib.util
import itertools
import json
import math
from pathlib import Path

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import DataError, UserError
from stillroom.tasks import load_task, validate
from stillroom.tasks.assignment import best_assignment
from stillroom.tasks.protoqa import (
    VARIANTS,
    Cluster,
    Match,
    Variant,
    adapt,
    common_subsequence,
    common_substring,
    exact,
    mean_scores,
    read_clusters,
    read_list,
    rounded,
    score,
    synonyms,
    verify,
    wordnet,
)
from stillroom.types import Problem


def singles(**counts: int) -> list[Cluster]:
    return [Cluster(count, (name.strip("_"),)) for name, count in counts.items()]


NUMBERS = singles(_10=10, _60=60, _30=30)
FRUIT = singles(apple=10, bananna=60, carrot=30)
PRODUCE = [Cluster(5, ("apple", "banana", "fruit", "fruits")), Cluster(3, ("broccoli", "vegetable"))]
SPACE = [
    *singles(moon=1),
    *(Cluster(n, tuple(a.split())) for n, a in ((2, "earth planet"), (2, "sun star"), (3, "comet meteor"))),
]
FAMILY, MONEY, SET = Variant(max_incorrect=3), Variant(max_answers=1), Variant(counts=False)
SUBSTRING, SUBSEQUENCE = rounded(common_substring), rounded(common_subsequence)


# Answers and results that the public evaluator's tests state.
@pytest.mark.parametrize(
    ("predictions", "clusters", "variant", "match", "wanted"),
    [
        ("60 30 10", NUMBERS, FAMILY, exact, 1.0),
        ("a b c d e", NUMBERS, FAMILY, exact, 0.0),
        ("30 a b", NUMBERS, FAMILY, exact, 0.3),
        ("30 a b", NUMBERS, MONEY, exact, 0.5),
        ("30 a b", NUMBERS, SET, exact, 1 / 3),
        ("10 30 60", NUMBERS, MONEY, exact, 1 / 6),
        ("10 30 60", NUMBERS, FAMILY, exact, 1.0),
        ("60 60 60", NUMBERS, FAMILY, exact, 0.6),
        ("60 60 60", NUMBERS, SET, exact, 1 / 3),
        ("30 X X 10 X 60", NUMBERS, FAMILY, exact, 0.4),
        ("30 X X 10 X 60", NUMBERS, SET, exact, 1.0),
        ("X X X 10 X 60", NUMBERS, Variant(max_incorrect=5), exact, 0.7),
        ("30 X 10 X 60", NUMBERS, Variant(max_incorrect=2), exact, 0.4),
        ("30 30 30 30 30 30 60", NUMBERS, Variant(max_incorrect=2), exact, 0.9),
        ("an_Apple X the_Banannnaa", FRUIT, SET, SUBSTRING, 1 / 3),
        ("an_Apple X the_Banannnaa", FRUIT, SET, SUBSEQUENCE, 2 / 3),
        ("aaple brocoli", PRODUCE, SET, exact, 0.0),
        ("aaple brocoli", PRODUCE, SET, SUBSTRING, 0.5),
        ("aaple brocoli", PRODUCE, VARIANTS["answers@all"], SUBSTRING, 5 / 8),
        ("aaple brocoli", PRODUCE, VARIANTS["answers@all"], SUBSEQUENCE, 1.0),
        ("broccoli/banana an_apple", PRODUCE, VARIANTS["answers@all"], SUBSTRING, 1.0),
        ("broccoli/banana an_apple", PRODUCE, FAMILY, exact, 0.0),
        ("apple banana fruit fruits", PRODUCE, FAMILY, exact, 5 / 8),
        ("apple aapple appple apples", PRODUCE, VARIANTS["answers@all"], SUBSEQUENCE, 5 / 8),
        ("moon", SPACE, FAMILY, exact, 1 / 8),
        ("moon", SPACE, MONEY, exact, 1 / 3),
        ("moon", SPACE, SET, exact, 1 / 4),
        ("space_rock", SPACE, FAMILY, exact, 0.0),
    ],
)
def test_the_evaluators_own_cases(
    predictions: str, clusters: list[Cluster], variant: Variant, match: Match, wanted: float
) -> None:
    found = score([p.replace("_", " ") for p in predictions.split()], clusters, variant, match)
    assert found == pytest.approx(wanted, abs=1e-12)


def test_the_golden_case_by_hand() -> None:
    clusters = singles(age=30, job=20, name=10)
    predictions = ["job", "age", "xyz"]
    assert score(predictions, clusters, VARIANTS["answers@1"]) == pytest.approx(20 / 30)
    assert score(predictions, clusters, VARIANTS["answers@3"]) == pytest.approx(50 / 60)
    assert score(predictions, clusters, VARIANTS["incorrect@1"]) == pytest.approx(50 / 60)
    assert score(predictions, clusters, VARIANTS["set_intersection"]) == pytest.approx(2 / 3)
    assert score(["JOB ", "AGE" + " " * 60], clusters) == pytest.approx(50 / 60)
    assert score([], clusters) == 0.0
    assert score(["", "", ""], clusters) == 0.0


def test_the_oracle_is_cut_as_the_predictions_are() -> None:
    clusters = [Cluster(n, (str(n),)) for n in (1, 7, 3, 9, 5)]
    assert score(["9", "7", "1"], clusters, VARIANTS["answers@3"]) == pytest.approx(17 / 21)
    assert score(["9"], clusters, VARIANTS["answers@3"]) == pytest.approx(9 / 21)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="positive count"):
        score(["a"], [Cluster(0, ("a",))])
    with pytest.raises(UserError, match="no question 'q2'"):
        mean_scores({"q2": ["a"]}, {"q1": NUMBERS})
    with pytest.raises(UserError, match="no predictions"):
        mean_scores({}, {"q1": NUMBERS})
    wrong = [None, 3, [{"count": 0, "answers": ["a"]}], [{"count": "3", "answers": ["a"]}], [{"count": 3}]]
    for row in ({}, {"question": " "}, *({"question": "Q?", "answers-cleaned": clusters} for clusters in wrong)):
        with pytest.raises(DataError):
            adapt(row)


def test_layouts_of_one_question_give_one_problem() -> None:
    cleaned = [{"count": 2, "answers": ["a", "b"], "clusterid": "x"}, {"count": 3, "answers": ["c"], "clusterid": "y"}]
    columns = {"count": [2, 3], "answers": [["a", "b"], ["c"]], "clusterid": ["x", "y"]}
    disk = {"question": {"original": "Q?"}, "metadata": {"id": "q"}, "answers": {"clusters": dict(enumerate(cleaned))}}
    evaluator = {"question": "Q?", "questionid": "q", "answers-cleaned": cleaned}
    hub = {"question": "Q?", "questionid": "q", "answers-cleaned": columns}
    assert adapt(disk) == adapt(evaluator) == adapt(hub)
    assert adapt(hub).reference == "c\na"
    assert read_clusters(hub) == [Cluster(2, ("a", "b")), Cluster(3, ("c",))]


# -- assignments -----------------------------------------------------------------------------------------------------

matrices = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=5)
)


@settings(max_examples=120)
@given(matrices)
def test_the_best_assignment_is_that_of_trying_all(matrix: list[list[int]]) -> None:
    found = best_assignment(matrix)
    rows, columns = len(matrix), len(matrix[0])
    assert len(found) == min(rows, columns)
    assert len({row for row, _ in found}) == len({column for _, column in found}) == len(found)
    wide = matrix if rows <= columns else [list(column) for column in zip(*matrix, strict=True)]
    ways = itertools.permutations(range(len(wide[0])), len(wide))
    best = max(sum(wide[row][column] for row, column in enumerate(way)) for way in ways)
    assert sum(matrix[row][column] for row, column in found) == best


def test_nothing_has_no_assignment() -> None:
    assert best_assignment([]) == best_assignment([[]]) == []


# -- the thesaurus ---------------------------------------------------------------------------------------------------

NET = {"smell": {"s1"}, "odor": {"s1"}, "face": {"f1", "l1"}, "looks": {"l1"}, "cell_phone": {"c1"}, "mobile": {"c1"}}


def test_synonyms_by_hand() -> None:
    match = synonyms(lambda text: frozenset(NET.get(text, ())), frozenset({"the", "a"}))
    assert match("odor", "smell") == 1.0
    assert match("the odor", "smell") == 1.0
    assert match("odor", "face") == 0.0
    assert match("bad odor", "smell") == 0.5  # one of two parts
    assert match("my cell phone", "mobile") == 0.5
    assert match("cell phone", "a mobile") == 1.0
    assert match("the", "smell") == 0.0
    assert match("x", "x") == 1.0
    clusters = singles(smell=2, face=5)
    assert score(["odor", "looks"], clusters, MONEY, rounded(match)) == pytest.approx(0.4)  # the evaluator's own case
    assert score(["odor", "looks"], clusters, FAMILY, rounded(match)) == pytest.approx(1.0)
    assert match(" ".join("abcdefghijklmnopqrstuvwxy"), " ".join("abcdefghijklmnopqrstuvwxz")) == pytest.approx(
        23 / 24
    )  # a is left out


def test_without_wordnet_the_way_to_get_it_is_told() -> None:
    if importlib.util.find_spec("nltk") is None:
        with pytest.raises(UserError, match=r"nltk\.downloader"):
            wordnet()


# -- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1. age\n2. job\n3. name", "age|job|name"),
        ("1) age\n2) job", "age|job"),
        ("- age\n* job\n• name", "age|job|name"),
        ("age, job, name", "age|job|name"),
        ("age\njob", "age|job"),
        ("Most people say: age, job", "age|job"),
        ("Here they are:\n1. age\n2. job\nI hope that helps!", "age|job"),
        ("Here they are:\nage\njob", "age|job"),
        ("1. age 2. job 3. name", "age|job|name"),
        ("**age**\n**job**", "age|job"),
        ("1. **age** \n2. job.", "age|job"),
        ("age", "age"),
        ("1. age", "age"),
        ("", ""),
        ("\n \n", ""),
        ("I'm sorry, I can't do that.", ""),
        ("As an AI, I have no opinion", ""),
        ("Here they are:", ""),
        ("12\n10\n11", "12|10|11"),
        ("1. 12\n2. 10", "12|10"),
    ],
)
def test_lists_as_models_write_them(text: str, wanted: str) -> None:
    assert read_list(text) == [answer for answer in wanted.split("|") if answer]


@settings(max_examples=150)
@given(st.text(alphabet="ab1.,;:-*\n ()", max_size=60))
def test_every_text_lists_something_or_nothing(text: str) -> None:
    assert all(answer.strip() == answer and answer for answer in read_list(text))


def test_verdicts_on_lists() -> None:
    rows = [{"count": 30, "answers": ["age", "years"]}, {"count": 20, "answers": ["job"]}]
    problem = Problem(id="q", task="protoqa", messages=(), reference="age\njob", meta={"clusters": rows})
    best = verify(problem, "<think>\njob? no\n</think>\n1. Years\n2. job")
    assert (best.correct, best.score, best.answer) == (True, 1.0, "Years, job")
    second = verify(problem, "job\nage")
    assert (second.correct, second.score, second.reason) == (False, pytest.approx(2 / 3), "another cluster")
    assert second.parts["answers@3"] == 1.0
    assert verify(problem, "<think>\nage").reason == "no answer"
    assert verify(problem, "").answer is None
    assert verify(problem, "jobs").correct is False
    assert verify(problem, "agee", strict=False).correct is True
    assert verify(problem.model_copy(update={"meta": {}}), "age").correct is None


# -- the real data ---------------------------------------------------------------------------------------------------


def another_score(predictions: list[str], clusters: list[Cluster], answers: int | None, incorrect: int | None) -> float:
    """The metric once more: cut as text, and matched by networkx."""

    def total(ranked: list[str]) -> float:
        graph = networkx.Graph()
        wrong = 0
        for place, answer in enumerate(ranked[:answers]):
            own = [number for number, cluster in enumerate(clusters) if answer.lower()[:50].strip() in cluster.answers]
            graph.add_weighted_edges_from((("p", place), ("c", number), clusters[number].people) for number in own)
            wrong += not own
            if wrong == incorrect:
                break
        return float(sum(graph.edges[edge]["weight"] for edge in networkx.max_weight_matching(graph)))

    best = sorted(clusters, key=lambda cluster: cluster.people, reverse=True)
    return total(predictions) / total([cluster.answers[0] for cluster in best])


def test_recorded_predictions_score_as_another_program_says(data_dir: Path) -> None:
    folder = data_dir / "protoqa"
    if not folder.is_dir():
        pytest.skip("no ProtoQA data")
    rows = [json.loads(line) for line in (folder / "dev.crowdsourced.jsonl").read_text(encoding="utf-8").splitlines()]
    questions = {row["metadata"]["id"]: read_clusters(row) for row in rows}
    model = json.loads((folder / "dev.predictions.gpt2finetuned.json").read_text(encoding="utf-8"))
    found = mean_scores(model, questions)
    for name, variant in VARIANTS.items():
        if variant.counts:
            bounds = variant.max_answers, variant.max_incorrect
            ours = [another_score(model[key], questions[key], *bounds) for key in model]
            assert found[name] == pytest.approx(math.fsum(ours) / len(ours), abs=1e-12), name


def test_the_real_questions_are_tasks(data_dir: Path) -> None:
    if not (data_dir / "protoqa").is_dir() or not (data_dir / "simplebench").is_dir():
        pytest.skip("no data")
    survey, tricks = load_task("protoqa"), load_task("simplebench")
    assert [len(survey.problems(split, None, 0)) for split in ("train", "dev", "test")] == [0, 980, 52]
    assert validate(survey, 52, split="test").ok
    problems = tricks.problems("test", None, 0)
    assert len(problems) == 10
    assert {len(problem.options) for problem in problems} == {6}
    assert not any("\nA." in problem.messages[-1].content for problem in problems)
    assert tricks.verify(problems[0], f"It takes thought.\nFinal Answer: {problems[0].reference}").correct
    assert validate(tricks, 10, split="test").ok
