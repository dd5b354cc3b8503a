"""The rooms: who may import whom, what may be imported at all, and how large a file may grow."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stillroom"
FILES = sorted(SOURCE.rglob("*.py"))
JAIL = SOURCE / "synth" / "jail.py"
"""The one file that runs text as code: a script of its own, which nothing imports, inside the sandbox."""
OWN_TEXT = [
    path
    for folder in ("src", "tests", "docs", "bench", "tools")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".md", ".toml", ".j2", ".css", ".js"}
]
# An extra that is absent makes its modules unimportable by design; anything else that cannot be imported is a bug.
OPTIONAL = {"httpx", "datasets", "reasoning_gym", "rensa", "sqlglot", "tensorboard", "mkdocs"}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room of ``stillroom.a.b`` is ``a``; the package itself is the room ``stillroom``."""
    return module.split(".")[1] if "." in module else module


def table() -> dict[str, set[str]]:
    """Room -> rooms named in its row of the table in docs/architecture.md."""
    named: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rooms = re.findall(r"`(\w+)`", cells[0])
        if line.startswith("| `") and len(cells) == 3:
            for room in rooms:
                named[room] = set(rooms) if cells[2] == "each other" else set(re.findall(r"`(\w+)`", cells[2]))
    return named


def allowed(room: str) -> set[str]:
    """What a room may import: the rooms of its row, whatever those may import, and itself."""
    named, seen, open_rooms = table(), {room}, [room]
    while open_rooms:
        new = named[open_rooms.pop()] - seen
        seen |= new
        open_rooms += new
    return seen


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full module of every import in a file, also inside functions."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            # `from stillroom import traces` names a room, `from stillroom.traces import store` a module in one.
            yield from ((node.lineno, f"{base}.{alias.name}" if base == "stillroom" else base) for alias in node.names)


def test_the_table_names_exactly_the_rooms_that_exist() -> None:
    found = {room_of(module_name(path)) for path in FILES} - {"stillroom", "__main__"}
    assert found == set(table())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downward(path: Path) -> None:
    room = room_of(module_name(path))
    if room == "__main__":
        room = "cli"
    may = {"errors"} if room == "stillroom" else allowed(room) | {"errors", "seeds", "io", "types"}
    wrong = [
        f"line {line}: {name}"
        for line, name in imported(path)
        if name.split(".")[0] == "stillroom" and name != "stillroom.__version__" and room_of(name) not in may
    ]
    assert not wrong, f"{room} may import {sorted(may)}, not {wrong}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_can_be_imported(path: Path) -> None:
    if path.name == "__main__.py":
        assert importlib.util.find_spec(module_name(path)) is not None
        return
    try:
        importlib.import_module(module_name(path))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")


@pytest.mark.parametrize(
    "module", ["stillroom", "stillroom.types", "stillroom.methods.registry", "stillroom.cli.methods"]
)
def test_light_modules_pull_in_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "polars", "pyarrow", "math_verify", "httpx", "datasets"]
    script = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def forbidden(tree: ast.AST) -> Iterator[str]:
    """What no module of the package may hold: pickles, evaluated text, shells, signals used as timeouts."""
    banned_modules = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    banned_calls = {
        "torch.load",
        "torch.save",
        "os.system",
        "os.popen",
        "yaml.load",
        "signal.alarm",
        "signal.setitimer",
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"line {node.lineno}: import {a.name}" for a in node.names if a.name in banned_modules)
        elif isinstance(node, ast.ImportFrom) and node.module in banned_modules:
            yield f"line {node.lineno}: from {node.module}"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in banned_calls or called in {"eval", "exec"}:
                yield f"line {node.lineno}: {called}()"
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if (keyword.arg, value) in {("shell", True), ("allow_pickle", True), ("trust_remote_code", True)}:
                    yield f"line {node.lineno}: {keyword.arg}=True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_no_evaluated_text_no_shell(path: Path) -> None:
    found = list(forbidden(ast.parse(path.read_text(encoding="utf-8"))))
    if path == JAIL:
        found = [line for line in found if not line.endswith(("exec()", "eval()"))]
    assert not found


@pytest.mark.parametrize(
    "line",
    ["import pickle", "eval(x)", "torch.load(f)", "subprocess.run(c, shell=True)", "signal.alarm(3)"],
)
def test_the_ban_bites(line: str) -> None:
    assert list(forbidden(ast.parse(line)))


def test_no_file_is_over_600_lines_and_no_method_page_over_150() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in OWN_TEXT}
    pages = {path for path in FILES if re.fullmatch(r"m\d\d_\w+\.py", path.name)}
    too_long = [f"{p.relative_to(ROOT)}: {n}" for p, n in lines.items() if n > (150 if p in pages else 600)]
    assert not too_long
