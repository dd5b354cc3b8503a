"""The loop of detector and judge, against verdicts that are written down: what is asked again, what is frozen."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest

from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.judge.asking import Judge
from stillroom.judge.debias import (
    Debiased,
    Outcome,
    analysis_and_label,
    detect_and_revise,
    exchanged,
    items_of,
    judged,
    label_only,
    undisturbed,
)
from stillroom.judge.metrics import bias_reports
from stillroom.judge.samplers import FunctionSampler
from stillroom.judge.supervision import agreeing, blind_reasoner, collect, explained, labels_alone, readable
from stillroom.judge.wording import SUMS
from stillroom.samplers.base import Prompt, SamplingParams
from stillroom.tasks import load_task, paired
from stillroom.tasks.paired import PairedItem
from stillroom.tasks.verdicts import item_of
from stillroom.types import Message, Problem, Usage

ITEMS = [
    paired.bandwagon(f"i{n}", f"question {n}?", ("right", "wrong"), 0, 1, source="s") for n in range(3)
]  # gold a, the majority says b
POSITION = paired.position("p", "question p?", ("right", "wrong"), 0, source="s")


class Scripted:
    """A judge of whom every answer is written down by question and kind, and who keeps what was asked."""

    def __init__(self, script: Mapping[tuple[str, str], Sequence[str]]) -> None:
        self.script = {key: list(answers) for key, answers in script.items()}
        self.asked: list[str] = []

    def __call__(self, messages: Sequence[Message], rng: Random) -> str:
        text = messages[-1].content
        kind = "revise" if "earlier choice" in text else "detect" if "caused by this bias" in text else "compare"
        name = text[text.index("question ") + 9]
        self.asked.append(f"{kind} {name}")
        return self.script[kind, name].pop(0)


def run(script: Scripted, items: Sequence[PairedItem], **how: object) -> list[list[Outcome]]:
    judge = Judge(FunctionSampler("scripted", script))
    return list(detect_and_revise(judged(judge, items, "biased", "m"), judge, judge, **how))  # type: ignore[arg-type]


def test_a_no_freezes_and_a_yes_is_asked_again_with_the_new_verdict_as_its_prior() -> None:
    script = Scripted(
        {
            ("compare", "0"): ["Output (b)"],
            ("compare", "1"): ["Output (b)"],
            ("compare", "2"): ["Output (a)"],
            ("detect", "0"): ["<think>\npopular\n</think>\nYes", "No"],
            ("detect", "1"): ["Yes", "Yes"],
            ("detect", "2"): ["No"],
            ("revise", "0"): ["Output (a)"],
            ("revise", "1"): ["Output (b)", "Output (a)"],
        }
    )
    first, second = run(script, ITEMS, rounds=2)
    assert [o.final for o in first] == ["a", "b", "a"]
    assert [o.final for o in second] == ["a", "a", "a"]
    assert [[r.label for r in o.rounds] for o in second] == [["Yes", "No"], ["Yes", "Yes"], ["No"]]
    assert [r.prior for r in second[0].rounds] == ["b", "a"]
    assert script.asked.count("detect 2") == 1
    assert first[0].rounds[0].analysis == "popular"
    assert second[0].usage.calls == 4  # compare, detect, revise, detect


def test_a_malformed_label_keeps_the_verdict_and_is_never_asked_about_again() -> None:
    script = Scripted({("compare", "0"): ["Output (b)"], ("detect", "0"): ["perhaps"]})
    (only,) = run(script, ITEMS[:1], rounds=3)
    assert only[0].final == "b"
    assert [r.label for r in only[0].rounds] == [None]
    assert script.asked == ["compare 0", "detect 0"]
    malformed = Scripted({("compare", "0"): ["Output (b)"], ("detect", "0"): ["perhaps"]})
    (always,) = run(malformed, ITEMS[:1], always=True)
    assert always[0].final == "b"


def test_a_revision_that_cannot_be_read_keeps_the_prior_and_is_counted() -> None:
    script = Scripted({("compare", "0"): ["Output (b)"], ("detect", "0"): ["Yes"], ("revise", "0"): ["well"] * 3})
    (only,) = run(script, ITEMS[:1])
    assert (only[0].final, only[0].rounds[0].unread) == ("b", True)


def test_without_a_first_verdict_nobody_is_asked_anything_more() -> None:
    script = Scripted({("compare", "0"): ["well"] * 3})
    (only,) = run(script, ITEMS[:1])
    assert (only[0].first, only[0].final, only[0].rounds) == (None, None, ())


def test_position_shows_both_verdicts_and_revises_the_one_at_hand() -> None:
    script = Scripted(
        {("compare", "p"): ["Output (a)", "Output (a)"], ("detect", "p"): ["Yes"], ("revise", "p"): ["Output (b)"]}
    )
    (only,) = run(script, [POSITION])
    assert (only[0].gold, only[0].first, only[0].final) == ("b", "a", "b")
    plain = undisturbed(judged(Judge(FunctionSampler("f", lambda m, r: "Output (a)")), [POSITION], "clean", "m"))
    (report,) = bias_reports(plain, only)
    assert (report.before.consistency, report.after.consistency) == (0.0, 1.0)


def test_always_revises_what_the_detector_would_let_pass() -> None:
    script = Scripted({("compare", "0"): ["Output (b)"], ("detect", "0"): ["No"], ("revise", "0"): ["Output (a)"]})
    (only,) = run(script, ITEMS[:1], always=True)
    assert only[0].final == "a"


def test_what_the_judge_is_told() -> None:
    told: dict[str, list[str]] = {}
    for feedback in (analysis_and_label, label_only, exchanged):
        seen = told.setdefault(feedback.__name__, [])

        def answer(messages: Sequence[Message], rng: Random, seen: list[str] = seen) -> str:
            text = messages[-1].content
            if "caused by this bias" in text:
                return f"<think>\nwhy {text[text.index('question ') + 9]}\n</think>\nYes"
            if "earlier choice" in text:
                seen.append(text.partition("was biased\n")[2].partition("\n")[0])
            return "Output (b)"

        judge = Judge(FunctionSampler("f", answer))
        list(detect_and_revise(judged(judge, ITEMS, "biased", "m"), judge, judge, feedback=feedback))
    assert told == {
        "analysis_and_label": ["why 0;Yes", "why 1;Yes", "why 2;Yes"],
        "label_only": ["Yes"] * 3,
        "exchanged": ["why 1;Yes", "why 2;Yes", "why 0;Yes"],
    }


def test_fewer_than_one_round_is_refused() -> None:
    with pytest.raises(UserError, match="rounds=0"):
        run(Scripted({("compare", "0"): ["Output (b)"]}), ITEMS[:1], rounds=0)


def says(letter: str) -> Judge:
    return Judge(FunctionSampler(f"says-{letter}", lambda messages, rng: f"\\boxed{{{letter}}}"), SUMS)


def sums(n: int, version: str = "biased") -> list[Problem]:
    return load_task(f"verdicts:version={version}").problems("train", n, 0)


def test_as_a_way_to_answer_it_keeps_every_item_s_way() -> None:
    way = Debiased({"seen": says("a")}, blind_reasoner(0.0))
    problems = sums(8)
    responses = way.sample([Prompt(messages=p.messages, problem=p) for p in problems], SamplingParams())
    assert [r[0].text for r in responses] == ["\\boxed{a}"] * 8
    assert {r[0].meta["stop"] for r in responses} <= {"frozen", "rounds"}
    assert len(way.outcomes) == 8
    assert all(o.usage.calls >= 2 for o in way.outcomes.values())
    with pytest.raises(UserError, match="no judge 'unseen'"):
        way.run([item_of(problems[0])], "biased", "unseen")
    with pytest.raises(UserError, match="messages only"):
        way.sample([Prompt(messages=())], SamplingParams())
    with pytest.raises(UserError, match="no paired item"):
        items_of(load_task("sums").problems("train", 1, 0))


def test_supervision_filters_by_the_computed_label_which_no_teacher_sees() -> None:
    items = items_of(sums(40))
    found = collect(says("a"), items, "seen")
    assert len(found.labelled) == 40
    assert found.dropped == 0
    for one in found.labelled:  # "a" on both versions: biased exactly when a was right and no longer is
        assert one.biased == (one.item.gold == 0 and one.item.gold_b != 0)
    traces = explained(found.labelled, blind_reasoner(0.15), get_format("think"))
    kept = agreeing(traces)
    assert 0 < len(kept) < len(traces) == len(readable(traces))
    for trace in kept:
        assert trace.taught[0].weight == 0
        assert trace.taught[1].weight == 1
        assert trace.taught[1].text.endswith(f"\\boxed{{{trace.meta['label']}}}")
        assert trace.asked[0].content == trace.taught[0].text
    labels = labels_alone(traces, get_format("think"))
    assert {t.taught[1].text for t in labels} <= {f"<think>\n\n</think>\n\\boxed{{{w}}}" for w in ("Yes", "No")}
    assert [t.taught[0] for t in labels] == [t.taught[0] for t in traces]


def test_a_verdict_that_cannot_be_read_is_no_supervision() -> None:
    found = collect(says("?"), items_of(sums(4)), "seen")
    assert (found.labelled, found.dropped) == ([], 4)


def test_usage_is_unknown_when_it_is_unknown_of_a_part() -> None:
    assert undisturbed(judged(says("a"), ITEMS[:1], "clean", "m"))[0].usage == Usage(calls=1)
