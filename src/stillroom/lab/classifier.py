"""A classifier of texts: a linear head on a model's last state of a question, all weights trained with it.

What a sequence-classification head of transformers does, as a control for methods whose model writes an analysis before
it says Yes or No.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

from stillroom.chat import Tokenised
from stillroom.lab.still import Still, row_of
from stillroom.learn.batches import Row, collate
from stillroom.learn.heads import ValueHead
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.base import View
from stillroom.learn.objectives.classify import Classify
from stillroom.learn.training import train
from stillroom.models.policy import Policy, Sidecar, load_policy, save_policy
from stillroom.samplers.base import Prompt, SamplingParams, require_plain, response_seed
from stillroom.samplers.pictures import encode
from stillroom.seeds import derive_seed
from stillroom.types import Finish, Response, Trace, Usage

HEAD = "head.safetensors"
AT_ONCE = 64


def fit_classifier(still: Still, data: Sequence[tuple[Trace, bool]], *, name: str) -> Path:
    """Train the student and a head to say of every trace's question whether it is true; the stage is run again whole.

    Data, passes, batches and rate are those that `Still.fine_tune` would use. The folder holds the model and its head.
    """
    target, stage = still.run.folder / name, f"train:{name}"
    if still.run.result_of(stage) is None:
        with still.run.stage(stage) as result:
            policy = still.load_student()
            rows = [_asked(row_of(trace, policy), truth) for trace, truth in data]
            learner = Learner(policy, Classify(), heads={"label": ValueHead()}, seed=derive_seed("learner", still.seed))
            computed, report = 0, None
            for report in train(learner, rows, still.train_config, seed=derive_seed("train", still.seed)):
                computed += report.computed_tokens
                still.run.metrics.log(
                    stage="train", arm=name, step=report.step, loss=report.loss, lr=report.lr, **report.diagnostics
                )
            with TemporaryDirectory(dir=still.run.folder) as beside:
                save_file(learner.head("label").state_dict(), Path(beside) / HEAD)
                sidecar = Sidecar(chat_format=still.chat_format.name, base=still.student, recipe=still.recipe)
                save_policy(policy, target, sidecar=sidecar, also=Path(beside))
            result.update(
                rows=len(rows),
                too_long=0,
                steps=learner.steps,
                trained_tokens=learner.trained_tokens,
                computed_tokens=computed,
                parameters=policy.num_parameters(),
                lr=still.train_config.lr,
                trials={},
                objective=learner.objective.name,
                adapt=learner.report().model_dump(mode="json"),
                logp_start=None,
                diagnostics=report.diagnostics if report else {},
                alarm=None,
            )
    return target


def _asked(row: Row, truth: bool) -> Row:
    """The question and one more token, whose state the head looks at."""
    at = next(i for i, weight in enumerate(row.tokens.weights) if weight > 0)
    tokens = row.tokens._replace(ids=row.tokens.ids[: at + 1], weights=[0.0] * at + [1.0])
    return row._replace(tokens=tokens, signals={"label": [float(truth)] * (at + 1)})


@dataclass(frozen=True)
class ClassifierSampler:
    """A classifier as a sampler: it answers a question with one of two words, without a thought.

    Args:
        words: for not true and for true.
    """

    policy: Policy
    head: torch.nn.Linear
    words: tuple[str, str] = ("No", "Yes")

    @property
    def id(self) -> str:
        return f"classifier:{self.policy.source}"

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        require_plain(params, self.id)
        answers = []
        for start in range(0, len(prompts), AT_ONCE):
            part = prompts[start : start + AT_ONCE]
            read = [list(encode(self.policy, prompt.messages).ids) for prompt in part]
            for prompt, ids, value in zip(part, read, self._values(read), strict=True):
                usage = Usage(calls=1, prompt_tokens=len(ids))
                text = f"\\boxed{{{self.words[value > 0]}}}"
                seeds = [response_seed(prompt, offset) for offset in range(params.n)]
                answers.append([Response(text=text, finish=Finish.STOP, usage=usage, seed=seed) for seed in seeds])
        return answers

    @torch.no_grad()
    def _values(self, read: Sequence[list[int]]) -> list[float]:
        pad = self.policy.pad_id
        rows = [Row(str(at), Tokenised([*ids, pad], [0.0] * len(ids) + [1.0])) for at, ids in enumerate(read)]
        states_ND = View(self.policy).states(collate([(row,) for row in rows], pad, self.policy.device))
        values: list[float] = self.head(states_ND.to(self.head.weight.dtype))[:, 0].tolist()
        return values


def load_classifier(folder: Path) -> ClassifierSampler:
    """What `fit_classifier` left."""
    policy, stored = load_policy(folder), load_file(folder / HEAD)
    head = torch.nn.Linear(stored["weight"].shape[1], 1)
    head.load_state_dict(stored)
    return ClassifierSampler(policy, head)
