"""Short videos of somebody at work, and the question what comes next, at three levels of generalisation.

After "Exploring the Effect of Reinforcement Learning on Video Understanding: Insights from SEED-Bench-R1", 2025,
https://arxiv.org/abs/2503.24376. A goal names four actions in order; frames show how far it has come. Every action
leaves a mark in the picture (a key is taken, a door stands open), so that what is done can be seen and nothing else
tells. All four actions are offered; the right one is the first that is not done yet.

Level 1 is the environment of training, level 2 another one (other colours on another ground), level 3 another one with
goals, orders of the known actions, that training never has. Training and development problems are of level 1 alone.
"""

from itertools import permutations
from random import Random
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.seeds import derive_rng, digest
from stillroom.tasks.base import Solution, Style, Task, question, split_of
from stillroom.tasks.choice import shuffled, verify_letter
from stillroom.tasks.registry import register
from stillroom.tasks.scenes import Scene, Thing, draw, png, read_scene, write_scene
from stillroom.tasks.steps import StepWriter
from stillroom.types import Problem, Split

GRID = 4


class Action(NamedTuple):
    """Something to do, and the thing that shows whether it is done."""

    name: str
    before: str
    """Shape of its thing before it is done."""
    after: str | None
    """And afterwards; None: it is gone."""


ACTIONS = (
    Action("take the key", "diamond", None),
    Action("open the door", "square", "ring"),
    Action("light the stove", "cross", "triangle"),
    Action("pour the water", "circle", None),
)
"""No two things have one shape, before or after, so that each is known by its shape in any colour."""
COLOURS = {"plain": ("red", "green", "blue", "purple"), "dark": ("yellow", "orange", "green", "blue")}
"""Palette, which is an environment, → colours that it gives to things."""
_LEVELS = (1, 2, 3)
GOALS = tuple(permutations(range(len(ACTIONS))))
UNSEEN = tuple(goal for goal in GOALS if int(digest("action-videos", str(goal)), 16) % 3 == 0)
"""Goals of level 3 alone: about a third of all orders."""
SEEN = tuple(goal for goal in GOALS if goal not in UNSEEN)


@register(
    "action-videos",
    summary="the next of four actions, after a few frames; level 1 as trained, 2 new environment, 3 and new goals",
    world="action-videos",
    levels=_LEVELS,
)
def action_videos(frames: int = 5, mask: int = -1) -> Task:
    """Videos of up to `frames` frames, the last of which is the current view.

    Args:
        frames: most of them, from 2 to 6; of a longer video evenly spread ones.
        mask: number of a frame that is blank, to see what it is worth: 0 the first, -2 the current view; -1: none.

    Raises:
        UserError: a number of frames out of range, or a mask that is no frame.
    """
    if not 2 <= frames <= 6:
        raise UserError(f"frames={frames} is out of range; give 2 to 6")
    if mask < -2 or mask >= frames:
        raise UserError(f"mask={mask} is no frame; give -2 for the current view, -1 for none, or 0 to {frames - 1}")

    def one(split: Split, index: int, seed: int) -> Problem:
        level = _LEVELS[index % 3] if split == "test" else 1
        rng = derive_rng("task", "action-videos", seed, split, index)
        while True:
            problem = _make(rng, level, frames, mask)
            if split_of(problem) == split:
                return problem.model_copy(update={"id": f"action-videos/{seed}/{split}/{index}", "split": split})

    def problems(split: Split, n: int | None, seed: int) -> list[Problem]:
        if n is None:
            raise UserError("task 'action-videos' is endless: say how many problems you want")
        return [one(split, index, seed) for index in range(n)]

    return Task(
        name="action-videos",
        summary="next actions in short videos",
        problems=problems,
        verify=verify_letter,
        solve=solve,
        levels=_LEVELS,
        world="action-videos",
        corrupt=lambda problem: "B" if problem.reference == "A" else "A",
        render=lambda problem: png(draw(problem.assets["view"]), scale=8),
    )


def _make(rng: Random, level: int, frames: int, mask: int) -> Problem:
    palette = "plain" if level == 1 else "dark"
    goal = rng.choice(UNSEEN if level == 3 else SEEN)
    done = rng.randrange(len(goal))
    colours = rng.sample(COLOURS[palette], len(ACTIONS))
    cells = rng.sample(range(GRID * GRID), len(ACTIONS))
    views = [_view(goal[:count], colours, cells, palette) for count in range(done + 1)]
    # Somebody stays a while at each state; frames are spread evenly over the video.
    video = [view for view in views for _ in range(rng.randint(1, 2))]
    last = len(video) - 1
    shown_at = sorted({round(at * last / (frames - 1)) for at in range(frames)})
    words = [video[at] for at in shown_at]
    if mask != -1:
        at = len(words) - 1 if mask == -2 else min(mask, len(words) - 1)
        words[at] = write_scene(Scene(GRID, GRID, (), palette))
    right = ACTIONS[goal[done]].name
    steps = [ACTIONS[number].name for number in goal]
    text = "\n".join(f"![]({word})" for word in words)
    problem = Problem(
        id="",
        task="action-videos",
        messages=question(f"{text}\nGoal: {', then '.join(steps)}.\nWhat comes next?"),
        reference="A",
        level=level,
        options=(right, *(name for name in steps if name != right)),
        assets={"view": words[-1], **{f"frame {at}": word for at, word in enumerate(words)}},
        meta={"goal": list(goal), "done": done, "palette": palette, "now": views[-1]},
    )
    # One order of options for each video: a question must not stand in two splits with its options exchanged.
    return shuffled(problem, derive_rng("action-videos", problem.messages[0].content))


def _view(done: tuple[int, ...], colours: list[str], cells: list[int], palette: str) -> str:
    """The word of the scene in which these actions are done."""
    things = []
    for number, (action, colour, cell) in enumerate(zip(ACTIONS, colours, cells, strict=True)):
        shape = action.after if number in done else action.before
        if shape is not None:
            things.append(Thing(*divmod(cell, GRID), colour, shape))
    return write_scene(Scene(GRID, GRID, tuple(sorted(things)), palette))


def is_done(action: Action, scene: Scene) -> bool:
    """Whether a scene shows that an action is done."""
    shapes = {thing.shape for thing in scene.things}
    return action.before not in shapes and (action.after is None or action.after in shapes)


def solve(problem: Problem, style: Style, rng: Random) -> Solution:
    """Which actions of the goal the current view shows to be done, in order, up to the first that is not; a slip
    misjudges one."""
    writer = StepWriter("action-videos", ("equations",), style, rng)
    scene = read_scene(str(problem.meta["now"]))  # also where the current view is masked
    goal: list[int] = problem.meta["goal"]  # type: ignore[assignment]
    sound = True
    for number in goal:
        action, injected = ACTIONS[number], writer.slips()
        done = is_done(action, scene) != injected
        sound = sound and not injected
        line = f"{action.name}: {'done' if done else 'not yet'}"
        writer.step(line, (line, f"so {line}"), sound=sound, injected=injected)
        if not done:
            break
    return writer.solution(chr(65 + problem.options.index(action.name)))


def implied(thought: str) -> str | None:
    """The action that a thought says is next: the first ``not yet``; None when it names none. For the coherence of
    answer and reasoning, which the answer alone does not show."""
    names = {action.name for action in ACTIONS}
    for line in thought.splitlines()[:100]:
        name, _, state = line.strip().partition(": ")
        if name in names and state == "not yet":
            return name
    return None


def manifest(problems: list[Problem]) -> dict[str, dict[str, list[str]]]:
    """Environments and goals of every split and level, which prove that levels differ in what they are said to."""
    found: dict[str, dict[str, set[str]]] = {}
    for problem in problems:
        entry = found.setdefault(f"{problem.split} {problem.level}", {"environments": set(), "goals": set()})
        entry["environments"].add(str(problem.meta["palette"]))
        entry["goals"].add(" ".join(map(str, problem.meta["goal"])))  # type: ignore[arg-type]
    return {name: {kind: sorted(values) for kind, values in entry.items()} for name, entry in found.items()}
