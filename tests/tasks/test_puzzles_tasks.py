"""Puzzles as tasks: splits by solution, the verifier against hostile answers, traces, and the three measures."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.bench.hostile import responses
from stillroom.chat import FORMATS, render
from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks import list_tasks, load_task, validate
from stillroom.tasks.base import Style
from stillroom.tasks.puzzles.board import UNDECIDED, text_of
from stillroom.tasks.puzzles.describe import describe, read_board
from stillroom.tasks.puzzles.kinds import KINDS, check_complete
from stillroom.tasks.puzzles.metrics import Judged, distinct_solutions, perceived, said_to_see, scores
from stillroom.tasks.puzzles.tasks import LAYOUTS, puzzle_of, split_of_mask, split_of_solution
from stillroom.types import Problem, Split, Verdict

THINK = FORMATS["think"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
# Four hexadecimal digits for each of the first hundred problems: it shows when a generator changes.
DIGESTS = json.loads((Path(__file__).parents[1] / "data" / "digests_puzzles.json").read_text())
kinds = pytest.mark.parametrize("kind", KINDS)


def boxed(answer: str) -> str:
    return f"<think>\nso\n</think>\n\\boxed{{{answer}}}"


def small(kind: str, n: int = 4, split: Split = "train", options: str = "") -> list[Problem]:
    return load_task(f"{kind}:size={KINDS[kind].sizes[0]}{options}").problems(split, n, 0)


# -- problems


def test_all_twenty_are_listed_with_their_sizes() -> None:
    listed = {info.name: info for info in list_tasks() if info.world == "puzzles"}
    assert set(listed) == set(KINDS)
    assert all(info.levels == KINDS[name].sizes for name, info in listed.items())


@kinds
def test_problems_are_deterministic_valid_and_as_they_were(kind: str) -> None:
    task = load_task(kind)
    problems = task.problems("train", 3, 0)
    assert task.problems("train", 2, 0) == problems[:2]
    assert [problem.level for problem in problems] == [task.levels[i % len(task.levels)] for i in range(3)]
    found = [digest(problem.messages[0].content, problem.reference or "")[:4] for problem in problems]
    assert "".join(found) == DIGESTS[kind][: 4 * 3]
    assert len(DIGESTS[kind]) == 4 * 100
    for problem in problems:
        puzzle = puzzle_of(problem)
        assert problem.messages[0].content == describe(puzzle)
        assert problem.reference == text_of(read_board(problem.reference or "", puzzle.size)[0] or (), puzzle.size)
        assert UNDECIDED not in problem.reference.split()
    assert validate(load_task(f"{kind}:size={task.levels[0]}"), 3).ok
    assert task.problems("train", 1, 1) != problems[:1]


@kinds
def test_splits_share_no_solution(kind: str) -> None:
    seen: dict[str, set[str | None]] = {}
    for split in SPLITS:
        problems = [problem for seed in (0, 1) for problem in
                    load_task(f"{kind}:size={KINDS[kind].sizes[0]}").problems(split, 5, seed)]  # fmt: skip
        assert all(problem.split == split for problem in problems)
        for problem in problems:
            solution = read_board(problem.reference or "", problem.level)[0]
            assert solution is not None
            assert split_of_solution(solution) == split
        seen[split] = {problem.reference for problem in problems}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


@pytest.mark.parametrize("kind", ["sudoku", "nonogram", "field-explore", "trees-and-tents"])
def test_held_out_masks_show_other_cells_of_the_solutions_of_train(kind: str) -> None:
    train, test = small(kind, 6), small(kind, 6, "test", ",held_out=masks")
    assert [problem.reference for problem in test] == [problem.reference for problem in train]
    for problem, split in [*((one, "train") for one in train), *((one, "test") for one in test)]:
        assert split_of_mask(puzzle_of(problem)) == split
    assert not {problem.messages for problem in train} & {problem.messages for problem in test}
    assert small(kind, 6, "train", ",held_out=masks") == train
    counted = distinct_solutions([*train, *train, *test])
    assert counted["train"] == counted["test"] == len({problem.reference for problem in train})


def test_options_out_of_range_are_refused() -> None:
    for options, message in (("size=7", "square"), ("clues=1.0", r"clues=1\.0"), ("budget=0", "budget=0")):
        with pytest.raises(UserError, match=message):
            load_task(f"sudoku:{options}")
    with pytest.raises(UserError, match="endless"):
        load_task("sudoku").problems("train", None, 0)


def test_the_text_holds_what_the_solution_needs() -> None:
    (problem,) = small("killer-sudoku", 1)
    text = problem.messages[0].content
    assert text.startswith("Killer sudoku, 4 rows, 4 columns, numbers 1 to 4.\n- Every row has every number once.\n")
    assert "\nBoxes: 2 rows high, 2 columns wide.\nCages:\nA" in text
    assert "\nSums: A=" in text
    assert text.endswith("cells separated by spaces.")
    (problem,) = small("thermometers", 1)
    assert "Thermometers from the bulb: r" in problem.messages[0].content


# -- answers


def test_boards_are_read_in_every_plain_form_and_nothing_else() -> None:
    board = ("1", "2", "3", "4")
    for text in (
        "1 2\n3 4",
        " 1,2 \n\n 3, 4\n",
        "1 2 / 3 4",
        "12\n34",
        "|1|2|\n|3|4|",
        "[[1, 2], [3, 4]]",
        '[["1","2"],["3","4"]]',
    ):
        assert read_board(text, 2) == (board, ""), text
    for text, why in (
        ("1 2 3 4", "1 rows instead of 2"),
        ("1 2\n3", "row 2 has 1 cells"),
        ("1 2\n3 4\n5 6", "3 rows"),
        ("[[1, 2], [3]]", "row 2 has 1 cells"),
        ("[[1, 2], [3, [4]]]", "not a board"),
        ("[[1, 2], [3, true]]", "not a board"),
        ("[[1, 2], [3, 4.0]]", "not a board"),
        ("[[1, 2], [3, 4]", "not a board"),
        ("[" * 3000, "not a board"),
        ("[[" + "9" * 3900 + "]]", "not a board"),
        ("1 2\n" * 2000, "too long"),
        ("", "0 rows"),
    ):
        found, reason = read_board(text, 2)
        assert found is None
        assert why in reason, text


@kinds
def test_right_and_wrong_answers(kind: str) -> None:
    task = load_task(kind)
    for problem in small(kind, 2):
        gold, puzzle = problem.reference or "", puzzle_of(problem)
        rows = [line.split() for line in gold.splitlines()]
        for text in (gold, json.dumps(rows), gold.replace("\n", " / "), f"\n{gold}\n"):
            verdict = task.verify(problem, boxed(text))
            assert (verdict.correct, verdict.score, verdict.reason) == (True, 1.0, "solved")
            assert verdict.parts == {"read": 1.0}
        assert task.verify(problem.model_copy(update={"reference": None}), boxed(gold)).correct  # rules, not the gold
        assert task.corrupt is not None
        wrong = task.verify(problem, boxed(task.corrupt(problem)))
        assert (wrong.correct, wrong.score) == (False, 0.0)
        named = {name.removeprefix("broken: ") for name in wrong.parts if name.startswith("broken: ")}
        assert named <= {*KINDS[kind].told, "changed cell"}
        assert wrong.reason.split(": ")[0] in named
        shown = text_of(puzzle.given, puzzle.size)
        for text, reason in (
            ("", "no answer"),
            (gold, "no answer"),
            (boxed(shown), "undecided cell"),
            (boxed("\n".join(gold.splitlines()[1:])), "no board"),
            (boxed(gold + " x"), "no board"),
            (boxed(gold.replace(rows[0][0], "?", 1)), "unknown symbol"),
            (f"<think>\n\\boxed{{{gold}}}", "no answer"),
        ):
            verdict = task.verify(problem, text)
            assert verdict.correct is False
            assert verdict.reason.startswith(reason), (text, verdict.reason)
        assert task.verify(problem, f"<think>x</think>\n{gold}", strict=False).correct


@kinds
def test_hostile_answers_get_a_verdict(kind: str) -> None:
    task, problems = load_task(kind), small(kind, 2)
    golds = [boxed(problem.reference or "") for problem in problems]
    for index, text in enumerate(responses(golds, 500)):
        problem = problems[index % 2]
        verdict = task.verify(problem, text, strict=bool(index % 3))
        assert verdict.correct is not None
        assert verdict.score == float(verdict.correct)
        if verdict.correct:  # what was spoilt stood outside of the board
            board = read_board(verdict.answer or "", problem.level)[0]
            assert board is not None
            assert check_complete(puzzle_of(problem), board).ok


@settings(max_examples=60, deadline=None)
@given(text=st.text() | st.text(alphabet='1234se.#[],"/| \n{}\\boxd<think/>', max_size=80), size=st.integers(1, 5))
def test_reading_a_board_is_total(text: str, size: int) -> None:
    board, reason = read_board(text, size)
    assert (board is None) == bool(reason)
    assert board is None or len(board) == size * size


# -- traces


@kinds
def test_traces_end_in_the_solution_and_mark_their_errors(kind: str) -> None:
    task = load_task(kind)
    assert task.solve is not None
    for problem in small(kind, 2):
        for layout in LAYOUTS:
            solution = task.solve(problem, Style(layout=layout, verbosity=1, fillers=0.5), derive_rng(problem.id))
            assert solution.answer == problem.reference
            assert task.verify(problem, render(THINK, solution.thought, solution.answer)).correct
            assert bool(solution.spans) == (layout != "answer")
            assert all(span.data == {"correct": True, "injected": False} for span in solution.spans)
        wrong = task.solve(problem, Style(error_rate=0.5), derive_rng("wrong", problem.id))
        injected = [span.data["injected"] for span in wrong.spans]
        correct = [span.data["correct"] for span in wrong.spans]
        assert any(injected)
        assert correct == [not any(injected[: at + 1]) for at in range(len(injected))]
        assert wrong.answer != problem.reference
        assert not task.verify(problem, render(THINK, wrong.thought, wrong.answer)).correct
        # The steps, read back, are the answer's cells.
        board = read_board(wrong.answer, problem.level)[0] or ()
        for span in wrong.spans:
            spot, value = wrong.thought[span.start : span.end].split(":")
            row, column = (int(number) - 1 for number in spot[1:].split("c"))
            assert board[row * problem.level + column] == value.split("=")[1]
    with pytest.raises(UserError, match="layout"):
        task.solve(small(kind, 1)[0], Style(layout="song"), derive_rng(0))


def test_a_trace_without_backtracks_or_budget_has_no_dead_ends() -> None:
    seen = ""
    for options in ("", ",backtracks=false", ",budget=3"):
        task = load_task(f"renzoku:size=8,clues=0.0{options}")
        thoughts = [
            task.solve(problem, Style(), derive_rng(0)).thought  # type: ignore[misc]
            for problem in load_task("renzoku:size=8,clues=0.0").problems("train", 6, 0)
        ]
        seen += " breaks" if " breaks " in "".join(thoughts) else " straight"
    assert seen == " breaks straight straight"


# -- measures


def test_perception_reads_the_first_board_that_a_response_says_it_sees() -> None:
    (problem,) = small("sudoku", 1)
    puzzle, gold = puzzle_of(problem), problem.reference or ""
    seen = said_to_see(puzzle)
    assert perceived(puzzle, f"<think>\n{seen}\nr1c1:1=1\n</think>\n\\boxed{{{gold}}}")
    assert perceived(puzzle, f"{seen}\n\\boxed{{{gold}}}")
    assert not perceived(puzzle, f"<think>\nBoard:\n{gold}\n</think>\n\\boxed{{{gold}}}")  # it saw what was not there
    other = next(value for value in puzzle.given if value != UNDECIDED)
    assert not perceived(puzzle, seen.replace(other, "4" if other != "4" else "3"))
    assert not perceived(puzzle, "")
    assert not perceived(puzzle, "Board:\n1 2")


def test_scores_by_hand() -> None:
    def one(correct: bool | None, seen: bool | None, *broken: str) -> Judged:
        parts = {"read": 1.0} | {f"broken: {name}": 1.0 for name in broken}
        score = None if correct is None else float(correct)
        return Judged(Verdict(correct=correct, score=score, parts=parts if score is not None else {}), seen)

    judged = [
        *(one(True, True), one(True, False), one(False, True, "row repeats", "dot"), one(False, False, "dot")),
        *(one(True, True), one(None, True)),
    ]
    found = scores(judged)
    assert (found.perception.value, found.perception.n) == (3 / 5, 5)
    assert found.answer.value == 2 / 5  # a right answer to a board that was not seen does not count
    assert (found.answer_given_perception.value, found.answer_given_perception.n) == (2 / 3, 3)
    assert found.answer_given_perception.std is None
    assert found.perception.std == pytest.approx((0.6 * 0.4) ** 0.5)  # five chunks of one
    assert found.broken == {"dot": 2 / 5, "row repeats": 1 / 5}
    assert found.unjudged == 1
    in_text = scores([one(True, None), one(False, None)])
    assert (in_text.perception.value, in_text.answer.value) == (None, 0.5)
    assert in_text.answer_given_perception.value is None
    assert scores([]).answer.value is None
