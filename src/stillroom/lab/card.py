"""The model card of a distilled student: lineage, licences, scores, and the command that made it."""

from typing import TYPE_CHECKING, Any

from stillroom.io import read_json
from stillroom.lab.config import DistillConfig
from stillroom.lab.evaluate import ArmScore
from stillroom.lab.run import Run
from stillroom.lab.still import Still

if TYPE_CHECKING:
    from stillroom.lab.distill import DistillResult


def model_card(run: Run, config: DistillConfig, still: Still, result: "DistillResult") -> str:
    """README.md of the student folder, in the hub's layout (YAML head, then Markdown)."""
    manifest = read_json(run.folder / "manifest.json")
    selection = result.selection
    dropped = ", ".join(f"{count} {reason}" for reason, count in selection.get("dropped", {}).items()) or "none"
    rows = "\n".join(_row(score) for score in result.arms.values())
    moved = (run.result_of("train:student") or {}).get("adapt")
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [stillroom, distillation, reasoning]
---

# {config.method} on {config.task}

A small model fine-tuned on verified reasoning traces with [Stillroom](https://pypi.org/project/stillroom/).

| model | accuracy | 95 % interval | tokens per answer | format failures |
|---|---|---|---|---|
{rows}

Accuracy is greedy, on {len(still.test)} held-out problems (the teacher's on the training problems).

## Lineage

- base: `{config.student}`
- teacher: `{config.teacher}` ({still.teacher.id})
- task: `{config.task}`; source: {still.task.source}; licence of the problems: {still.task.licence}
- traces: {selection.get("input", 0)} made, {selection.get("kept", 0)} trained on; dropped: {dropped}
- method: `{config.method}`, seed {config.seed}, answer format `{still.chat_format.name}`
- weights that moved: {_moved(moved) if moved else "not known"}
- code: {manifest["commit"]}, stillroom {manifest["versions"]["stillroom"]}, torch {manifest["versions"]["torch"]}

The licences of base, teacher and problems bind this model too; check them before you pass it on.

## Made with

```
{manifest["command"]}
```
"""


def _moved(report: dict[str, Any]) -> str:
    return (
        f"{report['trainable']:,} of {report['total']:,} ({report['share']:.1%}, {report['adapt']}), with "
        f"{report['optimizer_bytes']:,} bytes of optimiser state"
    )


def _row(score: ArmScore) -> str:
    accuracy = score.accuracy
    if accuracy.value is None:
        return f"| {score.name} | not measured | | | |"
    tokens = "" if score.tokens.mean is None else f"{score.tokens.mean:.1f}"
    return (
        f"| {score.name} | {accuracy.value:.1%} | {accuracy.low:.1%} to {accuracy.high:.1%} "
        f"| {tokens} | {score.format_failures:.1%} |"
    )
