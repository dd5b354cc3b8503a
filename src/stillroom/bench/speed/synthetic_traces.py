"""Traces made up for measurements: shards of any size whose duplicates and contaminations are planted and counted.

About 1 KB of text each, eight trials per problem, one shard per trial number, so that a duplicate lies an eighth of
the pool or more behind its original. 6 % of the traces repeat an earlier trial of their problem word for word (half of
them with other white space), 4 % but for one word of the response; one problem in 200 shares a run of twelve words
with an evaluation problem.
"""

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stillroom.io import open_atomic, write_atomic
from stillroom.seeds import derive_seed
from stillroom.traces.store import SCHEMA

TRIALS = 8
PER_BLOCK = 5_000
QUESTION_WORDS = 30
SHARED_WORDS = 12
RESPONSE_WORDS = (90, 160)
EVALUATION_WORDS = 40
KEPT_PER_PROBLEM = 4
"""Of ``shortest=4`` in the selection whose outcome is counted."""

_DUPLICATE, _NEAR = 1, 2
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]

I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What `correct,finished,unique,near-unique,decontaminated,shortest=4` must find, reason by reason."""

    rows: int = 0
    problems: int = 0
    correct: int = 0
    distinct: int = 0
    """Rows that repeat no earlier one word for word."""
    wrong: int = 0
    truncated: int = 0
    duplicate: int = 0
    near_duplicate: int = 0
    contaminated: int = 0
    not_shortest: int = 0
    kept: int = 0


def write(folder: Path, problems: int, seed: int = 0) -> Counts:
    """Write ``folder/traces/trial-0.parquet`` to ``trial-7.parquet`` and count what they hold.

    Args:
        folder: gets ``traces/``; see `write_evaluation` for what they are contaminated with.
        problems: eight traces each.
        seed: of every draw; a block of 5,000 problems depends on the seed and its number alone.
    """
    words, evaluation = _vocabulary(), evaluation_words(seed)
    total = Counts()
    with ExitStack() as stack:
        writers = []
        for trial in range(TRIALS):
            file = stack.enter_context(open_atomic(folder / "traces" / f"trial-{trial}.parquet"))
            writers.append(stack.enter_context(pq.ParquetWriter(file, SCHEMA, compression="zstd")))
        for first in range(0, problems, PER_BLOCK):
            block = _Block(first, min(PER_BLOCK, problems - first), seed, evaluation)
            for trial, writer in enumerate(writers):
                writer.write_table(block.table(trial, words))
            total = Counts(*(a + b for a, b in zip(asdict(total).values(), asdict(block.counts).values(), strict=True)))
    return total


def write_evaluation(folder: Path, seed: int = 0, problems: int = 5_000) -> str:
    """Write the evaluation problems; returns their task, as ``--against`` takes it."""
    words = _vocabulary()
    texts = [" ".join(words[i].as_py() for i in row) + "?" for row in evaluation_words(seed, problems)]
    write_atomic(folder / "evaluation.jsonl", "".join(json.dumps(text) + "\n" for text in texts))
    code = f"""import json
from stillroom.types import Message, Problem

with open({str(folder / "evaluation.jsonl")!r}) as lines:
    PROBLEMS = [
        Problem(
            id=f"e{{i}}",
            task="evaluation",
            messages=(Message(role="user", content=json.loads(line)),),
            reference="1",
            split="test",
        )
        for i, line in enumerate(lines)
    ]
"""
    write_atomic(folder / "evaluation.py", code)
    return f"{folder / 'evaluation.py'}:PROBLEMS"


def evaluation_words(seed: int = 0, problems: int = 5_000) -> I64:
    """The evaluation problems as numbers of words, problem by word."""
    return _rng(seed, -1).integers(0, len(_vocabulary()), (problems, EVALUATION_WORDS))


class _Block:
    """The trials of some problems, as numbers of words, with what was planted in them."""

    def __init__(self, first: int, problems: int, seed: int, evaluation: I64) -> None:
        rng, n_words = _rng(seed, first), len(_vocabulary())
        self.first, self.problems = first, problems
        self.question = rng.integers(0, n_words, (problems, QUESTION_WORDS))
        contaminated = rng.random(problems) < 1 / 200
        leaks = np.flatnonzero(contaminated)
        start = rng.integers(0, EVALUATION_WORDS - SHARED_WORDS, len(leaks))
        run = start[:, None] + np.arange(SHARED_WORDS)
        source = rng.integers(0, len(evaluation), len(leaks))
        self.question[leaks, 5 : 5 + SHARED_WORDS] = evaluation[source[:, None], run]

        shape = (problems, TRIALS)
        self.response = rng.integers(0, n_words, (*shape, RESPONSE_WORDS[1]), dtype=np.int16)
        self.length = rng.integers(RESPONSE_WORDS[0], RESPONSE_WORDS[1] + 1, shape)
        self.correct = rng.random(shape) < rng.uniform(0.2, 1.0, problems)[:, None]
        self.truncated = rng.random(shape) < 0.05
        draw = rng.random(shape)
        share = TRIALS / (TRIALS - 1)  # the first trial of a problem is always its own
        kind = np.where(draw < 0.06 * share, _DUPLICATE, np.where(draw < 0.10 * share, _NEAR, 0))
        kind[:, 0] = 0
        for trial in range(1, TRIALS):
            rows = np.flatnonzero(kind[:, trial])
            of = rng.integers(0, trial, len(rows))
            of[kind[rows, of] != 0] = 0
            for values in (self.response, self.length, self.correct, self.truncated):
                values[rows, trial] = values[rows, of]
            changed = rows[kind[rows, trial] == _NEAR]
            place = TRIALS * rng.integers(1, RESPONSE_WORDS[0] // TRIALS - 1, len(changed)) + trial  # no two equal
            self.response[changed, trial, place] = (self.response[changed, trial, place] + 1) % n_words
        self.spaced = (kind == _DUPLICATE) & (rng.random(shape) < 0.5)

        passed = self.correct & ~self.truncated
        own = passed & (kind == 0)
        left = (own & ~contaminated[:, None]).sum(axis=1)
        self.counts = Counts(
            rows=kind.size,
            problems=problems,
            correct=int(self.correct.sum()),
            distinct=int((kind != _DUPLICATE).sum()),
            wrong=int((~self.correct).sum()),
            truncated=int((self.correct & self.truncated).sum()),
            duplicate=int((passed & (kind == _DUPLICATE)).sum()),
            near_duplicate=int((passed & (kind == _NEAR)).sum()),
            contaminated=int((own & contaminated[:, None]).sum()),
            not_shortest=int(np.maximum(left - KEPT_PER_PROBLEM, 0).sum()),
            kept=int(np.minimum(left, KEPT_PER_PROBLEM).sum()),
        )

    def table(self, trial: int, words: pa.Array) -> pa.Table:
        """The traces of one trial number, in the store's columns."""
        n = self.problems
        question = _joined(self.question, np.full(n, QUESTION_WORDS), words, np.full(n, "?"))
        end = np.where(self.spaced[:, trial], ".  \n", ".")
        response = _joined(self.response[:, trial], self.length[:, trial], words, end)
        problem_id = pc.binary_join_element_wise(
            "p", pa.array(np.arange(self.first, self.first + n)).cast("string"), ""
        )
        right, cut = self.correct[:, trial], self.truncated[:, trial]
        score = pa.array(right.astype(np.float64))
        verdict = pa.array(np.where(right, "equal to the reference", "differs from the reference"))
        two = pa.array(np.arange(0, 2 * n + 1, 2, dtype=np.int32))
        turns = pa.concat_arrays([question, response]).take(pa.array(np.arange(2 * n).reshape(2, n).T.ravel()))
        taught = pa.StructArray.from_arrays(
            [
                pa.array(["user", "assistant"] * n),
                turns,
                pa.array(np.tile([0.0, 1.0], n)),
                pa.nulls(2 * n, pa.list_(pa.int32())),
                pa.nulls(2 * n, pa.string()),
            ],
            ["role", "text", "weight", "token_ids", "tokenizer"],
        )
        asked = pa.StructArray.from_arrays([_constant("user", n), question], ["role", "content"])
        none = pa.array(np.zeros(n + 1, dtype=np.int32))
        columns = {
            "id": pc.binary_join_element_wise(problem_id, str(trial), "/"),
            "problem_id": problem_id,
            "task": _constant("synthetic", n),
            "source": _constant("model", n),
            "sampler": _constant("teacher", n),
            "index": pa.array(np.full(n, trial)),
            "round": pa.array(np.zeros(n, dtype=np.int64)),
            "level": pa.array(np.arange(self.first, self.first + n) % 5),
            "seed": pa.array(np.full(n, trial)),
            "finish": pa.array(np.where(cut, "length", "stop")),
            "correct": pa.array(right),
            "score": score,
            "raw": score,
            "answer": pa.array(np.arange(self.first, self.first + n) % 97).cast("string"),
            "reason": verdict,
            "prompt_tokens": pa.array(np.full(n, QUESTION_WORDS)),
            "completion_tokens": pa.array(self.length[:, trial]),
            "calls": pa.array(np.ones(n, dtype=np.int64)),
            "cost_usd": pa.nulls(n, pa.float64()),
            "parents": pa.ListArray.from_arrays(none, pa.array([], pa.string())),
            "asked": pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), asked),
            "taught": pa.ListArray.from_arrays(two, taught),
            "spans": pa.ListArray.from_arrays(none, pa.array([], SCHEMA.field("spans").type.value_type)),
            "parts": _constant("{}", n),
            "judgement": pa.nulls(n, pa.string()),
            "params": _constant('{"temperature": 0.7}', n),
            "meta": _constant("{}", n),
        }
        return pa.table(columns, schema=SCHEMA)


def _vocabulary() -> pa.Array:
    """2,500 made-up words of two to four syllables, all different."""
    pairs = [a + b for a in _SYLLABLES[:50] for b in _SYLLABLES[:50]]
    return pa.array(
        [word + (_SYLLABLES[i % 70] if i % 3 else "") + ("nt" if i % 5 else "") for i, word in enumerate(pairs)]
    )


def _joined(numbers: NDArray[np.integer], length: I64, words: pa.Array, end: NDArray[np.str_]) -> pa.Array:
    """Rows of numbers of words, each cut to its length, as texts."""
    keep = np.arange(numbers.shape[1]) < length[:, None]
    flat = words.take(pa.array(numbers[keep]))
    offsets = pa.array(np.concatenate([[0], np.cumsum(length)]).astype(np.int32))
    text = pc.binary_join(pa.ListArray.from_arrays(offsets, flat), " ")
    return pc.binary_join_element_wise(text, pa.array(end), "")


def _constant(value: str, n: int) -> pa.Array:
    return pa.repeat(value, n)


def _rng(seed: int, block: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed("synthetic traces", seed, block))
