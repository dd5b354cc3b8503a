"""Puzzles at scale: every kind's boards, right and wrong, beside OR-tools CP-SAT, and how fast they are made and drawn.

What every task must hold (answers, wrong answers, splits, hostile responses) is measured by `bench worlds`.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from stillroom.bench.puzzle_models import ask
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.seeds import derive_rng
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle
from stillroom.tasks.puzzles.generate import generate
from stillroom.tasks.puzzles.kinds import KINDS, boards_of, check, check_complete, kind_of, solve
from stillroom.tasks.puzzles.picture import draw
from stillroom.tasks.puzzles.shapes import raster

_SHOWN = 0.25  # least share of cells shown, as in the tasks


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


def measure(boards: int, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[dict[str, Any]]:
    """Kind after kind; each time, the whole result so far.

    Args:
        boards: valid boards per kind, and as many corrupted ones; most of the smallest size, a fiftieth of the largest.

    Raises:
        UserError: unknown kind.
        MissingExtraError: without OR-tools.
    """
    for name in kinds:
        kind_of(name)
    start, rows = time.process_time(), []
    for name in kinds:
        rows.append(_kind(name, boards))
        yield {
            "command": " ".join(command_line()),
            "commit": commit(),
            "hardware": hardware(),
            "versions": {**versions(), "ortools": version("ortools")},
            "boards_per_kind": boards,
            "passed": all(row["passed"] for row in rows) and len(rows) == len(kinds),
            "slowest_puzzles_per_s": min(row["puzzles_per_s"] for row in rows),
            "slowest_pictures_per_s": min(row["pictures_per_s"] for row in rows),
            "cpu_s": round(time.process_time() - start, 1),
            "kinds": list(rows),
        }


def _sizes(name: str, boards: int) -> list[int]:
    sizes = KINDS[name].sizes
    shares = (0.84, 0.14, 0.02) if len(sizes) == 3 else (0.9, 0.1)
    counts = [round(boards * share) for share in shares[1:]]
    return [size for size, count in zip(sizes, [boards - sum(counts), *counts], strict=True) for _ in range(count)]


def _kind(name: str, boards: int) -> dict[str, Any]:
    rng = derive_rng("bench puzzles", name)
    sizes = _sizes(name, boards)
    made, made_s = list[tuple[Puzzle, Board]](), dict[int, float]()
    for size in sizes:
        begin = time.process_time()
        made.append(generate(name, size, rng, clues=_SHOWN))
        made_s[size] = made_s.get(size, 0.0) + time.process_time() - begin
    counts: Counter[str] = Counter()
    differing: list[dict[str, Any]] = []
    for index, (puzzle, solution) in enumerate(made):
        found = solve(puzzle)
        counts["solved"] += found.unique and boards_of(puzzle, found) == [solution]
        # Half of the boards meet the given cells too; the others, from which these were taken, meet rules alone.
        asked = puzzle if index % 2 else free(puzzle)
        wrong = corrupted(puzzle, solution, rng)
        for kind_of_board, board in (("valid", solution), ("corrupted", wrong)):
            ours, theirs = check_complete(asked, board).ok, ask(asked, board).possible
            counts[kind_of_board] += 1
            counts[f"{kind_of_board} accepted"] += ours
            counts[f"{kind_of_board} agree"] += ours == theirs
            if ours != theirs:
                differing.append({"puzzle": asked.model_dump(), "board": list(board), "ours": ours, "cp_sat": theirs})
        if index % 10 == 0:
            counts["unique"] += 1
            counts["unique agree"] += ask(puzzle, other_than=solution).possible is False
            part = [value if rng.random() < 0.7 else UNDECIDED for value in wrong]
            if not check(asked, part):
                counts["parts refused"] += 1
                counts["parts refused agree"] += ask(asked, part).possible is False
    agreed = all(counts[f"{what} agree"] == counts[what] for what in ("valid", "corrupted", "unique", "parts refused"))
    return {
        "kind": name,
        "sizes": {str(size): sizes.count(size) for size in sorted(set(sizes))},
        "counts": dict(sorted(counts.items())),
        "differing": differing[:5],
        "puzzles_per_s": _per_s(sizes, made_s),
        "puzzles_per_s_by_size": {str(size): sizes.count(size) / taken for size, taken in made_s.items()},
        "pictures_per_s": _pictures([puzzle for puzzle, _ in made[-20:]]),
        "passed": agreed and counts["solved"] == counts["valid accepted"] == boards,
    }


def _per_s(sizes: Sequence[int], made_s: dict[int, float]) -> float:
    """Puzzles per CPU-second when the sizes take turns, as they do in the task."""
    return len(made_s) / sum(taken / sizes.count(size) for size, taken in made_s.items())


def _pictures(puzzles: Sequence[Puzzle]) -> float:
    """Pictures of these boards per CPU-second, 24 pixels a cell."""
    begin = time.process_time()
    for puzzle in puzzles:
        raster(draw(puzzle))
    return len(puzzles) / (time.process_time() - begin)


def table(result: dict[str, Any]) -> str:
    """What was measured, in Markdown."""
    head = (
        f"Per kind {result['boards_per_kind']} right boards and as many wrong ones, of which some are right as well "
        "(other solutions of boards without given cells). Speeds are per CPU-second of one core; pictures are of the "
        "last twenty boards, which are the larger ones.\n\n"
        "| kind | judged like CP-SAT | wrong ones accepted | no second solution | puzzles/s | by size | pictures/s |\n"
        "|---|---:|---:|---:|---:|---|---:|"
    )
    lines = []
    for row in result["kinds"]:
        counts = row["counts"]
        judged, alike = (counts["valid" + what] + counts["corrupted" + what] for what in ("", " agree"))
        by_size = ", ".join(
            f"{size}: {speed:.0f}" for size, speed in sorted(row["puzzles_per_s_by_size"].items(), key=_size)
        )
        lines.append(
            f"| {row['kind']} | {alike} of {judged} | {counts['corrupted accepted']} | "
            f"{counts['unique agree']} of {counts['unique']} | {row['puzzles_per_s']:.0f} | {by_size} | "
            f"{row['pictures_per_s']:.0f} |"
        )
    return "\n".join([head, *lines])


def _size(entry: tuple[str, float]) -> int:
    return int(entry[0])
