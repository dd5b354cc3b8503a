"""Puzzles at scale: every kind's boards beside OR-tools CP-SAT, hostile answers, digests, and the speed of it all."""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stillroom.bench.puzzle_models import ask
from stillroom.errors import UserError
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.seeds import derive_rng, digest
from stillroom.tasks.base import Task
from stillroom.tasks.loading import load_task
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle
from stillroom.tasks.puzzles.describe import read_board
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS, boards_of, check, check_complete, solve
from stillroom.tasks.puzzles.picture import draw
from stillroom.tasks.puzzles.shapes import raster
from stillroom.tasks.puzzles.tasks import puzzle_of
from stillroom.types import Problem

FIRST = 100
"""Problems of each task that a digest covers."""
_PIECES = (
    *("\\boxed{", "}", "{", "\\boxed", "<think>", "</think>", "[[", "]]", "[", '"1"', ",", "/", "|", "\n", " ", "\t"),
    *("#### ", "The answer is ", "9**9**9", "9" * 400, "1e999", "NaN", "null", "true", "{}", "-1", "\x00", "\x1b[31m"),
    *("\ud800", "١", "²", "<script>alert(1)</script>", "'; DROP TABLE x; --", "__import__('os')", "(a+)+$", "A" * 300),
)


def corrupted(puzzle: Puzzle, solution: Board, rng: random.Random) -> Board:
    """Another board near the solution: cells changed, two cells or lines exchanged, or values renamed. It may be a
    solution as well."""
    while True:
        board = _changed(puzzle, solution, rng)
        if board != solution:
            return board


def _changed(puzzle: Puzzle, solution: Board, rng: random.Random) -> Board:
    size, board = puzzle.size, list(solution)
    values = KINDS[puzzle.kind].values(size)
    how = rng.randrange(4)
    if how == 0:
        for cell in rng.sample(range(size * size), rng.randint(1, 2)):
            board[cell] = rng.choice([value for value in values if value != board[cell]])
    elif how == 1:
        one, other = rng.sample(range(size * size), 2)
        board[one], board[other] = board[other], board[one]
    elif how == 2:
        one, other = rng.sample(range(size), 2)
        across = rng.random() < 0.5
        for at in range(size):
            a, b = (one * size + at, other * size + at) if across else (at * size + one, at * size + other)
            board[a], board[b] = board[b], board[a]
    else:
        one_value, other_value = rng.sample(values, 2)
        board = [{one_value: other_value, other_value: one_value}.get(value, value) for value in board]
    return tuple(board)


def free(puzzle: Puzzle) -> Puzzle:
    """The same rules without given cells, walls and trees aside, so that corrupted boards meet rules first."""
    always = KINDS[puzzle.kind].always_given
    return puzzle.model_copy(update={"given": tuple(value if value in always else UNDECIDED for value in puzzle.given)})


def hostile(problem: Problem, rng: random.Random) -> str:
    """A response that nobody would want to read: pieces of formats, rubbish, the gold answer cut up."""
    how = rng.randrange(4)
    gold = problem.reference or ""
    if how == 0:
        return "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 30)))
    if how == 1:
        inside = "".join(rng.choice(_PIECES) for _ in range(rng.randint(0, 12)))
        return f"\\boxed{{{inside}}}"
    if how == 2:  # bytes read as text
        return "\\boxed{" * rng.randrange(2) + rng.randbytes(rng.randint(1, 200)).decode("latin-1")
    cut = list(gold)
    for _ in range(rng.randint(1, 4)):
        cut.insert(rng.randrange(len(cut) + 1), rng.choice(_PIECES))
    return f"<think>\n{rng.choice(_PIECES)}\n</think>\n\\boxed{{{''.join(cut)}}}"


def digests(problems: Sequence[Problem]) -> str:
    """Four hexadecimal digits for each problem."""
    return "".join(digest(problem.messages[0].content, problem.reference or "")[:4] for problem in problems)


def measure(
    boards: int, fuzzed: int, known: Path | None = None, on_kind: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Every kind in turn.

    Args:
        boards: valid boards per kind, and as many corrupted ones; most of the smallest size, a tenth of the largest.
        fuzzed: hostile answers per kind.
        known: a JSON file of `digests` by task to compare with.

    Raises:
        UserError: a file of digests that does not exist.
        MissingExtraError: without OR-tools.
    """
    from stillroom.io import read_json

    if known is not None and not known.is_file():
        raise UserError(f"no file {known}; leave --digests out to compute them anew")
    expected = read_json(known) if known is not None else {}
    start = time.process_time()
    rows = []
    for done, name in enumerate(KINDS, 1):
        rows.append(_kind(name, boards, fuzzed, expected.get(name)))
        on_kind(done)
    return {
        "command": " ".join(command_line()),
        "commit": commit(),
        "hardware": hardware(),
        "versions": {**versions(), "ortools": _ortools()},
        "boards": boards,
        "fuzzed": fuzzed,
        "passed": all(row["passed"] for row in rows),
        "slowest_puzzles_per_s": min(row["puzzles_per_s"] for row in rows),
        "slowest_pictures_per_s": min(row["pictures_per_s"] for row in rows),
        "slowest_verdict_ms": max(row["fuzz"]["slowest_ms"] for row in rows),
        "cpu_s": round(time.process_time() - start, 1),
        "kinds": rows,
    }


def _ortools() -> str:
    from importlib.metadata import version

    return version("ortools")


def _sizes(name: str, boards: int) -> list[int]:
    sizes = KINDS[name].sizes
    shares = (0.6, 0.3, 0.1) if len(sizes) == 3 else (0.8, 0.2)
    counts = [round(boards * share) for share in shares[1:]]
    return [size for size, count in zip(sizes, [boards - sum(counts), *counts], strict=True) for _ in range(count)]


def _kind(name: str, boards: int, fuzzed: int, expected: str | None) -> dict[str, Any]:
    rng = derive_rng("bench puzzles", name)
    made, solved = list[tuple[Puzzle, Board]](), 0
    made_s: dict[int, float] = {}
    sizes = _sizes(name, boards)
    for size in sizes:
        begin = time.process_time()
        made.append(generate(name, size, rng, clues=0.25))
        made_s[size] = made_s.get(size, 0.0) + time.process_time() - begin
    counts: Counter[str] = Counter()
    differing: list[dict[str, Any]] = []
    for index, (puzzle, solution) in enumerate(made):
        found = solve(puzzle)
        solved += found.unique and boards_of(puzzle, found) == [solution] and check_complete(puzzle, solution).ok
        # Half of the corrupted boards meet the given cells too; the others meet rules alone.
        asked = puzzle if index % 2 else free(puzzle)
        wrong = corrupted(puzzle, solution, rng)
        part = [value if rng.random() < 0.7 else UNDECIDED for value in wrong]
        for kind_of_board, board in (("valid", solution), ("corrupted", wrong)):
            ours, theirs = check_complete(asked, board).ok, ask(asked, board).possible
            counts[kind_of_board] += 1
            counts[f"{kind_of_board} accepted"] += ours
            counts[f"{kind_of_board} agree"] += ours == theirs
            if ours != theirs:
                differing.append({"puzzle": asked.model_dump(), "board": list(board), "ours": ours, "cp_sat": theirs})
        if index % 10 == 0:
            counts["unique asked"] += 1
            counts["unique agree"] += ask(puzzle, other_than=solution).possible is False
            if not check(asked, part):
                counts["parts refused"] += 1
                counts["parts refused rightly"] += ask(asked, part).possible is False
    task = load_task(name)
    fuzz = _fuzz(task, fuzzed, rng)
    found_digests = digests(task.problems("train", FIRST, 0))
    passed = (
        solved == boards
        and not differing
        and counts["unique agree"] == counts["unique asked"]
        and counts["parts refused rightly"] == counts["parts refused"]
        and fuzz["raised"] == 0
        and expected in (None, found_digests)
    )
    return {
        "kind": name,
        "sizes": {str(size): sizes.count(size) for size in sorted(set(sizes))},
        "solved": solved,
        "counts": dict(sorted(counts.items())),
        "differing": differing[:5],
        "puzzles_per_s": _per_s(sizes, made_s),
        "puzzles_per_s_by_size": {str(size): sizes.count(size) / taken for size, taken in made_s.items()},
        "pictures_per_s": _pictures([puzzle for puzzle, _ in made[-20:]]),
        "fuzz": fuzz,
        "digests": found_digests,
        "digests_as_committed": None if expected is None else expected == found_digests,
        "passed": passed,
    }


def _per_s(sizes: Sequence[int], made_s: dict[int, float]) -> float:
    """Puzzles per CPU-second when the sizes take turns, as they do in the task."""
    return len(made_s) / sum(taken / sizes.count(size) for size, taken in made_s.items())


def _pictures(puzzles: Sequence[Puzzle]) -> float:
    """Pictures of the largest boards per CPU-second, 24 pixels a cell."""
    begin = time.process_time()
    for puzzle in puzzles:
        raster(draw(puzzle))
    return len(puzzles) / (time.process_time() - begin)


def _fuzz(task: Task, fuzzed: int, rng: random.Random) -> dict[str, Any]:
    """Hostile answers to the first problems of the task: nothing raised, how many accepted, and the slowest verdict."""
    problems = task.problems("train", 3, 0)
    raised = accepted = unjudged = 0
    slowest = 0.0
    for index in range(fuzzed):
        problem = problems[index % len(problems)]
        text = hostile(problem, rng)
        begin = time.process_time()
        try:
            verdict = task.verify(problem, text, strict=bool(index % 2))
        except Exception:  # the bench counts what must never happen
            raised += 1
            continue
        slowest = max(slowest, time.process_time() - begin)
        unjudged += verdict.correct is None
        if verdict.correct:
            accepted += 1
            board = read_board(verdict.answer or "", puzzle_of(problem).size)[0]
            raised += board is None or not check_complete(puzzle_of(problem), board).ok
    return {
        "responses": fuzzed,
        "raised": raised,
        "accepted": accepted,  # gold answers whose rubbish stood outside of the board, e.g. as a separator
        "unjudged": unjudged,
        "slowest_ms": round(1000 * slowest, 2),
    }
