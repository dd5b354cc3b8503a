import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_run import HOSTILE, trace
from page import Page

from stillroom.errors import UserError
from stillroom.report.viewer import ViewerServer, make_server
from stillroom.traces import store
from stillroom.types import Finish


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerServer]:
    folder = tmp_path_factory.mktemp("traces")
    made = [trace(f"t{i}", f"response number {i}", problem=f"p{i // 2}", correct=i % 3 == 0) for i in range(120)]
    made += [
        trace("unjudged", "who knows", correct=None, level=4, source="student", finish=Finish.LENGTH),
        trace("child", "response number zero", parents=("t0",), source="corrected"),
        *(trace(f"h{i}", text, problem=text[:80], question=text) for i, text in enumerate(HOSTILE)),
    ]
    store.write_shard(folder, "a", made)
    with make_server([folder]) as made_server:
        thread = threading.Thread(target=made_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made_server
        made_server.shutdown()
        thread.join()


def ask(server: ViewerServer, path: str, host: str | None = None) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response, body


def count(server: ViewerServer, query: str) -> str:
    return Page(ask(server, f"/?{query}")[1]).text.split(" trace")[0].split()[-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 131),
        ("outcome=unjudged", 1),
        ("outcome=wrong", 80),
        ("level=4", 1),
        ("source=student", 1),
        ("finish=length", 1),
        ("problem=p17", 2),
        ("q=RESPONSE+number+11", 11),
        ("q=RESPONSE+number+11&outcome=correct", 3),
        ("q=%5B.*", 0),
        ("q=%3Cscript%3E", 3),
        ("level=four", 0),
    ],
)
def test_filters(server: ViewerServer, query: str, expected: int) -> None:
    assert count(server, query) == str(expected)


def test_pages_hold_every_trace_once(server: ViewerServer) -> None:
    links = []
    for page in (1, 2, 3):
        body = Page(ask(server, f"/?page={page}")[1])
        links += [attrs["href"] for tag, attrs in body.elements if tag == "a" and "row=" in str(attrs["href"])]
    assert sorted(links) == sorted(f"/trace?row={row}" for row in range(131))
    assert ask(server, "/?page=99")[1] == ask(server, "/?page=3")[1] == ask(server, "/?page=3&nothing=x")[1]


def test_a_trace_with_its_parent(server: ViewerServer) -> None:
    page = Page(ask(server, "/trace?row=121")[1])
    tags = [tag for tag, _ in page.elements]
    assert tags.count("ins") == tags.count("del") == 1
    assert "response number 0zero" in page.text


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_traces_stay_text(server: ViewerServer, number: int) -> None:
    body = ask(server, f"/trace?row={122 + number}")[1]
    tags = {tag for tag, _ in Page(body).elements}
    assert not tags & {"script", "img"}
    assert len(body) < 100_000
    assert not {"\u202e", "\x00", "\x1b"} & set(body)


def test_a_search_is_shown_back_as_text(server: ViewerServer) -> None:
    page = Page(ask(server, "/?q=%22%3E%3Cscript%3E")[1])
    assert "script" not in [tag for tag, _ in page.elements]
    assert next(attrs["value"] for tag, attrs in page.elements if attrs.get("name") == "q") == '"><script>'


@pytest.mark.parametrize(
    ("path", "status"),
    [("/elsewhere", 404), ("/../../etc/passwd", 404), ("/trace?row=9999", 404), ("/?" + "a=1&" * 50, 400)],
)
def test_what_is_not_there(server: ViewerServer, path: str, status: int) -> None:
    assert ask(server, path)[0].status == status


def test_a_foreign_host_name_is_refused(server: ViewerServer) -> None:
    response, body = ask(server, "/", host="evil.example")
    assert response.status == 421
    assert "response number" not in body
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0].status == 200


def test_security_headers(server: ViewerServer) -> None:
    response, _ = ask(server, "/")
    policy = str(response.headers["Content-Security-Policy"])
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org", "", "::"])
def test_only_this_machine(server: ViewerServer, host: str) -> None:
    with pytest.raises(UserError, match="not this machine"):
        make_server(server.paths, host)


def test_a_taken_port_and_missing_files(server: ViewerServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot listen"):
        make_server(server.paths, port=server.server_port)
    with pytest.raises(UserError, match="cannot listen"):
        make_server(server.paths, port=99_999)
    with pytest.raises(UserError, match="no such file"):
        make_server([tmp_path / "absent.parquet"])
