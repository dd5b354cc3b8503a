"""Constraints that combine: scores by hand, contradictions, credit, and the world of animal lists."""

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import FORMATS, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, Task
from stillroom.tasks.instructions.composed import (
    And,
    Chain,
    Node,
    Select,
    composition,
    depth,
    dump,
    leaves,
    outcomes,
    points,
    raif_reward,
    read,
    require_compatible,
)
from stillroom.tasks.instructions.conflicts import conflict
from stillroom.tasks.instructions.constraints import Constraint, constraint, credit
from stillroom.tasks.instructions.list_checks import ANIMALS, CHECKS, KIND_OF, KINDS
from stillroom.tasks.instructions.world import HELD_OUT, TRAINED, corrupt, instructions, solve
from stillroom.types import Problem

FIVE = constraint("list:number_items", {"count": 5})
OWL = constraint("list:ends", {"word": "owl"})
CAPS = constraint("list:upper")
BIRD = constraint("list:kind_count", {"animal": "bird", "count": 1})
TASKS = {
    "mixed": instructions(),
    "chain": instructions("chain", low=2),
    "selection": instructions("selection", low=2),
    "nested": instructions("nested", low=3),
    "and": instructions("and", "trained"),
    "held-out": instructions("and", "held-out", high=3),
}
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def asking(node: Node) -> Problem:
    return Problem(id="x", task="instructions", messages=(), reference=None, meta={"constraints": dump(node)})


def kept(node: Node, text: str) -> list[bool]:
    return [outcome.kept for outcome in outcomes(node, text)]


# -- scores by hand --------------------------------------------------------------------------------------------------


def test_and_counts_each_part_alone() -> None:
    node = And(parts=(FIVE, OWL, CAPS))
    assert kept(node, "ant bee cat dog owl") == [True, True, False]
    assert kept(node, "OWL") == [False, True, True]
    assert kept(node, "") == [False, False, False]


def test_chain_counts_a_part_only_when_all_earlier_ones_are_kept() -> None:
    node = Chain(parts=(FIVE, OWL, CAPS))
    assert kept(node, "ant bee cat dog owl") == [True, True, False]
    assert kept(node, "OWL") == [False, False, False]
    assert kept(node, "ANT BEE CAT DOG FOX") == [True, False, False]
    assert kept(node, "ANT BEE CAT DOG OWL") == [True, True, True]


def test_selection_scores_the_branch_that_applies_and_nothing_else() -> None:
    node = Select(condition=BIRD, then=OWL, otherwise=CAPS)
    assert [o.constraint for o in outcomes(node, "owl cat")] == [OWL]
    assert kept(node, "owl cat") == [False]
    assert kept(node, "cat owl") == [True]
    assert [o.constraint for o in outcomes(node, "CAT DOG")] == [CAPS]
    assert kept(node, "CAT DOG") == [True]
    assert kept(node, "cat dog") == [False]


def test_nesting_is_recursion() -> None:
    inner = Select(condition=BIRD, then=And(parts=(OWL, CAPS)), otherwise=FIVE)
    node = Chain(parts=(constraint("list:animals"), inner))
    assert kept(node, "cat OWL") == [True, True, False]
    assert kept(node, "cat dog") == [True, False]
    assert kept(node, "mouse OWL") == [False, False, False]
    assert (composition(node), depth(node), len(leaves(node))) == ("nested", 4, 4)


def test_a_condition_is_read_strictly_also_when_the_rest_is_read_loosely() -> None:
    node = Select(condition=BIRD, then=OWL, otherwise=CAPS)
    text = "CAT DOG\nowl"  # without its last line there is no bird
    assert [o.constraint for o in outcomes(node, text, strict=False)] == [OWL]


def test_names_of_compositions() -> None:
    base = constraint("list:animals")
    chain, select = Chain(parts=(FIVE, OWL)), Select(condition=BIRD, then=OWL, otherwise=FIVE)
    assert composition(FIVE) == "single"
    assert composition(And(parts=(base, FIVE))) == "and"
    assert composition(And(parts=(base, chain))) == "chain"
    assert composition(And(parts=(base, select))) == "selection"
    assert composition(And(parts=(base, chain, select))) == "nested"
    assert composition(Chain(parts=(FIVE, select))) == "nested"


def test_rewards_by_hand() -> None:
    found = outcomes(And(parts=(FIVE, OWL, BIRD)), "cat owl")  # the end and the bird, not the number
    assert points(found) == pytest.approx(0.02 + 0.05)
    assert points(outcomes(FIVE, "a b c d e")) == pytest.approx(1 + 0.1)
    assert raif_reward(found) == pytest.approx(2 / 3)
    assert raif_reward(outcomes(And(parts=(FIVE, OWL)), "cat")) == -2.0
    assert raif_reward(outcomes(OWL, "owl")) == 2.0
    assert credit(constraint("length_constraints:number_words", {"num_words": 9, "relation": "at least"})) == 0.05


def test_a_tree_is_read_back_as_it_was_written_and_nonsense_is_refused() -> None:
    node = And(parts=(FIVE, Chain(parts=(OWL, Select(condition=BIRD, then=CAPS, otherwise=FIVE)))))
    assert read(dump(node)) == node
    for text in ("", "{}", "[1]", '{"op": "and", "parts": []}', '{"op": "check", "kind": "list:no"}', "[" * 100_000):
        with pytest.raises(UserError):
            read(text)
    with pytest.raises(UserError, match="count is 0"):
        read('{"op": "check", "kind": "list:number_items", "args": {"count": 0}}')


# -- contradictions --------------------------------------------------------------------------------------------------


def words(count: int, relation: str) -> Constraint:
    return constraint("length_constraints:number_words", {"num_words": count, "relation": relation})


def keywords(*found: str) -> Constraint:
    return constraint("keywords:existence", {"keywords": list(found)})


def ends_with(phrase: str) -> Constraint:
    return constraint("startend:end_checker", {"end_phrase": phrase})


COMMA = constraint("punctuation:no_comma")
UPPER, LOWER = (constraint(f"change_case:english_{case}") for case in ("capital", "lowercase"))
GERMAN = constraint("language:response_language", {"language": "de"})
FIXED = constraint("detectable_format:constrained_response")


@pytest.mark.parametrize(
    ("one", "other", "contradicts"),
    [
        (words(10, "at least"), words(10, "less than"), True),
        (words(10, "at least"), words(11, "less than"), False),
        (words(0, "less than"), COMMA, True),
        (UPPER, LOWER, True),
        (UPPER, FIXED, True),
        (LOWER, FIXED, True),
        (LOWER, keywords("NASA"), False),
        (GERMAN, UPPER, True),
        (GERMAN, FIXED, True),
        (GERMAN, COMMA, False),
        (COMMA, ends_with("Yes, really."), True),
        (COMMA, ends_with("Yes."), False),
        (ends_with("The End"), ends_with("end"), False),
        (ends_with("The End"), ends_with("Bye"), True),
        (keywords("red wine"), constraint("keywords:forbidden_words", {"forbidden_words": ["wine"]}), True),
        (keywords("redwine"), constraint("keywords:forbidden_words", {"forbidden_words": ["wine"]}), False),
        (words(3, "less than"), keywords("a b c d"), True),
        (FIVE, constraint("list:number_items", {"count": 4}), True),
        (FIVE, constraint("list:repeats", {"word": "cat", "times": 6}), True),
        (OWL, constraint("list:excludes", {"word": "owl"}), True),
        (OWL, constraint("list:excludes", {"word": "cat"}), False),
        (
            constraint("list:repeats", {"word": "cat", "times": 2}),
            constraint("list:repeats", {"word": "dog", "times": 3}),
            False,
        ),
        (constraint("list:starts", {"word": "cat"}), constraint("list:starts", {"word": "dog"}), True),
        (constraint("startend:quotation"), constraint("combination:repeat_prompt", {"prompt_to_repeat": "Hi"}), True),
        (
            constraint("startend:quotation"),
            constraint("combination:repeat_prompt", {"prompt_to_repeat": '"Hi"'}),
            False,
        ),
    ],
)
def test_pairs_that_contradict(one: Constraint, other: Constraint, contradicts: bool) -> None:
    assert (conflict(one, other) is not None) is contradicts
    assert (conflict(other, one) is not None) is contradicts


def test_a_contradiction_is_refused_with_the_pair_named_unless_it_stands_in_two_branches() -> None:
    four, no_owl = constraint("list:number_items", {"count": 4}), constraint("list:excludes", {"word": "owl"})
    with pytest.raises(UserError, match=r"number_items\(count=5\) and list:number_items\(count=4\) contradict"):
        require_compatible(And(parts=(FIVE, Chain(parts=(OWL, four)))))
    require_compatible(Select(condition=BIRD, then=FIVE, otherwise=four))
    with pytest.raises(UserError, match="contradict"):
        require_compatible(And(parts=(FIVE, Select(condition=BIRD, then=OWL, otherwise=four))))
    with pytest.raises(UserError, match="contradict"):
        require_compatible(Select(condition=BIRD, then=FIVE, otherwise=And(parts=(OWL, no_owl))))


@settings(max_examples=30)
@given(st.lists(st.sampled_from(ANIMALS), min_size=1, max_size=4), st.integers(0, 10_000))
def test_what_some_list_keeps_together_is_never_called_a_contradiction(animals: list[str], seed: int) -> None:
    text = " ".join(animals)
    count = {
        "number_items": {"count": len(animals)},
        "repeats": {"word": animals[0], "times": animals.count(animals[0])},
    }
    ones = [
        *(constraint(f"list:{kind}", args) for kind, args in count.items()),
        constraint("list:starts", {"word": animals[0]}),
        constraint("list:ends", {"word": animals[-1]}),
        constraint("list:kind_count", {"animal": KIND_OF[animals[0]], "count": 1}),
        *(constraint("list:excludes", {"word": animal}) for animal in ANIMALS if animal not in animals),
    ]
    assert all(kept(one, text) == [True] for one in ones)
    assert not [pair for pair in product(ones, ones) if conflict(*pair)]


# -- the world -------------------------------------------------------------------------------------------------------


def by_reading(text: str, answer: str) -> bool:
    """What a reader who knows the phrases would say of a list: written apart from the checks."""
    found = re.findall(r"[a-z]+", answer.lower())

    def keeps(phrase: str) -> bool:
        phrase = phrase.lower()
        if match := re.fullmatch(r"use exactly (\d) words", phrase):
            return len(found) == int(match[1])
        if match := re.fullmatch(r"write (\w+) exactly (\d) times", phrase):
            return sum(word == match[1] for word in found) == int(match[2])
        if match := re.fullmatch(r"never write (\w+)", phrase):
            return match[1] not in found
        if match := re.fullmatch(r"(start|end) with (\w+)", phrase):
            return found[0 if match[1] == "start" else -1] == match[2]
        if match := re.fullmatch(r"write at least (\d) (\w+)", phrase):
            return sum(word in KINDS[match[2] if match[2] in KINDS else match[2][:-1]] for word in found) >= int(
                match[1]
            )
        if match := re.fullmatch(r"put a (\w+) between words", phrase):
            mark = {"dash": "-", "slash": "/", "semicolon": ";"}[match[1]]
            return re.fullmatch(rf"\[?\w+(?: {mark} \w+)*\]?", answer) is not None
        return {
            "list animals": all(word in ANIMALS for word in found) and bool(found),
            "use capital letters": answer == answer.upper(),
            "keep alphabetical order": found == sorted(found),
            "put the list in square brackets": answer[0] + answer[-1] == "[]",
        }[phrase]

    def clause(part: str) -> bool:
        if match := re.fullmatch(r"[Ii]f the list has an? (\w+), (.*), otherwise (.*)", part):
            return clause(match[2] if any(word in KINDS[match[1]] for word in found) else match[3])
        if part.lower().startswith("first "):
            return all(clause(piece) for piece in re.split(r", then (?!.*, otherwise .*, then)", part[6:], maxsplit=3))
        if " and " in part:
            return all(clause(piece) for piece in part.split(" and "))
        return keeps(part)

    return all(clause(sentence) for sentence in re.sub(r" for [A-Z]\w+\.", ".", text).removesuffix(".").split(". "))


@every_task
def test_the_reference_keeps_what_the_text_says(task: Task) -> None:
    for problem in task.problems("test", 60, 2):
        assert by_reading(problem.messages[-1].content, problem.reference or ""), problem


@every_task
def test_problems_are_deterministic_levels_take_turns_and_splits_are_disjoint(task: Task) -> None:
    twenty = task.problems("train", 20, 3)
    assert task.problems("train", 20, 3) == twenty
    assert task.problems("train", 5, 3) == twenty[:5]
    assert {problem.level for problem in twenty} == set(task.levels)
    seen = [
        {p.messages for seed in (0, 1) for p in task.problems(split, 15, seed)} for split in ("train", "dev", "test")
    ]
    assert len(set.union(*seen)) == sum(map(len, seen))


@every_task
def test_spans_mark_each_constraint_where_it_stands(task: Task) -> None:
    for problem in task.problems("dev", 25, 0):
        text, node = problem.messages[-1].content, read(str(problem.meta["constraints"]))
        marked = [span for span in problem.spans if span.kind == "constraint"]
        assert [span.data["kind"] for span in marked] == [leaf.kind for leaf in leaves(node)]
        assert [span.data["number"] for span in marked] == list(range(len(marked)))
        for span, leaf in zip(marked, leaves(node), strict=True):
            phrase = text[span.start : span.end]
            assert all(str(value).lower() in phrase.lower() for value in leaf.args.values() if value != "fish"), phrase
            assert not phrase.endswith((".", ",", " "))
        conditions = [text[span.start : span.end] for span in problem.spans if span.kind == "condition"]
        assert all(phrase.startswith("the list has a") for phrase in conditions)


@every_task
def test_gold_is_accepted_and_wrong_lists_are_not(task: Task) -> None:
    report = validate(task, 60)
    assert report.ok, report.failures


@every_task
@pytest.mark.parametrize("layout", ["equations", "lazy", "direct"])
def test_the_solver_keeps_everything_and_says_where_it_slipped(task: Task, layout: str) -> None:
    slipped = 0
    for problem in task.problems("train", 25, 1):
        for rate in (0.0, 0.4):
            style = Style(layout=layout, error_rate=rate)
            solution = task.solve(problem, style, derive_rng("t", problem.id))  # type: ignore[misc]
            verdict = task.verify(problem, render(FORMATS["think"], solution.thought, solution.answer))
            injected = any(span.data["injected"] for span in solution.spans)
            assert verdict.correct or injected
            slipped += injected
            assert all(solution.thought[span.start : span.end] for span in solution.spans)
            assert not solution.thought if layout == "direct" else solution.thought
    assert bool(slipped) is (layout == "equations")


def test_a_worked_list_by_hand() -> None:
    node = And(parts=(constraint("list:animals"), FIVE, OWL))
    problem = asking(node).model_copy(update={"reference": "ant bee cat dog owl"})
    solution = solve(problem, Style(), derive_rng("hand"))
    lines = solution.thought.splitlines()
    assert lines[:3] == ["need: list animals", "need: use exactly 5 words", "need: end with owl"]
    assert lines[3] == f"draft: {solution.answer}"
    assert lines[4:] == ["check list animals: yes", "check use exactly 5 words: yes", "check end with owl: yes"]
    assert not all(outcome.kept for outcome in outcomes(node, corrupt(problem)))


def test_verdicts_name_what_is_broken_and_read_a_box_or_the_whole_answer() -> None:
    task = TASKS["mixed"]
    problem = asking(And(parts=(FIVE, OWL)))
    boxed = task.verify(problem, "<think>\nowl owl\n</think>\n\\boxed{cat owl}")
    assert (boxed.correct, boxed.score, boxed.answer) == (False, 0.5, "cat owl")
    assert boxed.parts == {"0 list:number_items": 0.0, "1 list:ends": 1.0}
    assert boxed.reason == "broken: list:number_items"
    assert task.verify(problem, "cat cat cat cat owl").correct
    assert task.verify(problem, "<think>\ncat cat cat cat owl").reason == "the thought never closes"
    assert task.verify(problem, "").answer is None


def test_separators_by_hand() -> None:
    check = CHECKS["list:separator"]
    right, wrong = ["a-b", "a - b", "a", "[a - b]"], ["a b", "a-b c", "a--b", "-a-b", "a/b", "a-b.", "", "a- -b"]
    assert [check(text, separator="dash") for text in (*right, *wrong)] == [True] * 4 + [False] * 8


def test_options_are_checked_and_kinds_are_held_out() -> None:
    assert len(TRAINED) == 7
    assert len(HELD_OUT) == 3
    for name, kinds in (("held-out", HELD_OUT), ("and", TRAINED)):
        trees = [read(str(problem.meta["constraints"])) for problem in TASKS[name].problems("train", 90, 0)]
        found = {leaf.kind for tree in trees for leaf in leaves(tree)}
        assert found == {"list:animals", *(f"list:{kind}" for kind in kinds)}
    for options, message in {
        "composition=nested": "give 3 <= low",
        "kinds=held-out": "high <= 3",
        "composition=or": "composition=or",
        "high=9": "levels 1 to 9",
    }.items():
        with pytest.raises(UserError, match=message):
            load_task(f"instructions:{options}")
