"""The assignment problem: pairs of rows and columns, each in at most one pair, whose values add up to most."""

from collections.abc import Sequence


def best_assignment(values: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) with the largest sum, as many as the shorter side has; in order of rows.

    The shortest augmenting paths of Jonker and Volgenant: rows² × columns steps for the shorter side as rows.

    >>> best_assignment([[4, 1], [5, 4]])
    [(0, 0), (1, 1)]

    Args:
        values: a matrix, rows of one length; may be empty.
    """
    if not values or not values[0]:
        return []
    if len(values) > len(values[0]):
        turned = best_assignment([list(column) for column in zip(*values, strict=True)])
        return sorted((row, column) for column, row in turned)
    rows, columns = len(values), len(values[0])
    # Potentials of rows and columns, and the row that each column has; index 0 stands for none.
    of_row, of_column, taken = [0.0] * (rows + 1), [0.0] * (columns + 1), [0] * (columns + 1)
    for row in range(1, rows + 1):
        taken[0], column = row, 0
        shortest, previous, done = [float("inf")] * (columns + 1), [0] * (columns + 1), [False] * (columns + 1)
        while taken[column]:
            done[column], here, step, nearest = True, taken[column], float("inf"), 0
            for other in range(1, columns + 1):
                if done[other]:
                    continue
                cost = -values[here - 1][other - 1] - of_row[here] - of_column[other]
                if cost < shortest[other]:
                    shortest[other], previous[other] = cost, column
                if shortest[other] < step:
                    step, nearest = shortest[other], other
            for other in range(columns + 1):
                if done[other]:
                    of_row[taken[other]] += step
                    of_column[other] -= step
                else:
                    shortest[other] -= step
            column = nearest
        while column:
            taken[column] = taken[previous[column]]
            column = previous[column]
    return sorted((taken[column] - 1, column - 1) for column in range(1, columns + 1) if taken[column])
