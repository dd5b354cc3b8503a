"""Files of pairs and recorded verdicts: layouts, rows that are left out by name, and the released files themselves."""

import json
from collections import Counter
from pathlib import Path

import pytest

from stillroom.errors import UserError
from stillroom.judge.files import MISLABELLED, read_biased, read_pairs, read_recorded
from stillroom.judge.metrics import detection
from stillroom.tasks.paired import cue_faults, same_number

LLMBAR = {"input": "Greet!", "output_1": "hello", "output_2": "go away", "label": 1}
GSM8K = {"question": "2+2?", "answer": "2+2=4\n#### 4", "single_correct_answer": "4", "gemma_answer": "2+2 is 5, so 5"}
ARENA = {
    "id": 1,
    "prompt": "Greet!",
    "original": {"response_a": "hello", "response_b": "go away"},
    "reversed": {"response_a": "go away", "response_b": "hello"},
    "ground_truth_original": 1,
    "ground_truth_reversed": 2,
}
SCIENCE = {
    "question": "Which is a planet?",
    "choices": ["mars", "moon"],
    "answer": 0,
    "hint": "",
    "sentiment_choices": ["merely mars", "the superb moon"],
}


def write(folder: Path, *rows: object, name: str = "rows.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(list(rows)))
    return path


def test_llmbar_rows_become_pairs_in_both_orders(tmp_path: Path) -> None:
    write(tmp_path, LLMBAR, {**LLMBAR, "label": 2})
    found = read_pairs([tmp_path])
    assert [(i.candidates, i.gold, i.candidates_b, i.gold_b) for i in found.items] == [
        (("hello", "go away"), 0, ("go away", "hello"), 1),
        (("hello", "go away"), 1, ("go away", "hello"), 0),
    ]


def test_released_layouts_are_told_apart_by_their_fields(tmp_path: Path) -> None:
    paths = [write(tmp_path, row, name=f"{n}.json") for n, row in enumerate((GSM8K, ARENA, SCIENCE))]
    found = read_biased(paths)
    assert [item.bias for item in found.items] == ["verbosity", "position", "bandwagon", "sentiment"]
    assert (found.left, found.doubtful, found.rows) == ([], [], 3)
    verbosity, position, bandwagon, sentiment = found.items
    assert verbosity.candidates_b[verbosity.gold] == "4"
    assert (
        verbosity.candidates[1 - verbosity.gold] == verbosity.candidates_b[1 - verbosity.gold] == GSM8K["gemma_answer"]
    )
    assert (position.gold, position.gold_b, bandwagon.majority) == (0, 1, 1)
    assert sentiment.candidates_b == ("merely mars", "the superb moon")
    assert read_biased(paths, seed=0).items == found.items


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (GSM8K, {**GSM8K, "gemma_answer": "surely $4.00"}, MISLABELLED),
        (GSM8K, {**GSM8K, "gemma_answer": ""}, "empty"),
        (GSM8K, {"gemma_answer": "5"}, "missing"),
        (ARENA, {**ARENA, "reversed": ARENA["original"]}, "not the original one with its sides swapped"),
        (ARENA, {**ARENA, "ground_truth_original": 9}, "number 8 of 2"),
        (ARENA, {**ARENA, "original": None}, "wrong kind"),
        (SCIENCE, SCIENCE, "stood there before"),
        (SCIENCE, {**SCIENCE, "choices": ["mars"], "sentiment_choices": ["mars"]}, "1 candidates"),
        (SCIENCE, {**SCIENCE, "choices": ["mars", "mars"]}, "identical"),
        (SCIENCE, 7, "wrong kind"),
    ],
)
def test_bad_rows_are_left_out_with_number_and_reason(tmp_path: Path, good: object, bad: object, reason: str) -> None:
    found = read_biased([write(tmp_path, good, bad)])
    assert {item.id.split("/")[1] for item in found.items} == {"1"}
    ((row, told),) = [(left.row, left.reason) for left in found.left]
    assert row == 2
    assert reason in told


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "not known"),
        ("{}", "not a list"),
        ("[1", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('[{"a": 1}]', "fields: a"),
        (json.dumps([{**LLMBAR, "label": 3}]), "no usable row among 1.*label 3"),
    ],
)
def test_a_file_of_no_use_is_one_clear_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_pairs([path])


def test_absent_files_are_named(tmp_path: Path) -> None:
    for read in (lambda p: read_pairs([p]), lambda p: read_biased([p]), read_recorded):
        with pytest.raises(UserError, match=r"nowhere"):
            read(tmp_path / "nowhere.json")
    with pytest.raises(UserError, match="no JSON file"):
        read_pairs([tmp_path])


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="bias_category"):
        read_recorded(path)
    head = "bias_category,llm_judge_model,bias_label,deepseek_prediction_bias_label\n"
    path.write_text(f"{head}position,m,Maybe,Yes\n")
    with pytest.raises(UserError, match=r"row 1.*Maybe"):
        read_recorded(path)
    path.write_text(f"{head}position,m,Yes,\n")
    assert detection((r.label, r.said) for r in read_recorded(path)).malformed == 1


def test_the_recorded_reasoner_scores_what_was_computed_before(data_dir: Path) -> None:
    rows = read_recorded(data_dir / "rbd_bias4_eval" / "reasoning_supervision_test.csv")
    found = detection((row.label, row.said) for row in rows)
    assert (found.true_yes + found.true_no, found.n) == (407, 500)
    assert (found.true_yes, found.true_yes + found.false_no) == (215, 250)
    assert (found.true_yes, found.true_yes + found.false_yes) == (215, 273)


def test_the_released_pairs_are_what_the_constructions_make(data_dir: Path) -> None:
    folder = data_dir / "rbd_bias4_eval"
    found = read_biased([folder])
    assert Counter(item.bias for item in found.items) == {
        "position": 500,
        "bandwagon": 500,
        "verbosity": 443,
        "sentiment": 437,
    }
    assert all(not cue_faults(item) for item in found.items if item.bias != "sentiment")
    assert Counter((left.source, left.reason) for left in found.left) == {
        ("GSM8K_Verbosity.json", MISLABELLED): 57,
        ("ScienceQA_Sentiment.json", "the same question and choices stood there before"): 63,
    }
    # 54 of the 57 are written the same to the character; the other three say $20.00 for 20 and the like.
    rows = json.loads((folder / "GSM8K_Verbosity.json").read_text())
    assert all(
        same_number(rows[left.row - 1]["gemma_answer"], rows[left.row - 1]["single_correct_answer"])
        for left in found.left
        if left.source.startswith("GSM8K")
    )


def test_llmbar_has_419_pairs(data_dir: Path) -> None:
    found = read_pairs([data_dir / "llmbar"])
    assert (len(found.items), found.left) == (419, [])
    assert all(not cue_faults(item) for item in found.items)
