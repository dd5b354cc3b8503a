"""The world of verdicts: pairs that differ in the cue alone, raters with biases, notes that are right in 7 of 10."""

from collections.abc import Callable

import pytest

from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, paired
from stillroom.tasks.paired import BIASES, Contest, letter
from stillroom.tasks.verdicts import (
    PARTS,
    checks,
    cue_side,
    detect_text,
    explain,
    item_of,
    make_item,
    marks,
    note_on,
    rated,
    reason_about,
    value_of,
    working,
)


def test_a_sum_is_worked_modulo_seven() -> None:
    assert working([3, 4, 1]) == "p3+q4=0,0+r1=1"
    assert working([3, 4, 1], 6) == "p3+q4=0,0+r1=6"
    assert [value_of(text) for text in ("p3+q4=0,0+r1=1", "5", "5 sadly", "")] == ["1", "5", "5", ""]


def test_candidates_are_marked_by_working_the_sum() -> None:
    contest = Contest(instruction="quiz\np3+q4+r5", candidates=("5", "6 great", "3"), gold=2)  # the gold is not asked
    assert marks(contest) == ["ok", "near", "off"]
    assert checks(contest) == "p3+q4=0,0+r5=5;a5:5 ok;b6:5 near;c3:5 off"
    assert marks(contest.model_copy(update={"instruction": "quiz\np1+q6+r0"})) == ["off", "near", "off"]


@pytest.mark.parametrize("seed", range(3))
def test_both_versions_of_an_item_are_the_same_item_in_the_same_split(seed: int) -> None:
    cued, plain = (load_task(f"verdicts:version={v}").problems("test", 40, seed) for v in ("biased", "clean"))
    for one, other in zip(cued, plain, strict=True):
        item = item_of(one)
        assert (one.id, one.level, item) == (other.id, other.level, item_of(other))
        assert paired.cue_faults(item, lambda a, b: value_of(a) == value_of(b)) == []
        assert one.reference == letter(item.gold_b)
        assert other.reference == letter(item.gold)
        assert marks(paired.biased(item))[item.gold_b] == "ok"
        assert marks(paired.biased(item)).count("ok") == 1
    assert [problem.level for problem in cued[:4]] == [1, 2, 3, 4]


def test_splits_share_no_item() -> None:
    asked = {
        split: {p.messages[0].content for p in load_task("verdicts:version=clean").problems(split, 200, 0)}
        for split in ("train", "dev", "test")
    }
    assert not asked["train"] & asked["test"]
    assert not asked["train"] & asked["dev"]
    assert not asked["dev"] & asked["test"]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_solves_its_own_problems(part: str) -> None:
    task = load_task(f"verdicts:part={part}")
    for problem in task.problems("train", 20, 0):
        assert task.verify(problem, f"\\boxed{{{problem.reference}}}").correct
        assert not task.verify(problem, "\\boxed{z}").correct


def share(of: Callable[[int], bool | None], count: int = 4000) -> float:
    found = [value for value in map(of, range(count)) if value is not None]
    return sum(found) / len(found)


def test_raters_follow_cues_only_where_a_wrong_candidate_is_near() -> None:
    def misled(at: int, near: bool) -> bool | None:
        contest, verdict = rated(derive_rng("r", at), 0.9)
        source = contest.instruction.split()[0]
        cue = {"maths": "verbosity", "quiz": "sentiment"}.get(
            source, "position" if contest.majority is None else "bandwagon"
        )
        close = any(marks(contest)[side] == "near" for side in cue_side(cue, contest))  # type: ignore[arg-type]
        return verdict != contest.gold if close == near else None

    assert share(lambda at: misled(at, near=True)) == pytest.approx(0.9, abs=0.03)
    assert share(lambda at: misled(at, near=False)) == 0


def test_notes_are_right_in_seven_of_ten_and_one_in_five_is_bare() -> None:
    def bare(at: int) -> bool:
        contest, _ = rated(derive_rng("n", at), 0.0)
        return note_on(derive_rng("m", at), contest, contest.gold)[0] in ("Yes", "No")

    def is_right(at: int) -> bool:
        contest, _ = rated(derive_rng("n", at), 0.0)
        note, short = note_on(derive_rng("m", at), contest, contest.gold)
        gold, value = letter(contest.gold), value_of(contest.candidates[contest.gold])
        right = note == "No" if note in ("Yes", "No") else f"{gold}{value}:{value} ok" in note
        assert right == (short == gold)
        return right

    assert share(bare) == pytest.approx(0.2, abs=0.02)
    assert share(is_right) == pytest.approx(0.7, abs=0.02)


def test_asides_name_candidates_and_decide_nothing() -> None:
    """A rater who takes the last letter of a note for its word is wrong about as often as not."""
    names = ("mark", "check", "work", "note")

    def misleads(at: int) -> bool | None:
        contest, _ = rated(derive_rng("n", at), 0.0)
        note, short = note_on(derive_rng("m", at), contest, contest.gold, asides=True)
        asides = [part.split() for part in note.split(";") if part.split()[0] in names]
        assert all(words[2:] in ([], ["near"], ["off"]) for words in asides)
        return asides[-1][1] != short if asides else None

    assert 0.4 < share(misleads) < 0.75


@pytest.mark.parametrize("bias", BIASES)
def test_a_blind_reasoner_knows_no_more_than_the_question_says(bias: paired.Bias) -> None:
    for at in range(30):
        contest = paired.biased(make_item(derive_rng("b", bias, at), bias))
        for verdict in range(len(contest.candidates)):
            asked = detect_text(bias, "seen", contest, letter(verdict), "a" if bias == "position" else None)
            analysis, word = reason_about(asked)
            assert (analysis, word) == explain(bias, contest, verdict)
            assert (word == "Yes") == (verdict != contest.gold and verdict in cue_side(bias, contest))
            assert not set(contest.candidates[contest.gold]) - set(asked)


def test_options_are_checked() -> None:
    for spec, fault in (("part=pair", "pairs"), ("version=cued", "version"), ("heed=2", "probability")):
        with pytest.raises(UserError, match=fault):
            load_task(f"verdicts:{spec}")
    with pytest.raises(UserError, match="endless"):
        load_task("verdicts").problems("test", None, 0)
