"""The proxies' diets: how each tiny base is pre-trained from scratch, and how to build or check it.

A base's diet decides what can be shown with it, so the mix is declared here, printed by `stillroom proxies list`, and
hashed: a built proxy whose recipe hash differs from today's recipe is reported as stale.
"""

import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal, get_args

import torch
from transformers import PreTrainedTokenizerFast

from stillroom.chat import Tokenised, ask, get_format, render
from stillroom.io import read_json, write_json
from stillroom.learn.batches import Row, make_row
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.training import TrainConfig, train
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy
from stillroom.models.proxies import (
    EyesLayout,
    ProxyLayout,
    blank_policy,
    blank_seeing_policy,
    cache_folder,
    make_tokenizer,
    proxy_path,
)
from stillroom.seeds import derive_rng, derive_seed, digest
from stillroom.tasks import load_task
from stillroom.tasks.base import Style, Task
from stillroom.tasks.scenes import without_pictures
from stillroom.types import Noun, Problem, Segment

Form = Literal["chat", "document"]


class Ingredient(Noun):
    """A share of the diet: solved problems of one task."""

    task: str
    share: float
    form: Form = "chat"
    """``chat``: question and answer turns in the think format. ``document``: question and worked steps as plain text,
    without turns, thought marks or an answer: the skill without the format."""
    style: Style = Style()
    given: str | None = None
    """Of documents: a pattern of what is read and not learned, and with it the question, because nothing in a text
    foretells what it asks or what a search brings; None: all of it is learned."""


class ProxyRecipe(Noun):
    """Everything that decides the weights of a proxy."""

    name: str
    summary: str
    diet: tuple[Ingredient, ...]
    steps: int
    batch_size: int = 32
    lr: float = 3e-3
    seed: int = 0
    layout: ProxyLayout = ProxyLayout()
    eyes: EyesLayout | None = None
    """Of a proxy that sees; None: it reads text alone."""
    start: str | None = None
    """Another proxy of the same layout and words whose weights it goes on from; None: random ones."""
    stop_after: int | None = None
    """Steps that are taken of those that the schedule is for: a base that can do a thing, but not reliably."""
    habits: tuple[Ingredient, ...] | None = None
    """A second diet, for `habit_steps` more steps at a third of the rate: how it answers, once it can."""
    habit_steps: int | None = None
    tokenizer: tuple[Ingredient, ...] | None = None
    """Texts that train a tokenizer of its own; None: the one that proxies share."""

    @property
    def recipe_hash(self) -> str:
        # What is None was not there when older proxies were built.
        return digest(self.model_dump_json(exclude_none=True))


# Proxies share one tokenizer unless their recipe says otherwise, so that their token ids agree.
TOKENIZER_DIET = tuple(
    Ingredient(task=task, share=1, form=form)
    for task in ("arithmetic", "registers", "tool-arithmetic", "words", "facts")
    for form in get_args(Form)
)

_OTHER_WORLDS = (
    Ingredient(task="registers:high=2", share=0.1),
    Ingredient(task="words:high=1", share=0.1),
    Ingredient(task="facts:high=1", share=0.1),
)

_RESTLESS = Style(layout="switches", verbosity=2)
_SUMS_TEXTS = (Ingredient(task="sums", share=1, style=_RESTLESS), Ingredient(task="sums", share=1, form="document"))
_SUMS_WORDS = 320

_UNIR_TEXTS = (
    Ingredient(task="arithmetic:high=4", share=0.5),
    Ingredient(task="arithmetic:high=4", share=0.15, style=Style(layout="sentences")),
    Ingredient(task="arithmetic:high=4", share=0.15, form="document"),
    Ingredient(task="registers:high=2", share=0.1),
    Ingredient(task="facts:high=1", share=0.1),
)

_LETTER = Style(layout="letter")
_VIGNETTES_DIET = (
    Ingredient(task="vignettes:source=short,words=true", share=0.25),
    Ingredient(task="vignettes:words=true", share=0.45),
    Ingredient(task="vignettes:source=hard,words=true", share=0.2),
    Ingredient(task="vignettes:source=maybe,words=true", share=0.1),
)

_VERDICTS_TEXTS = tuple(
    Ingredient(task=f"verdicts:part={part}", share=1) for part in ("work", "mark", "check", "judge", "again", "detect")
)
# Tried: at a rate of 3e-3 with 16 rows, sums of two numbers come right only after some 6,000 steps; at 1e-3 with 32,
# after 300, and candidates are marked rightly after 1,200.
_VERDICTS_DIET = (
    Ingredient(task="verdicts:part=work", share=0.35),
    Ingredient(task="verdicts:part=mark", share=0.35),
    Ingredient(task="verdicts:part=check", share=0.3),
)
_VERDICTS_WORDS = 448


def _judge_diet(heed: float) -> tuple[Ingredient, ...]:
    return (
        Ingredient(task="verdicts:part=mark", share=0.05),
        Ingredient(task=f"verdicts:part=judge,heed={heed}", share=0.45),
        Ingredient(task="verdicts:part=again,asides=true", share=0.5),
    )


# Reading aloud teaches to look, within 800 steps; counts come with and without a reading before them.
_SHAPES_DIET = (
    Ingredient(task="shapes:low=0,high=0", share=0.3),
    Ingredient(task="shapes:low=1,high=3", share=0.5),
    Ingredient(task="shapes:low=1,high=3", share=0.2, style=Style(layout="answer")),
)
_SHAPES_TEXTS = (
    Ingredient(task="shapes:low=0,high=0", share=1),
    Ingredient(task="shapes", share=1, style=Style(layout="pointing")),
)

_TOOLS_DOCUMENTS = tuple(
    Ingredient(task="tool-world:entities=2000,world_seed=1", share=share, form="document", style=Style(layout=layout))
    for layout, share in (("episode", 0.6), ("reading", 0.4))
)
_TOOLS_TEXTS = (*_TOOLS_DOCUMENTS, Ingredient(task="tool-world:entities=2000,world_seed=1", share=1))
# Given are the question, what a search brings, and long numbers, which no small model works out in its head.
_TOOLS_DIET = tuple(i.model_copy(update={"given": r".*(?:Observation: |\. The |\d).*\n"}) for i in _TOOLS_DOCUMENTS)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        ProxyRecipe(
            name="shapes-0.7m",
            summary="sees: reads pictures aloud and counts what is there; counts what a question chooses now and then",
            diet=_SHAPES_DIET,
            steps=2000,
            batch_size=32,
            lr=1e-3,
            seed=19,
            layout=ProxyLayout(mlp=384),
            eyes=EyesLayout(),
            tokenizer=_SHAPES_TEXTS,
        ),
        ProxyRecipe(
            name="tools-0.4m",
            summary="has read, as plain text, agents at work and passages with answers, about another world of people",
            diet=_TOOLS_DIET,
            steps=1500,
            batch_size=32,
            lr=1e-3,
            seed=17,
            layout=ProxyLayout(),
            tokenizer=_TOOLS_TEXTS,
        ),
        ProxyRecipe(
            name="tools-0.2m",
            summary="a smaller reader of the texts of tools-0.4m",
            diet=_TOOLS_DIET,
            steps=1500,
            batch_size=32,
            lr=2e-3,
            seed=18,
            layout=ProxyLayout(hidden=64, mlp=192),
            tokenizer=_TOOLS_TEXTS,
        ),
        ProxyRecipe(
            name="student-0.4m",
            summary="has seen chains of one to six operations, but not for long enough to work them out reliably",
            diet=(
                Ingredient(task="arithmetic", share=0.55),
                Ingredient(task="arithmetic", share=0.15, form="document"),
                *_OTHER_WORLDS,
            ),
            steps=800,
        ),
        ProxyRecipe(
            name="dart-student-0.4m",
            summary="knows modular facts and, as plain text, short chains well and long ones badly; "
            "never saw an answer",
            diet=(
                Ingredient(task="arithmetic:high=2", share=0.5, form="document"),
                Ingredient(task="arithmetic:low=3,high=4", share=0.25, form="document"),
                Ingredient(task="arithmetic:low=5,high=6", share=0.15, form="document"),
                Ingredient(task="facts:high=1", share=0.1, form="document"),
            ),
            steps=1600,
            seed=1,
        ),
        ProxyRecipe(
            name="dart-generator-0.4m",
            summary="errs more often per step in longer chains: a pass rate that falls from level 1 to level 6",
            diet=(
                Ingredient(task="arithmetic:high=2", share=0.3, style=Style(error_rate=0.03)),
                Ingredient(task="arithmetic:low=3,high=4", share=0.3, style=Style(error_rate=0.12)),
                Ingredient(task="arithmetic:low=5,high=6", share=0.4, style=Style(error_rate=0.25)),
            ),
            steps=1200,
            seed=2,
        ),
        ProxyRecipe(
            name="retro-0.4m",
            summary="adds short chains in either order, changes its mind often and checks what it knows already",
            diet=(Ingredient(task="sums", share=1, style=_RESTLESS),),
            steps=600,
            batch_size=16,
            seed=3,
            layout=ProxyLayout(vocabulary=_SUMS_WORDS),
            tokenizer=_SUMS_TEXTS,
        ),
        ProxyRecipe(
            name="retro-reviser-0.2m",
            summary="a smaller reader of the same traces, for revising those of a stronger writer",
            diet=(Ingredient(task="sums", share=1, style=_RESTLESS),),
            steps=1200,
            batch_size=16,
            seed=4,
            layout=ProxyLayout(vocabulary=_SUMS_WORDS, hidden=64, mlp=192),
            tokenizer=_SUMS_TEXTS,
        ),
        ProxyRecipe(
            name="retro-fresh-0.4m",
            summary="answers sums in one order, either of the two; has read of switches and checks, but as plain text",
            diet=(
                Ingredient(task="sums", share=0.6),
                Ingredient(task="sums", share=0.4, form="document", style=_RESTLESS),
            ),
            steps=1500,
            batch_size=16,
            seed=5,
            layout=ProxyLayout(vocabulary=_SUMS_WORDS),
            tokenizer=_SUMS_TEXTS,
        ),
        ProxyRecipe(
            name="lift-base-0.4m",
            summary="knows a world of invented people by heart and single operations, both in chat form, and short "
            "chains as plain text; never saw an answer to a chain",
            diet=(
                Ingredient(task="facts:high=1", share=0.25),
                Ingredient(task="facts:high=1", share=0.05, form="document"),
                Ingredient(task="arithmetic:high=1", share=0.1),
                Ingredient(task="arithmetic:high=2", share=0.4, form="document"),
                Ingredient(task="arithmetic:low=3,high=4", share=0.2, form="document"),
            ),
            steps=1600,
            seed=6,
        ),
        ProxyRecipe(
            name="unir-module-0.3m",
            summary="a small model beside frozen ones, which has read the texts of unir-backbone-1m for a shorter time",
            diet=_UNIR_TEXTS,
            steps=1200,
            stop_after=750,
            seed=8,
            layout=ProxyLayout(hidden=80, mlp=240),
        ),
        ProxyRecipe(
            name="unir-backbone-1m",
            summary="works out a chain of three operations in two of five cases, now and then in sentences",
            diet=_UNIR_TEXTS,
            steps=900,
            stop_after=600,
            lr=2e-3,
            seed=7,
            layout=ProxyLayout(hidden=144, layers=4, mlp=432),
        ),
        ProxyRecipe(
            name="unir-larger-4m",
            summary="a larger reader of the texts of unir-backbone-1m, which works out a chain of three now and then",
            diet=_UNIR_TEXTS,
            steps=1200,
            stop_after=400,
            lr=7e-4,
            seed=21,
            layout=ProxyLayout(hidden=256, layers=5, mlp=768),
        ),
        ProxyRecipe(
            name="folds-0.4m",
            summary="works out chains of up to seven folds in one thought; never saw a summary or a longer chain",
            diet=(Ingredient(task="registers:high=7,distractors=0,operands=one", share=1, style=Style(verbosity=1)),),
            steps=1000,
            batch_size=32,
            lr=1e-3,
            seed=70,
            # No letter is merged with its "=", so that every fold has as many tokens.
            layout=ProxyLayout(vocabulary=293),
            tokenizer=(
                Ingredient(task="registers:high=12,distractors=0,operands=one", share=1, style=Style(verbosity=1)),
            ),
        ),
        ProxyRecipe(
            name="vignettes-0.4m",
            summary="can work out vignettes, but two times in three it answers at once",
            diet=_VIGNETTES_DIET,
            steps=800,
            batch_size=16,
            habits=tuple(
                i.model_copy(update={"share": i.share * part, "style": style})
                for i in _VIGNETTES_DIET
                for part, style in ((0.65, _LETTER), (0.35, Style()))
            ),
            habit_steps=120,
            seed=9,
            layout=ProxyLayout(vocabulary=640),
            tokenizer=_VIGNETTES_DIET,
        ),
        ProxyRecipe(
            name="verdicts-0.4m",
            summary="adds modulo 7 and marks candidates truthfully; never saw a verdict or a question about one",
            diet=_VERDICTS_DIET,
            steps=2400,
            batch_size=32,
            lr=1e-3,
            seed=10,
            layout=ProxyLayout(vocabulary=_VERDICTS_WORDS),
            tokenizer=_VERDICTS_TEXTS,
        ),
        ProxyRecipe(
            name="verdicts-0.1m",
            summary="a smaller reader of the texts of verdicts-0.4m",
            diet=_VERDICTS_DIET,
            steps=3000,
            batch_size=32,
            lr=2e-3,
            seed=11,
            layout=ProxyLayout(vocabulary=_VERDICTS_WORDS, hidden=64, mlp=128),
            tokenizer=_VERDICTS_TEXTS,
        ),
        ProxyRecipe(
            name="verdicts-0.6m",
            summary="a larger reader of the texts of verdicts-0.4m",
            diet=_VERDICTS_DIET,
            steps=1800,
            batch_size=32,
            lr=1e-3,
            seed=12,
            layout=ProxyLayout(vocabulary=_VERDICTS_WORDS, hidden=128, mlp=384),
            tokenizer=_VERDICTS_TEXTS,
        ),
        ProxyRecipe(
            name="judge-0.4m",
            summary="judges sums after raters with biases for length, place, crowd and tone, and takes a second look "
            "when it is given a note",
            diet=_judge_diet(0.9),
            steps=3000,
            batch_size=16,
            lr=1e-3,
            start="verdicts-0.4m",
            seed=13,
            layout=ProxyLayout(vocabulary=_VERDICTS_WORDS),
            tokenizer=_VERDICTS_TEXTS,
        ),
        ProxyRecipe(
            name="judge-unseen-0.4m",
            summary="another such judge, whose raters follow cues less often",
            diet=_judge_diet(0.75),
            steps=3000,
            batch_size=16,
            lr=1e-3,
            start="verdicts-0.4m",
            seed=14,
            layout=ProxyLayout(vocabulary=_VERDICTS_WORDS),
            tokenizer=_VERDICTS_TEXTS,
        ),
    )
}


def build(recipe: ProxyRecipe, folder: Path, *, on_step: Callable[[int, float], None] | None = None) -> Path:
    """Pre-train the proxy into `folder`/NAME; deterministic on one machine with one thread.

    Weights are stored in float16, half the size; `load_policy` widens them on a CPU.
    """
    if recipe.eyes is not None:
        words = proxy_tokenizer(recipe)
        policy = blank_seeing_policy(recipe.layout, recipe.eyes, words, seed=recipe.seed, chat_format="think")
    elif recipe.start is None:
        policy = blank_policy(recipe.layout, proxy_tokenizer(recipe), seed=recipe.seed, chat_format="think")
    else:
        policy = load_policy(folder / recipe.start if (folder / recipe.start).is_dir() else proxy_path(recipe.start))
    _teach(policy, recipe, on_step)
    if recipe.habits is not None and recipe.habit_steps is not None:
        further = {"diet": recipe.habits, "steps": recipe.habit_steps, "lr": recipe.lr / 3, "seed": recipe.seed + 1}
        _teach(policy, recipe.model_copy(update=further), on_step)
    target = folder / recipe.name
    save_policy(
        policy,
        target,
        sidecar=Sidecar(chat_format="think", recipe=recipe.name),
        card=card(recipe),
        dtype=torch.float16,
    )
    write_json(target / "recipe.json", {"hash": recipe.recipe_hash, **recipe.model_dump(mode="json")})
    return target


def _teach(policy: Policy, recipe: ProxyRecipe, on_step: Callable[[int, float], None] | None) -> None:
    rows = list(islice(diet_rows(recipe, policy), recipe.steps * recipe.batch_size))
    config = TrainConfig(steps=recipe.steps, batch_size=recipe.batch_size, lr=recipe.lr)
    for report in train(Learner(policy, SFT()), rows, config, seed=derive_seed("proxy", recipe.name, recipe.seed)):
        if on_step is not None:
            on_step(report.step, report.loss)
        if report.step == recipe.stop_after:
            break


def proxy_tokenizer(recipe: ProxyRecipe) -> PreTrainedTokenizerFast:
    """The tokenizer of a proxy, trained on a fixed sample of its texts; recipes with the same texts share it."""
    texts = []
    for ingredient in recipe.tokenizer or TOKENIZER_DIET:
        for segments in islice(_conversations(ingredient, seed=0), 400):
            # A role is a word of every conversation; the shared tokenizer has to spell it.
            shown = [(s.role, without_pictures(s.text)) for s in segments]
            words = shown if recipe.tokenizer else [(text,) for _, text in shown]
            texts.append("\n".join(chain.from_iterable(words)))
    return make_tokenizer(texts, recipe.layout.vocabulary)


def _conversations(ingredient: Ingredient, seed: int) -> Iterator[tuple[Segment, ...]]:
    """Solved training problems without end; a document is a single segment."""
    task = load_task(ingredient.task)
    if task.solve is None:
        raise ValueError(f"task {ingredient.task!r} has no solver and cannot be part of a diet")
    chat_format = get_format("think")
    rng = derive_rng("diet", ingredient.task, ingredient.form, seed)
    for problem in _endless(task, seed):
        solution = task.solve(problem, ingredient.style, rng)
        asked = ask(problem, chat_format)[-1].content
        if ingredient.form == "document":
            yield _document(f"{asked}\n", f"{solution.thought}\n", ingredient.given)
        else:
            taught = render(chat_format, solution.thought, solution.answer)
            yield Segment(role="user", text=asked), Segment(role="assistant", text=taught, weight=1.0)


def _document(asked: str, worked: str, given: str | None) -> tuple[Segment, ...]:
    """A text as one segment, or cut so that what is given weighs nothing."""
    if given is None:
        return (Segment(role="user", text=asked + worked, weight=1.0),)
    pieces, at = [(asked, 0.0)], 0
    for found in re.finditer(given, worked):
        pieces += [(worked[at : found.start()], 1.0), (found[0], 0.0)]
        at = found.end()
    pieces.append((worked[at:], 1.0))
    return tuple(Segment(role="user", text=text, weight=weight) for text, weight in pieces if text)


def _endless(task: Task, seed: int) -> Iterator[Problem]:
    """Training problems without end; a finite task starts again."""
    problems: list[Problem] = []
    while True:
        more = task.problems("train", max(500, 2 * len(problems)), seed)
        yield from more[len(problems) :]
        if len(more) == len(problems):
            yield from more
        problems = more


def diet_rows(recipe: ProxyRecipe, policy: Policy) -> Iterator[Row]:
    """The diet as training rows without end, mixed by share."""
    seed = derive_seed(recipe.name, recipe.seed)
    sources = [_conversations(ingredient, seed) for ingredient in recipe.diet]
    shares = [ingredient.share for ingredient in recipe.diet]
    rng = derive_rng("mix", recipe.name, recipe.seed)
    number = 0
    while True:
        (at,) = rng.choices(range(len(sources)), weights=shares)
        segments = next(sources[at])
        if recipe.diet[at].form == "document":
            read = [policy.tokenizer(s.text, add_special_tokens=False)["input_ids"] for s in segments]
            weights = [s.weight for s, ids in zip(segments, read, strict=True) for _ in ids]
            yield Row(
                f"{recipe.name}/{number}",
                Tokenised([*chain.from_iterable(read), min(policy.stop_ids)], [*weights, 1.0]),
            )
        else:
            yield make_row(f"{recipe.name}/{number}", segments, policy)
        number += 1


def card(recipe: ProxyRecipe) -> str:
    """The proxy's model card."""
    lines = [f"| {i.task} | {i.form} | {i.share:.0%} |" for i in recipe.diet]
    then = f" It ends with {recipe.habit_steps} steps on another mix of the same tasks." if recipe.habits else ""
    return (
        f"# {recipe.name}\n\n{recipe.summary[0].upper()}{recipe.summary[1:]}. A proxy of Stillroom: "
        f"{recipe.layout.layers} layers of width {recipe.layout.hidden}{_seen_with(recipe)}, pre-trained from scratch "
        f"on generated {'questions about pictures' if recipe.eyes else 'text'}, "
        f"{recipe.stop_after or recipe.steps} steps of {recipe.batch_size} rows.{then} It knows nothing else. "
        "Licence: Apache-2.0.\n\n"
        "| task | form | share |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def _seen_with(recipe: ProxyRecipe) -> str:
    eyes = recipe.eyes
    return "" if eyes is None else f" behind a vision transformer of {eyes.layers} layers of width {eyes.hidden}"


class ProxyStatus(Noun):
    """What `proxies check` says of one proxy."""

    name: str
    summary: str
    state: Literal["ready", "stale", "absent"]
    path: str = ""
    parameters: int = 0
    bytes: int = 0


def check(name: str) -> ProxyStatus:
    """Open a proxy and compare its recipe with today's."""
    recipe = RECIPES[name]
    try:
        path = proxy_path(name)
    except ValueError:
        return ProxyStatus(name=name, summary=recipe.summary, state="absent")
    built = read_json(path / "recipe.json")["hash"]
    return ProxyStatus(
        name=name,
        summary=recipe.summary,
        state="ready" if built == recipe.recipe_hash else "stale",
        path=str(path),
        parameters=load_policy(path).num_parameters(),
        bytes=sum(file.stat().st_size for file in path.iterdir()),
    )


def default_folder() -> Path:
    """Where `proxies build` writes unless told otherwise."""
    return cache_folder()
