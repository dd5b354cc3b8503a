"""Renew the generated tables in README and docs: python tools/docs_tables.py"""

import re
from pathlib import Path

from stillroom.bench import hard_pairs, reinforcing
from stillroom.bench import puzzles as puzzle_bench
from stillroom.bench.speed.report import page as speed
from stillroom.io import read_json
from stillroom.methods.registry import CORE_RECIPES, catalogue, families
from stillroom.report import board
from stillroom.tasks.puzzles import sheet

ROOT = Path(__file__).parents[1]
TITLES = {
    "making-and-curating-traces": "Making and curating traces",
    "errors-critiques-tools-tailoring": "Errors, critiques, tools and tailored teaching",
    "objectives-and-weights": "Objectives and weights",
    "reinforcement-learning": "Reinforcement learning",
    "efficient-inference": "Efficient inference",
    "judging-calibration-logic": "Judging, calibration and logic",
    "vision-sql-instructions": "Vision, SQL and instructions",
}


def count() -> str:
    """One line on how many methods are done."""
    methods = catalogue()
    done = [info for info in methods if info.status == "done"]
    names = ", ".join(f"{info.number} {info.name}" for info in done) or "none yet"
    core = ", ".join(f"`{name}`" for name in CORE_RECIPES)
    return f"{len(done)} of {len(methods)} done ({names}); core recipes: {core}."


def methods() -> str:
    """A table per family."""
    parts = []
    for family in families():
        rows = [
            f"| {info.number} | [`{info.name}`]({info.paper}) | `{info.alias}` | {info.status} | {info.summary} |"
            for info in catalogue()
            if info.family == family
        ]
        head = "| no. | name | alias | status | what it does |\n|---:|---|---|---|---|"
        parts.append("\n".join([f"## {TITLES[family]}", "", f"`--family {family}`", "", head, *rows]))
    return "\n\n".join(parts)


def board_page() -> str:
    """The page of all published results."""
    return board(ROOT / "results")


def pairs() -> str:
    """The hard pairs that the verifier was measured on."""
    return hard_pairs.table(read_json(ROOT / "results" / "verifier" / "hard-pairs.json"))


def reinforced() -> str:
    """What reinforcement gained, which planted hacks were noticed, and what kills changed."""
    gain, hacks, kills = (
        read_json(ROOT / "results" / "rl" / f"{n}.json") for n in ("grpo", "reward-hack", "kill-resume")
    )
    return reinforcing.table(gain, hacks, kills)


def puzzles_measured() -> str:
    """Boards of puzzles judged by us and by CP-SAT, and how fast they are made and drawn."""
    return puzzle_bench.table(read_json(ROOT / "results" / "worlds" / "puzzles.json"))


def speed_page() -> str:
    """The page of measured speed."""
    return speed(ROOT / "results" / "speed")


BLOCKS = {
    "count": count,
    "methods": methods,
    "pairs": pairs,
    "puzzles": sheet.table,
    "puzzles_measured": puzzles_measured,
    "reinforced": reinforced,
}
PAGES = ("README.md", "docs/index.md", "docs/methods.md", "docs/rl.md", "docs/verifiers.md", "docs/worlds/puzzles.md")
WHOLE_PAGES = {"docs/board.md": board_page, "docs/speed.md": speed_page, "docs/worlds/puzzles.svg": sheet.sheet}


def renewed(text: str) -> str:
    """The page with every generated block replaced by what the code says now."""
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for page in PAGES:
        path = ROOT / page
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
    for page, make in WHOLE_PAGES.items():
        (ROOT / page).write_text(make(), encoding="utf-8")
