"""What every world must hold: a solver's answers verify, wrong ones do not, splits are disjoint, nothing breaks its
verifier.

One file per task. A task without a solver of its own, such as a data set, has its verifier tried alone. A verifier that
starts a process of its own is *sandboxed*: it costs more a response, meets fewer of them, and what happens inside its
process is that sandbox's own affair, measured elsewhere. Everything else must judge within a limit, in this process,
without opening a file or a connection; an audit hook watches.
"""

import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from stillroom.bench.attack import attack, watched
from stillroom.bench.hostile import responses
from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.seeds import derive_rng, digest
from stillroom.tasks import list_tasks, load_task
from stillroom.tasks.base import Style, Task
from stillroom.tasks.checks import first_digest, wrong_answer
from stillroom.types import Problem, Split, Verdict

PROBLEMS = 10_000
FEWER = {"puzzles": 1_000}
"""Of worlds whose problems take long to make: the name of the world → how many."""
HOSTILE = 100_000
SANDBOXED = 2_000
MATHEMATICS = ("gsm8k", "math", "math500")
AIM_PER_S = 1_000
_SPLITS: tuple[Split, ...] = ("train", "dev", "test")
_SHOWN = 20


def names() -> list[str]:
    """Every built-in task but data sets that are not here, and mathematics, which `bench math-verify` measures."""
    found = []
    for info in list_tasks():
        if info.name in MATHEMATICS:
            continue
        try:
            load_task(info.name)
        except UserError:
            continue
        found.append(info.name)
    return found


def measure(name: str, *, problems: int | None = None, hostile: int = HOSTILE, seed: int = 0) -> dict[str, Any]:
    """Everything about one task; passed when nothing below is wrong. Speed is an aim and decides nothing.

    Args:
        name: of a built-in task, or a spec with options.
        problems: how many; None: `PROBLEMS`, or `FEWER` where its world is named. A finite task may have fewer.
        hostile: responses for a verifier in this process; a sandboxed one meets at most `SANDBOXED`.

    Raises:
        UserError: unknown task.
    """
    task = load_task(name)
    count = problems or FEWER.get(task.world, PROBLEMS)
    result: dict[str, Any] = {"task": name, "world": task.world, "seed": seed}
    sound = True
    if task.solve is None:
        made = task.problems("train", 50, seed) or task.problems("test", 50, seed)
    else:
        start = time.process_time()
        made = task.problems("train", count, seed)
        made_s = time.process_time() - start
        answers = _answers(task, made, seed)
        shared = _shared(task, min(count, 2_000) if count >= 2_000 else max(1, count // 5))
        sound = (
            answers["solutions"] == answers["solutions_verified"]
            and not answers["gold_refused"]
            and not answers["corrupted_accepted"]
            and not shared["overlaps"]
        )
        result |= {
            "problems": len(made),
            "problems_per_s": len(made) / made_s if made_s else None,
            "aim_per_s": AIM_PER_S,
            "generation_cpu_s": made_s,
            **answers,
            "splits": shared,
        }
    attacked = _attack(task, made[:50], hostile, seed)
    return {
        **result,
        "passed": sound and attacked["passed"],
        "hostile": attacked,
        "digest": first_digest(task),
        "command": " ".join(command_line()),
        "commit": commit(),
        "hardware": hardware(),
        "versions": versions(),
    }


def _answers(task: Task, problems: Sequence[Problem], seed: int) -> dict[str, Any]:
    """The solver's answers, the gold ones and wrong ones, judged."""
    assert task.solve is not None
    chat_format = get_format(task.chat_format)
    verified = refused = accepted = tried = 0
    failures: list[str] = []
    start = time.process_time()
    for index, problem in enumerate(problems):
        solution = task.solve(problem, Style(), derive_rng("worlds", seed, problem.id))
        verdict = task.verify(problem, render(chat_format, solution.thought, solution.answer))
        if _full_marks(verdict):
            verified += 1
        else:
            failures.append(f"{problem.id}: the solver's {solution.answer!r} was refused: {verdict.reason}")
        if problem.reference is not None:
            verdict = task.verify(problem, render(chat_format, "", problem.reference))
            if not _full_marks(verdict):
                refused += 1
                failures.append(f"{problem.id}: gold {problem.reference!r} was refused: {verdict.reason}")
        wrong = wrong_answer(task, problem, problems, index)
        if wrong is not None:
            tried += 1
            if task.verify(problem, render(chat_format, "", wrong)).correct is not False:
                accepted += 1
                failures.append(f"{problem.id}: wrong {wrong!r} was not refused (gold {problem.reference!r})")
    return {
        "solutions": len(problems),
        "solutions_verified": verified,
        "gold_refused": refused,
        "corrupted": tried,
        "corrupted_accepted": accepted,
        "judging_cpu_s": time.process_time() - start,
        "failures": [failure[:300] for failure in failures[:_SHOWN]],
    }


def _full_marks(verdict: Verdict) -> bool:
    return verdict.correct is True and verdict.score == 1.0


def _shared(task: Task, count: int) -> dict[str, Any]:
    """How many questions of two seeds' first problems stand in more than one split."""
    found = {
        split: {_question(problem) for seed in (0, 1) for problem in task.problems(split, count, seed)}
        for split in _SPLITS
    }
    overlaps = {f"{one}-{other}": len(found[one] & found[other]) for one, other in combinations(_SPLITS, 2)}
    return {
        "questions": {split: len(asked) for split, asked in found.items()},
        "overlaps": {pair: size for pair, size in overlaps.items() if size},
    }


def _question(problem: Problem) -> str:
    """All that a model is shown."""
    told = [message.content for message in problem.messages]
    assets = [f"{name}={value}" for name, value in sorted(problem.assets.items())]
    return digest(*told, *problem.options, *assets)


def _attack(task: Task, problems: Sequence[Problem], count: int, seed: int) -> dict[str, Any]:
    """Verdicts on hostile responses: how many, how slow at most, and what the verifier did besides."""
    golds = [_good(task, problem, seed) for problem in problems]
    sandboxed = _starts_processes(task, problems, golds, seed)
    count = min(count, SANDBOXED) if sandboxed else count
    said = Counter[bool | None]()

    def judge(number: int, text: str) -> None:
        said[task.verify(problems[number % len(problems)], text).correct] += 1

    found = attack(judge, responses(golds, count, seed))
    touched = {} if sandboxed else found.pop("touched")
    return {
        **found,
        "sandboxed": sandboxed,
        "unjudged": said[None],
        "judged_correct": said[True],
        "touched": touched,
        "passed": found["survived"] and not touched and (sandboxed or not said[None]),
    }


def _good(task: Task, problem: Problem, seed: int) -> str:
    """A right response, or where none is known the question."""
    chat_format = get_format(task.chat_format)
    if task.solve is not None:
        solution = task.solve(problem, Style(), derive_rng("worlds", seed, problem.id))
        return render(chat_format, solution.thought, solution.answer)
    return render(chat_format, "", problem.reference or problem.messages[-1].content)


def _starts_processes(task: Task, problems: Sequence[Problem], golds: list[str], seed: int) -> bool:
    """Whether judging takes a process of its own; a first few verdicts tell, and load what is loaded on first use."""
    with watched() as seen:
        for number, text in enumerate((*golds, *responses(golds, 100, seed + 1))):
            try:
                task.verify(problems[number % len(problems)], text)
            except Exception:  # counted when it comes again
                continue
    return not seen.keys().isdisjoint(("subprocess.Popen", "os.fork", "stillroom.worker"))
