"""A judge's verdicts with computed labels and a teacher's analyses, as a stage of a run."""

from stillroom.judge.asking import Judge
from stillroom.judge.debias import items_of
from stillroom.judge.supervision import agreeing, collect, explained
from stillroom.lab.still import Still
from stillroom.traces import store
from stillroom.types import Trace


def explained_verdicts(still: Still, judge: Judge, evaluator: str, teacher: Judge) -> list[Trace]:
    """The teacher's analyses of the judge's verdicts on the training problems, right and wrong ones; made once.

    Args:
        evaluator: the judge's name, which detectors are told.
    """
    folder, stage = still.run.folder / "traces", "supervision"
    if still.run.result_of(stage) is None:
        with still.run.stage(stage) as result:
            verdicts = collect(judge, items_of(still.problems), evaluator)
            traces = explained(verdicts.labelled, teacher, still.chat_format)
            store.write_shard(folder, stage, traces)
            result.update(verdicts=len(traces), dropped=verdicts.dropped, kept=len(agreeing(traces)))
    return store.read(folder / f"{stage}.parquet")
