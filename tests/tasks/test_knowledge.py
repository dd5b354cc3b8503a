"""The knowledge graph by hand and beside networkx, the questions over it, and trick questions."""

import re
from collections import Counter

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.chat import FORMATS, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style, majority_baseline
from stillroom.tasks.facts import build_world
from stillroom.tasks.knowledge import (
    COMMON,
    RARE,
    Graph,
    Triple,
    composition_split,
    compositions,
    corpus,
    follow,
    frequency,
    knowledge,
    linearise,
    paths,
    stated_facts,
    world_graph,
)
from stillroom.tasks.tricks import OPTIONS, RULES, tricks
from stillroom.types import Problem

WORLD = build_world()
TASK = knowledge()
SMALL = Graph(
    (Triple("a", "r", "b"), Triple("b", "r", "c"), Triple("a", "s", "c"), Triple("c", "r", "a"), Triple("c", "t", "d")),
    {"a": "Ann", "b": "Bo", "c": "Bo", "d": "Dee"},
)


# -- paths -----------------------------------------------------------------------------------------------------------


def test_paths_by_hand() -> None:
    found = paths(SMALL, ["a"], ["c"])
    assert [linearise(SMALL, path) for path in found.found] == ["Ann -- s -- Bo", "Ann -- r -- Bo -- r -- Bo"]
    assert not found.cut
    assert [len(path) for path in paths(SMALL, ["a"], ["d"]).found] == [2, 3]
    assert paths(SMALL, ["a"], ["d"], max_hops=1).found == ()
    assert paths(SMALL, ["a"], ["d"], limit=1) == (paths(SMALL, ["a"], ["d"]).found[:1], True)
    assert paths(SMALL, ["a"], ["a"], max_hops=5).found == ()  # no entity twice
    assert follow(SMALL, "a", ["r", "r", "t"]) == {"d"}
    assert follow(Graph((Triple("a", "r", "b"), Triple("a", "r", "c")), SMALL.labels), "a", ["r"]) == {"b", "c"}
    with pytest.raises(UserError, match="no entity 'z'"):
        paths(SMALL, ["z"], ["a"])
    with pytest.raises(UserError, match="'e' of"):
        Graph((Triple("a", "r", "e"),), {"a": "Ann"})


@settings(max_examples=60)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14), st.integers(1, 4))
def test_paths_are_those_of_networkx(edges: set[tuple[int, int]], hops: int) -> None:
    triples = tuple(Triple(str(a), "r", str(b)) for a, b in sorted(edges))
    graph = Graph(triples, {str(n): str(n) for n in range(6)})
    other = networkx.DiGraph([(t.head, t.tail) for t in triples])
    other.add_nodes_from("05")
    wanted = sorted(networkx.all_simple_paths(other, "0", "5", cutoff=hops))
    found = paths(graph, ["0"], ["5"], max_hops=hops, limit=10_000).found
    assert sorted([path[0].head, *(t.tail for t in path)] for path in found) == wanted
    assert [len(path) for path in found] == sorted(len(path) for path in found)


# -- the world -------------------------------------------------------------------------------------------------------


def test_the_graph_holds_the_worlds_facts_and_the_corpus_states_them_so_often() -> None:
    graph = world_graph(WORLD)
    assert len(graph.triples) == sum(map(len, WORLD.facts.values())) == 300
    lines = list(corpus(WORLD))
    said = Counter(line.split(" is ")[0].split(" was ")[0].split()[-1] for line in lines if "mentor" in line)
    assert all(said[person] == frequency(WORLD, "mentor", person) for person in WORLD.people)
    assert sorted(said.values(), reverse=True)[:4] == [64, 32, 21, 16]
    assert min(said.values()) == 1
    assert stated_facts(WORLD, "\n".join(lines)) == (len(lines), len(lines))


def test_what_a_text_states_is_counted_and_checked() -> None:
    one, two, *_ = WORLD.people
    right, wrong = WORLD.facts["mentor"][one], next(p for p in WORLD.people if p != WORLD.facts["mentor"][one])
    assert stated_facts(WORLD, f"mentor({one})={right}\nmentor({one})={wrong}") == (2, 1)
    assert stated_facts(WORLD, f"The mentor of {one} is {right}. The job of {two} is pope.") == (2, 1)
    assert stated_facts(WORLD, f"the best friend of {one} is Nobody. Or not.") == (1, 0)
    assert stated_facts(WORLD, "Let me think.") == (0, 0)


def by_reading(problem: Problem) -> str:
    """From the innermost phrase of the question outwards."""
    text = problem.messages[-1].content.removesuffix("?")
    rest, subject = re.fullmatch(r"(.*?)(\w+)", text).groups()  # type: ignore[union-attr]
    words = {"mentor of": "mentor", "best friend of": "friend", "home town of": "town", "job of": "job"}
    words["lives in"] = "resident"
    for phrase in reversed(re.findall("|".join(words), rest)):
        subject = WORLD.facts[words[phrase]][subject]
    return subject


def test_answers_are_derived_again_from_the_text_and_paths_lead_to_them() -> None:
    graph = world_graph(WORLD)
    for split in ("train", "dev", "test"):
        problems = TASK.problems(split, 120, 1)  # type: ignore[arg-type]
        assert all(by_reading(problem) == problem.reference for problem in problems)
        for problem in problems[:25]:
            hops: list[str] = problem.meta["hops"]  # type: ignore[assignment]
            start = f"{'town' if hops[0] == 'resident' else 'person'}:{problem.meta['subject']}"
            (end,) = follow(graph, start, hops)
            assert graph.labels[end] == problem.reference
            assert problem.meta["path"][-1] == problem.reference  # type: ignore[index]


def test_compositions_of_relations_are_in_one_split_only() -> None:
    chains = compositions()
    assert len(set(chains)) == len(chains)
    assert Counter(map(len, chains)) == {1: 5, 2: 11, 3: 24}  # 3: eight from each of three persons' relations
    seen: dict[tuple[str, ...], set[str]] = {}
    for split in ("train", "dev", "test"):
        for problem in TASK.problems(split, None, 0):  # type: ignore[arg-type]
            seen.setdefault(tuple(problem.meta["hops"]), set()).add(split)  # type: ignore[arg-type]
    assert all(splits == {composition_split(chain)} for chain, splits in seen.items() if len(chain) > 1)
    assert {composition_split(chain) for chain in chains if len(chain) == 3} == {"train", "dev", "test"}


def test_slices_are_what_they_say() -> None:
    rare, common = (knowledge(facts=name).problems("train", None, 0) for name in ("rare", "common"))  # type: ignore[arg-type]
    assert max(int(str(p.meta["frequency"])) for p in rare) <= RARE
    assert min(int(str(p.meta["frequency"])) for p in common) >= COMMON
    assert {p.level for p in rare} == {1, 2, 3}
    assert len(common) >= 10


def test_gold_aliases_and_near_misses() -> None:
    assert validate(TASK, 100, split="test").ok
    problem = next(p for p in TASK.problems("test", None, 0) if p.meta["hops"][-1] == "mentor")  # type: ignore[index]
    gold = problem.reference or ""
    other = next(person for person in WORLD.people if person != gold)

    def correct(answer: str, strict: bool = True) -> bool | None:
        return TASK.verify(problem, f"\\boxed{{{answer}}}", strict=strict).correct

    assert correct(gold.lower())
    assert correct(f"{gold} the {WORLD.facts['job'][gold]}")
    assert not correct(f"{gold} and {other}")
    assert TASK.verify(problem, f"\\boxed{{{gold}, {other}}}").reason == "names several"
    assert not correct(f"it is {gold}")
    assert correct(f"it is {gold}", strict=False)
    assert not correct(other, strict=False)
    assert TASK.verify(problem, gold).reason == "no answer"


@pytest.mark.parametrize("layout", ["equations", "sentences"])
@pytest.mark.parametrize("task", [TASK, tricks()], ids=["knowledge", "tricks"])
def test_solvers_are_right_unless_they_slip(task, layout: str) -> None:  # type: ignore[no-untyped-def]
    for problem in task.problems("train", 60, 2):
        solution = task.solve(problem, Style(layout=layout), derive_rng("t", problem.id))
        assert task.verify(problem, render(FORMATS["think"], solution.thought, solution.answer)).correct
        assert len(solution.spans) == problem.level
        slipped = task.solve(problem, Style(layout=layout, error_rate=1.0), derive_rng("t", problem.id))
        assert all(span.data["injected"] for span in slipped.spans)
        if task is TASK:
            assert stated_facts(WORLD, solution.thought) == (problem.level, problem.level)
            assert stated_facts(WORLD, slipped.thought).true == 0


def test_options_are_checked() -> None:
    for spec, message in {
        "knowledge:high=4": "levels 1 to 4",
        "knowledge:facts=some": "facts=some",
        "knowledge:entities=3": "entities=3",
        "tricks:low=0": "levels 0",
        "tricks:category=odd": "category=odd",
    }.items():
        with pytest.raises(UserError, match=message):
            load_task(spec)


# -- tricks ----------------------------------------------------------------------------------------------------------


def test_tricks_are_derived_again_from_their_text() -> None:
    safe = {place for rule in RULES.values() for place in rule.spared}
    for problem in tricks().problems("test", 150, 0):
        text = problem.messages[-1].content
        counted = 0
        for sentence in re.split(r"(?<=\.) ", text):
            number = re.search(r"(\d+) (?:ice cubes|marbles|candles|people)", sentence)
            if number and any(sentence.endswith(f"{place}.") for place in safe):
                counted += int(number[1])
        assert problem.options[ord(problem.reference or "") - 65] == str(counted)
        assert len(set(problem.options)) == OPTIONS
        assert str(problem.meta["bait"]) in problem.options


def test_no_letter_and_no_habit_is_a_good_guess() -> None:
    problems = tricks().problems("train", 800, 0)
    assert (majority_baseline(problems) or 1) < 1 / OPTIONS + 0.05
    for level in (2, 3, 4):
        of_level = [problem for problem in problems if problem.level == level]
        for habit in ("bait", "nothing"):
            said = [problem.meta["bait"] if habit == "bait" else "0" for problem in of_level]
            assert sum(map(str.__eq__, map(str, said), (str(p.meta["answer"]) for p in of_level))) / len(of_level) < 0.4
    assert Counter(str(p.meta["category"]) for p in problems).keys() == set(RULES)
    assert {p.meta["category"] for p in tricks("social").problems("dev", 20, 0)} == {"social"}


def test_a_worked_trick_by_hand() -> None:
    task = tricks("trick", low=2, high=2)
    problem = next(p for p in task.problems("train", 60, 0) if p.meta["struck"] == [True, False])
    first, second = problem.meta["counts"]  # type: ignore[misc]
    solution = task.solve(problem, Style(), derive_rng("hand"))  # type: ignore[misc]
    lines = solution.thought.splitlines()
    assert lines[0].endswith("they melt, so 0")
    assert lines[1].endswith(f"they stay, so {second}")
    assert problem.options[ord(solution.answer) - 65] == str(second)
    assert problem.options[ord(task.corrupt(problem)) - 65] == str(first + second)  # type: ignore[misc,operator]
