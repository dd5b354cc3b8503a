"""Write a program that answers a question about a picture; it is run, not read.

Level 1 counts, level 2 counts what stands in a relation, level 3 compares two counts, level 4 goes two steps (the
colour of the nearest). The question shows the picture; the reference is a program, and so is an answer: the verifier
runs both on the scene and compares what they say. Questions are only asked where the plainest wrong programs (without
the relation, with the sides exchanged) say something else.
"""

from collections.abc import Sequence
from random import Random

from stillroom.chat import ParseStatus, parse
from stillroom.errors import UserError
from stillroom.tasks.answers import last_boxed
from stillroom.tasks.base import Solution, Style, Task, procedural, question
from stillroom.tasks.registry import register
from stillroom.tasks.scene_language import LONGEST, Noise, Ran, detected, run, told
from stillroom.tasks.scenes import MOST, Scene, SceneSpec, draw, make_scene, png, read_scene, shown, write_scene
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Verdict

_RELATIONS = {"left_of": "left of", "right_of": "right of", "above": "above", "below": "below", "beside": "beside"}
_COLOURS, _SHAPES = SceneSpec().colours, SceneSpec().shapes


@register(
    "scene-programs",
    summary="write a small program that answers a question about a picture; level 1 count to 4 two steps",
    world="shapes",
    levels=(1, 2, 3, 4),
)
def scene_programs(low: int = 1, high: int = 4, grid: int = 6) -> Task:
    """Questions about scenes of 5 to 9 things.

    Raises:
        UserError: levels outside of 1 to 4, or a grid below 4 or above 8.
    """
    if not 1 <= low <= high <= 4:
        raise UserError(f"levels {low} to {high} make no sense; give 1 <= low <= high <= 4")
    if not 4 <= grid <= MOST:
        raise UserError(f"grid={grid}: pictures have 4 to {MOST} cells a side")
    levels = tuple(range(low, high + 1))
    spec = SceneSpec(rows=grid, columns=grid)

    def make(rng: Random, level: int) -> Problem:
        while True:
            scene = make_scene(spec, rng.getrandbits(48))
            asked, program, others = _ask(level, rng)
            value = run(program, scene.things).value
            if value not in (None, "none", "several") and all(run(o, scene.things).value != value for o in others):
                break
        return Problem(
            id="",
            task="scene-programs",
            messages=question(f"{shown(scene)}\n{asked}"),
            reference=program,
            level=level,
            assets={"scene": write_scene(scene)},
            meta={"value": value, "near": list(others)},
        )

    return Task(
        name="scene-programs",
        summary="programs over pictures",
        problems=procedural(f"scene-programs-{grid}", make, levels),
        verify=verify,
        solve=solve,
        levels=levels,
        world="shapes",
        corrupt=lambda problem: str(problem.meta["near"][0]),  # type: ignore[index]
        render=lambda problem: png(draw(problem.assets["scene"]), scale=8),
    )


def _ask(level: int, rng: Random) -> tuple[str, str, Sequence[str]]:
    """A question, a program that answers it, and programs that look like it and do not."""
    one, other = rng.sample((*_COLOURS, *_SHAPES), 2)
    relation = rng.choice(list(_RELATIONS))
    words = _RELATIONS[relation]
    if level == 1:
        return (
            f"How many {one} things?",
            f'answer = count(find("{one}"))',
            (f'answer = count(find("{other}"))', 'answer = count(find("thing"))'),
        )
    if level == 2:
        return (
            f"How many {one} things are {words} a {other} thing?",
            f'ones = find("{one}")\nothers = find("{other}")\nanswer = count({relation}(ones, others))',
            (
                f'answer = count(find("{one}"))',
                f'answer = count({relation}(find("{other}"), find("{one}")))',
            ),
        )
    if level == 3:
        compared = f'count(find("{one}")) > count(find("{other}"))'
        return (
            f"Are there more {one} things than {other} things? Answer yes or no.",
            f"answer = {compared}",
            (f'answer = count(find("{other}")) >= count(find("{one}"))', f'answer = count(find("{one}"))'),
        )
    return (
        f"Which colour has the {one} thing nearest to a {other} thing?"
        if one in _SHAPES
        else f"Which shape has the {one} thing nearest to a {other} thing?",
        f'near = nearest(find("{one}"), find("{other}"))\nanswer = {"colour" if one in _SHAPES else "shape"}(near)',
        (
            f'answer = {"colour" if one in _SHAPES else "shape"}(find("{one}"))',
            f'answer = {"colour" if one in _SHAPES else "shape"}(find("{other}"))',
        ),
    )


def program_of(text: str) -> str | None:
    """The program of a response: what its last box holds, or a fenced block, behind the thought; None without one."""
    parsed = parse(text)
    if parsed.status is ParseStatus.UNCLOSED:
        return None
    boxed = last_boxed(parsed.answer)
    if boxed is not None:
        return boxed
    end = parsed.answer.rfind("```")
    start = parsed.answer.rfind("```", 0, end) if end > 0 else -1
    return parsed.answer[start + 3 : end].partition("\n")[2] if start >= 0 else None


def verify(problem: Problem, text: str, *, strict: bool = True) -> Verdict:
    """Right when the program of a response runs and says what the reference says; bare answers are no programs.

    `parts`: ``ran`` (it gave a value), ``called`` (it called a tool), ``right``.

    Args:
        text: the whole response; any string.
        strict: has no other reading.
    """
    if problem.reference is None:
        return Verdict(correct=None, reason="no reference")
    program = program_of(text)
    if program is None or not program.strip():
        return Verdict(correct=False, score=0.0, reason="no program")
    found, gold = (run(each, scene_of(problem).things) for each in (program, problem.reference))
    right = found.value is not None and bool(found.calls) and found.value == gold.value
    reason = found.reason or ("equal" if right else "different" if found.calls else "nothing was looked at")
    return Verdict(
        correct=right,
        score=float(right),
        answer=(found.value if found.value is not None else program)[:LONGEST],
        parts={"ran": float(found.value is not None), "called": float(bool(found.calls)), "right": float(right)},
        reason=reason,
    )


def noisy(problem: Problem, program: str, noise: Noise, rng: Random) -> Ran:
    """A program run on what a detector sees of the problem's scene."""
    return run(program, detected(scene_of(problem), noise, rng))


def scene_of(problem: Problem) -> Scene:
    """The scene that a problem shows."""
    return read_scene(problem.assets["scene"])


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """What every call of the program sees, in plain words, and the program; a slip writes one of the near ones."""
    writer = StepWriter("scene-programs", ("equations",), style, rng)
    injected = writer.slips()
    near: list[str] = problem.meta["near"]  # type: ignore[assignment]
    program = rng.choice(near) if injected else str(problem.reference)
    for number, call in enumerate(run(program, scene_of(problem).things).calls):
        line = told(call)
        writer.step(line, (line, f"so {call.value}"), sound=not injected, injected=injected and number == 0)
    return writer.solution(program)
