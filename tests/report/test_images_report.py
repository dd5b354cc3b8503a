"""Pictures beside their traces: ours alone, drawn from valid scenes, in the report and in the viewer."""

import base64
import threading
import urllib.request
from pathlib import Path

import pytest
from fake_run import HOSTILE, trace
from page import Page, skeleton

from stillroom.report.data import ReportData
from stillroom.report.html import render
from stillroom.report.viewer import make_server
from stillroom.report.views import MAX_PICTURES, view
from stillroom.tasks.scenes import draw, png
from stillroom.traces import store

WORD = "scene:plain/rcgs1/bt2"
QUESTION = f"![]({WORD})\nHow many red?"


def sources(*questions: str) -> list[str]:
    return [source for text in questions for source in view(trace("t", "3", question=text), "traces").pictures]


def test_a_trace_shows_the_picture_that_was_asked_about() -> None:
    (source,) = sources(QUESTION)
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == png(draw(WORD))
    assert sources("How many red?") == []
    # The same picture twice is one, and a trace shows so many and no more.
    assert len(sources(QUESTION + QUESTION)) == 1
    assert len(sources("".join(f"![](scene:plain/rc{n}/{n + 1})" for n in range(1, 8)) + "![](scene:dark/1)" * 9)) == 8
    assert MAX_PICTURES == 8


def test_a_response_shows_none() -> None:
    assert view(trace("t", QUESTION), "traces").pictures == ()


def test_the_report_embeds_it() -> None:
    page = Page(
        render(ReportData(name="run", traces=(view(trace("t", "3", question=QUESTION), "traces"),), n_traces=1))
    )
    assert page.traces()[0]["pictures"] == sources(QUESTION)
    assert not [attrs for tag, attrs in page.elements if tag == "img"]  # the script makes them


@pytest.mark.parametrize("text", [t for t in HOSTILE if len(t) < 1000])
def test_hostile_text_beside_a_picture_changes_nothing(tmp_path: Path, text: str) -> None:
    pages = []
    for name, said in (("plain", "How many red?"), ("hostile", text)):
        store.write_shard(tmp_path, name, [trace("t", "3", question=f"![]({WORD}){said}")])
        with make_server([tmp_path / f"{name}.parquet"]) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            with urllib.request.urlopen(f"{server.address}trace?row=0") as reply:
                policy = reply.headers["Content-Security-Policy"]
                pages.append(Page(reply.read().decode()))
            server.shutdown()
            thread.join()
        assert "img-src data:;" in policy
    for page in pages:
        assert [attrs["src"] for tag, attrs in page.elements if tag == "img"] == sources(QUESTION)
    assert skeleton(pages[0])[:10] == skeleton(pages[1])[:10]
