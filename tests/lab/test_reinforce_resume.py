"""Reinforcement that was cut off inside any phase of a step goes on bit for bit; the bench does the same by SIGKILL."""

from pathlib import Path

import pytest

from fixtures_distill import small, write_student
from stillroom.bench.kill_reinforce import PHASES, Event, Memory, aloud
from stillroom.bench.kill_resume import fingerprints
from stillroom.lab.distill import set_up
from stillroom.lab.run import Run
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.rewards import TaskReward
from stillroom.methods.grpo import GRPO

CONFIG = RLConfig(steps=3, problems=2, max_new_tokens=6, minibatches=2, lr=1e-2, held_out_every=2)


class Cut(BaseException):
    """As hard as an exception can be: nothing in the package may catch it."""


def train(folder: Path, student: Path, cut: tuple[int, str] | None = None) -> list[Event]:
    """Start or go on, until that phase of that step; returns what the run said."""
    said: list[Event] = []

    def say(event: Event) -> None:
        said.append(event)
        if (event.step, event.phase) == cut:
            raise Cut

    if (folder / "config.yaml").exists():
        run, _ = Run.open(folder)
    else:
        run = Run.create(folder, kind="test", config={}, command=[], seeds=[0])
    try:
        still = set_up(run, small(student, checkpoint_every_s=0))
        reward = Memory(TaskReward(still.task))
        still.reinforce(
            student, algorithm=GRPO, reward=reward, config=CONFIG, samples=4, drive=lambda engine: aloud(engine, say)
        )
    finally:
        run.close()
    return said


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "tiny")


@pytest.fixture(scope="module")
def whole(student: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(folder, student)


@pytest.mark.parametrize("phase", PHASES)
def test_cut_in_any_phase(phase: str, student: Path, whole: tuple[Path, list[Event]], tmp_path: Path) -> None:
    with pytest.raises(Cut):
        train(tmp_path / "cut", student, (1, phase))
    again = train(tmp_path / "cut", student)
    folder, said = whole
    assert again == said[len(PHASES) :]
    assert fingerprints(tmp_path / "cut") == fingerprints(folder)
    assert len(fingerprints(folder)) == 2
