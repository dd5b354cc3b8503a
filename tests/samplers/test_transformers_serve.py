"""The server sampler against a real OpenAI-compatible server, `transformers serve`, on loopback."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures_distill import small, write_student
from stillroom.chat import render_chat
from stillroom.models.proxies import proxy_path
from stillroom.samplers import Prompt, SamplingParams
from stillroom.samplers.budget import Budget
from stillroom.samplers.cache import ResponseCache
from stillroom.samplers.openai import OpenAISampler
from stillroom.types import Finish, Message
from stillroom.workbench import distill

NEEDED = ("httpx", "fastapi", "uvicorn", "openai")
START_S = 240.0

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Path]]:
    """Base URL, and the folder of the checkpoint that it serves: a committed proxy that solves short chains."""
    folder = proxy_path("dart-generator-0.4m")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder)]
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None, "the server ended before it answered"
                assert time.monotonic() < deadline, f"no answer from the server within {START_S:g} s"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", folder
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


def test_a_served_checkpoint_answers_chats_and_continues_prefixes(served: tuple[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    url, model = served
    tokenizer = AutoTokenizer.from_pretrained(model)
    prompts = [Prompt(messages=(Message(role="user", content=f"question {i}"),), seed=i) for i in range(3)]
    params = SamplingParams(n=2, max_new_tokens=12)

    def sampler(name: str = str(model), continues: bool = False) -> OpenAISampler:
        return OpenAISampler(
            name,
            url,
            budget=Budget(tmp_path / "ledger.jsonl", tokens=50_000),
            cache=ResponseCache(tmp_path),
            max_retries=1,
            render=(lambda messages: render_chat(tokenizer, messages, generate=True)) if continues else None,
        )

    chats = sampler()
    rows = chats.sample(prompts, params)
    assert [len(row) for row in rows] == [2, 2, 2]
    assert {r.finish for row in rows for r in row} <= {Finish.STOP, Finish.LENGTH}
    assert all(1 <= r.usage.completion_tokens <= 12 for row in rows for r in row)
    assert len({r.text for row in rows for r in row}) > 1
    assert chats.counts["usage unknown"] == 0
    spent = Budget(tmp_path / "ledger.jsonl").spent_tokens
    assert spent == sum(r.usage.prompt_tokens + r.usage.completion_tokens for row in rows for r in row)

    again = sampler()
    assert again.sample(prompts, params) == rows
    assert again.counts["sent"] == 0

    begun = [prompt.model_copy(update={"prefix": "one two"}) for prompt in prompts]
    continued = sampler(continues=True).sample(begun, params)
    asked = len(tokenizer(render_chat(tokenizer, begun[0].messages, generate=True) + "one two")["input_ids"])
    assert continued[0][0].usage.prompt_tokens == asked

    ((refused, _),) = sampler(name="another").sample(prompts[:1], params)
    assert refused.finish == Finish.ERROR
    assert "another" in (refused.error or "")


def test_a_main_job_with_a_served_teacher(served: tuple[str, Path], tmp_path: Path) -> None:
    url, model = served
    config = small(
        write_student(tmp_path / "student"),
        task="arithmetic:high=2",
        teacher=f"openai:{model}@{url}",
        max_new_tokens=48,
        budget_tokens=20_000,
        concurrency=2,
    )
    result = distill(config, tmp_path / "run")
    assert result.selection["kept"] >= 6
    taught = result.arms["teacher"].accuracy
    assert taught.n == 12
    assert (taught.value or 0) >= 0.5
    assert result.cost["teacher_tokens"] == Budget(tmp_path / "run" / "answers" / "ledger.jsonl").spent_tokens
