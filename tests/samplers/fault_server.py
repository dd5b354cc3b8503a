"""An OpenAI-compatible server on loopback that misbehaves on command, and keeps its own books."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = ("ok", "slow", "no usage", "dated model")
"""Behaviours after which the client holds a complete, usable answer."""
UNBILLED = ("429", "429 date", "500", "503", "400", "401", "404")
"""Everything else is billed: the server did generate, whatever became of the answer."""


def asked(body: dict[str, Any]) -> str:
    """What a request asks for, as one string: the key of the server's books."""
    return json.dumps([body.get("messages", body.get("prompt")), body["seed"]])


def answer_to(body: dict[str, Any]) -> str:
    return f"answer to {asked(body)}"


def usage_of(body: dict[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens that the server bills."""
    return len(asked(body)) // 3, 1 + body["seed"] % body["max_tokens"]


@dataclass
class FaultServer:
    """Answers the i-th request as ``script(i, body)`` says; "ok" when there is no script."""

    url: str = ""
    script: Callable[[int, dict[str, Any]], str] = lambda i, body: "ok"
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    """`asked` of every good answer whose last byte was written."""
    billed_tokens: int = 0
    hang_s: float = 30.0
    retry_after: str = "0.05"
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            number = len(self.requests)
            self.requests.append(body)
            self.paths.append(handler.path)
            behaviour = self.script(number, body)
            if behaviour not in UNBILLED:
                self.billed_tokens += sum(usage_of(body))
        try:
            self._act(handler, body, behaviour)
        except OSError:
            return  # the client left
        if behaviour in GOOD:
            with self.lock:
                self.sent.append(asked(body))

    def _act(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], behaviour: str) -> None:
        if behaviour in ("429", "429 date"):
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 1))
            self._write(handler, 429, b"{}", retry_after=self.retry_after if behaviour == "429" else date)
            return
        if behaviour.isdigit():
            self._write(handler, int(behaviour), json.dumps({"error": {"message": f"fault {behaviour}"}}).encode())
            return
        if behaviour == "hang":
            self.closing.wait(self.hang_s)
            handler.close_connection = True
            return
        if behaviour == "drop":
            handler.close_connection = True
            return
        if behaviour == "trickle":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            while not self.closing.wait(0.02):
                handler.wfile.write(b" ")
            return
        if behaviour == "slow":
            time.sleep(0.03)
        prompt_tokens, completion_tokens = usage_of(body)
        text = answer_to(body)
        chat = "messages" in body
        choice = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        reply: dict[str, Any] = {
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", **choice}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        }
        if behaviour == "empty":
            reply["choices"] = []
        if behaviour == "no usage":
            del reply["usage"]
        if behaviour == "wrong model":
            reply["model"] = "something-else"
        if behaviour == "dated model":
            reply["model"] = body["model"] + "-2024-08-06"
        data = json.dumps(reply).encode()
        if behaviour == "malformed":
            data = data[:-7] + b"\xff"
        self._write(handler, 200, data, cut=behaviour == "cut")

    def _write(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        cut: bool = False,
        retry_after: str | None = None,
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data) + (100 if cut else 0)))
        if retry_after is not None:
            handler.send_header("Retry-After", retry_after)
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()
        if cut:
            handler.close_connection = True


@contextmanager
def serving(script: Callable[[int, dict[str, Any]], str] | None = None) -> Iterator[FaultServer]:
    """A running server on a free port of 127.0.0.1."""
    server = FaultServer()
    if script is not None:
        server.script = script

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            server.reply(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that was killed resets its connections

    http = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        http.shutdown()
        http.server_close()
        thread.join()
