"""Recorded answers: found by what was asked, handed out in order, whatever layout they were written in."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.chat import FORMATS, ask
from stillroom.errors import DataError, UserError
from stillroom.samplers import Prompt, SamplingParams, make_sampler
from stillroom.samplers.records import question_key
from stillroom.samplers.replay import ReplaySampler, recorded_problems
from stillroom.tasks.base import question, split_of
from stillroom.traces.store import write_shard
from stillroom.types import Finish, Message, Problem, Segment, Trace, Usage


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def problem(text: str, identity: str = "p/0", **more: Any) -> Problem:
    return Problem(id=identity, task="p", messages=question(text), reference=None, **more)


def asking(found: Problem, first_index: int = 0) -> Prompt:
    return Prompt(messages=ask(found, FORMATS["boxed"]), problem=found, first_index=first_index)


def test_response_k_is_the_kth_recorded_answer_and_then_there_is_none(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "a.jsonl",
        {"prompt": "Question: What  is 1+1?\nAnswer:", "response": "two", "num_tokens": 3},
        {"prompt": "Question: What is 2+2?\nAnswer:", "response": "four"},
        {"prompt": "What is\n1+1?", "response": "2"},
    )
    sampler = make_sampler(f"replay:{file}")
    one, unknown = problem("What is 1+1?"), problem("What is 3+3?")
    rows = sampler.sample([asking(one), asking(unknown), asking(one, first_index=1)], SamplingParams(n=3))
    assert [r.text for r in rows[0]] == ["two", "2", ""]
    assert [r.finish for r in rows[0]] == [Finish.STOP, Finish.STOP, Finish.ERROR]
    assert rows[0][0].usage == Usage(completion_tokens=3)
    assert {r.error for r in rows[1]} == {f"no recorded answer (number {k} of 0)" for k in range(3)}
    assert [r.text for r in rows[2]] == ["2", "", ""]
    assert "no recorded answer" in (rows[2][2].error or "")


def test_several_files_and_folders_are_read_in_order_each_by_its_index(tmp_path: Path) -> None:
    import polars as pl

    rows = [{"question": "q?", "completion": f"b{k}", "index": k} for k in (1, 0)]
    (tmp_path / "deep").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "deep" / "b.parquet")
    (tmp_path / "a.json").write_text(json.dumps([{"problem": "q?", "text": "a0"}]))
    for files in (tmp_path, [tmp_path / "a.json", tmp_path / "deep" / "b.parquet"]):
        ((*found, none),) = ReplaySampler(files).sample([asking(problem("q?"))], SamplingParams(n=4))
        assert [r.text for r in found] == ["a0", "b0", "b1"]
        assert none.finish == Finish.ERROR


def test_columns_can_be_mapped_and_ids_match_only_when_mapped(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", {"id": "p/0", "Q": "other words", "A": "yes"})
    prompts = [asking(problem("q?"))]
    with pytest.raises(UserError, match="no column with responses among A, Q, id"):
        ReplaySampler(file)
    by_question = ReplaySampler(file, {"question": "Q", "response": "A"})
    assert by_question.sample(prompts, SamplingParams())[0][0].finish == Finish.ERROR
    by_id = ReplaySampler(file, {"id": "id", "response": "A"})
    assert by_id.sample(prompts, SamplingParams())[0][0].text == "yes"
    with pytest.raises(UserError, match="did you mean response"):
        ReplaySampler(file, {"respons": "A"})
    with pytest.raises(UserError, match="no column 'B'"):
        ReplaySampler(file, {"response": "B"})


def test_multiple_choice_matches_with_and_without_its_options(tmp_path: Path) -> None:
    choice = problem("Which?", options=("red", "blue"))
    for name, asked in (("bare", "Which?"), ("full", ask(choice, FORMATS["boxed"])[-1].content)):
        sampler = ReplaySampler(jsonl(tmp_path / f"{name}.jsonl", {"question": asked, "response": name}))
        assert sampler.sample([asking(choice)], SamplingParams())[0][0].text == name


def test_reasoning_columns_and_message_lists_are_understood(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "q?"}], "reasoning_content": "hm", "response": "42"}
    sampler = ReplaySampler(jsonl(tmp_path / "a.jsonl", row))
    bare = Prompt(messages=(Message(role="user", content="q?"),))
    assert sampler.sample([bare], SamplingParams())[0][0].text == "<think>\nhm\n</think>\n42"


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = {"question": "q?", "response": "fine \ud800 \u0000"}
    file = jsonl(tmp_path / "a.jsonl", "{cut", {"question": "q?", "response": None}, [1], {"response": "x"}, good)
    sampler = ReplaySampler(file)
    assert [(bad.row, bad.reason) for bad in sampler.rejected] == [
        (1, "not JSON: b'{cut\\n'"),
        (2, "the response is NoneType, not text"),
        (3, "a JSON list, not an object"),
        (4, "no question text"),
    ]
    assert sampler.sample([asking(problem("q?"))], SamplingParams())[0][0].text == "fine ? \x00"
    with pytest.raises(DataError, match="row 1: not JSON"):
        ReplaySampler(jsonl(tmp_path / "b.jsonl", "{cut"))
    with pytest.raises(DataError, match="empty"):
        ReplaySampler(jsonl(tmp_path / "c.jsonl"))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("gone.jsonl", None, "does not exist"),
        ("a.txt", b"x", ".jsonl, .json, .parquet"),
        ("a.parquet", b"PAR1 not really", "not a readable Parquet"),
        ("a.json", b"{}", "a list of objects"),
        ("a.json", b"[[[", "not JSON"),
    ],
)
def test_unusable_files_are_refused_by_name(name: str, data: bytes | None, words: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        ReplaySampler(tmp_path / name)
    assert name in str(caught.value)


def test_stillrooms_own_traces_are_recordings(tmp_path: Path) -> None:
    found = problem("q?")
    traces = [
        Trace(
            id=f"t{k}",
            problem_id=found.id,
            task="p",
            asked=ask(found, FORMATS["boxed"]),
            taught=(
                Segment(role="user", text="q?"),
                Segment(role="assistant", text=f"answer {k}, ", weight=1.0),
                Segment(role="assistant", text="in two parts"),
            ),
            index=k,
            finish=Finish.LENGTH if k else Finish.STOP,
            usage=Usage(prompt_tokens=9, completion_tokens=5 + k, calls=1),
        )
        for k in (1, 0)
    ]
    sampler = ReplaySampler(write_shard(tmp_path, "traces", traces))
    # By the problem's id; and, under another id, by what was asked.
    for prompt in (asking(found), asking(problem("q?", "elsewhere/7"))):
        ((first, second),) = sampler.sample([prompt], SamplingParams(n=2))
        assert (first.text, first.finish) == ("answer 0, in two parts", Finish.STOP)
        assert (second.text, second.finish) == ("answer 1, in two parts", Finish.LENGTH)
        assert second.usage.completion_tokens == 6


def test_problems_come_from_a_recording_each_once(tmp_path: Path) -> None:
    file = jsonl(
        tmp_path / "a.jsonl",
        {"prompt": "Question: a\n b?\nAnswer:", "response": "x", "gold": "1"},
        {"prompt": "c?", "response": "x", "gold": "long way\n#### 2"},
        {"prompt": "a b?", "response": "y", "gold": "1"},
        {"prompt": "d?", "response": "y"},
        {"prompt": "e?", "response": "y", "gold": "1"},
        {"prompt": "e?", "response": "z", "gold": "2"},
    )
    found = recorded_problems(file)
    assert [(p.messages[0].content, p.reference) for p in found] == [
        ("a\n b?", "1"),
        ("c?", "2"),
        ("d?", None),
        ("e?", None),
    ]
    assert found[3].meta == {"golds": ["1", "2"]}
    assert [p.split for p in found] == [split_of(p) for p in found]
    assert len({p.id for p in found}) == 4
    rows = ReplaySampler(file).sample([asking(p) for p in found], SamplingParams(n=2))
    assert [[r.text for r in row] for row in rows] == [["x", "y"], ["x", ""], ["y", ""], ["y", "z"]]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_wrapping_a_question_does_not_change_its_key(text: str) -> None:
    plain = question_key("Start " + text + " end?")
    for wrapped in ("Question: TEXT\nAnswer:", " Q: TEXT\n\nA: ", "TEXT\n\n" + FORMATS["boxed"].instruction):
        assert question_key(wrapped.replace("TEXT", f"Start {text} end?")) == plain


def test_fourteen_thousand_answers_of_two_real_models(data_dir: Path) -> None:
    files = [data_dir / "gsm8k" / f"responses_{model}_7b.jsonl" for model in ("llama2", "mistral")]
    if not all(file.exists() for file in files):
        pytest.skip("the recorded answers are absent")
    raw = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    sampler, problems = ReplaySampler(files), recorded_problems(files)
    assert sampler.rejected == []
    # Counted from the files themselves: 7,000 rows each over the same 6,850 questions, 150 of them asked twice.
    assert len(raw) == 14_000
    assert len(problems) == 6_850
    rows = sampler.sample([asking(p) for p in problems], SamplingParams(n=5))
    answered = [r.text for row in rows for r in row if r.finish == Finish.STOP]
    assert sorted(answered) == sorted(row["response"] for row in raw)
    golds = {
        " ".join(row["prompt"].removeprefix("Question:").removesuffix("Answer:").split()): row["gold"] for row in raw
    }
    assert {question_key(p.messages[0].content): p.reference for p in problems} == golds
    # The training problems of GSM8K are found under their own wording.
    train = [json.loads(line) for line in (data_dir / "gsm8k" / "train.jsonl").read_text().splitlines()]
    rows = sampler.sample([asking(problem(row["question"], row["question"])) for row in train], SamplingParams(n=2))
    assert sum(row[0].finish == Finish.STOP for row in rows) == len(
        {" ".join(r["question"].split()) for r in train} & golds.keys()
    )
