"""The configuration: a wrong key, value or combination is an error that says what to write instead."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from stillroom.errors import UserError
from stillroom.lab.config import DistillConfig, load_config, parse_config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"studnet": "x"}, r"unknown setting 'studnet'; did you mean 'student'\?"),
        ({"train": {"epoch": 2}}, r"unknown setting 'train\.epoch'; did you mean 'epochs'\?"),
        ({"zzz": 1}, r"unknown setting 'zzz'$"),
        ({"samples": 0}, r"samples: .*greater than or equal to 1 \(got 0\)"),
        ({"samples": "many"}, r"samples: .*integer.* \(got 'many'\)"),
        ({"train": {"lr": -1.0}}, r"train\.lr: .*greater than 0 \(got -1\.0\)"),
        ({"train": {"schedule": "step"}}, r"train\.schedule: .*'cosine' \(got 'step'\)"),
        ({"train": 3}, r"train"),
        ({"budget_usd": 5}, r"budget_usd has no effect on teacher 'program': only servers cost money"),
        ({"price": [1, 2], "teacher": "replay:a.jsonl"}, r"price has no effect on teacher 'replay:a\.jsonl'"),
        ({"answers": "kept"}, r"answers has no effect"),
        ({"style": {"verbosity": 1}, "teacher": "replay:a.jsonl"}, r"style has no effect on teacher"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(values)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(UserError, match=r"samples.*; unknown setting 'studnet'"):
        parse_config({"samples": 0, "studnet": "x"})


def test_what_a_server_costs_can_be_said_of_a_server() -> None:
    config = parse_config({"teacher": "openai:m@http://x", "price": [0.3, 1.2], "budget_usd": 20, "answers": "kept"})
    assert (config.price, config.budget_usd) == ((0.3, 1.2), 20)


def test_a_resolved_configuration_says_the_same_again(tmp_path: Path) -> None:
    config = parse_config({"samples": 4, "style": {"layout": "sentences"}, "train": {"epochs": 2}})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"kind": "distill", **config.model_dump(mode="json")}))
    assert parse_config(load_config(path)) == config


def test_rates_suit_the_student_unless_they_are_given() -> None:
    proxy, real = DistillConfig().train, parse_config({"student": "some/checkpoint"}).train
    assert proxy.lr > 10 * real.lr
    assert parse_config({"train": {"lr": 1e-4}}).train.lr == 1e-4


@pytest.mark.parametrize("content", [b"a: [", b"- a\n- b\n", b"", b"\xff\xfe\x00"])
def test_a_file_without_settings_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_config(path)
    with pytest.raises(UserError, match="nothing"):
        load_config(tmp_path / "nothing.yaml")
