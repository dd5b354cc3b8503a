"""Masked fine-tuning: only chosen entries move, moments are compact, and a kill inside a refresh costs nothing."""

import copy
import math
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest
import torch

from fixtures_models import fresh, llama_policy, neox_policy, qwen2_policy, rows
from stillroom.errors import CheckpointError, TrainingStopped, UserError
from stillroom.learn.adapt import scores as scores_module
from stillroom.learn.adapt.base import AdamW, Full, linear_weights
from stillroom.learn.adapt.masked import Masked, MaskedMoving
from stillroom.learn.adapt.matrices import matrices
from stillroom.learn.adapt.scores import ScoreName
from stillroom.learn.learner import Learner
from stillroom.learn.objectives.sft import SFT
from stillroom.learn.training import TrainConfig, train
from stillroom.models.policy import Policy, Sidecar

SIDECAR = Sidecar(chat_format="think")
SCORES: tuple[ScoreName, ...] = get_args(ScoreName)


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


def chosen(learner: Learner) -> dict[str, set[int]]:
    """Matrix → flat positions that may move now."""
    held = learner._moving.tensors()
    return {name.removeprefix("at."): set(at.tolist()) for name, at in held.items() if name.startswith("at.")}


def attached(policy: Policy, choice: Masked, settings: AdamW | None = None) -> MaskedMoving:
    return choice.attach(policy, settings or AdamW(), seed=0)


def with_gradient(policy: Policy, seed: int) -> dict[str, torch.Tensor]:
    """Put a random gradient on every weight that may move; returns copies."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, p in policy.model.named_parameters():
        if p.requires_grad:
            p.grad = torch.randn(p.shape, generator=generator)
            found[name] = p.grad.clone()
    return found


# --- what moves


@pytest.mark.parametrize("score", SCORES)
def test_entries_that_were_never_chosen_are_bitwise_what_they_were(score: ScoreName) -> None:
    """Through three refreshes, on a tied head and on the embedding it is tied to."""
    policy = fresh(qwen2_policy())
    start = weights(policy)
    learner = Learner(policy, SFT(), adapt=Masked(score=score, density=0.1, refresh_every=2), seed=3)
    ever = chosen(learner)
    for _ in range(7):
        learner.forward_backward(rows(policy, 4))
        learner.step(0.05)
        for name, places in chosen(learner).items():
            ever[name] |= places
    moved = 0
    for name, now in weights(policy).items():
        places = {int(i) for i in (now != start[name]).flatten().nonzero()}
        assert places <= ever.get(name, set()), name
        moved += len(places)
    assert moved > 0.05 * sum(start[name].numel() for name in ever)
    assert set(ever) == set(linear_weights(policy))


def test_lift_chooses_what_a_float64_decomposition_chooses() -> None:
    policy = fresh(llama_policy())
    expected = {}
    for name, weight in linear_weights(policy).items():
        u, s, vt = torch.linalg.svd(weight.detach().double(), full_matrices=False)
        score = ((u[:, :3] * s[:3]) @ vt[:3]).abs().flatten()
        expected[name] = set(torch.topk(score, round(0.05 * score.numel())).indices.tolist())
    assert chosen(Learner(policy, SFT(), adapt=Masked(filter_rank=3))) == expected


def test_mlp_alone() -> None:
    policy = fresh(qwen2_policy())
    found = chosen(Learner(policy, SFT(), adapt=Masked(modules="mlp")))
    assert {name.split(".")[3] for name in found} == {"mlp"}
    assert len(found) == 6


def test_fused_query_key_and_value_are_scored_one_by_one() -> None:
    """Each of the three gets its own k, within its own rows: [heads, 3, head width, hidden] = [2, 3, 8, 16]."""
    policy = fresh(neox_policy())
    found = chosen(Learner(policy, SFT(), adapt=Masked(density=0.125)))
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    fused = dict(policy.model.named_parameters())[name].detach()
    for number, part in enumerate("qkv"):
        own = [row for row in range(48) if (row // 8) % 3 == number]
        places = found[f"{name}.{part}"]
        assert len(places) == 16 * 16 // 8
        assert {place // 16 for place in places} <= set(own)
        u, s, vt = torch.linalg.svd(fused[own].double(), full_matrices=False)
        score = ((u[:, :2] * s[:2]) @ vt[:2]).abs().flatten()
        local = torch.topk(score, 32).indices.tolist()
        assert places == {own[i // 16] * 16 + i % 16 for i in local}


def test_fused_matrices_move_like_separate_ones() -> None:
    policy, dense = fresh(neox_policy()), fresh(neox_policy())
    with pytest.warns(UserWarning, match="all entries of 12 of 12 matrices"):
        moving = attached(policy, Masked(density=1.0), AdamW(eps=1e-12))
    plain = torch.optim.AdamW(linear_weights(dense).values(), lr=1e-2, eps=1e-12, weight_decay=0.0)
    for step in range(3):
        gradients = with_gradient(policy, step)
        for name, p in linear_weights(dense).items():
            p.grad = gradients[name]
        moving.step(1e-2)
        plain.step()
    for name, p in linear_weights(policy).items():
        torch.testing.assert_close(p, linear_weights(dense)[name], rtol=1e-6, atol=1e-6)


def test_an_unknown_fused_layout_is_refused() -> None:
    policy = fresh(neox_policy())
    policy.model.config.model_type = "bloom"
    with pytest.raises(UserError, match=r"query_key_value\.weight holds several matrices"):
        matrices(policy)


# --- the optimiser


def test_with_every_entry_it_is_pytorchs_adamw() -> None:
    policy, dense = fresh(qwen2_policy()), fresh(qwen2_policy())
    settings = AdamW(betas=(0.9, 0.95), eps=1e-8)
    with pytest.warns(UserWarning, match="not sparse"):
        moving = attached(policy, Masked(density=1.0, refresh_every=2), settings)
    named = linear_weights(dense)
    plain = torch.optim.AdamW(named.values(), betas=settings.betas, eps=settings.eps, weight_decay=0.0)
    for step in range(5):
        rate = 1e-2 / (step + 1)
        gradients = with_gradient(policy, step)
        before = [p.detach().clone() for p in named.values()]
        for name, p in named.items():
            p.grad = gradients[name]
        plain.param_groups[0]["lr"] = rate
        plain.step()
        change = math.sqrt(
            sum(float((p.detach() - old).square().sum()) for p, old in zip(named.values(), before, strict=True))
        )
        assert moving.step(rate) == pytest.approx(change, rel=1e-4)
    for name, p in linear_weights(policy).items():
        torch.testing.assert_close(p, named[name], rtol=1e-6, atol=1e-6)


def test_a_step_by_hand() -> None:
    """Two steps of Adam on the one chosen entry of each matrix, as item 3 of the paper's algorithm has it."""
    policy = fresh(llama_policy())
    moving = attached(policy, Masked(score="magnitude", density=1e-9), AdamW(betas=(0.9, 0.95), eps=1e-6))
    name = "model.layers.0.mlp.up_proj.weight"
    parameter = linear_weights(policy)[name]
    place = int(parameter.detach().abs().argmax())
    w, m, v = float(parameter.flatten()[place]), 0.0, 0.0
    for t in (1, 2):
        g = float(with_gradient(policy, t)[name].flatten()[place])
        moving.step(0.1)
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        w -= 0.1 * math.sqrt(1 - 0.95**t) / (1 - 0.9**t) * m / (math.sqrt(v) + 1e-6)
        assert float(parameter.detach().flatten()[place]) == pytest.approx(w, rel=1e-5)


def test_the_norm_is_that_of_the_chosen_entries_and_clips_them_alone() -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, SFT(), adapt=Masked(), optimizer=AdamW(eps=1.0, max_grad_norm=1e9))
    learner.forward_backward(rows(policy, 4))
    places = chosen(learner)
    squared = sum(
        float(p.grad.flatten()[sorted(places[name])].square().sum())  # type: ignore[union-attr]
        for name, p in linear_weights(policy).items()
    )
    assert learner.step(1.0).grad_norm == pytest.approx(math.sqrt(squared), rel=1e-5)

    clipped = fresh(qwen2_policy())
    start = weights(clipped)
    learner = Learner(clipped, SFT(), adapt=Masked(), optimizer=AdamW(eps=1e3, max_grad_norm=0.01))
    learner.forward_backward(rows(clipped, 4))
    learner.step(1e4)
    # With a huge epsilon the first step is lr sqrt(1 - beta2) g / epsilon.
    moved = math.sqrt(sum(float((p - start[name]).square().sum()) for name, p in weights(clipped).items()))
    assert moved / math.sqrt(1 - 0.999) * 1e3 / 1e4 == pytest.approx(0.01, rel=1e-3)


def test_memory_scales_with_the_mask() -> None:
    total = sum(p.numel() for p in linear_weights(qwen2_policy()).values())
    dense = Learner(fresh(qwen2_policy()), SFT(), adapt=Full())
    dense.forward_backward(rows(dense.policy, 2))
    dense.step(1e-3)
    for density in (0.05, 0.1, 0.5):
        learner = Learner(fresh(qwen2_policy()), SFT(), adapt=Masked(density=density, refresh_every=1))
        learner.forward_backward(rows(learner.policy, 2))
        learner.step(1e-3)
        report = learner.report()
        # 4 bytes each for the place and two moments of a chosen entry.
        assert report.optimizer_bytes == 12 * report.trainable
        assert report.trainable == pytest.approx(density * total, rel=0.01)
        assert report.optimizer_bytes < 2 * density * dense.report().optimizer_bytes
        assert all(p.grad is None for p in learner.policy.model.parameters())
        # During a refresh one matrix at a time holds both masks.
        largest = max(p.numel() for p in linear_weights(learner.policy).values())
        assert report.details["peak_optimizer_bytes"] == report.optimizer_bytes + 12 * round(density * largest)
        assert report.details["density"] == report.trainable / total
        assert 0 <= report.details["mask_overlap"] <= 1


def test_dense_statistics_are_counted() -> None:
    learner = Learner(fresh(qwen2_policy()), SFT(), adapt=Masked(score="adam-update", refresh_every=9))
    learner.forward_backward(rows(learner.policy, 2))
    learner.step(1e-3)
    total = sum(p.numel() for p in linear_weights(learner.policy).values())
    assert learner.report().optimizer_bytes == 12 * learner.report().trainable + 8 * total


# --- how many


def test_the_budget_is_exact() -> None:
    assert Masked(density=0.05).budget(128, 384) == 2458
    assert Masked().budget(10, 10) == 5
    assert Masked(density=1e-9).budget(10, 10) == 1
    assert Masked(rank_equivalent=3).budget(128, 384) == (128 + 384) * 3
    assert Masked(rank_equivalent=300).budget(128, 384) == 128 * 384


def test_a_budget_that_is_dense_and_a_filter_that_filters_nothing_warn_once() -> None:
    with pytest.warns(UserWarning, match="masked-lift|filter_rank") as caught:
        attached(fresh(qwen2_policy()), Masked(rank_equivalent=8, filter_rank=12))
    texts = [str(warning.message) for warning in caught]
    # q and o are 16 x 16, k and v 8 x 16, up, gate and down 32 x 16: of the last alone, 8 (m + n) is not everything.
    assert len(texts) == 2
    assert "all entries of 8 of 14 matrices move (first: model.layers.0.self_attn.q_proj.weight" in texts[0]
    assert "filter_rank=12 is above the rank of 4 of 14 matrices" in texts[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attached(fresh(qwen2_policy()), Masked(density=0.5, filter_rank=8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0.1, "rank_equivalent": 2}, "both say how many"),
        ({"density": 0.0}, "density=0.0 is no share"),
        ({"density": 1.5}, "density=1.5 is no share"),
        ({"rank_equivalent": 0}, "rank_equivalent=0"),
        ({"refresh_every": 0}, "refresh_every=0"),
        ({"score": "hessian"}, "'hessian' needs a gradient and would stay with its random first choice"),
        ({"filter_rank": 0}, "filter_rank=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Masked(**options)  # type: ignore[arg-type]


def test_weight_decay_is_refused() -> None:
    with pytest.raises(UserError, match=r"weight_decay=0\.1 would move entries outside the mask"):
        Learner(fresh(qwen2_policy()), SFT(), adapt=Masked(), optimizer=AdamW(weight_decay=0.1))


def test_weights_that_are_not_finite_stop_with_their_name() -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, SFT(), adapt=Masked(refresh_every=1))
    with torch.no_grad():
        policy.model.base_model.layers[1].self_attn.o_proj.weight[3, 3] = math.nan
    with_gradient(policy, 0)
    with pytest.raises(TrainingStopped, match=r"step 1: model\.layers\.1\.self_attn\.o_proj\.weight has weights"):
        learner._moving.step(1e-3)
    with pytest.raises(TrainingStopped, match=r"model\.layers\.1\.self_attn\.o_proj\.weight"):
        attached(policy, Masked())


# --- refresh


def test_moments_across_a_refresh() -> None:
    """What stays keeps m and v bit for bit, what enters starts at zero, what leaves keeps the weight it reached."""
    policy = fresh(llama_policy())
    moving = attached(policy, Masked(score="random", density=0.3, refresh_every=3))
    for step in range(2):
        with_gradient(policy, step)
        moving.step(0.1)
    before = moving.tensors()
    gradients = with_gradient(policy, 2)
    reached = {}
    for name, p in linear_weights(policy).items():
        # The third update, written out: moments first, then the weights, then the refresh.
        at = before[f"at.{name}"].long()
        g = gradients[name].flatten()[at]
        first = torch.lerp(before[f"first.{name}"], g, 1 - 0.9)
        second = before[f"second.{name}"] * 0.999 + (1 - 0.999) * g * g
        size = 0.1 * math.sqrt(1 - 0.999**3) / (1 - 0.9**3)
        flat = p.detach().clone().flatten()
        flat[at] -= size * first / (second.sqrt() + 1e-8)
        reached[name] = (dict(zip(at.tolist(), zip(first, second, strict=True), strict=True)), flat)
    moving.step(0.1)
    after = moving.tensors()
    stayed = entered = 0
    for name, (moments, flat) in reached.items():
        torch.testing.assert_close(linear_weights(policy)[name].detach().flatten(), flat)
        at, first, second = (after[f"{key}.{name}"] for key in ("at", "first", "second"))
        assert at.dtype == torch.int32
        assert sorted(at.tolist()) == at.tolist()
        for i, place in enumerate(at.tolist()):
            if place in moments:
                stayed += 1
                torch.testing.assert_close(first[i], moments[place][0], rtol=1e-6, atol=0)
                torch.testing.assert_close(second[i], moments[place][1], rtol=1e-6, atol=0)
            else:
                entered += 1
                assert float(first[i]) == float(second[i]) == 0.0
    assert stayed > 0
    assert entered > 0
    report = moving.report()
    assert report.details["mask_overlap"] == pytest.approx(stayed / (stayed + entered))


def test_kept_moments_are_the_same_bits() -> None:
    """A refresh at a rate of zero and no gradient: nothing but the exchange itself happens."""
    policy = fresh(llama_policy())
    moving = attached(policy, Masked(score="random", density=0.3, refresh_every=3))
    for step in range(2):
        with_gradient(policy, step)
        moving.step(0.1)
    old = moving.tensors()
    moving.step(0.0)
    new = moving.tensors()
    for name in linear_weights(policy):
        for key in ("first", "second"):
            was = dict(zip(old[f"at.{name}"].tolist(), old[f"{key}.{name}"].tolist(), strict=True))
            now = dict(zip(new[f"at.{name}"].tolist(), new[f"{key}.{name}"].tolist(), strict=True))
            assert now == {place: was.get(place, 0.0) for place in now}
        assert old[f"at.{name}"].tolist() != new[f"at.{name}"].tolist()


def test_a_refresh_sees_the_updated_weights_and_counts_optimiser_steps() -> None:
    policy = fresh(qwen2_policy())
    learner = Learner(policy, SFT(), adapt=Masked(score="magnitude", density=0.1, refresh_every=2), micro_tokens=40)
    start = chosen(learner)
    learner.forward_backward(rows(policy, 4))
    learner.forward_backward(rows(policy, 3))  # two batches, several micro-batches: one step
    learner.step(0.3)
    assert chosen(learner) == start
    learner.forward_backward(rows(policy, 4))
    learner.step(0.3)
    fresh_choice = chosen(Learner(copy.deepcopy(policy), SFT(), adapt=Masked(score="magnitude", density=0.1)))
    assert chosen(learner) == fresh_choice != start


def test_gradient_scores_begin_at_random_and_then_follow_the_gradient() -> None:
    policy = fresh(qwen2_policy())
    moving = attached(policy, Masked(score="gradient", density=0.1, refresh_every=1))
    gradients = with_gradient(policy, 5)
    moving.step(1e-3)
    held = moving.tensors()
    for name in linear_weights(policy):
        k = len(held[f"at.{name}"])
        assert set(held[f"at.{name}"].tolist()) == set(torch.topk(gradients[name].abs().flatten(), k).indices.tolist())


# --- saving and restoring


@pytest.mark.parametrize("score", ["lift", "random", "adam-update", "movement"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_restored_anywhere_around_a_refresh_it_ends_bit_for_bit(score: ScoreName, cut: int, tmp_path: Path) -> None:
    """Refreshes after steps 3 and 6: cuts right before, right after and between."""
    choice = Masked(score=score, density=0.2, refresh_every=3)
    config = TrainConfig(steps=7, batch_size=3, lr=0.02)
    straight = Learner(fresh(qwen2_policy()), SFT(), adapt=choice, seed=5)
    examples = rows(straight.policy, 8)
    expected = list(train(straight, examples, config, seed=1))
    first = Learner(fresh(qwen2_policy()), SFT(), adapt=choice, seed=5)
    found = []
    for report in train(first, examples, config, seed=1):
        found.append(report)
        if report.step == cut:
            break
    first.save(tmp_path / "cut", sidecar=SIDECAR)
    second, _ = Learner.restore(tmp_path / "cut", SFT(), adapt=choice, seed=5)
    found += list(train(second, examples, config, seed=1))
    assert found == expected
    ours, theirs = second.policy.model.state_dict(), straight.policy.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    ours, theirs = second._moving.tensors(), straight._moving.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert second.report() == straight.report()


CHOICE, CONFIG = Masked(density=0.2, refresh_every=4), TrainConfig(steps=10, batch_size=3, lr=0.02)


def run_on(folder: Path, kill_at: int | None) -> Learner:
    """Train from the last checkpoint in `folder`, saving after every odd step, perhaps with a kill.

    Args:
        kill_at: SIGKILL this process at that decomposition, counted from 1.
    """
    torch.set_num_threads(1)
    if kill_at is not None:
        true, calls = scores_module.principal, 0

        def principal(weight: torch.Tensor, rank: int | None = None) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return true(weight, rank)

        scores_module.principal = principal
    saved = sorted(folder.glob("step-*"))
    if saved:
        learner, _ = Learner.restore(saved[-1], SFT(), adapt=CHOICE, seed=2)
    else:
        learner = Learner(fresh(qwen2_policy()), SFT(), adapt=CHOICE, seed=2)
    for report in train(learner, rows(qwen2_policy(), 8), CONFIG, seed=4):
        if report.step % 2:
            learner.save(folder / f"step-{report.step}", sidecar=SIDECAR)
    return learner


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_killed_inside_a_refresh_and_resumed_it_ends_bit_for_bit(tmp_path: Path) -> None:
    """14 decompositions choose the first masks, 14 more the second after step 4: the 20th is half-way through those."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    code = f"from pathlib import Path; import test_masked; test_masked.run_on(Path({str(tmp_path / 'cut')!r}), 20)"
    paths = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert child.returncode == -signal.SIGKILL
    assert sorted(path.name for path in (tmp_path / "cut").glob("step-*")) == ["step-1", "step-3"]
    whole, resumed = run_on(tmp_path / "whole", None), run_on(tmp_path / "cut", None)
    ours, theirs = resumed.policy.model.state_dict(), whole.policy.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.report() == whole.report()


def test_a_checkpoint_of_another_choice_is_refused(tmp_path: Path) -> None:
    def saved(name: str, choice: Masked | None) -> Path:
        learner = Learner(fresh(qwen2_policy()), SFT(), adapt=choice)
        learner.forward_backward(rows(learner.policy, 2))
        learner.step(1e-3)
        learner.save(tmp_path / name, sidecar=SIDECAR)
        return tmp_path / name

    with pytest.raises(CheckpointError, match="holds no masks"):
        Learner.restore(saved("full", None), SFT(), adapt=Masked())
    masked = saved("masked", Masked())
    with pytest.raises(CheckpointError, match="holds no 'at"):
        Learner.restore(masked, SFT(), adapt=Masked(density=0.1))
    with pytest.raises(CheckpointError, match=r"holds no 'statistic\.movement"):
        Learner.restore(masked, SFT(), adapt=Masked(score="movement", refresh_every=2))
