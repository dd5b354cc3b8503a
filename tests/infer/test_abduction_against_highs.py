"""The integer program beside a second solver and a second formulation: HiGHS, through scipy."""

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from stillroom.infer.abduction import Candidate, exact, exclusive
from stillroom.seeds import derive_seed


def by_highs(found: list[Candidate], excluded: list[tuple[int, int]], delta: float, objects: int) -> int:
    """The specification's linear program, object by object: a | l | y | z, labels as sums with bounds."""
    classes = 1 + max(candidate.pair[1] for candidate in found)
    a, labels = len(found), objects * classes
    size = a + labels + 2 * objects
    rows: list[tuple[dict[int, float], float]] = []  # coefficients, upper bound

    def label(w: int, c: int) -> int:
        return a + w * classes + c

    for pair in {candidate.pair for candidate in found}:
        rows.append(({at: 1.0 for at, candidate in enumerate(found) if candidate.pair == pair}, 1.0))
    for w in range(objects):
        y, z = a + labels + w, a + labels + objects + w
        for c in range(classes):
            backers = [at for at, x in enumerate(found) if x.pair[1] == c and x.support_N[w]]
            rows.append(({label(w, c): 1.0, **dict.fromkeys(backers, -1.0)}, 0.0))
            rows.extend(({at: 1.0, label(w, c): -1.0}, 0.0) for at in backers)
            rows.append(({label(w, c): 1.0, y: -1.0}, 0.0))
        rows.append(({y: 1.0, **{label(w, c): -1.0 for c in range(classes)}}, 0.0))
        rows.extend(({label(w, one): 1.0, label(w, other): 1.0, z: -1.0}, 1.0) for one, other in excluded)
    contradictions = {a + labels + objects + w: 1.0 for w in range(objects)}
    rows.append((contradictions | {a + labels + w: -delta for w in range(objects)}, 0.0))
    matrix = lil_matrix((len(rows), size))
    for at, (row, _) in enumerate(rows):
        for column, value in row.items():
            matrix[at, column] = value
    gain = np.zeros(size)
    gain[a + labels : a + labels + objects] = -1
    whole = np.ones(size)
    whole[a:] = 0  # labels and the rest follow from what is accepted
    whole[a + labels :] = 1
    upper = np.array([bound for _, bound in rows])
    solved = milp(
        gain,
        constraints=LinearConstraint(matrix.tocsr(), -np.inf, upper + 1e-9),
        integrality=whole,
        bounds=Bounds(0, 1),
    )
    assert solved.status == 0
    return round(-solved.fun)


@pytest.mark.parametrize(("seed", "delta"), [(0, 0.0), (1, 0.1), (2, 0.3)])
def test_both_solvers_label_as_many_objects(seed: int, delta: float) -> None:
    rng, objects = np.random.default_rng(derive_seed("highs", seed)), 30
    found = [
        Candidate((model, c), rules, (rng.random(objects) < 0.2 - 0.05 * rules))
        for model in range(4)
        for c in range(3)
        for rules in range(2)
    ]
    found = [candidate for candidate in found if candidate.support_N.any()]
    ours = exact(found, exclusive(3), delta, objects)
    assert ours.optimal
    assert ours.scope.labelled == by_highs(found, exclusive(3), delta, objects)
