"""Several models as one: the table of what they say, votes by hand, groups, and what abduction tells of itself."""

from collections.abc import Mapping

import numpy as np
import pytest

from fixtures_texts import TextSampler, asked
from stillroom.errors import UserError
from stillroom.infer.ensemble import (
    Ensemble,
    abduce,
    any_right,
    best_single,
    in_hindsight,
    learn,
    most_confident,
    only,
    plurality,
    strict_majority,
)
from stillroom.infer.predictions import CONFIDENCES, NOTHING, PredictionTable, part, predictions
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.tasks.base import question
from stillroom.types import Finish, Problem, Response


def says(text: str, confidence: float = 0.8) -> Response:
    return Response(text=f"\\boxed{{{text}}}" if text else "", finish=Finish.STOP, meta={"confidence": confidence})


def problem(name: str, reference: str = "a", level: int = 1) -> Problem:
    return Problem(id=name, task="t", messages=question(name), reference=reference, level=level)


def model(words: Mapping[str, Response]) -> TextSampler:
    return TextSampler(lambda prompt, number: words[prompt.messages[-1].content])


def said(rows: Mapping[str, str], sure: Mapping[str, list[float]] | None = None) -> PredictionTable:
    """One letter per object and model; a dot is nothing."""
    count = len(next(iter(rows.values())))
    found = {
        name: [says("" if c == "." else c, (sure or {}).get(name, [0.8] * count)[at]) for at, c in enumerate(row)]
        for name, row in rows.items()
    }
    return predictions([problem(f"o{at}") for at in range(count)], found, classes=["a", "b"])


def labels(table: PredictionTable, decide: object) -> list[str | None]:
    return [None if d.label is None else table.classes[d.label] for d in decide(table)]  # type: ignore[operator]


def test_a_table_of_what_was_said() -> None:
    found = predictions(
        [problem("x"), problem("y")],
        {"one": [says("a", 0.95), says("", 0.2)], "two": [says("b", 0.6), says("no such thing")]},
        cues={"short": lambda p: p.id == "x"},
        classes=["a", "b"],
    )
    assert found.said_MN.tolist() == [[0, NOTHING], [1, NOTHING]]
    assert found.cues == (
        "confidence below 0.5",
        *(f"confidence below {c}" for c in CONFIDENCES[1:]),
        "one says else",
        "two says else",
        "short",
    )
    assert found.cue_MNK[0, 0].tolist() == [False, False, False, False, True, True]
    assert found.cue_MNK[1, 0].tolist() == [False, True, True, True, False, True]
    assert not found.cue_MNK[0, 1, 3:].any()  # who says nothing contradicts nobody
    assert part(found, [1]).objects == ("y",)
    assert part(found, [1]).said_MN.tolist() == [[NOTHING], [NOTHING]]


def test_without_classes_everything_that_was_said_is_one() -> None:
    found = predictions([problem("x")], {"one": [says("b")], "two": [says("A")]})
    assert found.classes == ("a", "b")
    cut = Response(text="\\boxed{a}", finish=Finish.LENGTH)
    assert predictions([problem("x")], {"one": [cut]}).said_MN.tolist() == [[NOTHING]]
    with pytest.raises(UserError, match="at least one"):
        predictions([problem("x")], {})


def test_votes_by_hand() -> None:
    table = said({"m0": "aab.", "m1": "ab..", "m2": "b.b."}, {"m1": [0.8, 0.9, 0.8, 0.8], "m2": [0.95, 0.8, 0.8, 0.8]})
    assert labels(table, strict_majority) == ["a", None, "b", None]
    assert labels(table, plurality) == ["a", "b", "b", None]  # of one vote each, the surer
    assert labels(table, most_confident) == ["b", "b", "b", None]
    assert labels(table, only(1)) == ["a", "b", None, None]
    gold = {"o0": "b", "o1": "b", "o2": "b", "o3": "a"}
    home = learn(
        {"m": model({"o0": says("a")}), "n": model({"o0": says("a")})},
        [problem("o0")],
        [0.0],
        SamplingParams(),
        classes=["a", "b"],
    )
    assert labels(table, in_hindsight(any_right, gold, home)) == ["b", "b", "b", None]
    assert labels(table, in_hindsight(best_single, gold, home)) == ["b", None, "b", None]


def test_an_ensemble_answers_group_by_group_and_accounts_for_all_calls() -> None:
    words = {"x": says("a"), "y": says("b"), "z": says("a")}
    sizes: list[int] = []

    def decide(table: PredictionTable) -> object:
        sizes.append(len(table.objects))
        return plurality(table)

    way = Ensemble("vote", {"one": model(words), "two": model(words)}, decide, group=lambda p: p.level)  # type: ignore[arg-type]
    prompts = [Prompt(messages=question(n), problem=problem(n, level=lv)) for n, lv in (("x", 1), ("y", 2), ("z", 1))]
    answers = way.sample(prompts, SamplingParams(n=2))
    assert [[r.text for r in row] for row in answers] == [["\\boxed{a}"] * 2, ["\\boxed{b}"] * 2, ["\\boxed{a}"] * 2]
    assert sizes == [2, 1, 2, 1]
    assert answers[0][0].usage.calls == 2
    assert len(answers[0][0].calls) == 2
    assert way.id == "vote/texts+texts"
    with pytest.raises(UserError, match="messages only"):
        way.sample([asked("x")], SamplingParams())


def test_models_learn_at_home_and_abduction_says_whom_it_believed() -> None:
    # At home, model two is wrong wherever it is unsure; abroad it is unsure about y.
    home = {
        **{f"right{at}": (says("a"), says("a", 0.95)) for at in range(8)},
        **{f"wrong{at}": (says("a"), says("b", 0.4)) for at in range(4)},
        **{f"b{at}": (says("b"), says("b", 0.95)) for at in range(4)},
    }
    models = {who: model({name: pair[at] for name, pair in home.items()}) for at, who in enumerate(("one", "two"))}
    problems = [problem(name, "b" if name.startswith("b") else "a") for name in home]
    known = learn(models, problems, [0.0], SamplingParams())
    assert known.classes == ("a", "b")
    assert known.accuracy == pytest.approx((16 + 12) / 32)
    assert known.order[-1] == (1, 1)  # the least reliable pair: half of its words are wrong
    assert known.rules[0].cues.keys() == {(1, 1)}

    abroad = {"x": (says("a"), says("a", 0.95)), "y": (says(""), says("b", 0.4)), "z": (says(""), says("b", 0.95))}
    away = {who: model({name: pair[at] for name, pair in abroad.items()}) for at, who in enumerate(("one", "two"))}
    for how in ("exact", "greedy"):
        way = Ensemble("abduction", away, abduce(known.rules, 0.0, how=how, order=known.order), classes=known.classes)  # type: ignore[arg-type]
        x, y, z = (
            row[0]
            for row in way.sample([Prompt(messages=question(n), problem=problem(n)) for n in abroad], SamplingParams())
        )
        assert [r.text for r in (x, y, z)] == ["\\boxed{a}", "", "\\boxed{b}"]
        assert z.meta["believed"] == ["two"]
        assert y.meta["errors"] == {"two": [known_cue(known.rules[0].cues[1, 1], way)]}
        assert (z.meta["optimal"], z.meta["gap"]) == ((True, 0.0) if how == "exact" else (False, None))
    with pytest.raises(UserError, match="at least two"):
        learn({"one": models["one"]}, problems, [0.0], SamplingParams())


def known_cue(cues: tuple[int, ...], way: Ensemble) -> str:
    (cue,) = cues
    return [*(f"confidence below {c}" for c in CONFIDENCES), *(f"{name} says else" for name in way.models)][cue]


def test_a_likelihood_is_a_confidence_where_nothing_is_told() -> None:
    drawn = Response(text="\\boxed{a}", finish=Finish.STOP, logp_policy=(float(np.log(0.25)), 0.0))
    assert predictions([problem("x")], {"one": [drawn]}).confidence_MN[0, 0] == pytest.approx(0.5)
