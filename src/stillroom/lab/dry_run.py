"""`distill --dry-run`: twenty problems through teacher, verifier and student, and what the whole run would cost."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from stillroom.lab.config import DistillConfig
from stillroom.lab.distill import set_up
from stillroom.lab.evaluate import evaluate
from stillroom.lab.run import Run
from stillroom.lab.still import set_rows
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.samplers.local import LocalSampler
from stillroom.synth.rejection import FixedTrials
from stillroom.types import Noun

TRIED = 20
"""Problems that a dry run puts through everything."""
STEPS = 3
"""Optimiser steps that are timed, after one that is not."""


class Prediction(Noun):
    """What the whole run would use, extrapolated from `tried` problems."""

    tried: int
    correct: int
    judged: int
    problems: int
    """Training problems of the whole run."""
    teacher_tokens: float
    """Prompt and completion tokens of the teacher."""
    trained_tokens: float
    """Response tokens that the student is trained on, over all passes."""
    evaluated_tokens: float
    usd: float | None
    """None: free, or the price is unknown."""
    hours: float
    memory_gib: float
    """Peak of the student's weights, gradients, two moments and a batch's activations (rough)."""

    def text(self) -> str:
        """For people."""
        money = "nothing" if self.usd is None else f"about {self.usd:.2f} US dollars"
        return "\n".join(
            [
                f"tried {self.tried} problems: {self.correct} of {self.judged} judged answers are correct",
                f"the whole run, {self.problems} problems:",
                f"  teacher tokens  {self.teacher_tokens:>14,.0f}",
                f"  trained tokens  {self.trained_tokens:>14,.0f}",
                f"  evaluation      {self.evaluated_tokens:>14,.0f} tokens",
                f"  money           {money:>14}",
                f"  time            {_hours(self.hours):>14} on this machine, as loaded now",
                f"  memory          {self.memory_gib:>11.2f} GiB for training",
            ]
        )


def _hours(hours: float) -> str:
    return f"{60 * hours:.1f} minutes" if hours < 1 else f"{hours:.1f} hours"


def dry_run(config: DistillConfig, out: Path) -> Prediction:
    """Predict; with a server as teacher, its few answers are kept where the real run looks for them.

    Raises:
        UserError: for every mistake that the real run would meet before training.
    """
    tried = config.model_copy(
        update={
            "problems": min(TRIED, config.problems),
            "eval_problems": min(TRIED, config.eval_problems),
            "answers": config.answers or (str(out / "answers") if config.teacher.startswith("openai:") else None),
        }
    )
    with TemporaryDirectory() as scratch:
        values = tried.model_dump(mode="json", exclude_none=True)
        run = Run.create(Path(scratch) / "run", kind="dry-run", config=values, command=["dry-run"], seeds=[config.seed])
        still = set_up(run, tried)
        started = time.perf_counter()
        traces = still.sample(FixedTrials(config.samples))
        teacher_s = time.perf_counter() - started
        judged = [t for t in traces if t.verdict is not None and t.verdict.correct is not None]
        correct = [t for t in judged if t.verdict is not None and t.verdict.correct]
        policy = still.load_student()
        usable = correct or judged or traces
        rows, _ = set_rows([t for t in usable if t.taught[-1].text], policy, still.train_config)
        rows = (rows * config.train.batch_size)[: config.train.batch_size]
        learner = Learner(policy, SFT())
        for step in range(STEPS + 1):
            if step == 1:
                started = time.perf_counter()
            learner.forward_backward(rows)
            learner.step(0.0)
        step_s = (time.perf_counter() - started) / STEPS
        started = time.perf_counter()
        answers = evaluate(
            still.task,
            still.test,
            LocalSampler(policy),
            still.chat_format,
            max_new_tokens=config.max_new_tokens,
        )
        eval_s = time.perf_counter() - started
        run.close()
    scale = config.problems / len(still.problems)
    kept = round(scale * len(correct))
    steps = config.train.total_steps(max(1, kept))
    tokens_per_step = sum(1 for row in rows for weight in row.tokens.weights if weight)
    eval_scale = 2 * config.eval_problems / len(still.test)
    money = [t.usage.cost_usd for t in traces if t.usage.cost_usd is not None]
    shape = policy.model.config
    # About sixteen values of the hidden width are kept per token and layer for the backward pass, four bytes each.
    activations = learner.micro_tokens * shape.hidden_size * shape.num_hidden_layers * 16 * 4
    return Prediction(
        tried=len(still.problems),
        correct=len(correct),
        judged=len(judged),
        problems=config.problems,
        teacher_tokens=scale * sum(t.usage.prompt_tokens + t.usage.completion_tokens for t in traces),
        trained_tokens=float(steps * tokens_per_step),
        evaluated_tokens=eval_scale * sum(t.usage.completion_tokens for t in answers),
        usd=scale * sum(money) if money else None,
        hours=(scale * teacher_s + steps * step_s + eval_scale * eval_s) / 3600,
        memory_gib=(16 * policy.num_parameters() + activations) / 2**30,
    )
