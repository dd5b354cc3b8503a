"""Things placed so that they keep apart: star battle, trees and tents, battleships."""

from itertools import pairwise
from random import Random

from stillroom.tasks.puzzles.board import (
    SELECT,
    Board,
    Puzzle,
    around,
    columns,
    groups,
    in_reading_order,
    orthogonal,
    place,
    rows,
)
from stillroom.tasks.puzzles.kind import FULL, Clues, Kind, count_rules, counts_of, not_touching
from stillroom.tasks.puzzles.rules import Count, Fleet, Rule

_TENT, _TREE = 2, 4  # masks of the alphabet e, tt, tr
_FLEETS = {
    4: (2, 1, 1),
    5: (3, 2, 1),
    6: (3, 2, 1, 1),
    8: (4, 3, 2, 2, 1, 1),
    10: (4, 3, 3, 2, 2, 2, 1, 1, 1, 1),
    12: (5, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1),
}
_TRIES = 200  # of placing a whole fleet or all trees before the board is wiped


# -- star battle


def _star_battle(rng: Random, size: int) -> tuple[Board, Clues]:
    while True:
        at = rng.sample(range(size), size)
        if all(abs(a - b) > 1 for a, b in pairwise(at)):
            break
    stars = [row * size + column for row, column in enumerate(at)]
    board = tuple("s" if cell in stars else "e" for cell in range(size * size))
    return board, {"regions": in_reading_order(_regions_around(rng, size, stars))}


def _regions_around(rng: Random, size: int, seeds: list[int]) -> list[int]:
    """Every cell joins a region next to it, which grow unevenly: small regions are what makes a board solvable."""
    labels = [-1] * (size * size)
    for label, cell in enumerate(seeds):
        labels[cell] = label
    eager = [rng.random() ** 2 + 0.02 for _ in seeds]
    while -1 in labels:
        label = rng.choices(range(len(seeds)), eager)[0]
        cells = [cell for cell, found in enumerate(labels) if found == label]
        edge = sorted({o for cell in cells for o in orthogonal(size, cell) if labels[o] < 0})
        if edge:
            labels[rng.choice(edge)] = label
        else:
            eager[label] = 1e-9
    return labels


def _star_battle_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    named = {"row": rows(size), "column": columns(size), "region": groups(puzzle.clues["regions"])}
    ones: list[Rule] = [
        Count(f"one star a {what}", f"{what} {i + 1}", cells, FULL, 1, 1)
        for what, all_cells in named.items()
        for i, cells in enumerate(all_cells)
    ]
    return [*ones, *not_touching("stars touch", size, FULL)]


# -- trees and tents


def _trees(rng: Random, size: int) -> tuple[Board, Clues]:
    """Pairs of a tent and a tree, such that no tree of one pair is beside the tent of another."""
    wanted = max(3, round(size * size / 6))
    while True:
        board = ["e"] * (size * size)
        for _ in range(_TRIES):
            if board.count("tt") == wanted:
                return tuple(board), counts_of(board, size, "tt")
            tent = rng.randrange(size * size)
            tree = rng.choice(orthogonal(size, tent))
            if (
                board[tent] == board[tree] == "e"
                and all(board[other] != "tt" for other in around(size, tent))
                and all(board[other] != "tr" for other in orthogonal(size, tent))
                and all(board[other] != "tt" for other in orthogonal(size, tree))
            ):
                board[tent], board[tree] = "tt", "tr"


def _trees_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    trees = [cell for cell, value in enumerate(puzzle.given) if value == "tr"]
    beside = {tree: orthogonal(size, tree) for tree in trees}
    found: list[Rule] = count_rules(puzzle, _TENT, "count")
    found += [
        Count("one tent a tree", f"the tree at {place(size, tree)}", tuple(near), _TENT, 1, 1)
        for tree, near in beside.items()
    ]
    for cell in range(size * size):
        if cell not in beside:
            touched = sum(cell in near for near in beside.values())
            if touched != 1:
                found.append(Count("one tree a tent", place(size, cell), (cell,), _TENT, 0, 0))
            found.append(Count("no new tree", place(size, cell), (cell,), _TREE, 0, 0))
    found.append(Count("as many tents as trees", "the board", tuple(range(size * size)), _TENT, len(trees), len(trees)))
    return [*found, *not_touching("tents touch", size, _TENT)]


# -- battleships


def _battleships(rng: Random, size: int) -> tuple[Board, Clues]:
    fleet = _FLEETS[max(known for known in _FLEETS if known <= size)]
    while True:
        ships: set[int] = set()
        for length in fleet:
            spot = _spot(rng, size, length, ships)
            if spot is None:
                break
            ships.update(spot)
        else:
            board = tuple("s" if cell in ships else "e" for cell in range(size * size))
            return board, {**counts_of(board, size, "s"), "fleet": list(fleet)}


def _spot(rng: Random, size: int, length: int, ships: set[int]) -> list[int] | None:
    """Cells of a straight ship that touches no other one; None when none was met."""
    for _ in range(_TRIES):
        row, column = rng.randrange(size), rng.randrange(size - length + 1)
        cells = [row * size + column + i for i in range(length)]
        if rng.random() < 0.5:
            cells = [cell % size * size + cell // size for cell in cells]
        if not any(o in ships for cell in cells for o in (cell, *around(size, cell))):
            return cells
    return None


def _battleships_rules(puzzle: Puzzle) -> list[Rule]:
    size = puzzle.size
    fleet: list[int] = puzzle.clues["fleet"]
    everywhere = tuple(range(size * size))
    diagonals: list[Rule] = [
        Count("ships touch diagonally", f"{place(size, cell)} and {place(size, other)}", (cell, other), FULL, 0, 1)
        for cell in everywhere
        for other in around(size, cell)
        if other > cell and other not in orthogonal(size, cell)
    ]
    edges = tuple(tuple(orthogonal(size, cell)) for cell in everywhere)
    return [
        *count_rules(puzzle, FULL, "count"),
        *diagonals,
        Count("fleet", "the board", everywhere, FULL, sum(fleet), sum(fleet)),
        Fleet("fleet", "the board", everywhere, tuple(fleet), edges),
    ]


STAR_BATTLE = Kind(
    name="star-battle",
    gist="a star in each row, column and region, none touching",
    sizes=(5, 8, 12),
    smallest=5,
    values=lambda size: SELECT,
    legend="s star, e empty",
    told={
        "one star a row": "Every row has exactly one star.",
        "one star a column": "Every column has exactly one star.",
        "one star a region": "Every region, drawn with thick lines, has exactly one star.",
        "stars touch": "Stars do not touch, not even diagonally.",
    },
    make=_star_battle,
    rules=_star_battle_rules,
)
TREES = Kind(
    name="trees-and-tents",
    gist="a tent beside each tree, none touching, with counts of tents",
    sizes=(5, 8, 12),
    smallest=5,
    values=lambda size: ("e", "tt", "tr"),
    legend="tr tree, tt tent, e empty",
    told={
        "row count": "The number beside a row says how many tents are in it.",
        "column count": "The number below a column says how many tents are in it.",
        "one tent a tree": "Beside every tree, left or right, above or below, is exactly one tent.",
        "one tree a tent": "Beside every tent is exactly one tree.",
        "no new tree": "All trees are shown.",
        "as many tents as trees": "There are as many tents as trees.",
        "tents touch": "Tents do not touch, not even diagonally.",
    },
    make=_trees,
    rules=_trees_rules,
    always_given=("tr",),
)
BATTLESHIPS = Kind(
    name="battleships",
    gist="a fleet that does not touch, with counts of ship cells",
    sizes=(4, 8, 12),
    smallest=4,
    values=lambda size: SELECT,
    legend="s ship, e water",
    told={
        "row count": "The number beside a row says how many of its cells are part of a ship.",
        "column count": "The number below a column says how many of its cells are part of a ship.",
        "ships touch diagonally": "Ships are straight and do not touch, not even diagonally.",
        "fleet": "The ships have the lengths listed as the fleet, each as often as it is listed.",
    },
    make=_battleships,
    rules=_battleships_rules,
)
