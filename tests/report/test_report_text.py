import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillroom.report.text import MAX_LINE, MAX_TEXT, changes, embed_json, marked, shown, visible

texts = st.text(st.characters(exclude_categories=[]), max_size=200)


@pytest.mark.parametrize(
    ("given_", "seen"),
    [
        ("plain, ünïcode, 漢字 and\n\ttabs", "plain, ünïcode, 漢字 and\n\ttabs"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066\u2069\u200f", "⟨U+2066⟩⟨U+2069⟩⟨U+200F⟩"),
        ("\x00\x1b[31m\x7f\r", "⟨U+0000⟩⟨U+001B⟩[31m⟨U+007F⟩⟨U+000D⟩"),
        ("zero\u200bwidth\ufeff", "zero⟨U+200B⟩width⟨U+FEFF⟩"),
        ("\u2028\u2029\ud800\ue000", "⟨U+2028⟩⟨U+2029⟩⟨U+D800⟩⟨U+E000⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),  # a tag character: invisible, readable by a model
        ("an imitation ⟨U+202E⟩", "an imitation ⟨U+27E8⟩U+202E⟩"),
        ("maths ⟨x, y⟩", "maths ⟨x, y⟩"),
    ],
)
def test_what_cannot_be_seen_is_written_out(given_: str, seen: str) -> None:
    assert visible(given_) == seen


@given(texts)
@example("⟨U+27E8⟩")
def test_visible_hides_nothing_and_loses_nothing(text: str) -> None:
    seen = visible(text)
    assert not {unicodedata.category(c) for c in seen if c not in "\n\t"} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert re.sub(r"⟨U\+([0-9A-F]{4,6})⟩", lambda m: chr(int(m[1], 16)), seen) == text


def test_a_long_line_is_cut_and_its_length_told() -> None:
    cut = shown("a\n" + "x" * 1_000_000 + "\nb")
    assert cut == "a\n" + "x" * MAX_LINE + "⟨… 998,000 of this line's 1,000,000 characters⟩\nb"


def test_a_long_text_is_cut_and_its_length_told() -> None:
    cut = shown("ab\n" * 500_000)
    assert len(cut) < MAX_TEXT + 100
    assert cut.endswith("of 1,500,000 characters⟩")


@given(texts)
def test_short_texts_are_shown_whole(text: str) -> None:
    assert shown(text) == visible(text)


@given(texts, texts)
def test_a_diff_holds_both_texts(before: str, after: str) -> None:
    diff = changes(before, after)
    assert "".join(text for kind, text in diff if kind != "added") == visible(before)
    assert "".join(text for kind, text in diff if kind != "removed") == visible(after)


def test_a_diff_by_hand() -> None:
    assert changes("2 + 2 = 5, so 5", "2 + 2 = 4, so 5") == (
        ("same", "2 + 2 = "),
        ("removed", "5, "),
        ("added", "4, "),
        ("same", "so 5"),
    )


def test_a_diff_of_endless_texts_is_bounded() -> None:
    diff = changes("a b " * 100_000, "b a " * 100_000)
    assert sum(len(text) for _, text in diff) < 4 * MAX_TEXT


@given(st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8))
@example("</script><!--\u2028&lt;")
def test_embedded_json_cannot_leave_its_element(value: object) -> None:
    written = embed_json(value)
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == value


def test_only_real_escapes_are_set_apart() -> None:
    assert marked(shown("<b>\u202e⟨U+202E⟩")) == (
        '&lt;b&gt;<span class="esc">U+202E</span><span class="esc">U+27E8</span>U+202E⟩'
    )
