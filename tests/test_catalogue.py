"""The catalogue of 83, its computed status, and what `list` and `show` print of it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import stillroom.methods
from stillroom.cli.methods import list_methods, show_method
from stillroom.errors import UserError
from stillroom.io import write_json
from stillroom.methods import registry

ROOT = Path(__file__).parents[1]
LISTED = {"number", "name", "alias", "family", "title", "status", "summary"}

app = typer.Typer()
app.command("list")(list_methods)
app.command("show")(show_method)


def run(*arguments: str) -> str:
    shown = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return shown.stdout


@pytest.fixture
def done_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[registry.MethodInfo]:
    """Method 53 with a page and a claim of its own, in a package folder that is put beside the real one."""
    package = tmp_path / "pages"
    package.mkdir()
    (package / "catalogue.toml").write_bytes((ROOT / "src/stillroom/methods/catalogue.toml").read_bytes())
    (package / "m53_dart_math.py").write_text(
        '"""The page of DART-Math."""\n'
        "from stillroom.methods.registry import method\n\n"
        '@method(53, kind="model")\n'
        "def recipe(ctx: object) -> str:\n    return 'a student'\n"
    )
    claims = tmp_path / "claims"
    contrast = {"text": "harder first wins", "metric": "accuracy", "arms": ["prop2diff", "vrt"], "effect": 0.04}
    claim = {
        "method": "dart-math",
        "number": 53,
        "verdict": "refuted",
        "claims": [{**contrast, "interval": [-0.01, 0.09], "verdict": "inconclusive"}],
        "seeds": [0, 1, 2],
        "command": "stillroom run dart-math",
        "commit": "0123456789abcdef",
    }
    write_json(claims / "53-dart-math.json", claim)
    monkeypatch.setattr(registry, "_PACKAGE", package)
    monkeypatch.setattr(registry, "_CLAIM_FOLDERS", (claims,))
    monkeypatch.setattr(stillroom.methods, "__path__", [str(package), *stillroom.methods.__path__])
    monkeypatch.setattr(stillroom.methods, "m53_dart_math", None, raising=False)  # undone: no fake page stays behind
    monkeypatch.delitem(sys.modules, "stillroom.methods.m53_dart_math", raising=False)
    monkeypatch.setattr(registry, "_RECIPES", dict(registry._RECIPES))
    yield registry.resolve("53")
    sys.modules.pop("stillroom.methods.m53_dart_math", None)


def test_there_are_83_methods_numbered_without_gaps() -> None:
    methods = registry.catalogue()
    assert [info.number for info in methods] == list(range(1, 84))
    assert len(registry.families()) == 7
    assert {info.family for info in methods} == set(registry.families())


def test_names_and_aliases_are_unique_and_can_be_typed() -> None:
    keys = [key for info in registry.catalogue() for key in (info.name, info.alias)]
    assert len(set(keys)) == len(keys) == 2 * 83
    assert not set(keys) & set(registry.CORE_RECIPES)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key) and not key.isdecimal() for key in keys)


def test_every_entry_is_fit_to_be_read() -> None:
    methods = registry.catalogue()
    for info in methods:
        assert 40 <= len(info.summary) <= 160, (info.number, len(info.summary))
        assert info.summary[-1] in ".?", info.number
        assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", info.paper), info.number
    assert len({info.paper for info in methods}) == len({info.title for info in methods}) == 83


@pytest.mark.parametrize("key", ["53", "dart", "dart-math", "DART-Math", " 053 "])
def test_a_method_is_found_by_number_name_and_alias(key: str) -> None:
    assert registry.resolve(key).title.startswith("DART-Math")


@pytest.mark.parametrize(
    ("key", "remedy"),
    [("dart-maths", "dart-math"), ("lfit", "lift"), ("84", "1 to 83"), ("0", "1 to 83"), ("%%%", "stillroom list")],
)
def test_an_unknown_method_is_answered_with_a_remedy(key: str, remedy: str) -> None:
    with pytest.raises(UserError, match=remedy) as caught:
        registry.resolve(key)
    assert key in str(caught.value)


def test_a_page_without_a_claim_is_planned_and_with_one_is_done(done_method: registry.MethodInfo) -> None:
    assert done_method.status == "done"  # refuted counts: the method works, its claim did not hold here
    path = registry._CLAIM_FOLDERS[0] / "53-dart-math.json"
    write_json(path, {**(registry.claim(done_method) or {}), "verdict": "void"})
    assert registry.resolve("53").status == "planned"
    path.unlink()
    assert registry.resolve("53").status == "planned"
    assert registry.has_page(registry.resolve("53"))
    assert registry.claim(done_method) is None


def test_a_claim_without_a_page_is_planned(done_method: registry.MethodInfo) -> None:
    (registry._PACKAGE / "m53_dart_math.py").unlink()
    assert registry.resolve("53").status == "planned"


def test_every_page_and_claim_belongs_to_a_method_and_every_page_has_tests() -> None:
    methods = registry.catalogue()
    pages = {path.stem for path in (ROOT / "src/stillroom/methods").glob("m[0-9]*.py")}
    assert pages == {registry.page_module(info).rpartition(".")[2] for info in methods if registry.has_page(info)}
    claims = {path.stem for path in (ROOT / "results/claims").glob("*.json")}
    assert claims <= {f"{info.number:02d}-{info.name}" for info in methods}
    tests = {path.stem for path in (ROOT / "tests/methods").glob("test_*.py")}
    assert {f"test_{page[1:]}" for page in pages} <= tests


def test_a_recipe_is_imported_when_asked_for(done_method: registry.MethodInfo) -> None:
    assert "stillroom.methods.m53_dart_math" not in sys.modules
    found = registry.get_recipe("dart")
    assert (found.name, found.kind, found.summary) == ("dart-math", "model", done_method.summary)
    assert found.run(None) == "a student"


def test_a_planned_method_has_no_recipe_and_the_message_says_what_to_take() -> None:
    planned = next(info for info in registry.catalogue() if not registry.has_page(info))
    with pytest.raises(UserError, match=f"{planned.name}.*planned.*sft"):
        registry.get_recipe(planned.alias)
    with pytest.raises(UserError, match="sft"):
        registry.get_recipe("sftt")


def test_every_recipe_that_exists_is_registered_under_its_name() -> None:
    found = registry.recipes()
    assert set(registry.CORE_RECIPES) <= set(found)
    assert all(name == info.name and info.summary for name, info in found.items())


def test_core_recipes_register_only_under_known_names() -> None:
    with pytest.raises(ValueError, match="sftt"):
        registry.recipe("sftt", kind="model", summary="A typing error.")


def test_list_json_holds_all_83() -> None:
    methods = json.loads(run("list", "--json"))
    assert len(methods) == 83
    assert all(set(entry) == LISTED for entry in methods)
    assert {entry["status"] for entry in methods} <= {"done", "planned"}


def test_list_gives_a_pipe_one_line_per_method() -> None:
    lines = run("list").splitlines()
    assert len(lines) == 83
    assert lines[52].split("\t")[:3] == ["53", "dart-math", "dart"]


def test_list_of_one_family() -> None:
    methods = json.loads(run("list", "--json", "--family", "reinforcement-learning"))
    assert len(methods) == 12
    with pytest.raises(UserError, match="reinforcement-learning"):
        run("list", "--family", "reinforcment-learning")


@pytest.mark.parametrize("number", range(1, 84))
def test_show_works_for_all(number: int) -> None:
    info = registry.resolve(str(number))
    shown = json.loads(run("show", info.alias, "--json"))
    assert {key: shown[key] for key in info.model_dump()} == info.model_dump()
    text = run("show", info.name)
    assert info.title in text
    assert info.summary in text


def test_show_of_a_done_method_quotes_page_arms_and_result(done_method: registry.MethodInfo) -> None:
    text = run("show", "53")
    for part in (
        "53 dart-math (dart): done",
        "The page of DART-Math.",
        "result: refuted (3 seeds)",
        "arms: prop2diff, vrt",
        "inconclusive: harder first wins: +0.040 [-0.010, +0.090]",
        "stillroom run dart-math",
    ):
        assert part in text
    shown = json.loads(run("show", "dart", "--json"))
    assert shown["arms"] == ["prop2diff", "vrt"]
    assert shown["claim"]["verdict"] == "refuted"


@pytest.mark.parametrize("name", registry.CORE_RECIPES)
def test_show_of_a_core_recipe_is_its_page(name: str) -> None:
    page = json.loads(run("show", name, "--json"))["page"]
    assert page
    assert page in run("show", name)


def test_show_of_an_unknown_method_names_the_core_recipes_too() -> None:
    with pytest.raises(UserError, match=r"dart-math.*core recipes: .*sft"):
        run("show", "dart-mth")


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "1"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]) -> None:
    script = (
        "import typer; from stillroom.cli.methods import list_methods, show_method; app = typer.Typer();"
        "app.command('list')(list_methods); app.command('show')(show_method); app()"
    )
    reading, writing = os.pipe()
    os.close(reading)  # the reader has gone before the first byte
    try:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, text=True)
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert done.stderr == ""
