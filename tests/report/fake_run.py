"""A run folder without a run: everything that the report reads, tame or hostile.

Also a script, to look at the result: ``python tests/report/fake_run.py FOLDER [--hostile]``.
"""

import json
import math
import sys
from pathlib import Path
from random import Random

from stillroom.traces import store
from stillroom.types import Finish, Message, Segment, Span, Trace, Usage, Verdict

HOSTILE = [
    "<script>document.title = 'owned'</script>",
    "</script><script>alert(1)</script>",
    "<!-- <script> -->",
    "<img src=x onerror=alert(1)>",
    "\u202egnp.exe\u202c a\u200bb \x1b[31mred\x1b[0m\x00 \ufeff",
    "\u2028\u2029 & &lt; ' \" {{ 7 * 7 }} {% raw %}",
    "z\u0351\u0352\u0357" * 40,
    "x" * 1_000_000,
    "<think>" * 200,
]


def trace(
    identity: str,
    response: str,
    *,
    problem: str = "p0",
    question: str = "What is 2 + 3?",
    correct: bool | None = True,
    source: str = "teacher",
    parents: tuple[str, ...] = (),
    level: int = 1,
    index: int = 0,
    finish: Finish = Finish.STOP,
) -> Trace:
    """A trace of one question and one response."""
    return Trace(
        id=identity,
        problem_id=problem,
        task="arithmetic",
        asked=(Message(role="user", content=question),),
        taught=(Segment(role="user", text=question), Segment(role="assistant", text=response, weight=1.0)),
        source=source,  # type: ignore[arg-type]
        sampler="program",
        index=index,
        level=level,
        parents=parents,
        finish=finish,
        verdict=Verdict(
            correct=correct,
            score=None if correct is None else float(correct),
            answer="5",
            reason="timeout" if correct is None else "equal" if correct else "different",
        ),
        usage=Usage(prompt_tokens=12, completion_tokens=len(response) // 3, calls=1),
        spans=(Span(kind="step", start=0, end=min(4, len(response))),),
    )


def solution(rng: Random, level: int) -> tuple[str, str, int]:
    numbers = [rng.randint(2, 60) for _ in range(level + 2)]
    total, steps = numbers[0], []
    for other in numbers[1:]:
        steps.append(f"{total} + {other} = {total + other}, which is {(total + other) % 97} modulo 97")
        total = (total + other) % 97
    question = f"What is {' + '.join(map(str, numbers))} modulo 97?"
    return question, "<think>\n" + "\n".join(steps) + f"\n</think>\n\\boxed{{{total}}}", total


def traces(rng: Random, n: int, accuracy: float, name: str, source: str) -> list[Trace]:
    made: list[Trace] = []
    for number in range(n):
        level = number // 4 % 5 + 1
        question, text, total = solution(Random(f"{number // 4}"), level)
        right = rng.random() < accuracy - 0.1 * level
        if not right:
            text = text.replace(f"{{{total}}}", f"{{{(total + 7) % 97}}}")
        correct = None if rng.random() < 0.02 else right
        finish = Finish.LENGTH if rng.random() < 0.04 else Finish.STOP
        identity = f"{name}-{number}"
        made.append(
            trace(
                identity,
                text,
                problem=f"arithmetic/7/train/{number // 4}",
                question=question,
                correct=correct,
                source=source,
                level=level,
                index=number % 4,
                finish=finish,
            )
        )
        if not right and number % 3 == 0:
            fixed = text.replace(f"{{{(total + 7) % 97}}}", f"{{{total}}}").replace("which is", "that is")
            corrected = made[-1].model_copy(
                update={
                    "id": f"{identity}-fixed",
                    "parents": (identity,),
                    "source": "corrected",
                    "round": 1,
                    "verdict": Verdict(correct=True, score=1.0, answer=str(total), reason="equal"),
                    "taught": (made[-1].taught[0], Segment(role="assistant", text=fixed, weight=1.0)),
                }
            )
            made.append(corrected)
    return made


def estimate(value: float, n: int = 500) -> dict[str, float]:
    half = 1.96 * math.sqrt(value * (1 - value) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": n}


def arm(name: str, accuracy: float, tokens: float, truncated: float) -> dict[str, object]:
    return {
        "name": name,
        "accuracy": estimate(accuracy),
        "by_level": {str(k): estimate(max(0.01, min(0.99, accuracy + 0.09 * (3 - k))), 100) for k in range(1, 6)},
        "tokens": {"mean": tokens, "p50": tokens * 0.9, "p90": tokens * 1.6},
        "truncated": truncated,
        "format_failures": truncated / 2,
        "unjudged": 3,
        "majority_baseline": 0.034,
    }


def write(folder: Path, *, hostile: bool = False, n: int = 1200) -> Path:
    """Write the run folder and return it."""
    rng = Random(5)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("task: arithmetic\nteacher: program\nstudent: proxy-tiny\nseed: 7\n")
    manifest = {
        "command": "stillroom distill --task arithmetic --seed 7",
        "commit": "a989b22f0c3d5e7a",
        "versions": {"python": "3.11.7", "stillroom": "0.1.0", "torch": "2.13.0"},
        "hardware": {"cpu": "2 cores", "memory_gb": 8},
        "seeds": [7],
        "started": "2026-11-23T09:00:00Z",
        "data_hashes": {"arithmetic/test": "8c1f00aa12bc9d3e"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with open(folder / "metrics.jsonl", "w") as file:
        file.write(json.dumps({"stage": "sample", "problems": 300, "tokens": 81234}) + "\n")
        for step in range(1, 401):
            loss = 0.25 + 2.4 * math.exp(-step / 70) + rng.gauss(0, 0.03)
            row = {
                "stage": "train",
                "step": step,
                "loss": loss,
                "learning_rate": 1e-3 * min(1, step / 40, (401 - step) / 200),
            }
            row |= {
                "grad_norm": 0.6 + abs(rng.gauss(0, 0.2)) + (6 if step == 211 else 0),
                "trained_tokens": 2900 + rng.randint(0, 400),
            }
            file.write(json.dumps(row) + "\n")
            if step % 50 == 0:
                value = 0.75 * (1 - math.exp(-step / 120)) + rng.gauss(0, 0.01)
                file.write(json.dumps({"stage": "dev", "step": step, "accuracy": value}) + "\n")
        file.write(json.dumps({"stage": "train", "step": 212, "loss": math.nan}) + "\n")
    result = {
        "kind": "distill",
        "title": "Chain arithmetic, distilled into a 0.4 M student",
        "task": "arithmetic",
        "arms": [arm("base", 0.214, 61.0, 0.12), arm("student", 0.742, 48.2, 0.016), arm("teacher", 0.93, 72.5, 0.0)],
        "cost": {
            "teacher_tokens": 81234,
            "student_tokens": 120400,
            "trained_tokens": 1203000,
            "updates": 400,
            "flops": 2.96e12,
            "usd": None,
            "cpu_s": 141.3,
            "wall_s": 96.0,
        },
        "selection": {
            "input": n,
            "kept": n - 451,
            "dropped": {"wrong": 301, "near duplicate": 88, "truncated": 47, "overlaps evaluation": 15},
        },
        "alarms": [{"level": "warning", "text": "12% of the base's answers were cut off at 128 tokens", "step": 0}],
        "claims": [
            {
                "text": "Learning from verified traces beats the untrained base",
                "verdict": "supported",
                "metric": "accuracy",
                "arms": ["student", "base"],
                "effect": 0.528,
                "interval": [0.482, 0.571],
                "seeds": [0.53, 0.51, 0.54],
            },
            {
                "text": "Choosing by difficulty beats choosing evenly at equal trained tokens",
                "verdict": "inconclusive",
                "metric": "accuracy",
                "arms": ["prop2diff", "uniform"],
                "effect": 0.011,
                "interval": [-0.014, 0.036],
                "seeds": [0.02, -0.01, 0.02],
            },
            {
                "text": "Answers get no longer",
                "verdict": "refuted",
                "metric": "tokens per answer",
                "arms": ["student", "base"],
                "effect": 12.4,
                "interval": [10.0, 14.9],
                "seeds": ["+", "+", "+"],
            },
        ],
    }
    made = traces(rng, n, 1.0, "t", "teacher")
    if hostile:
        for number, text in enumerate(HOSTILE):
            made.append(
                trace(
                    f"h{number}{text[:50]}", f"{text}\nafter", question=text, problem=f"a hostile {number} {text[:60]}"
                )
            )
            made.append(
                trace(f"c{number}", f"{text}\nbefore", problem="a hostile child", parents=(f"h{number}{text[:50]}",))
            )
            result["alarms"].append({"level": "error", "text": text})  # type: ignore[attr-defined]
        result["title"] = HOSTILE[0] + HOSTILE[4]
        result["arms"][0]["name"] = HOSTILE[3]  # type: ignore[index]
        result["claims"][0]["text"] = HOSTILE[1] + HOSTILE[5]  # type: ignore[index]
        result["selection"]["dropped"][HOSTILE[0]] = 3  # type: ignore[index]
    (folder / "result.json").write_text(json.dumps(result))
    store.write_shard(folder / "traces", "shard-0000", made)
    for name, accuracy in (("base", 0.5), ("student", 1.0), ("teacher", 1.2)):
        store.write_shard(folder / "evals", name, traces(rng, 120, accuracy, name, "student"))
    return folder


if __name__ == "__main__":
    from stillroom.report import build

    print(build(write(Path(sys.argv[1]), hostile="--hostile" in sys.argv)))
