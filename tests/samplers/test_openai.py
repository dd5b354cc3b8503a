"""The server sampler against a server that misbehaves: what it answers, what it charges, what it never loses."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("httpx")

from fault_server import GOOD, FaultServer, answer_to, asked, serving, usage_of

from stillroom.chat import FORMATS
from stillroom.errors import BudgetExceeded, UserError
from stillroom.samplers import Prompt, SamplingParams, make_sampler
from stillroom.samplers.budget import Budget, Charge, Price, charge
from stillroom.samplers.cache import ResponseCache
from stillroom.samplers.openai import OpenAISampler, parse_spec
from stillroom.samplers.wire import Answer, BadReply, parse_reply, retry_after_s, same_model
from stillroom.types import Finish, Message, Response

PARAMS = SamplingParams(n=2, max_new_tokens=20)


def prompts(count: int) -> list[Prompt]:
    return [Prompt(messages=(Message(role="user", content=f"question {i}"),), seed=7) for i in range(count)]


def sampler(server: FaultServer, folder: Path | str, **options: Any) -> OpenAISampler:
    limits = {name: options.pop(name, None) for name in ("usd", "tokens")}
    options = {"timeout_s": 5.0, "max_retries": 3, "backoff_s": 0.001, "concurrency": 4, **options}
    return OpenAISampler(
        options.pop("model", "m"),
        server.url,
        budget=Budget(Path(folder) / "ledger.jsonl", **limits),
        cache=ResponseCache(folder),
        **options,
    )


def texts(rows: Sequence[Sequence[Response]]) -> list[list[str]]:
    return [[response.text for response in row] for row in rows]


def test_answers_come_back_in_order_each_from_its_own_request(tmp_path: Path) -> None:
    # Later requests answer sooner, so completion order is not prompt order.
    with serving(lambda i, body: "slow" if i % 3 == 0 else "ok") as server:
        rows = sampler(server, tmp_path).sample(prompts(8), PARAMS)
    assert len(server.requests) == 16
    by_question = {(b["messages"][0]["content"], b["seed"]): answer_to(b) for b in server.requests}
    for i, row in enumerate(rows):
        for response in row:
            assert response.seed is not None
            assert response.text == by_question[f"question {i}", response.seed >> 32]
            assert response.finish == Finish.STOP
            assert response.usage.calls == 1
    assert all(b["temperature"] == 1.0 and b["top_p"] == 1.0 and b["max_tokens"] == 20 for b in server.requests)


def test_a_second_run_over_the_same_folder_sends_nothing_and_gives_equal_responses(tmp_path: Path) -> None:
    with serving() as server:
        first = sampler(server, tmp_path, price=Price(1, 2)).sample(prompts(3), PARAMS)
        again = sampler(server, tmp_path, price=Price(1, 2)).sample(prompts(3), PARAMS)
        assert again == first
        assert len(server.requests) == 6
        more = sampler(server, tmp_path).sample(prompts(3), SamplingParams(n=3, max_new_tokens=20))
        assert len(server.requests) == 9
        assert [row[:2] for row in more] == first
        # Other parameters are other requests.
        sampler(server, tmp_path).sample(prompts(3), SamplingParams(n=2, max_new_tokens=20, temperature=0.5))
        assert len(server.requests) == 15


def test_first_index_continues_the_numbering(tmp_path: Path) -> None:
    with serving() as server:
        together = sampler(server, tmp_path / "a").sample(prompts(1), SamplingParams(n=4, max_new_tokens=20))
        later = [prompts(1)[0].model_copy(update={"first_index": 2})]
        assert sampler(server, tmp_path / "b").sample(later, PARAMS)[0] == together[0][2:]


@pytest.mark.parametrize(
    "fault",
    ["429", "500", "503", "504", "cut", "drop", "malformed", "wrong model", "empty"],
    ids=lambda f: f.replace(" ", "-"),
)
def test_a_fault_is_retried_and_a_lasting_one_fails_the_row_with_its_reason(fault: str, tmp_path: Path) -> None:
    with serving(lambda i, body: fault if i < 2 else "ok") as server:
        (row,) = sampler(server, tmp_path / "a", concurrency=1).sample(prompts(1), PARAMS)
        assert [r.finish for r in row] == [Finish.STOP, Finish.STOP]
        assert [r.usage.calls for r in row] == [3, 1]
        server.script = lambda i, body: fault
        lasting = sampler(server, tmp_path / "b", max_retries=2)
        (row,) = lasting.sample(prompts(1), PARAMS)
    assert [r.finish for r in row] == [Finish.ERROR, Finish.ERROR]
    assert all(r.error is not None and "(tries: 3)" in r.error and r.text == "" for r in row)
    assert lasting.counts["failed"] == 2
    assert lasting.counts["sent"] == 6


def test_retry_after_is_honoured_as_seconds_and_as_a_date(tmp_path: Path) -> None:
    for fault, least_s in (("429", 0.3), ("429 date", 0.05)):
        with serving(lambda i, body, fault=fault: fault if i == 0 else "ok") as server:
            server.retry_after = "0.3"
            begun = time.monotonic()
            (row,) = sampler(server, tmp_path / fault).sample(prompts(1), SamplingParams(max_new_tokens=20))
            assert row[0].finish == Finish.STOP
            assert time.monotonic() - begun >= least_s


def test_a_hanging_and_a_trickling_server_end_in_a_timeout(tmp_path: Path) -> None:
    for fault in ("hang", "trickle"):
        with serving(lambda i, body, fault=fault: fault) as server:
            stuck = sampler(server, tmp_path / fault, timeout_s=0.2, max_retries=1)
            rows = stuck.sample(prompts(2), PARAMS)
            assert {r.finish for row in rows for r in row} == {Finish.TIMEOUT}
            # Their outcome is unknown: all eight stay charged at the most they could have cost.
            ledger = Budget(tmp_path / fault / "ledger.jsonl")
            assert ledger.unknown == 8
            assert ledger.spent_tokens >= server.billed_tokens > 0


def test_a_refusal_costs_nothing_and_a_gateway_that_gave_up_may_have_cost_everything(tmp_path: Path) -> None:
    for fault, unknown in (("429", 0), ("500", 0), ("502", 2), ("504", 2)):
        with serving(lambda i, body, fault=fault: fault) as server:
            sampler(server, tmp_path / fault, max_retries=0).sample(prompts(1), PARAMS)
            ledger = Budget(tmp_path / fault / "ledger.jsonl")
            assert ledger.unknown == unknown
            assert (ledger.spent_tokens > 0) == (unknown > 0)


def test_other_client_errors_are_not_retried(tmp_path: Path) -> None:
    with serving(lambda i, body: "400" if "question 0" in asked(body) else "ok") as server:
        rows = sampler(server, tmp_path).sample(prompts(2), SamplingParams(max_new_tokens=20))
    assert rows[0][0].finish == Finish.ERROR
    assert "fault 400" in (rows[0][0].error or "")
    assert rows[1][0].finish == Finish.STOP
    assert len(server.requests) == 2


@pytest.mark.parametrize(("status", "remedy"), [("401", "MY_KEY"), ("404", "/v1")])
def test_a_refused_key_or_model_stops_at_once_and_names_the_remedy(status: str, remedy: str, tmp_path: Path) -> None:
    with serving(lambda i, body: "ok" if i < 4 else status) as server:
        with pytest.raises(UserError, match=remedy):
            sampler(server, tmp_path, api_key_env="MY_KEY").sample(prompts(50), PARAMS)
        assert len(server.requests) <= 4 + 4 + 4  # what was answered, and what four workers had under way
        assert len(ResponseCache(tmp_path)) == 4


def test_nobody_listening_is_a_users_mistake_and_costs_nothing(tmp_path: Path) -> None:
    with serving() as server:
        pass
    with pytest.raises(UserError, match="is the server running"):
        sampler(server, tmp_path, max_retries=1).sample(prompts(2), PARAMS)
    assert Budget(tmp_path / "ledger.jsonl").spent_tokens == 0


def test_a_key_is_sent_and_kept_out_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret-12345")
    with serving(lambda i, body: "500" if i == 0 else "ok") as server:
        sampler(server, tmp_path, api_key_env="MY_KEY").sample(prompts(2), PARAMS)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert kept
    assert b"secret-12345" not in kept


def test_a_dated_name_is_the_same_model_and_usage_that_is_absent_stays_at_the_reservation(tmp_path: Path) -> None:
    with serving(lambda i, body: "dated model" if i == 0 else "no usage") as server:
        one = sampler(server, tmp_path, concurrency=1)
        (row,) = one.sample(prompts(1), PARAMS)
    assert [r.finish for r in row] == [Finish.STOP, Finish.STOP]
    assert one.counts["usage unknown"] == 1
    known, unknown = (r.usage.prompt_tokens + r.usage.completion_tokens for r in row)
    assert known == sum(usage_of(server.requests[0]))
    assert unknown > 20 + len("question 0")
    assert Budget(tmp_path / "ledger.jsonl").spent_tokens == known + unknown


def test_the_budget_refuses_before_sending_and_a_larger_one_continues(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BudgetExceeded, match=r"left.*larger --budget-usd"):
            sampler(server, tmp_path, tokens=400).sample(prompts(20), PARAMS)
        first = list(map(asked, server.requests))
        assert 0 < len(first) < 40
        assert server.billed_tokens <= 400
        assert len(ResponseCache(tmp_path)) == len(first)
        rows = sampler(server, tmp_path, tokens=100_000).sample(prompts(20), PARAMS)
        assert all(r.finish == Finish.STOP for row in rows for r in row)
        everything = list(map(asked, server.requests))
        assert len(everything) == len(set(everything)) == 40
        # A dollar budget buys what the price says: 1000 tokens at 1 USD per million are 0.001 USD.
        with pytest.raises(BudgetExceeded, match="USD left"):
            sampler(server, tmp_path / "usd", usd=0.0004, price=Price(1, 1)).sample(prompts(20), PARAMS)
        assert 0 < (Budget(tmp_path / "usd" / "ledger.jsonl").spent_usd or 0) <= 0.0004


def test_a_dollar_budget_needs_a_price(tmp_path: Path) -> None:
    with serving() as server, pytest.raises(UserError, match="--price"):
        sampler(server, tmp_path, usd=1.0)


FAULTS = ["429", "500", "503", "504", "400", "cut", "drop", "malformed", "wrong model", "empty"]


@settings(max_examples=15)
@given(
    script=st.lists(st.sampled_from([*FAULTS, *GOOD, *GOOD]), min_size=10, max_size=40),
    budget=st.integers(300, 5000),
    concurrency=st.integers(1, 6),
)
def test_no_fault_loses_an_answer_or_breaks_the_budget(script: list[str], budget: int, concurrency: int) -> None:
    def behaviour(i: int, body: dict[str, Any]) -> str:
        return script[i] if i < len(script) else "ok"

    with serving(behaviour) as server, TemporaryDirectory() as folder:
        options = {"timeout_s": 30.0, "concurrency": concurrency, "max_retries": 2}
        server.retry_after = "0.002"
        with contextlib.suppress(BudgetExceeded):
            sampler(server, folder, tokens=budget, **options).sample(prompts(5), PARAMS)
        assert server.billed_tokens <= Budget(Path(folder) / "ledger.jsonl").spent_tokens <= budget
        answered, before = set(server.sent), len(server.requests)

        server.script = lambda i, body: "ok"
        rows = sampler(server, folder, **options).sample(prompts(5), PARAMS)
        repeated = {asked(body) for body in server.requests[before:]} & answered
        assert repeated == set()
        assert all(r.finish == Finish.STOP and r.text.startswith("answer to") for row in rows for r in row)
        assert server.billed_tokens <= Budget(Path(folder) / "ledger.jsonl").spent_tokens


CLIENT = """
import sys
from pathlib import Path
from stillroom.samplers import Prompt, SamplingParams, make_sampler
from stillroom.types import Message
url, folder, tokens = sys.argv[1:]
sampler = make_sampler("openai:m@" + url, folder=Path(folder), budget_tokens=int(tokens), concurrency=4)
prompts = [Prompt(messages=(Message(role="user", content=f"question {i}"),), seed=7) for i in range(60)]
sampler.sample(prompts, SamplingParams(n=2, max_new_tokens=20))
"""


@pytest.mark.parametrize("kill_at", [3, 37])
def test_a_killed_client_neither_pays_twice_nor_forgets_what_it_spent(kill_at: int, tmp_path: Path) -> None:
    with serving(lambda i, body: "slow" if i % 2 else "ok") as server:
        command = [sys.executable, "-c", CLIENT, server.url, str(tmp_path), "20000"]
        client = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 30
        while len(server.requests) < kill_at and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
        time.sleep(0.1)  # the server ends what it was writing
        before = len(server.requests)
        assert kill_at <= before < 120
        ledger = Budget(tmp_path / "ledger.jsonl")
        assert server.billed_tokens <= ledger.spent_tokens <= 20_000
        kept = len(ResponseCache(tmp_path))
        assert before - kept <= 4  # only what was under way can be missing, and it stays charged
        again = sampler(server, tmp_path, tokens=20_000)
        rows = again.sample(prompts(60), PARAMS)
        assert all(r.finish == Finish.STOP for row in rows for r in row)
        assert again.counts["from cache"] == kept
        assert len(server.requests) - before == 120 - kept
        assert server.billed_tokens <= Budget(tmp_path / "ledger.jsonl").spent_tokens <= 20_000


def test_it_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook(server: FaultServer) -> list[list[Response]]:
        return sampler(server, tmp_path).sample(prompts(2), PARAMS)

    with serving() as server:
        rows = asyncio.run(notebook(server))
    assert all(r.finish == Finish.STOP for row in rows for r in row)


def test_continuing_a_prefix_needs_a_server_that_can(tmp_path: Path) -> None:
    prompt = [prompts(1)[0].model_copy(update={"prefix": "So far"})]
    with serving() as server:
        with pytest.raises(UserError, match="assistant_prefix=True"):
            sampler(server, tmp_path).sample(prompt, PARAMS)
        sampler(server, tmp_path, assistant_prefix=True).sample(prompt, SamplingParams())
        assert server.requests[-1]["messages"][-1] == {"role": "assistant", "content": "So far"}
        assert server.requests[-1]["continue_final_message"] is True
        rendered = sampler(server, tmp_path, render=lambda messages: f"<u>{messages[-1].content}<a>")
        ((response,),) = rendered.sample(prompt, SamplingParams())
        assert server.paths[-1] == "/v1/completions"
        assert server.requests[-1]["prompt"] == "<u>question 0<a>So far"
        assert response.text == answer_to(server.requests[-1])


def test_progress_counts_every_response_once(tmp_path: Path) -> None:
    seen: list[int] = []
    with serving() as server:
        sampler(server, tmp_path).sample(prompts(3), PARAMS)
        sampler(server, tmp_path).sample(prompts(5), PARAMS, on_progress=seen.append)
    assert sum(seen) == 10


def test_specs_are_read_or_refused_with_an_example(tmp_path: Path) -> None:
    assert parse_spec("openai:org/m@main@https://host/v1/") == ("org/m@main", "https://host/v1")
    for spec in ("openai:m", "openai:@http://h/v1", "openai:m@host/v1", "openai:m@http://u:p@h/v1", "openai:m@http://"):
        with pytest.raises(UserError, match="example"):
            parse_spec(spec)
    with pytest.raises(UserError, match="no effect"):
        make_sampler("replay:x.jsonl", budget_usd=3.0)
    with pytest.raises(UserError, match="openai:NAME@URL"):
        make_sampler("opnai:m@http://h/v1")
    with pytest.raises(UserError, match="folder"):
        make_sampler("openai:m@http://h/v1")


# The protocol as pure functions.


def reply(**message: Any) -> bytes:
    finish = message.pop("finish_reason", "stop")
    usage = message.pop("usage", {"prompt_tokens": 3, "completion_tokens": 4})
    return json.dumps(
        {"model": "m", "choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    ).encode()


def test_reasoning_that_arrives_apart_is_put_into_the_think_format() -> None:
    think = FORMATS["think"]
    for name in ("reasoning_content", "reasoning"):
        assert parse_reply(reply(content="4", **{name: "2+2"}), "m", think).text == "<think>\n2+2\n</think>\n4"
    inside = "<think>\n2+2\n</think>\n4"
    assert parse_reply(reply(content=inside, reasoning_content="2+2"), "m", think).text == inside
    cut = parse_reply(reply(content=None, reasoning_content="2+", finish_reason="length"), "m", think)
    assert cut == Answer("<think>\n2+", Finish.LENGTH, 3, 4)


def test_every_finish_reason_has_one_meaning() -> None:
    meanings = {"stop": Finish.STOP, "length": Finish.LENGTH, "content_filter": Finish.FILTERED}
    for reason, finish in meanings.items():
        assert parse_reply(reply(content="x", finish_reason=reason), "m", FORMATS["think"]).finish == finish
    refused = parse_reply(reply(content=None, refusal="I cannot."), "m", FORMATS["think"])
    assert (refused.text, refused.finish) == ("I cannot.", Finish.FILTERED)
    for bad in (None, "tool_calls", 7, ["stop"]):
        with pytest.raises(BadReply, match="finish_reason"):
            parse_reply(reply(content="x", finish_reason=bad), "m", FORMATS["think"])


def test_a_stop_string_is_no_part_of_the_text_even_where_the_server_leaves_it_in() -> None:
    cut = parse_reply(reply(content="a; b END c", finish_reason="length"), "m", FORMATS["think"], ["END", "b"])
    assert (cut.text, cut.finish) == ("a; ", Finish.STOP)


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"completion_tokens": 4}, {"prompt_tokens": "3", "completion_tokens": True}, {"prompt_tokens": -1}],
)
def test_usage_that_is_not_two_counts_is_unknown(usage: object) -> None:
    answer = parse_reply(reply(content="x", usage=usage), "m", FORMATS["think"])
    assert None in (answer.prompt_tokens, answer.completion_tokens)


def test_lone_surrogates_do_not_survive() -> None:
    answer = parse_reply(reply(content="a\ud800b"), "m", FORMATS["think"])
    assert answer.text == "a?b"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["model", "choices", "message", "content", "finish_reason", "usage", "error", "reasoning", "text"]
            ),
            inner | st.sampled_from(["m", "stop", "length"]),
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=60)
@given(st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_every_reply_is_an_answer_or_a_bad_reply(data: bytes) -> None:
    with contextlib.suppress(BadReply):  # the only exception that may come out
        answer = parse_reply(data, "m", FORMATS["think"])
        answer.text.encode("utf-8")
        assert answer.finish in (Finish.STOP, Finish.LENGTH, Finish.FILTERED)


def test_a_bottomless_reply_is_malformed() -> None:
    for data in (b"[" * 200_000, b'{"error":' + b"[" * 900 + b"]" * 900 + b"}", b"9" * 10_000):
        with pytest.raises(BadReply):
            parse_reply(data, "m", FORMATS["think"])


@pytest.mark.parametrize(
    ("asked_for", "named", "same"),
    [
        ("gpt-x", "gpt-x", True),
        ("gpt-x", "gpt-x-2024-08-06", True),
        ("gpt-x", "GPT-X-0613", True),
        ("m", "m@main", True),
        ("m", "m:latest", True),
        ("org/m", "m", True),
        ("m", "org/m", True),
        ("gpt-x", "gpt-x-mini", False),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4", "gpt-4-32k", False),
        ("one/m", "two/m", False),
        ("gpt-x-2024-08-06", "gpt-x", False),
        ("m", "", False),
    ],
)
def test_same_model(asked_for: str, named: str, same: bool) -> None:
    assert same_model(asked_for, named) is same


def test_retry_after_reads_seconds_and_dates_and_nothing_else() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    assert retry_after_s("7", now) == 7.0
    assert retry_after_s(format_datetime(now + timedelta(seconds=90), usegmt=True), now) == 90.0
    assert retry_after_s(format_datetime(now - timedelta(seconds=90), usegmt=True), now) == 0.0
    for bad in (None, "", "soon", "inf", "nan", "Mon, 99 Foo 2024"):
        assert retry_after_s(bad, now) is None


# The stores.


@settings(max_examples=50)
@given(st.data())
def test_the_ledger_is_the_sum_of_what_is_known_and_what_may_be(data: st.DataObject) -> None:
    """Against a plain model: a list of charges, each replaced by its cost once that is known; reopened at random."""
    limit = data.draw(st.integers(0, 60))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        budget, model, ours = Budget(path, tokens=limit), {}, []
        for _ in range(data.draw(st.integers(0, 15))):
            action = data.draw(st.sampled_from(["reserve", "settle", "unknown", "reopen"]))
            if action == "reserve":
                most = Charge(data.draw(st.integers(0, 30)), None)
                fits = sum(model.values()) + most.tokens <= limit
                if not fits and not ours:
                    with pytest.raises(BudgetExceeded):
                        budget.reserve(most)
                    continue
                key = budget.reserve(most)
                assert (key is not None) == fits
                if key is not None:
                    model[key] = most.tokens
                    ours.append(key)
            elif action == "settle" and ours:
                key = ours.pop()
                model[key] = data.draw(st.integers(0, model[key]))
                budget.settle(key, Charge(model[key], None))
            elif action == "unknown" and ours:
                budget.settle(ours.pop(), None)
            elif action == "reopen":
                budget, ours = Budget(path, tokens=limit), []
            assert budget.spent_tokens == sum(model.values()) <= limit


def test_two_processes_share_one_budget(tmp_path: Path) -> None:
    one, two = (Budget(tmp_path / "ledger.jsonl", tokens=10) for _ in range(2))
    assert one.reserve(Charge(6, None))
    with pytest.raises(BudgetExceeded, match="4 of 10 tokens left"):
        two.reserve(Charge(6, None))
    assert two.reserve(Charge(4, None))


def test_dollars_are_exact_and_unpriced_requests_forbid_a_dollar_budget(tmp_path: Path) -> None:
    # 3 prompt tokens at 0.1 and 1 completion token at 0.7 USD per million: 1e-6 USD = 1000 billionths.
    assert charge(3, 1, Price(0.1, 0.7)).nano_usd == 1000
    assert charge(1, 0, Price(0.0001, 0)).nano_usd == 1  # rounded up
    budget = Budget(tmp_path / "ledger.jsonl", usd=1e-6)
    assert budget.reserve(Charge(4, 1000))
    assert budget.spent_usd == 1e-6
    unpriced = tmp_path / "unpriced.jsonl"
    assert Budget(unpriced).reserve(Charge(4, None))
    assert Budget(unpriced).spent_usd is None
    with pytest.raises(UserError, match="without a price"):
        Budget(unpriced, usd=1.0)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.integers(0, 400))
def test_a_cache_cut_anywhere_keeps_every_whole_answer_and_takes_new_ones(answers: list[str], cut: int) -> None:
    with TemporaryDirectory() as folder:
        cache = ResponseCache(folder)
        for i, text in enumerate(answers):
            cache.put(f"k{i}", Response(text=text, finish=Finish.STOP))
        path = Path(folder) / "answers.jsonl"
        data = path.read_bytes()[:cut]
        path.write_bytes(data)
        whole = data.count(b"\n")
        torn = ResponseCache(folder)
        assert len(torn) == whole
        torn.put("new", Response(text="new", finish=Finish.LENGTH))
        reopened = ResponseCache(folder)
        # A record that lost only its newline is whole again once the next one closes its line.
        assert len(reopened) in (whole + 1, whole + 2)
        assert all(reopened.get(f"k{i}") == Response(text=answers[i], finish=Finish.STOP) for i in range(whole))
        assert reopened.get("new") == Response(text="new", finish=Finish.LENGTH)
