"""What README and docs say is what the code does: blocks run, flags exist, generated tables and links are right.

A fenced block after ``<!-- test -->`` is executed; one after ``<!-- file: NAME -->`` is written to that file first. The
blocks of a page run in order, in one folder.
"""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STILLROOM = [sys.executable, "-c", "from stillroom.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb"}


class Block(NamedTuple):
    language: str
    text: str
    mark: str
    """``test``, ``file: NAME`` or nothing."""


def blocks(page: Path) -> list[Block]:
    found = re.finditer(
        r"^(?:<!-- (?P<mark>test|file: [\w./-]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [Block(match["language"], match["text"], match["mark"] or "") for match in found]


def commands(page: Path) -> list[list[str]]:
    """Every `stillroom ...` command of the page's shell blocks, as words."""
    lines = [
        line
        for block in blocks(page)
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("stillroom ")]


def needs_command_line() -> None:
    found = importlib.util.find_spec("stillroom.cli")
    if found is None or found.origin is None:
        pytest.skip("the command line is not there yet")


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.mark == "test" for b in blocks(p))], ids=lambda p: p.name)
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    needs_command_line()
    tools = tmp_path / "bin"
    tools.mkdir()
    launcher = tools / "stillroom"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join(STILLROOM)} "$@"\n')
    launcher.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    for block in blocks(page):
        if block.mark.startswith("file: "):
            (tmp_path / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark == "test":
            shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
            done = subprocess.run(
                [*shell, block.text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180
            )
            assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def test_documented_flags_exist() -> None:
    needs_command_line()
    used: dict[tuple[str, ...], set[str]] = {}
    for page in PAGES:
        for words in commands(page):
            # Two words where the first names a group: `traces stats`.
            path = (
                tuple(words[:2]) if words[0] in ("tasks", "traces", "proxies", "judge", "bench") else tuple(words[:1])
            )
            used.setdefault(path, set()).update(word.split("=")[0] for word in words if word.startswith("--"))
    assert used
    for path, flags in used.items():
        shown = subprocess.run([*STILLROOM, *path, "--help"], env=ENVIRONMENT, capture_output=True, text=True)
        assert shown.returncode == 0, f"stillroom {' '.join(path)}: {shown.stderr[-500:]}"
        missing = flags - set(re.findall(r"--[a-z][a-z-]*", shown.stdout))
        assert not missing, f"stillroom {' '.join(path)} has no {sorted(missing)}"


def test_generated_tables_are_current() -> None:
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "tools" / "docs_tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for page in tables.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert tables.renewed(text) == text, f"{page} is stale; run: python tools/docs_tables.py"
    for page, make in tables.WHOLE_PAGES.items():
        assert (ROOT / page).read_text(encoding="utf-8") == make(), f"{page} is stale; run: python tools/docs_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_pain_has_an_answer_and_tests_that_exist() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|(.*)\|(.*)\|$", (ROOT / "docs" / "pains.md").read_text(), re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    for number, pain, answer, proof in rows:
        assert all(cell.strip() for cell in (pain, answer, proof)), f"pain {number} has an empty cell"
        for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", proof):
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (number, name)


def test_no_pain_waits_for_the_name_of_its_test() -> None:
    assert "TODO" not in (ROOT / "docs" / "pains.md").read_text(encoding="utf-8")


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", tmp_path]
    built = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert built.returncode == 0, built.stderr[-2000:]
    assert (tmp_path / "getting-started" / "index.html").exists()
