"""Main jobs of seconds: a random student on disk, settings that fit it, and the command line in this process."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stillroom.chat import get_format, render
from stillroom.cli import main
from stillroom.lab.config import DistillConfig, parse_config
from stillroom.models.policy import Sidecar, save_policy
from stillroom.models.proxies import ProxyLayout, blank_policy, make_tokenizer
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task
from stillroom.tasks.base import Style

LAYOUT = ProxyLayout(vocabulary=320, hidden=16, layers=1, heads=2, kv_heads=1, mlp=32, positions=192)


def write_student(folder: Path, layout: ProxyLayout = LAYOUT, chat_format: str = "think") -> Path:
    """A student of a few thousand random weights whose tokenizer knows chain arithmetic."""
    task = load_task("arithmetic")
    assert task.solve is not None
    texts = []
    for problem in task.problems("train", 60, 0):
        solution = task.solve(problem, Style(), derive_rng("texts", problem.id))
        texts += [problem.messages[-1].content, render(get_format("think"), solution.thought, solution.answer)]
    policy = blank_policy(layout, make_tokenizer(texts, layout.vocabulary), seed=0, chat_format=chat_format)
    save_policy(policy, folder, sidecar=Sidecar(chat_format=chat_format))
    return folder


def small(student: Path, **changes: Any) -> DistillConfig:
    """A main job of half a second; `changes` go on top."""
    train = {"steps": 4, "batch_size": 4, **changes.pop("train", {})}
    values = {"student": str(student), "problems": 12, "eval_problems": 6, "max_new_tokens": 16, "train": train}
    return parse_config({**values, **changes})


FLAGS = ["--problems", "8", "--eval-problems", "4", "--max-new-tokens", "8", "--epochs", "1", "--batch-size", "4"]
"""The same on the command line."""


class Said(NamedTuple):
    code: int
    out: str
    err: str


class CommandLine:
    """`stillroom ...` in this process: exit code and what it printed; a traceback fails the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["stillroom", *map(str, words)])
        self._capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 0
        return Said(code, *self._capsys.readouterr())
