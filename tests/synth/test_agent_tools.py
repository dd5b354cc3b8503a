"""Tools: what is wrong with a call comes back in words, and a search finds what holds the words."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import UserError
from stillroom.synth.tools import Retriever, Tool, Toolbox, ToolError, bind, search_tool, with_context
from stillroom.types import Message

SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "maxLength": 10},
        "k": {"type": "integer", "minimum": 1, "maximum": 5},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "weight": {"type": "number", "minimum": 0},
    },
    "required": ["query"],
}
TOOL = Tool("look", "looks it up.", SCHEMA, lambda **given: json.dumps(given, sort_keys=True))


@pytest.mark.parametrize(
    ("args", "named", "reason"),
    [
        ((), {}, r"look needs 'query' \(string\)"),
        ((3,), {}, "'query' must be string, not int"),
        (("a" * 11,), {}, "'query' is longer than 10 characters"),
        (("a", 6), {}, "'k' must lie in 1 … 5"),
        (("a", True), {}, "'k' must be integer, not bool"),
        (("a", 1.0), {}, "'k' must be integer, not float"),
        (("a",), {"mode": "c"}, r"'mode' must be one of \['a', 'b'\]"),
        (("a",), {"weight": float("nan")}, "'weight' must lie in 0 … ∞"),
        (("a",), {"query": "b"}, "got 'query' twice"),
        (("a",), {"size": 1}, "has no argument 'size'; it takes query, k, mode, weight"),
        (("a", 1, "a", 1, 1), {}, "takes 4 arguments"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(args: tuple[Any, ...], named: dict[str, Any], reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        bind(TOOL, args, named)


def test_a_right_call_is_bound_by_name() -> None:
    assert bind(TOOL, ["a", 2], {"weight": 0.5}) == {"query": "a", "k": 2, "weight": 0.5}
    assert Toolbox([TOOL])("look", ["a"], {"k": 5}) == '{"k": 5, "query": "a"}'


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("final_answer", {"type": "object"}),
        ("two words", {"type": "object"}),
        ("t", {"type": "array"}),
        ("t", {"type": "object", "oneOf": []}),
        ("t", {"type": "object", "properties": {"a": {"type": "tuple"}}}),
        ("t", {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}),
        ("t", {"type": "object", "required": ["a"]}),
    ],
)
def test_a_tool_that_is_not_understood_is_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"tool|Python name"):
        Tool(name, "", parameters, lambda: "")


def test_names_are_unique_and_unknown_ones_have_neighbours() -> None:
    with pytest.raises(UserError, match="the same name"):
        Toolbox([TOOL, TOOL])
    with pytest.raises(ToolError, match="unknown tool 'lok'; did you mean look"):
        Toolbox([TOOL])("lok", [], {})


def test_a_tool_that_is_slow_or_fails_is_an_observation() -> None:
    nothing = {"type": "object"}

    def fail() -> str:
        raise KeyError("gone")

    box = Toolbox([Tool("slow", "", nothing, lambda: time.sleep(0.5), limit_s=0.05), Tool("fail", "", nothing, fail)])
    with pytest.raises(ToolError, match=r"slow gave no result within 0.05 s"):
        box("slow", [], {})
    with pytest.raises(ToolError, match="fail failed: KeyError: 'gone'"):
        box("fail", [], {})
    assert box.call('{"name": "fail", "arguments": {}}') == "Error: fail failed: KeyError: 'gone'"


def test_calls_as_json() -> None:
    box = Toolbox([TOOL])
    assert box.call('{"name": "look", "arguments": {"query": "a"}}') == '{"query": "a"}'
    assert "not JSON" in box.call("look(a)")
    assert "nothing else" in box.call('{"name": "look"}')
    assert "must be a string" in box.call('{"name": 3, "arguments": {}}')


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.text()
    | json_values.map(json.dumps)
    | st.builds(lambda a: json.dumps({"name": "look", "arguments": a}), json_values)
)
def test_any_text_is_a_call_with_an_observation(text: str) -> None:
    assert isinstance(Toolbox([TOOL]).call(text), str)


@given(
    st.lists(json_values, max_size=5),
    st.dictionaries(st.text(max_size=6) | st.sampled_from(["query", "k"]), json_values),
)
def test_any_arguments_are_bound_or_refused_in_words(args: list[Any], named: dict[str, Any]) -> None:
    try:
        found = bind(TOOL, args, named)
    except ToolError:
        return
    assert isinstance(found["query"], str)


def test_deep_json_is_no_crash() -> None:
    assert "not JSON" in Toolbox([TOOL]).call("[" * 100_000)


PASSAGES = (
    "The mentor of Aba is Bebe.",
    "The mentor of Codo is Aba.",
    "The job of Aba is baker.",
    "A longer passage about nothing that is asked.",
)


def test_a_search_finds_what_holds_the_words() -> None:
    pytest.importorskip("bm25s")
    found = Retriever(PASSAGES)
    assert found.search("mentor of Aba", 2) == list(PASSAGES[:2])  # equal scores: in their order
    assert found.search("JOB, aba!", 1) == [PASSAGES[2]]
    assert found.search("zzz") == []
    assert found.search("") == []
    assert found.search("\x00\ud800") == []
    assert len(found.search("the", 9)) == 3
    tool = Toolbox([search_tool(found, 1)])
    assert tool("search", ["job of aba"], {}) == PASSAGES[2]
    assert tool("search", ["zzz"], {}) == "nothing found"


def test_bm25_against_the_formula() -> None:
    """Lucene's variant: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), tf / (tf + k1 (1 - b + b l / avg l))."""
    pytest.importorskip("bm25s")
    import math

    texts = ["a b", "a c c", "d"]
    scores = Retriever(texts)._index.get_scores(["c"])
    average = (2 + 3 + 1) / 3
    expected = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5)) * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 3 / average))
    assert scores.tolist() == pytest.approx([0, expected, 0], rel=1e-5)


def test_passages_without_a_word_are_refused() -> None:
    pytest.importorskip("bm25s")
    with pytest.raises(UserError, match="none of the 2 passages"):
        Retriever(["", "…"])


def test_context_follows_the_last_message() -> None:
    asked = (Message(role="system", content="s"), Message(role="user", content="q"))
    assert [m.content for m in with_context(asked, "c")] == ["s", "q\nc"]
