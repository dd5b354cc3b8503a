"""Every trace of any number of files, page by page, served to this machine only.

The pages are made on the server with the report's own escaping; they hold no script at all. Queries run lazily over
the Parquet columns, so that a store of millions of traces opens as fast as a small one.
"""

import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import polars as pl

from stillroom.errors import UserError
from stillroom.report.html import asset, environment, hash_source
from stillroom.report.text import visible
from stillroom.report.views import outcome_of, parent_texts, view
from stillroom.traces import store

PAGE = 50
FILTERS = ("q", "problem", "outcome", "level", "source", "finish")


def serve(paths: Sequence[Path | str], host: str = "127.0.0.1", port: int = 0, open_browser: bool = False) -> None:
    """Serve the traces of files and folders until interrupted; prints the address.

    Args:
        port: 0 takes a free one.

    Raises:
        UserError: nothing to show, a port that is taken, or a host that is not this machine.
    """
    with make_server(paths, host, port) as server:
        print(f"Traces at {server.address} (stop with Ctrl-C)", flush=True)
        if open_browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


class ViewerServer(ThreadingHTTPServer):
    """Bound at construction; answers once `serve_forever` runs."""

    daemon_threads = True

    def __init__(self, paths: Sequence[Path], host: str, port: int) -> None:
        self.paths = paths
        self.choices = {"outcome": ["correct", "wrong", "unjudged"]}
        for name in ("level", "source", "finish"):
            values = store.scan(*paths).select(pl.col(name).unique().sort()).head(200).collect()[name]
            self.choices[name] = [str(value) for value in values]
        super().__init__((host, port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (host, "127.0.0.1", "localhost")}
        self.address = f"http://{host}:{self.server_port}/"


def make_server(paths: Sequence[Path | str], host: str = "127.0.0.1", port: int = 0) -> ViewerServer:
    """The server of `serve`, not yet answering; raises as `serve` does."""
    if host != "localhost" and not _is_loopback(host):
        raise UserError(f"host {host!r} is not this machine; traces are served on 127.0.0.1 only")
    found = store.paths_of(*paths)
    try:
        return ViewerServer(found, host, port)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}:{port}: {error}; give another --port, or none") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).version == 4 and ip_address(host).is_loopback
    except ValueError:
        return False


def select(frame: pl.LazyFrame, want: dict[str, str]) -> pl.LazyFrame:
    """The rows that fit the filters; an empty value fits all, and text is searched literally, whatever its case."""
    if outcome := want.get("outcome"):
        judged = pl.col("correct")
        frame = frame.filter(judged.is_null() if outcome == "unjudged" else judged == (outcome == "correct"))
    if level := want.get("level"):
        frame = frame.filter(pl.col("level").cast(pl.String) == level)
    for name in ("source", "finish"):
        if value := want.get(name):
            frame = frame.filter(pl.col(name) == value)
    if problem := want.get("problem"):
        frame = frame.filter(_contains(pl.col("problem_id"), problem))
    if words := want.get("q"):
        frame = frame.filter(_contains(store.text(), words) | _contains(store.question(), words))
    return frame


def _contains(column: pl.Expr, words: str) -> pl.Expr:
    return column.str.to_lowercase().str.contains(words.lower(), literal=True)


def listing(server: ViewerServer, want: dict[str, str]) -> str:
    """The page that lists the traces which fit the filters."""
    found = select(store.scan(*server.paths).with_row_index("row"), want)
    total = int(found.select(pl.len()).collect().item())
    pages = max(1, -(-total // PAGE))
    page = _whole(want.get("page"), 1, pages)
    start = store.text().str.head(200).alias("start")
    columns = found.select("row", "problem_id", "correct", "level", "source", "finish", start)
    rows = columns.slice((page - 1) * PAGE, PAGE).collect().rows(named=True)
    for row in rows:
        row["outcome"] = outcome_of(row["correct"])
        row["start"] = visible(row["start"] or "")
    return _page(
        rows=rows,
        want=want,
        choices=server.choices,
        total=total,
        page=page,
        pages=pages,
        query=urlencode({name: want[name] for name in FILTERS if want.get(name)}),
        trace=None,
    )


def detail(server: ViewerServer, row: int) -> str | None:
    """The page of one trace by its place in the files; None when there is no such place."""
    found = store.from_frame(store.scan(*server.paths).slice(row, 1).collect())
    if not found:
        return None
    parents = parent_texts(server.paths, found)
    parent = parents.get(found[0].parents[0]) if found[0].parents else None
    return _page(trace=view(found[0], "", parent), row=row)


class _Handler(BaseHTTPRequestHandler):
    server: ViewerServer
    server_version, sys_version = "stillroom", ""
    timeout = 30

    def do_GET(self) -> None:
        # A foreign name that resolves to this machine must not read the traces (DNS rebinding).
        if self.headers.get("Host") not in self.server.hosts:
            self._send(HTTPStatus.MISDIRECTED_REQUEST, "This viewer answers to its own address only.")
            return
        parts = urlsplit(self.path)
        try:
            want = {name: values[0] for name, values in parse_qs(parts.query, max_num_fields=20).items()}
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, "Too many fields.")
            return
        body = None
        if parts.path == "/":
            body = listing(self.server, want)
        elif parts.path == "/trace":
            body = detail(self.server, _whole(want.get("row"), 0, 2**31))
        if body is None:
            self._send(HTTPStatus.NOT_FOUND, "Nothing here.")
        else:
            self._send(HTTPStatus.OK, body, "text/html")

    def _send(self, status: HTTPStatus, body: str, kind: str = "text/plain") -> None:
        data = body.encode("utf-8", "backslashreplace")
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the terminal belongs to the user."""


_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src '{hash_source(asset('style.css'))}'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _page(**values: Any) -> str:
    return environment().get_template("viewer.html.j2").render(style=asset("style.css"), **values)


def _whole(text: str | None, low: int, high: int) -> int:
    """The whole number in a query, held within bounds; whatever is no number counts as the lower bound."""
    digits = (text or "")[:12]
    return min(max(int(digits), low), high) if digits.isascii() and digits.isdigit() else low
