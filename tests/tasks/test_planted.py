"""Planted errors: found again by another route, scored by the capped formula, five systems from good to bad."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.measures.agreement import system_means
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, planted_summaries, validate
from stillroom.tasks.base import Style
from stillroom.tasks.planted import SYSTEMS, PlantedError, found, mqm_score, read, written
from stillroom.tasks.planted_summaries import ASPECTS
from stillroom.tasks.planted_translation import ADJECTIVES, NOUNS, VERBS, annotate, lexicon, translated
from stillroom.types import Problem

WORLDS = ("planted-translation", "planted-summary")
every_world = pytest.mark.parametrize("name", WORLDS)


def text_of(problem: Problem) -> str:
    return problem.messages[-1].content


@pytest.mark.parametrize(
    ("severities", "score"),
    [
        ([], 0),
        (["minor"], -1),
        (["major", "minor", "minor"], -7),
        (["critical"], -25),
        (["critical", "major"], -25),  # the floor
        (["major"] * 5, -25),
        (["major"] * 4 + ["minor"] * 5, -21),  # the five worst: a sixth changes nothing
        (["minor"] * 9, -5),
    ],
)
def test_the_score_is_capped_first_and_clipped_then(severities: list[str], score: int) -> None:
    assert mqm_score(severities) == score  # type: ignore[arg-type]


def test_error_lists_are_read_as_they_are_written() -> None:
    errors = [
        PlantedError(severity="major", kind="omission", word="talo"),
        PlantedError(severity="minor", kind="ending", word="rusa"),
    ]
    assert written(errors) == "major omission talo; minor ending rusa"
    assert read(written(errors)) == errors
    assert read(" Minor ending RUSA\n major omission talo. ") == errors[::-1]
    assert read("no-error") == read("None.") == []
    for answer in ("", "a lot", "major omission", "grave omission talo", "major omission talo or two", "x" * 3000):
        assert read(answer) is None
    assert found(errors[:1], errors) == (1.0, 0.5, pytest.approx(2 / 3))
    assert found([], []) == (1.0, 1.0, 1.0)
    assert found([], errors)[1:] == (0.0, 0.0)


@every_world
def test_problems_are_deterministic_and_five_in_a_row_share_a_source(name: str) -> None:
    task = load_task(name)
    problems = task.problems("test", 50, 1)
    assert task.problems("test", 12, 1) == problems[:12]
    for at, problem in enumerate(problems):
        assert (problem.level, problem.meta["system"]) == (at % 5 + 1, f"system-{at % 5 + 1}")
        assert problem.meta["item"] == at // 5
        start = problems[at - at % 5].meta
        same = "source" if name == "planted-translation" else "lines"
        assert problem.meta[same] == start[same]
    with pytest.raises(UserError, match="endless"):
        task.problems("train", None, 0)


@every_world
def test_splits_share_no_source(name: str) -> None:
    task = load_task(name)
    key = "source" if name == "planted-translation" else "lines"
    seen = {
        split: {str(p.meta[key]) for seed in (0, 1) for p in task.problems(split, 40, seed)}
        for split in ("train", "dev", "test")
    }
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


@every_world
def test_the_solver_finds_what_was_planted_and_nearby_answers_are_refused(name: str) -> None:
    task = load_task(name)
    assert task.solve is not None
    assert validate(task, 200).ok
    for problem in task.problems("train", 200, 5):
        solution = task.solve(problem, Style(), derive_rng("s", problem.id))
        assert solution.answer == problem.reference
        assert all(span.data["correct"] for span in solution.spans)
        slipped = task.solve(problem, Style(error_rate=1.0), derive_rng("s", problem.id))
        assert not slipped.spans[-1].data["correct"]
        assert task.verify(problem, f"\\boxed{{{slipped.answer}}}").correct is False


def test_every_translation_can_be_taken_apart_by_another_route() -> None:
    """Words that a reader counts: each kind of error leaves its own mark, seen without any alignment."""
    reverse = {word: english for english, word in lexicon().words.items()}
    kinds = set()
    for problem in load_task("planted-translation").problems("train", 400, 2):
        shown = str(problem.meta["translation"]).split()
        errors = read(problem.reference or "") or []
        kinds |= {error.kind for error in errors}
        of = {
            kind: [e.word for e in errors if e.kind == kind]
            for kind in ("doubled", "negation", "ending", "omission", "mistranslation")
        }
        assert [a for a, b in pairwise(shown) if a == b] == of["doubled"]
        negated = " not " in f" {problem.meta['source']} "
        assert ("ne" in shown) == (negated and not of["negation"])
        stems = {reverse.get(word) or reverse.get(word[:-1]) for word in shown} - {None}
        wanted = set(str(problem.meta["source"]).split()) - {"not"}
        lost = {reverse.get(word) or reverse.get(word[:-1]) for word in of["omission"] + of["mistranslation"]}
        assert wanted - stems == lost
        assert len(stems - wanted) <= len(of["mistranslation"])
        assert problem.meta["score"] == mqm_score(e.severity for e in errors)
        exact = [word.text for word in translated(str(problem.meta["source"]))]
        assert all(word[:-1] in {x[:-1] for x in shown} and word not in shown for word in of["ending"])
        assert set(of["doubled"]) <= set(exact)
    assert kinds == {"negation", "omission", "mistranslation", "ending", "doubled"}


def test_a_sentence_by_hand() -> None:
    words = lexicon().words
    bird, red, sees, house = words["bird"], words["red"], words["sees"], words["house"]
    exact = translated("red bird not sees house")
    assert [word.text for word in exact] == [bird, red + bird[-1], "ne", sees, house]
    assert annotate(exact, [word.text for word in exact]) == []
    assert written(annotate(exact, [bird, red + bird[-1], sees, house]) or []) == "critical negation ne"
    other = "a" if bird[-1] == "o" else "o"
    spoilt = [bird, red + other, "ne", "ne", sees]
    assert (
        written(annotate(exact, spoilt) or [])
        == f"minor ending {red}{bird[-1]}; minor doubled ne; major omission {house}"
    )
    assert annotate(exact, ["what", "is", "this"]) is None
    assert len({*words.values()}) == len(NOUNS) + len(ADJECTIVES) + len(VERBS) == 60
    # Which of two nouns is lost and which is wrong, nobody can tell: such a translation is never shown.
    assert annotate(translated("bird boat sees house"), [words["fish"], sees, house]) is None


def test_ratings_follow_the_text_alone() -> None:
    """Each aspect again, from the text of question and summary, by counting."""
    for problem in load_task("planted-summary").problems("train", 300, 3):
        text = text_of(problem)
        facts = re.findall(r"^([*-]) (\w+) (\w+)s (\w+)\.$", text, re.MULTILINE)
        told = re.findall(r"(\w+) (\w+?)(s?) (\w+)\.", str(problem.meta["summary"]))
        ratings = planted_summaries.read(problem.reference or "") or {}
        true = [(who, verb, thing) for _, who, verb, thing in facts]
        said = [(who, verb, thing) for who, verb, _, thing in told]
        assert ratings["consistency"] == 5 - 2 * sum(fact not in true for fact in said)
        stars = [fact[1:] for fact in facts if fact[0] == "*"]
        assert ratings["relevance"] == 1 + 2 * sum(fact in said for fact in stars)
        assert ratings["fluency"] == 3 - sum(ending == "" for _, _, ending, _ in told)
        places = [true.index(fact) for fact in said if fact in true]
        assert ratings["coherence"] == (5 if places == sorted(places) else 1)


def test_ratings_are_read_behind_their_names() -> None:
    full = "coherence 5, consistency 3, relevance 1, fluency 2"
    assert planted_summaries.read(full) == {"coherence": 5, "consistency": 3, "relevance": 1, "fluency": 2}
    assert planted_summaries.read("Fluency: 2; relevance=1\nConsistency 3, coherence 5") is not None
    for answer in (
        "coherence 5, consistency 3, relevance 1",  # one is missing
        f"{full}, fluency 3",  # one stands there twice
        "coherence 6, consistency 3, relevance 1, fluency 2",
        "coherence 5, consistency 3, relevance 1, fluency 4",  # its scale ends at 3
        "coherence 50, consistency 3, relevance 1, fluency 2",
        "5 3 1 2",
        "",
        full * 40,
    ):
        assert planted_summaries.read(answer) is None


@every_world
def test_worse_systems_have_worse_scores(name: str) -> None:
    problems = load_task(name).problems("train", 200, 0)
    if name == "planted-translation":
        gold = [float(str(p.meta["score"])) for p in problems]
    else:
        gold = [float(sum((planted_summaries.read(p.reference or "") or {}).values())) for p in problems]
    means = list(system_means(gold, [str(p.meta["system"]) for p in problems]).values())
    assert means == sorted(means, reverse=True)
    assert len({*means}) == len(SYSTEMS)


@settings(max_examples=25)
@given(st.text(max_size=300), st.sampled_from(WORLDS))
def test_every_response_gets_a_verdict(text: str, name: str) -> None:
    task = load_task(name)
    problem = task.problems("train", 3, 0)[2]
    for response in (text, f"\\boxed{{{text}}}", f"<think>\n{text}"):
        verdict = task.verify(problem, response)
        assert verdict.correct in (True, False)
        assert (verdict.score == 1.0) == verdict.correct


def test_partial_lists_and_ratings_score_partly() -> None:
    problem = next(
        p for p in load_task("planted-translation").problems("train", 100, 0) if (p.reference or "").count(";") == 1
    )
    first, second = (problem.reference or "").split("; ")
    task = load_task("planted-translation")
    verdict = task.verify(problem, f"\\boxed{{{first}}}")
    assert (verdict.correct, verdict.score) == (False, pytest.approx(2 / 3))
    assert verdict.parts == {"precision": 1.0, "recall": 0.5}
    assert task.verify(problem, f"\\boxed{{{second}; {first}}}").correct is True
    assert task.verify(problem, f"\\boxed{{{first}; {first}; {second}}}").correct is True  # said twice is said
    more = task.verify(problem, f"\\boxed{{{first}; {second}; major omission zzz}}")
    assert more.correct is False
    assert more.score is not None
    assert more.score < 1
    summary = load_task("planted-summary").problems("train", 1, 0)[0]
    ratings = {**{aspect: 5 for aspect in ASPECTS}, "fluency": 1}
    verdict = load_task("planted-summary").verify(summary, f"\\boxed{{{planted_summaries.written(ratings)}}}")
    assert (verdict.correct, verdict.score) == (False, 0.75)
