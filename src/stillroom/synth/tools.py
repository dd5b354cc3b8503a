"""Tools that an agent's actions may call: what they are called, which arguments they take, and a search among passages.

Whatever a model passes is checked first, and everything that is wrong with it comes back as one plain sentence for the
model to read, never as a crash: a bad call is data.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from typing import Any

from stillroom.errors import MissingExtraError, StillroomError, UserError, unknown_name
from stillroom.types import Message

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_SCHEMA_KEYS = {"type", "properties", "required", "description"}
_PROPERTY_KEYS = {"type", "description", "enum", "minimum", "maximum", "maxLength"}
_RESULT_CHARACTERS = 20_000
OWN_NAMES = ("final_answer",)
"""What every agent has without being given it."""


class ToolError(StillroomError, ValueError):
    """A call that could not be made; the message is the observation."""


@dataclass(frozen=True)
class Tool:
    """A function with a name, a description for the prompt and a schema of its arguments.

    Args:
        parameters: JSON schema of type ``object``; properties in the order of positional arguments. Understood are
            type, enum, minimum, maximum and maxLength of a property, and ``required``; other keywords are refused.
        run: called with keyword arguments that fit the schema; must have no effects, because candidates that are
            never chosen call it too. What it returns is shown as text, what it raises as an error.
        limit_s: a call that takes longer is given up; its thread cannot be stopped and is left behind.

    Raises:
        UserError: a name that is no Python name or is taken, or a schema that is not understood.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Any]
    limit_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or self.name in OWN_NAMES:
            raise UserError(f"a tool cannot be called {self.name!r}; give a Python name other than {OWN_NAMES[0]}")
        properties: Mapping[str, Mapping[str, Any]] = self.parameters.get("properties", {})
        unknown = set(self.parameters) - _SCHEMA_KEYS
        if self.parameters.get("type") != "object" or unknown:
            raise UserError(
                f"tool {self.name}: parameters must be a JSON schema of type object, with none of {unknown}"
            )
        for name, schema in properties.items():
            if not name.isidentifier() or schema.get("type") not in _KINDS or set(schema) - _PROPERTY_KEYS:
                raise UserError(
                    f"tool {self.name}: argument {name!r} needs a Python name, a type among {', '.join(_KINDS)} and "
                    f"no other keywords than {', '.join(sorted(_PROPERTY_KEYS))}; got {schema}"
                )
        if missing := set(self.parameters.get("required", ())) - set(properties):
            raise UserError(f"tool {self.name}: required arguments {sorted(missing)} are not among its properties")


def bind(tool: Tool, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, checked against the schema; raises ToolError in words for the model."""
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters.get("properties", {})
    names = list(properties)
    if len(args) > len(names):
        raise ToolError(f"{tool.name} takes {len(names)} arguments ({', '.join(names)}), not {len(args)}")
    found = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in properties:
            raise ToolError(f"{tool.name} has no argument {name!r}; it takes {', '.join(names) or 'none'}")
        if name in found:
            raise ToolError(f"{tool.name} got {name!r} twice")
        found[name] = value
    for name in tool.parameters.get("required", ()):
        if name not in found:
            raise ToolError(f"{tool.name} needs {name!r} ({properties[name]['type']})")
    for name, value in found.items():
        _check(tool.name, name, value, properties[name])
    return found


def _check(tool: str, name: str, value: Any, schema: Mapping[str, Any]) -> None:
    kind, sized = schema["type"], value
    # A bool is an int to Python and to nobody else.
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        raise ToolError(f"{tool}: {name!r} must be {kind}, not {type(value).__name__}")
    if "enum" in schema and value not in schema["enum"]:
        raise ToolError(f"{tool}: {name!r} must be one of {schema['enum']}")
    if "maxLength" in schema and len(sized) > schema["maxLength"]:
        raise ToolError(f"{tool}: {name!r} is longer than {schema['maxLength']} characters")
    # Written so that nan, which is neither above nor below anything, fits no bound.
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value) and kind in ("integer", "number"):
        raise ToolError(f"{tool}: {name!r} must lie in {schema.get('minimum', '-∞')} … {schema.get('maximum', '∞')}")


class Toolbox:
    """Tools by name. Called as ``toolbox(name, args, named)`` it is what a `Sandbox` wants for its `tool`.

    Raises:
        UserError: two tools of one name.
    """

    def __init__(self, tools: Sequence[Tool] = ()) -> None:
        self.tools = {tool.name: tool for tool in tools}
        if len(self.tools) != len(tools):
            raise UserError(f"two tools have the same name: {', '.join(tool.name for tool in tools)}")

    def __call__(self, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> str:
        """The observation of a call; raises ToolError in words for the model."""
        if name not in self.tools:
            raise ToolError(str(unknown_name("tool", name, [*self.tools, *OWN_NAMES])))
        tool = self.tools[name]
        given = bind(tool, args, named)
        threads = ThreadPoolExecutor(1, thread_name_prefix=f"tool-{name}")
        try:
            found = threads.submit(tool.run, **given).result(tool.limit_s)
        except NotInTime:
            raise ToolError(f"{name} gave no result within {tool.limit_s:g} s") from None
        except Exception as error:
            # A tool is somebody's own code over the model's words: what it raises is an observation, not our crash.
            raise ToolError(f"{name} failed: {type(error).__name__}: {error}"[:500]) from error
        finally:
            threads.shutdown(wait=False)
        text = found if isinstance(found, str) else str(found)
        return text[:_RESULT_CHARACTERS]

    def call(self, text: str) -> str:
        """The observation of a call written as JSON: ``{"name": …, "arguments": {…}}``; never raises.

        For layouts whose actions are calls instead of code.
        """
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            return f"Error: the call is not JSON ({str(error)[:100]})"
        if not isinstance(message, dict) or set(message) != {"name", "arguments"}:
            return 'Error: a call is {"name": …, "arguments": {…}} and nothing else'
        name, arguments = message["name"], message["arguments"]
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return "Error: the name of a call must be a string, its arguments an object"
        try:
            return self(name, (), arguments)
        except ToolError as error:
            return f"Error: {error}"

    def described(self) -> str:
        """The tools as Python signatures with their descriptions, for a prompt."""
        lines = []
        for tool in self.tools.values():
            required = tool.parameters.get("required", ())
            takes = [
                f"{name}: {schema['type']}" + ("" if name in required else " = …")
                for name, schema in tool.parameters.get("properties", {}).items()
            ]
            lines.append(f"{tool.name}({', '.join(takes)}): {tool.description}")
        return "\n".join([*lines, "final_answer(answer): ends the task with this answer."])


class Retriever:
    """Passages found by BM25 (bm25s, k1 = 1.5, b = 0.75, Lucene's variant): no stop words, no stemming, lower case.

    Raises:
        MissingExtraError: bm25s is not installed.
        UserError: no passage has a word.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        try:
            import bm25s
        except ImportError:
            raise MissingExtraError("bm25s", "agents") from None
        self.passages = tuple(passages)
        self._index = bm25s.BM25()
        words = [_words(passage) for passage in self.passages]
        if not any(words):
            raise UserError(f"none of the {len(self.passages)} passages has a word to be found by")
        self._index.index(words, show_progress=False)
        self._known = {word for found in words for word in found}

    def search(self, query: str, k: int = 3) -> list[str]:
        """The k best passages, best first; equal ones in their order, and none without a word of the query."""
        import numpy as np

        words = [word for word in _words(query[:2000]) if word in self._known]
        if not words:
            return []
        scores = self._index.get_scores(words)
        best = np.argsort(-scores, kind="stable")[:k]
        return [self.passages[at] for at in best if scores[at] > 0]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def with_context(messages: Sequence[Message], context: str) -> tuple[Message, ...]:
    """The messages with what was retrieved on a line of its own after the last one."""
    *earlier, last = messages
    return (*earlier, last.model_copy(update={"content": f"{last.content}\n{context}"}))


def search_tool(retriever: Retriever, k: int = 3) -> Tool:
    """``search(query)``: the k best passages as one text."""

    def search(query: str) -> str:
        return " ".join(retriever.search(query, k)) or "nothing found"

    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    return Tool("search", f"the {k} passages that fit the query best.", schema, search)
