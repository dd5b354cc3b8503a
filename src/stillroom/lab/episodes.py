"""Episodes of an agent as a stage of a run: played once, filtered, counted by reason, and read back afterwards."""

from collections.abc import Mapping

from stillroom.lab.still import Still
from stillroom.samplers.base import Sampler
from stillroom.seeds import derive_seed
from stillroom.synth.agents import Agent
from stillroom.synth.episodes import collect, keep_episodes
from stillroom.traces import store
from stillroom.types import Trace


def episodes(
    still: Still, teacher: Sampler, agent: Agent, *, name: str, thoughts: Mapping[str, str] | None = None
) -> list[Trace]:
    """The teacher's episodes on the run's problems, those that are worth teaching; the stage is run again whole.

    What they cost and why others were dropped becomes the arm's account.

    Args:
        name: of the stage; arms that share episodes share it.
        thoughts: problem → what the first turn opens with.

    Raises:
        UserError: model-written code cannot be isolated on this machine.
    """
    folder, stage = still.run.folder / "traces", f"episodes:{name}"
    if still.run.result_of(stage) is None:
        with still.run.stage(stage) as result:
            still.progress(stage, 0, len(still.problems))
            traces = collect(
                still.task,
                still.problems,
                teacher,
                still.params,
                agent,
                chat_format=still.chat_format,
                seed=derive_seed("episodes", name, still.seed),
                thoughts=thoughts or {},
            )
            kept = keep_episodes(traces)
            store.write_shard(folder, f"episodes-{name}", kept.traces)
            result.update(
                episodes=len(traces),
                kept=len(kept.traces),
                dropped=kept.dropped,
                teacher_calls=sum(trace.usage.calls for trace in traces),
                teacher_tokens=sum(trace.usage.completion_tokens for trace in traces),
            )
            still.progress(stage, len(still.problems), len(still.problems))
    if still.run.result_of(f"account:{still.arm}") is None:
        with still.run.stage(f"account:{still.arm}") as result:
            result.update(still.run.result_of(stage) or {})
    return store.read(folder / f"episodes-{name}.parquet")
