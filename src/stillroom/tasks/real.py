"""Well-known data sets under short names, read from a local folder when it is there; nothing is ever downloaded."""

import os
from pathlib import Path
from typing import NamedTuple

from stillroom.errors import UserError
from stillroom.tasks.base import Task
from stillroom.tasks.files import Loaded, Source, build, read_rows
from stillroom.tasks.registry import register
from stillroom.types import Split


class RealSet(NamedTuple):
    """A data set's files below $STILLROOM_DATA and its address on the hub."""

    layout: str
    files: tuple[tuple[str, Split | None], ...]
    """Path and the split it holds; None: all splits are cut from it by the hash of the question."""
    hub: str
    world: str
    licence: str
    summary: str


REAL = {
    "gsm8k": RealSet(
        "gsm8k",
        (("gsm8k/train.jsonl", "train"), ("gsm8k/test.jsonl", "test")),
        "hf:openai/gsm8k:main",
        "word problems",
        "MIT",
        "grade-school word problems with worked chains",
    ),
    "math": RealSet(
        "math",
        (("math/train.json", "train"), ("math/math500.jsonl", "test")),
        "hf:DigitalLearningGmbH/MATH-lighteval",
        "competition",
        "MIT",
        "competition mathematics by difficulty; the test split is MATH-500",
    ),
    "math500": RealSet(
        "math",
        (("math/math500.jsonl", "test"),),
        "hf:HuggingFaceH4/MATH-500",
        "competition",
        "MIT",
        "MATH-500, all of it test",
    ),
    "aqua": RealSet(
        "aqua",
        (("aqua/test.json", None),),
        "hf:deepmind/aqua_rat:raw",
        "multiple choice",
        "Apache-2.0",
        "algebra word problems with five options",
    ),
    "commonsenseqa": RealSet(
        "commonsenseqa",
        (("commonsenseqa/dev.jsonl", None),),
        "hf:tau/commonsense_qa",
        "multiple choice",
        "MIT",
        "commonsense questions with five options",
    ),
    "ifeval": RealSet(
        "ifeval",
        (("ifeval/input_data.jsonl", "test"),),
        "hf:google/IFEval",
        "instructions",
        "Apache-2.0",
        "541 prompts with one to three instructions that a program can check",
    ),
    "protoqa": RealSet(
        "protoqa",
        (("protoqa/dev.crowdsourced.jsonl", "test"), ("protoqa/dev.scraped.jsonl", "dev")),
        "hf:community-datasets/proto_qa:proto_qa_cs",
        "knowledge",
        "CC BY 4.0",
        "what a hundred people would say: ranked lists against clusters of answers",
    ),
    "simplebench": RealSet(
        "simplebench",
        (("simplebench/simple_bench_public.json", "test"),),
        "jsonl:simple_bench_public.json",  # of its repository; on the hub are copies by others only
        "knowledge",
        "MIT",
        "ten public trick questions with six options",
    ),
}


def data_folder() -> Path:
    """$STILLROOM_DATA, or ``../shared/data`` below the working directory."""
    return Path(os.environ.get("STILLROOM_DATA", "../shared/data"))


def load_real(name: str, *, strict: bool = False) -> Loaded:
    """The data set of that name; raises UserError with the hub's id when its files are not here."""
    real, folder = REAL[name], data_folder()
    missing = [path for path, _ in real.files if not (folder / path).is_file()]
    if missing:
        raise UserError(
            f"task {name!r} needs {missing[0]} below {str(folder)!r}; set STILLROOM_DATA to the folder that has it, "
            f"or give --task {real.hub} (pip install 'stillroom[hub]') or --task jsonl:FILE"
        )
    sources = [Source(path.rpartition("/")[2], split, read_rows(folder / path)) for path, split in real.files]
    return build(
        name,
        sources,
        layout=real.layout,
        strict=strict,
        summary=real.summary,
        world=real.world,
        licence=real.licence,
    )


def _factory(name: str) -> None:
    real = REAL[name]

    @register(name, summary=real.summary, world=real.world, source="file", licence=real.licence)
    def factory() -> Task:
        return load_real(name).task


for _name in REAL:
    _factory(_name)
