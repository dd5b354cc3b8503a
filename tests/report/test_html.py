import base64
import hashlib
from pathlib import Path

import pytest
from fake_run import HOSTILE, trace, write
from hypothesis import given, settings
from hypothesis import strategies as st
from page import Page, skeleton

from stillroom.report import ReportData, build, render
from stillroom.report.data import Alarm, Arm, Claim, Curve, Estimate, Result, Selection
from stillroom.report.html import MAX_BYTES
from stillroom.report.views import view
from stillroom.traces import store


def hostile_data(text: str) -> ReportData:
    child = view(trace(text, text, problem=text, question=text), text, text[::-1])
    share = Estimate(value=0.5, low=0.4, high=0.6, n=10)
    arm = Arm(name=text, accuracy=share, by_level={"1": share, "2": share})
    claim = Claim.model_validate({"text": text, "verdict": text, "metric": text, "arms": [text, text], "seeds": [text]})
    result = Result(
        kind=text,
        title=text,
        task=text,
        arms=(arm,),
        selection=Selection(input=3, kept=1, dropped={text: 2}),
        alarms=(Alarm(text=text),),
        claims=(claim,),
        verdict=text,
    )
    return ReportData(
        name=text,
        finished=True,
        result=result,
        curves=(Curve(text, text, text, text, ((0.0, 1.0), (1.0, 2.0))),),
        config=text,
        manifest={"command": text, "versions": {text: text}, "x": [text]},
        traces=(child,),
        n_traces=1,
    )


# Two letters, because a title, name or command that is empty is (rightly) left out.
TAME = skeleton(Page(render(hostile_data("ab"))))


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=60).map(lambda text: f"a{text}b"))
def test_no_text_becomes_markup(text: str) -> None:
    page = Page(render(hostile_data(text)))
    assert skeleton(page) == TAME
    assert len(page.traces()) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_made_to_break_out(text: str) -> None:
    page = Page(render(hostile_data(text)))
    assert skeleton(page) == TAME
    assert [attrs.get("type") for tag, attrs in page.elements if tag == "script"] == ["application/json", None]


def test_hidden_characters_are_shown_wherever_they_stand() -> None:
    html = render(hostile_data("a\u202eb\x1bc\u2028d"))
    assert not {"\u202e", "\x1b", "\u2028"} & set(html)
    assert html.count("a⟨U+202E⟩b⟨U+001B⟩c⟨U+2028⟩d") > 10


def test_the_page_stands_alone_and_its_policy_names_its_own_code(tmp_path: Path) -> None:
    page = Page(build(write(tmp_path / "run", n=40)).read_text())
    policy = next(str(a["content"]) for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    sources = {tag: text for tag, text in page.inside if not text.startswith("[")}
    for tag, source in sources.items():
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [name for _, attrs in page.elements for name in attrs if name in ("src", "href", "style")]
    assert "innerHTML" not in sources["script"]
    assert "url(" not in sources["style"]
    assert "@import" not in sources["style"]


def test_a_whole_run_shows_all_its_parts(tmp_path: Path) -> None:
    page = Page(build(write(tmp_path / "run", n=80)).read_text())
    for words in (
        "Chain arithmetic, distilled",
        "74.2%",
        "+52.8",
        "Accuracy by level",
        "Accuracy against tokens",
        "train: loss",
        "Selection of traces",
        "Difficulty: pass rate per problem",
        "no price known",
        "refuted",
        "12% of the base's answers were cut off",
        "loss: 1 value was not a finite number",
        "stillroom distill --task arithmetic --seed 7",
    ):
        assert words in page.text
    drawn = [attrs for tag, attrs in page.elements if tag == "svg" and attrs.get("role") == "img"]
    assert all(attrs["aria-label"] for attrs in drawn)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    page = Page(build(tmp_path).read_text())
    assert "This run has no result yet" in page.text
    assert "No traces were recorded" in page.text


def test_unjudged_is_neither_correct_nor_wrong() -> None:
    assert [view(trace("t", "x", correct=c), "traces").outcome for c in (True, False, None)] == [
        "correct",
        "wrong",
        "unjudged",
    ]


def test_the_size_cap_holds_and_the_page_tells_what_it_left_out(tmp_path: Path) -> None:
    made = (trace(f"t{i}", ("step by step " * 140 + "\n") * 6, problem=f"p{i}") for i in range(10_000))
    store.write_shard(tmp_path / "traces", "a", made)
    html = build(tmp_path).read_bytes()
    assert 0.9 * MAX_BYTES < len(html) <= MAX_BYTES
    page = Page(html.decode())
    shown = len(page.traces())
    assert 1_500 < shown < 2_000
    assert f"{shown:,} of 10,000 traces" in page.text
