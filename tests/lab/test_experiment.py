"""Experiments: arms that go on from others or train nothing, further measurements, and contrasts that find them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures_distill import write_student
from stillroom.errors import TrainingStopped, UserError
from stillroom.io import read_json, read_lines
from stillroom.lab.contrast import Contrast, beats, saves
from stillroom.lab.evaluate import Measure
from stillroom.lab.experiment import Experiment, ExperimentResult, Setup, claim_file, run_experiment
from stillroom.lab.run import Run
from stillroom.lab.still import Still
from stillroom.learn.adapt.base import Freeze
from stillroom.learn.adapt.lora import LoRA
from stillroom.learn.objectives.contrast import DPO
from stillroom.learn.training import TrainConfig
from stillroom.samplers.base import Prompt, Sampler, SamplingParams
from stillroom.synth.rejection import FixedTrials
from stillroom.tasks.base import Style
from stillroom.traces import store
from stillroom.types import Call, Response, Trace, Usage

RATES = (1e-3, 5e-3)


def drawn(still: Still) -> list[Trace]:
    return still.sample(FixedTrials(3))


def sft(still: Still) -> Path:
    return still.fine_tune(still.select(drawn(still), still.default_rules(), name="sft"), name="sft")


def dpo(still: Still) -> Path:
    return still.fine_tune(still.pairs(drawn(still)), start=sft(still), objective=DPO(), lr_trials=RATES)


def dpo_lora(still: Still) -> Path:
    pairs = still.pairs(drawn(still))
    return still.fine_tune(pairs, start=sft(still), objective=DPO(), adapt=LoRA(rank=2), lr_trials=RATES)


def frozen(still: Still) -> Path:
    traces = still.select(drawn(still), still.default_rules(), name="sft")
    return still.fine_tune(traces, adapt=Freeze(train=("*.mlp.*",)), train=TrainConfig(steps=1, batch_size=2))


class Twice:
    """A way to answer: two calls for every response, the second of which counts."""

    id = "twice"

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[list[Response]]:
        found = self.sampler.sample(prompts, params)
        for_each = [Usage(prompt_tokens=1, completion_tokens=2, calls=2, peak_context=4000, flops=5.0)] * len(found)
        calls = (Call(prompt_tokens=1, completion_tokens=0), Call(prompt_tokens=3998, completion_tokens=2))
        return [
            [r.model_copy(update={"usage": usage, "calls": calls, "meta": {"stop": "final"}}) for r in responses]
            for usage, responses in zip(for_each, found, strict=True)
        ]


ARMS: dict[str, Callable[[Still], Path | Sampler]] = {
    "base": lambda still: Path(still.student),
    "sft": sft,
    "dpo": dpo,
    "dpo-lora": dpo_lora,
    "frozen": frozen,
    "twice": lambda still: Twice(still.local(still.student)),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    setup = Setup(
        arms=ARMS,
        problems=10,
        eval_problems=4,
        dev_problems=3,
        train=TrainConfig(steps=2, batch_size=4),
        lr_trials=(1e-3,),
        measure=Measure(n=2, temperature=0.7),
        measures=(Measure(name="other", task="arithmetic:high=1", split="dev", problems=5),),
    )
    return Experiment(
        number=None,
        name="page",
        home="set below",
        task="arithmetic:high=2",
        teacher="program",
        style=Style(error_rate=0.4),
        student=str(write_student(tmp_path_factory.mktemp("student") / "base")),
        params=SamplingParams(max_new_tokens=8),
        presets={"smoke": setup},
        default_arms=("base", "dpo"),
        contrasts=(
            beats("dpo", "base", "accuracy"),
            beats("dpo", "base", "solved", metric="solved"),
            saves("dpo", "base", "tokens", by=0.1),
            beats("dpo", "base", "another task", metric="other:accuracy"),
            beats("dpo", "dpo-lora", "at one rate", at_lr=5e-3),
            saves("base", "twice", "context", metric="peak_context", by=0.1),
        ),
        gates=lambda still, scores: [],
    )


def run(page: Experiment, folder: Path, monkeypatch: pytest.MonkeyPatch, arms: str = "all") -> ExperimentResult:
    monkeypatch.setattr("stillroom.lab.experiment.load_page", lambda home: page)
    work = Run.create(folder, kind="experiment", config={}, command=["run"], seeds=[0])
    try:
        return run_experiment(work, page, preset="smoke", arms=arms, seeds=1, jobs=0)
    finally:
        work.close()


@pytest.fixture(scope="module")
def finished(page: Experiment, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExperimentResult, Path]:
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        return run(page, folder, patch), folder


def test_every_arm_says_what_it_trained(finished: Any) -> None:
    arms = finished[0].seeds[0].arms
    assert (arms["base"].lr, arms["base"].trials, arms["base"].training) == (None, {}, {})
    assert arms["sft"].lr == 1e-3
    assert {rate: arms["dpo"].trials[rate] is not None for rate in ("0.001", "0.005")} == {"0.001": True, "0.005": True}
    assert [arms[name].training["objective"] for name in ("sft", "dpo", "frozen")] == ["sft", "dpo", "sft"]
    assert [arms[name].training["adapt"]["adapt"] for name in ("dpo", "dpo-lora", "frozen")] == [
        "full",
        "lora",
        "freeze",
    ]
    shares = [arms[name].training["adapt"]["share"] for name in ("dpo", "dpo-lora", "frozen")]
    assert shares[0] == 1.0
    assert all(0 < share < 1 for share in shares[1:])
    assert {"logp_chosen", "logp_rejected", "margin"} <= arms["dpo"].training["diagnostics"].keys()
    assert arms["frozen"].updates == 1


def test_every_measurement_finds_its_contrast(finished: Any) -> None:
    result, folder = finished
    assert [found.metric for found in result.claims] == [
        "accuracy",
        "solved",
        "tokens",
        "other:accuracy",
        "accuracy",
        "peak_context",
    ]
    assert [found.n for found in result.claims] == [4, 4, 4, 5, 3, 4]
    arms = result.seeds[0].arms
    assert arms["base"].score.accuracy.n == 8
    assert arms["base"].score.solved is not None
    assert arms["base"].measures["other"].accuracy.n == 5
    tokens = [arms[name].score.tokens.mean or 0.0 for name in ("dpo", "base")]
    assert result.claims[2].effect == pytest.approx(1 - tokens[0] / tokens[1])
    shown = read_json(folder / "result.json")["arms"]
    assert {"dpo", "dpo (other)"} <= {arm["name"] for arm in shown}


def test_a_way_to_answer_is_measured_like_a_model_with_its_exact_cost(finished: Any) -> None:
    result, folder = finished
    base, twice = (result.seeds[0].arms[name] for name in ("base", "twice"))
    assert (twice.lr, twice.updates, base.score.calls, twice.score.calls) == (None, 0, 1, 2)
    assert (twice.score.peak_context.mean, twice.score.peak_context.max, twice.score.flops) == (4000, 4000, 5.0)
    assert (twice.score.stops, base.score.stops) == ({"final": 8}, {})
    saved = result.claims[-1]
    assert saved.effect == pytest.approx(1 - base.score.peak_context.mean / 4000)
    assert saved.verdict == "supported"
    kept = store.read(folder / "seed-0" / "evals" / "twice.parquet")
    assert {str(trace.meta["calls"]) for trace in kept} == {"[[1, 0], [3998, 2]]"}
    assert {trace.usage.peak_context for trace in kept} == {None}
    alone = store.read(folder / "seed-0" / "evals" / "base.parquet")
    for trace in alone:
        assert trace.meta["peak_context"] == trace.usage.prompt_tokens + trace.usage.completion_tokens
        assert "calls" not in trace.meta


def test_what_is_published_holds_it_all(finished: Any, page: Experiment) -> None:
    claim = claim_file(finished[1], page)
    assert set(claim["arms"]) == set(ARMS)
    assert {"measures", "training", "alarms", "account", "trials"} <= claim["arms"]["dpo"][0].keys()
    assert [found["at_lr"] for found in claim["claims"]] == [None, None, None, None, 5e-3, None]


def test_training_from_a_checkpoint_starts_where_that_ended(finished: Any) -> None:
    """DPO's first loss is log 2 only when the start is the reference."""
    rows = list(read_lines(finished[1] / "seed-0" / "metrics.jsonl"))
    for name in ("dpo", "dpo-lora"):
        first = next(row for row in rows if row["stage"] == "train" and row["arm"] == f"{name}-0.001")
        assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
        assert first["step"] == 1
        assert first["update_norm"] > 0


@pytest.mark.parametrize(
    ("contrast", "message"),
    [
        (beats("dpo", "base", "x", metric="acuracy"), "unknown metric 'acuracy'; did you mean accuracy"),
        (
            beats("dpo", "base", "x", metric="source:accuracy"),
            "'dpo.source', which was not measured",
        ),
        (beats("dpo", "base", "x", at_lr=0.5), "of 'dpo-0.5'|'dev-dpo-0.5', which was not measured"),
    ],
)
def test_a_contrast_over_what_was_not_measured_is_refused(
    contrast: Contrast, message: str, page: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=message):
        run(replace(page, contrasts=(contrast,)), tmp_path / "run", monkeypatch, arms="base,dpo")


def test_no_pair_is_named_with_the_remedy(page: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingStopped, match=r"no pair of a right and a wrong response .*'no wrong response': 10"):
        run(replace(page, style=None), tmp_path / "run", monkeypatch, arms="base,dpo")
