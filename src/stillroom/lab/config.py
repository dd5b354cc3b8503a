"""One typed configuration for the main job; unknown keys and values that make no sense are errors with a remedy."""

import difflib
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stillroom.errors import UserError
from stillroom.learn.adapt.spec import parse_adapt
from stillroom.learn.training import TrainConfig
from stillroom.tasks.base import Style

PROXY_TRAINING = {"epochs": 8.0, "lr": 3e-3}
"""Training defaults for a proxy: a model this small wants a rate that would ruin a pre-trained checkpoint (ours)."""


SEEING_TASKS = {"shapes": "proxy:shapes-0.7m"}
"""Task that shows pictures → the student that sees, where none is named."""


class DistillConfig(BaseModel):
    """Everything that decides the outcome of `stillroom distill`. Defaults are our choice for the built-in task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "arithmetic"
    """Built-in name with options, ``jsonl:FILE``, ``hf:ID``, ``gym:NAME`` or ``./file.py:NAME``."""
    fields: dict[str, str] = Field(default_factory=dict)
    """For files: what (question, answer, id, level, options) → column."""
    layout: str | None = None
    """For files: gsm8k, math, aqua, commonsenseqa, ifeval, protoqa, simplebench or plain."""
    eval_file: str | None = None
    """Held-out problems in a file of their own; without it a tenth of the task's problems, chosen by content."""
    strict: bool = False
    """Stop at the first bad row of a file instead of rejecting it."""
    teacher: str = "program"
    """``program``, ``replay:FILE``, ``openai:NAME@URL`` or ``local:PATH``."""
    style: Style | None = None
    """How the program teacher writes."""
    student: str = "proxy:student-0.4m"
    """``proxy:NAME``, a checkpoint folder, or a hub id; default for tasks that show pictures: `SEEING_TASKS`."""
    method: str = "sft"
    adapt: str = "full"
    """Which weights move: full, lora[:rank=16], masked[:score=lift,density=0.05], freeze:PATTERN (what moves)."""
    chat_format: str | None = None
    """think, boxed, hash, plain or answer-only; default: the student checkpoint's own, else the task's."""
    chat_template: str | None = None
    """A Jinja file that replaces the student tokenizer's template."""
    problems: int = Field(2400, ge=1)
    """Training problems."""
    eval_problems: int = Field(300, ge=1)
    samples: int = Field(1, ge=1)
    """Responses per problem, for methods that draw a fixed number."""
    temperature: float = Field(1.0, ge=0)
    """Of the teacher."""
    max_new_tokens: int = Field(128, ge=1)
    select: str = "correct,finished,unique,decontaminated=exact"
    """Rules in order (docs/traces.md)."""
    train: TrainConfig = TrainConfig()
    """Defaults of `epochs` and `lr` depend on the student: `PROXY_TRAINING` for a proxy."""
    price: tuple[float, float] | None = None
    """US dollars per million prompt and completion tokens of a server."""
    budget_usd: float | None = Field(None, gt=0)
    budget_tokens: int | None = Field(None, ge=1)
    concurrency: int = Field(8, ge=1)
    answers: str | None = None
    """Folder that keeps a server's answers and its ledger; default: ``answers`` in the run folder."""
    seed: int = 0
    device: str = "cpu"
    checkpoint_every_s: float = Field(20.0, ge=0)
    """Seconds between training checkpoints; changes nothing but what a kill can cost."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""

    @model_validator(mode="before")
    @classmethod
    def _suit_the_student(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name, _, options = str(values.get("task", "")).partition(":")
        if "student" not in values and name in SEEING_TASKS and "view=caption" not in options:
            values = {**values, "student": SEEING_TASKS[name]}
        if not str(values.get("student", "proxy:")).startswith("proxy:"):
            return values
        given = values.get("train", {})
        return {**values, "train": {**PROXY_TRAINING, **given}} if isinstance(given, dict) else values

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        """An option without effect is a mistake, not a wish to be ignored."""
        if not self.teacher.startswith("openai:"):
            for name in ("price", "budget_usd", "budget_tokens", "answers"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect on teacher {self.teacher!r}: only servers cost money")
        parse_adapt(self.adapt)
        if self.style is not None and self.teacher != "program":
            raise ValueError(
                f"style has no effect on teacher {self.teacher!r}: only the program can be told how to write"
            )
        return self


def parse_config(values: dict[str, Any]) -> DistillConfig:
    """The typed configuration; raises UserError naming each wrong key with the nearest valid one."""
    try:
        return DistillConfig.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(_explain(dict(problem)) for problem in error.errors())) from error


def _explain(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        fields = list(TrainConfig.model_fields if where.startswith("train.") else DistillConfig.model_fields)
        near = difflib.get_close_matches(where.rpartition(".")[2], fields, n=1)
        return f"unknown setting {where!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message} (got {problem['input']!r})" if where else message


def load_config(path: Path) -> dict[str, Any]:
    """The settings of a ``config.yaml``, of this run or an earlier one, without its ``kind``."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings; it should look like the config.yaml of a run folder")
    values.pop("kind", None)
    return values
