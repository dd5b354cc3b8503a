"""Word problems: variety, distractors, and steps that are what the level says."""

import re

from stillroom.seeds import derive_rng
from stillroom.tasks.base import Style, question
from stillroom.tasks.words import solve, words
from stillroom.types import Problem


def test_solution_by_hand() -> None:
    text = "Ben has 3 boxes with 4 pens each. Ben loses 5 pens. How many pens does Ben have now?"
    steps = [["*", "3", "4", "Ben has {} pens."], ["-", "#0", "5", "Ben has {} pens."]]
    problem = Problem(id="h", task="words", messages=question(text), reference="7", meta={"steps": steps})
    assert solve(problem, Style(), derive_rng(0)).thought == "3*4=12\n12-5=7"
    told = solve(problem, Style(layout="sentences"), derive_rng(0))
    assert told.thought == "Ben has 3*4=12 pens.\nBen has 12-5=7 pens."
    assert told.answer == "7"


def test_level_is_the_number_of_steps_and_numbers_stay_positive() -> None:
    for problem in words().problems("train", 500, 0):
        solution = solve(problem, Style(), derive_rng(0))
        assert len(solution.spans) == problem.level
        assert all(int(line.split("=")[1]) > 0 for line in solution.thought.splitlines())


def test_stories_vary_in_more_than_their_numbers_and_names() -> None:
    """Names, things and numbers blanked out, at least a hundred different tellings are left."""
    shapes = set()
    for problem in words().problems("train", 1000, 0):
        text = re.sub(r"\d+", "7", problem.messages[-1].content)
        text = re.sub(r"\b(?!How|For|The|There|It|And|A|An|By|All|Together|Then)[A-Z][a-z]+", "N", text)
        shapes.add(re.sub(r"\b(?!boxes|bags|times|hours|dollars|days)[a-z]+s\b", "things", text))
    assert len(shapes) >= 100


def test_distractors_add_sentences_that_say_nothing_twice() -> None:
    for problem in words(distractors=3).problems("train", 200, 0):
        text = problem.messages[-1].content
        assert len(re.findall(r" is \d+ years old\.", text)) == 1
        assert len(re.findall(r"There are \d+ \w+ (?:at|in)", text)) == 1
        assert not text.split(". ")[0].endswith("years old")  # the story opens, not a distractor
        assert not re.search(r"\d", text.split(". ")[-1].replace("all 3", ""))  # the question carries no number
