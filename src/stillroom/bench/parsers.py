"""Every reader of what models write, beside the tasks' verifiers, under hostile responses."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from stillroom.bench.attack import attack
from stillroom.bench.hostile import responses
from stillroom.chat import FORMATS, parse, parse_round, split_steps, without_marks
from stillroom.judge.annotation import annotation, aspect_rating
from stillroom.judge.parsers import PARSERS, get_parser, probability
from stillroom.lab.run import command_line, commit, hardware, versions
from stillroom.synth.agents import ActionLayout, parse_action
from stillroom.traces.segment import parts

GOLDS = [
    "<think>\n3+4=7\n</think>\n\\boxed{7}",
    "<think>\nb=3+4=0\n</think>\n<summary>\nb=0\n</summary>",
    "Thought: I add.\n<code>\nfinal_answer(3 + 4)\n</code>",
    "Output (a) is better. #### 4\n<verdict>yes</verdict>",
    'Major:\n1. accuracy/mistranslation - "x"\nMinor: no-error\n{"score": 4, "coherence": "4"} Coherence: 4/5, 85%',
]
"""What the readers are for: hostile responses are made of these."""

READERS: Mapping[str, Callable[[str], object]] = {
    "response": parse,
    "round": parse_round,
    "marks": without_marks,
    **{f"steps by {mode}": partial(split_steps, mode=mode) for mode in ("line", "paragraph", "sentence")},
    **{f"parts of {name}": partial(parts, chat_format=layout) for name, layout in FORMATS.items()},
    **{f"judge {name}": parser for name, parser in PARSERS.items()},
    **{f"judge {name}": get_parser(name) for name in ("last-json:score", "xml:verdict")},
    "judge probability": probability,
    "error list": annotation,
    "aspect rating": partial(aspect_rating, aspect="coherence"),
    "action": partial(parse_action, layout=ActionLayout()),
}


def measure(hostile: int = 100_000, seed: int = 0) -> Iterator[dict[str, Any]]:
    """After each reader, everything so far: passed when none crashed, took a CPU second or touched anything."""
    readers = dict[str, Any]()
    for name, read in READERS.items():
        readers[name] = attack(lambda _, text, read=read: read(text), responses(GOLDS, hostile, seed))  # type: ignore[misc]
        yield {
            "bar": "parsers",
            "passed": all(found["survived"] and not found["touched"] for found in readers.values()),
            "readers": readers,
            "command": command_line(),
            "commit": commit(),
            "hardware": hardware(),
            "versions": versions(),
        }
