"""The main job with pictures: a student that sees, its report, and who is refused."""

import json
from pathlib import Path

import pytest

from fixtures_distill import CommandLine, small, write_student
from fixtures_images import LAYOUT
from stillroom import report
from stillroom.chat import get_format, render
from stillroom.errors import UserError
from stillroom.lab.config import parse_config
from stillroom.lab.proxies import check
from stillroom.models.policy import Sidecar, load_policy, save_policy
from stillroom.models.proxies import EyesLayout, ProxyLayout, blank_seeing_policy, make_tokenizer, proxy_path
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task
from stillroom.tasks.base import Style
from stillroom.tasks.scenes import without_pictures
from stillroom.traces import store
from stillroom.workbench import distill


def write_seeing_student(folder: Path) -> Path:
    """A student of a few thousand random weights that sees, and whose tokenizer knows the task's words."""
    task = load_task("shapes")
    assert task.solve is not None
    texts = []
    for problem in task.problems("train", 60, 0):
        solution = task.solve(problem, Style(), derive_rng("texts", problem.id))
        texts += [without_pictures(problem.messages[-1].content)]
        texts += [render(get_format("think"), solution.thought, solution.answer)]
    eyes = EyesLayout(hidden=16, layers=1, heads=2, mlp=32)
    policy = blank_seeing_policy(LAYOUT, eyes, make_tokenizer(texts, 320), seed=0, chat_format="think")
    save_policy(policy, folder, sidecar=Sidecar(chat_format="think"))
    return folder


@pytest.mark.parametrize("adapt", ["full", "groups:projector,text"])
def test_a_student_that_sees_is_distilled(tmp_path: Path, adapt: str) -> None:
    config = small(write_seeing_student(tmp_path / "student"), task="shapes", adapt=adapt, max_new_tokens=40)
    result = distill(config, tmp_path / "run")
    student = load_policy(result.student)
    assert student.vision is not None
    traces = store.read(tmp_path / "run" / "traces" / "selected-student.parquet")
    assert len(traces) == 12  # none is taken for contaminated because its question is asked of another picture too
    html = report.build(tmp_path / "run").read_text()
    assert html.count("data:image/png;base64,") >= 12


def test_the_method_changes_nothing_about_pictures(tmp_path: Path) -> None:
    """Reinforcement learning, whose rows bring the pictures of their prompts."""
    student = write_seeing_student(tmp_path / "student")
    config = small(student, task="shapes:high=1", method="ton", max_new_tokens=8, train={"steps": 1})
    assert distill(config, tmp_path / "run").arms["student"].accuracy.n == 6


def test_who_does_not_see_is_refused_before_a_teacher_is_asked(tmp_path: Path) -> None:
    student = write_student(tmp_path / "student", ProxyLayout(hidden=16, layers=1, heads=2, kv_heads=1, mlp=32))
    with pytest.raises(UserError, match="reads text alone and is asked about a picture"):
        distill(small(student, task="shapes"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("traces/*"))
    # In words it may.
    assert distill(small(student, task="shapes:view=caption"), tmp_path / "words").arms["student"].accuracy.n == 6


def test_the_default_student_of_a_task_that_shows_pictures_sees() -> None:
    assert parse_config({"task": "shapes:high=2"}).student == "proxy:shapes-0.7m"
    assert parse_config({"task": "shapes:high=2"}).train.lr == 3e-3
    assert parse_config({"task": "shapes:view=caption"}).student == "proxy:student-0.4m"
    assert parse_config({"task": "shapes", "student": "proxy:other"}).student == "proxy:other"
    assert parse_config({}).student == "proxy:student-0.4m"


def test_the_committed_student_is_what_its_recipe_builds() -> None:
    """As far as can be told without building it: the recipe's hash, the size, and that it sees."""
    found = check("shapes-0.7m")
    assert found.state == "ready"
    assert found.bytes <= 1_500_000
    assert load_policy(proxy_path("shapes-0.7m")).vision is not None


def test_samples_are_shown_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = CommandLine(monkeypatch, capsys)("tasks", "sample", "shapes", "--n", "1", "--json")
    (problem,) = json.loads(said.out)
    assert problem["assets"]["scene"] in problem["messages"][0]["content"]
