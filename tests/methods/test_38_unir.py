"""UniR: the smoke run, and what the specification must have; sums themselves are in tests/models/test_composite.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures_distill import small, write_student
from stillroom.chat import get_format
from stillroom.errors import UserError
from stillroom.io import read_json, read_lines
from stillroom.lab.proxies import check
from stillroom.lab.run import Run
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.rl.algorithm import objectives
from stillroom.learn.rl.config import RLConfig
from stillroom.learn.rl.engine import Engine
from stillroom.learn.rl.rewards import TaskReward
from stillroom.learn.rl.rollouts import Rollout, plainly
from stillroom.learn.rl.summed import steps_of_sum
from stillroom.methods.m38_unir import ARMS as ARMS_OF_PAGE
from stillroom.methods.m38_unir import BACKBONE, GRPO, LARGER, MODULE, RANK, coin, in_sentences
from stillroom.models.composite import SumPolicy, save_sum, sum_of
from stillroom.models.policy import Policy, load_part, load_policy, resolve_student
from stillroom.samplers.base import Prompt
from stillroom.tasks import load_task
from stillroom.types import Finish, Message, Problem, Response
from stillroom.workbench import distill
from stillroom.workbench import experiment as run_page

ARMS = ("backbone", "unir", "module", "transfer")
"""One of a kind: the others differ in a reward, a weight or the number of parts."""


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("unir") / "run"
    return run_page("unir", folder, preset="smoke", arms=",".join(ARMS), jobs=0), folder


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in policy.model.state_dict().items()}


def test_the_smoke_run(smoke: tuple[Any, Path]) -> None:
    result, folder = smoke
    (seed,) = result.seeds
    assert set(seed.arms) == set(ARMS)
    assert [claim.arms for claim in result.claims] == [("unir", "backbone")]
    assert all(set(arm.measures) == {"sentences"} for arm in seed.arms.values())
    assert {name for name, arm in seed.arms.items() if arm.updates} == {"unir"}
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", [MODULE, BACKBONE, LARGER])
def test_a_committed_base_is_what_its_recipe_builds(name: str) -> None:
    assert check(name.removeprefix("proxy:")).state == "ready"


def test_lora_trains_as_many_weights_as_the_module_has() -> None:
    learner = Learner(load_policy(resolve_student(BACKBONE)), SFT(), adapt=LoRA(RANK))
    assert learner.report().trainable == pytest.approx(load_policy(resolve_student(MODULE)).num_parameters(), rel=0.05)


def test_the_logs_of_a_step(smoke: tuple[Any, Path]) -> None:
    rows = [row for row in read_lines(smoke[1] / "seed-0" / "metrics.jsonl") if row["stage"] == "rl"]
    (row,) = (row for row in rows if row["arm"] == "unir")
    wanted = {"reward", "groups_equal", "entropy", "kl_frozen", "trained_logp_right", "trained_logp_wrong"}
    assert wanted <= row.keys()
    assert row["logp_gap_max"] < 1e-4


def test_the_trained_module_is_plugged_into_another_model(smoke: tuple[Any, Path]) -> None:
    folder = smoke[1] / "seed-0"
    module = load_part(folder / "unir")
    found = {name: load_policy(folder / "sums" / name) for name in ("module", "transfer")}
    assert all(isinstance(policy, SumPolicy) for policy in found.values())
    parts = {name: policy.parts for name, policy in found.items() if isinstance(policy, SumPolicy)}
    assert [part.weight for part in parts["module"]] == [1.0, 0.0]
    first, larger = parts["transfer"]
    assert larger.policy.num_parameters() > load_policy(resolve_student(BACKBONE)).num_parameters()
    for sums in parts.values():
        assert all(torch.equal(weight, weights(module)[name]) for name, weight in weights(sums[0].policy).items())
    assert any(
        not torch.equal(weight, weights(first.policy)[name])
        for name, weight in weights(load_policy(resolve_student(MODULE))).items()
    )


def engine_of(policy: Policy) -> Engine:
    task = load_task("arithmetic:low=3,high=3")
    return Engine(
        Learner(policy, objectives(GRPO, 1.0)[0].objective),
        problems=task.problems("train", 8, 0),
        variants=[plainly(get_format("think"), 8)],
        reward=TaskReward(task),
        algorithm=GRPO,
        config=RLConfig(steps=1, problems=2, max_new_tokens=40, lr=1e-3),
        seed=3,
    )


def mean_logp(policy: Policy, rollout: Rollout) -> tuple[float, torch.Tensor]:
    """Of the sampled tokens by one forward pass of one model, and the logits of all their places."""
    ids = [*rollout.prompt_ids, *rollout.ids]
    with torch.no_grad():
        logits = policy.model(torch.tensor([ids])).logits[0, len(rollout.prompt_ids) - 1 : -1].double()
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(rollout.ids)[:, None])
    return float(chosen.mean()), logits


def test_what_a_step_says_of_the_parts() -> None:
    """Divergence and log-probabilities written out from the two modules; the backbone is as it was, to the bit."""
    module, backbone = (load_policy(resolve_student(name)) for name in (MODULE, BACKBONE))
    before, kept = weights(backbone), []
    engine = engine_of(sum_of([(module, 1.0), (backbone, 1.0)]))
    collect = engine.collect

    def watched_collect(plan: Any = None) -> Any:
        batch = collect(plan)
        for rollout, scored in zip(batch.rollouts, batch.scored, strict=True):
            mean, of_module = mean_logp(module, rollout)
            _, of_backbone = mean_logp(backbone, rollout)
            apart = (of_module + of_backbone).log_softmax(-1) - of_backbone.log_softmax(-1)
            kept.append((scored.correct, mean, apart.gather(1, torch.tensor(rollout.ids)[:, None])[:, 0]))
        return batch

    engine.collect = watched_collect  # type: ignore[method-assign]
    (step,) = steps_of_sum(engine)
    assert step.metrics["kl_frozen"] == pytest.approx(float(torch.cat([a for _, _, a in kept]).mean()), abs=1e-4)
    for side in ("right", "wrong"):
        means = [mean for correct, mean, _ in kept if correct is (side == "right")]
        assert means
        assert step.metrics[f"trained_logp_{side}"] == pytest.approx(float(np.mean(means)), abs=1e-4)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(backbone).items())


def test_a_policy_that_is_no_sum_is_refused() -> None:
    with pytest.raises(UserError, match="no sum of two policies"):
        next(steps_of_sum(engine_of(load_policy(resolve_student(MODULE)))))


def said(problem: Problem, text: str, seed: int) -> Rollout:
    prompt = Prompt(messages=(Message(role="user", content="?"),), problem=problem)
    response = Response(text=text, finish=Finish.STOP, token_ids=(1, 2, 3), seed=seed)
    return Rollout(problem, 0, "", 0, prompt, (1,), response, 0)


def test_rewards_of_the_controls() -> None:
    sentences, equations = "<think>\n4 minus 2 is 2.\n</think>\n\\boxed{2}", "<think>\n4-2=2\n</think>\n\\boxed{2}"
    (problem,) = load_task("arithmetic:low=3,high=3").problems("train", 1, 0)
    rollouts = [said(problem, text, 0) for text in (sentences, equations, f"{sentences}{equations}", "2")]
    assert [scored.reward for scored in in_sentences(rollouts)] == [1.0, 0.0, 0.0, 0.0]
    tossed = [scored.reward for scored in coin([said(problem, "2", seed) for seed in range(400)])]
    assert set(tossed) == {0.0, 1.0}
    assert 150 < sum(reward or 0.0 for reward in tossed) < 250


def test_the_recipe_trains_a_users_student_beside_a_local_teacher(tmp_path: Path) -> None:
    student, teacher = write_student(tmp_path / "student"), write_student(tmp_path / "teacher")
    config = small(student, method="unir", teacher=f"local:{teacher}", train={"steps": 1, "batch_size": 2})
    result = distill(config, tmp_path / "run")
    policy = load_policy(result.student)
    assert isinstance(policy, SumPolicy)
    assert policy.num_parameters() == 2 * load_policy(student).num_parameters()
    run, _ = Run.open(tmp_path / "run")
    trained = run.result_of("train:student")
    run.close()
    assert trained is not None
    assert trained["adapt"]["trainable"] == load_policy(student).num_parameters()


def test_a_teacher_without_logits_is_refused(tmp_path: Path) -> None:
    config = small(write_student(tmp_path / "student"), method="unir")
    with pytest.raises(UserError, match="has no logits to add to"):
        distill(config, tmp_path / "run")


def test_a_sum_of_three_is_refused(tmp_path: Path) -> None:
    paths = [write_student(tmp_path / name) for name in ("a", "b", "c")]
    folder = save_sum(tmp_path / "sum", [(path, 1.0) for path in paths], chat_format="think")
    with pytest.raises(UserError, match="no sum of two policies"):
        next(steps_of_sum(engine_of(load_policy(folder))))


def test_the_published_claim_has_three_seeds_and_every_arm() -> None:
    claim = read_json(Path(__file__).parents[2] / "results" / "claims" / "38-unir.json")
    assert len(claim["seeds"]) >= 3
    assert claim["verdict"] != "void"
    assert set(claim["arms"]) == set(ARMS_OF_PAGE)
