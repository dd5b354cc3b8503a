"""The twenty kinds as tasks: problems split by solution, the verifier, the solver's trace as text."""

from collections.abc import Callable
from random import Random
from typing import Literal

from stillroom.chat import parse
from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks.answers import extract
from stillroom.tasks.base import Solution, Style, Task, question
from stillroom.tasks.puzzles.board import UNDECIDED, Board, Puzzle, place, text_of
from stillroom.tasks.puzzles.describe import describe, read_board
from stillroom.tasks.puzzles.generate import mask, pose
from stillroom.tasks.puzzles.kind import Clues, Kind
from stillroom.tasks.puzzles.kinds import KINDS, check_complete, check_size, possible_values
from stillroom.tasks.puzzles.trace import Order, Search, Step, direct, trace
from stillroom.tasks.registry import register
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split, Verdict

LAYOUTS = ("equations", "sentences", "answer")
"""``equations`` and ``sentences`` write the search down; ``answer`` answers without a thought."""
_SHOWN = 0.25  # default of the least share of cells shown


def _factory(kind: Kind) -> Callable[..., Task]:
    def make(
        size: int = 0,
        clues: float = _SHOWN,
        unique: bool = True,
        held_out: Literal["solutions", "masks"] = "solutions",
        order: Order = "fewest",
        budget: int = 400,
        backtracks: bool = True,
    ) -> Task:
        """Boards of one kind.

        Args:
            size: rows and columns; 0: the sizes of the benchmark in turn.
            clues: least share of the cells that are shown; more are, until the solution is unique.
            unique: False: show just that share, and accept every solution.
            held_out: what dev and test have that train has not. ``solutions``: other solutions. ``masks``: train's
                solutions, problem by problem, with other cells shown.
            order: of the cells in the solver's trace: fewest values first, or row by row.
            budget: steps of a trace; a search that needs more is told without its dead ends.
            backtracks: False: always told without dead ends.

        Raises:
            UserError: a size that the kind has no boards of, a share or budget that makes no sense.
        """
        sizes = (size,) if size else kind.sizes
        for one in sizes:
            check_size(kind, one)
        if not 0 <= clues < 1:
            raise UserError(f"clues={clues} is no share of the cells; give 0 or more and less than 1")
        if budget < 1:
            raise UserError(f"budget={budget} leaves no step; give 1 or more")

        def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
            if n is None:
                raise UserError(f"task {kind.name!r} is endless: say how many problems you want")
            return [
                _problem(kind, sizes[index % len(sizes)], split, index, seed, clues, unique, held_out)
                for index in range(n)
            ]

        def solve(problem: Problem, style: Style, rng: Random) -> Solution:
            return _solve(problem, style, rng, order, budget, backtracks)

        return Task(
            name=kind.name,
            summary=_summary(kind),
            problems=problems,
            verify=verify,
            solve=solve,
            levels=sizes,
            world="puzzles",
            corrupt=_corrupt,
            render=_render,
        )

    return make


def _summary(kind: Kind) -> str:
    return f"{kind.gist}; level = size of the board"


for _kind in KINDS.values():
    register(_kind.name, summary=_summary(_kind), world="puzzles", levels=_kind.sizes)(_factory(_kind))


# -- problems


def split_of_solution(solution: Board) -> Split:
    """The split that every puzzle with this solution belongs to, whatever its kind: a tenth each for dev and test."""
    bucket = int(digest("puzzle solution", *solution), 16) % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def split_of_mask(puzzle: Puzzle) -> Split:
    """Among puzzles with solutions of train, by what is shown: an eighth each for dev and test."""
    bucket = int(digest("puzzle mask", describe(puzzle)), 16) % 8
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def _problem(
    kind: Kind, size: int, split: Split, index: int, seed: int, share: float, unique: bool, held_out: str
) -> Problem:
    of: Split = "train" if held_out == "masks" else split
    rng = derive_rng("puzzle", kind.name, size, seed, of, index)
    for _ in range(10_000):
        solution, clues = kind.make(rng, size)
        if split_of_solution(solution) == of:
            break
    else:
        raise UserError(f"{kind.name} of size {size} has no {of} problem: it has too few solutions to split")
    wanted = split if of == "train" else None
    puzzle = _masked(
        kind, size, solution, clues, derive_rng("mask", kind.name, size, seed, split, index), share, unique, wanted
    )
    return Problem(
        id=f"{kind.name}/{seed}/{split}/{index}",
        task=kind.name,
        messages=question(describe(puzzle)),
        reference=text_of(solution, size),
        level=size,
        split=split,
        meta={"puzzle": puzzle.model_dump(mode="json"), "shown": size * size - puzzle.given.count(UNDECIDED)},
    )


def _masked(
    kind: Kind, size: int, solution: Board, clues: Clues, rng: Random, share: float, unique: bool, wanted: Split | None
) -> Puzzle:
    """The puzzle with a mask of the split; where the first is not, one more cell is shown, which leaves it unique."""
    for _ in range(1000):
        puzzle = mask(kind, size, solution, clues, rng, share, unique)
        if wanted is None or split_of_mask(puzzle) == wanted:
            return puzzle
        shown = {cell for cell, value in enumerate(puzzle.given) if value != UNDECIDED}
        for cell in rng.sample(range(size * size), size * size):
            if cell not in shown:
                more = pose(kind, size, solution, clues, shown | {cell})
                if split_of_mask(more) == wanted:
                    return more
    raise UserError(f"{kind.name} of size {size} has no other cells to show; take held_out=solutions or fewer clues")


def puzzle_of(problem: Problem) -> Puzzle:
    """The puzzle that a problem asks for."""
    return Puzzle.model_validate(problem.meta["puzzle"])


def _render(problem: Problem) -> bytes:
    from stillroom.tasks.puzzles.picture import draw
    from stillroom.tasks.puzzles.shapes import raster
    from stillroom.tasks.scenes import png

    return png(raster(draw(puzzle_of(problem)), cell=40))


def _corrupt(problem: Problem) -> str:
    """The reference with the first cell changed that makes it wrong."""
    puzzle = puzzle_of(problem)
    board = list(read_board(problem.reference or "", puzzle.size)[0] or puzzle.given)
    for cell, value in enumerate(board):
        for other in (v for v in KINDS[puzzle.kind].values(puzzle.size) if v != value):
            wrong = [*board[:cell], other, *board[cell + 1 :]]
            if not check_complete(puzzle, wrong).ok:
                return text_of(wrong, puzzle.size)
    raise AssertionError(f"no wrong board next to {problem.id}")


# -- the verifier


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Whether the response's final board solves the puzzle: rules and given cells are checked, not the reference, which
    may be withheld. `Verdict.parts` has ``broken: NAME`` = 1 for each rule that is broken, and ``read`` = 1 when the
    response holds a board of the right size.

    Args:
        strict: False also takes the whole answer part when no answer is marked.
    """
    puzzle = puzzle_of(problem)
    answer = extract(text, strict=True)
    if answer is None and not strict:
        answer = parse(text).answer or None
    if answer is None or not answer.strip():
        return Verdict(correct=False, score=0.0, reason="no answer")
    board, fault = read_board(answer, puzzle.size)
    if board is None:
        return Verdict(correct=False, score=0.0, answer=answer[:200], parts={"read": 0.0}, reason=f"no board: {fault}")
    checked = check_complete(puzzle, board)
    return Verdict(
        correct=checked.ok,
        score=float(checked.ok),
        answer=text_of([value[:20] for value in board], puzzle.size),
        parts={"read": 1.0} | {f"broken: {name}": 1.0 for name in checked.broken},
        reason=checked.reason,
    )


# -- the solver's trace


def _solve(problem: Problem, style: Style, rng: Random, order: Order, budget: int, backtracks: bool) -> Solution:
    """The search in the style's layout; with errors it is told without dead ends. After an injected error, a value that
    is not the solution's, it goes on with whatever still seems possible, and never looks back."""
    puzzle = puzzle_of(problem)
    solution = read_board(problem.reference or "", puzzle.size)[0]
    if solution is None:
        raise UserError(f"problem {problem.id} has no reference board to write a solution to")
    if style.layout == "answer":
        return Solution("", text_of(solution, puzzle.size), ())
    writer = StepWriter(puzzle.kind, LAYOUTS, style, rng)
    searched = trace(puzzle, order=order, budget=budget) if backtracks and not style.error_rate else Search((), None)
    if searched.board != solution:  # the budget was spent, or another solution was found
        searched = direct(puzzle, solution, order=order)
    board, sound = list(puzzle.given), True
    for step in searched.steps:
        if not sound:
            options = possible_values(puzzle, board, step.cell)
            as_good = step.value in options or not options
            step = Step(step.cell, options, step.value if as_good else options[0], "", False)
        injected = not step.broken and writer.slips()
        if injected:
            sound = False
            others = [value for value in KINDS[puzzle.kind].values(puzzle.size) if value != solution[step.cell]]
            step = Step(step.cell, step.options, rng.choice(others), "", step.back)
        if not step.broken:
            board[step.cell] = step.value
        _write(writer, puzzle, step, style, sound=sound, injected=injected)
    return writer.solution(text_of(board, puzzle.size))


def _write(writer: StepWriter, puzzle: Puzzle, step: Step, style: Style, *, sound: bool, injected: bool) -> None:
    spot = place(puzzle.size, step.cell)
    row, column = divmod(step.cell, puzzle.size)
    if style.layout == "equations":
        line = f"{'back ' if step.back else ''}{spot}:{','.join(step.options)}={step.value}"
        line += f" breaks {step.broken}" if step.broken else ""
    else:
        options = " or ".join(step.options) if step.options else "nothing"
        only = "can only be" if len(step.options) == 1 else "can be"
        line = f"{'Back to row' if step.back else 'Row'} {row + 1}, column {column + 1}: it {only} {options}"
        line += f"; {step.value} breaks {step.broken}." if step.broken else f"; take {step.value}."
    said = f"{spot} is not {step.value}" if step.broken else f"{spot} is {step.value}"
    writer.step(line, (f"so {said}", f"check: {said}"), sound=sound, injected=injected)
