"""params.yaml: a key that is misspelt, missing or mistyped is one error that names it."""

import pytest
import yaml

from data.errors import EvergreenError
from data.params import load_params
from data.problem import Problem, load_problem


@pytest.fixture
def content(root):
    return yaml.safe_load((root / "params.yaml").read_text())


@pytest.fixture
def refusal(tmp_path):
    def load(content) -> str:
        path = tmp_path / "params.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        with pytest.raises(EvergreenError) as error:
            load_params(path)
        return str(error.value)

    return load


def test_the_real_file_loads_with_its_problem(root):
    params = load_params(root / "params.yaml")
    assert isinstance(load_problem(params.problem), Problem)


def test_a_misspelt_key_is_named_with_the_nearest_known(content, refusal):
    content["gates"]["champion_margn"] = content["gates"].pop("champion_margin")
    said = refusal(content)
    assert "gates.champion_margn: unknown key: did you mean 'champion_margin'?" in said
    assert "gates.champion_margin: missing key" in said


def test_a_misspelt_section_is_named(content, refusal):
    content["xgbost"] = content["xgboost"]
    assert "xgbost: unknown key: did you mean 'xgboost'?" in refusal(content)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "holdout_periods", "one"),
        ("train", "holdout_periods", 0),
        ("train", "seed", 1.5),
        ("train", "as_of", None),
        ("xgboost", "max_depth", True),
        ("gates", "parity_tolerance", "1e-6"),
        ("gates", "champion_margin", float("inf")),
        ("gates", "beat_base_rate_by", float("nan")),
        ("monitor", "excluded_share_limit", 1.5),
    ],
)
def test_a_wrong_value_is_named_with_its_key(content, refusal, section, key, value):
    content[section][key] = value
    said = refusal(content)
    assert f"{section}.{key}: " in said and f"(is {value!r})" in said


@pytest.mark.parametrize("text", ["", "- a\n", "problem: [", "just text"])
def test_a_file_that_is_no_mapping_is_one_error(refusal, text):
    assert "params.yaml" in refusal(text)


def test_a_missing_file_is_one_error(tmp_path):
    with pytest.raises(EvergreenError, match="is missing: run from a checkout"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("path", ["data/nowhere.py", "data/errors.py", "", "../up.py"])
def test_a_problem_that_is_none_is_one_error(path):
    with pytest.raises(EvergreenError, match="PROBLEM") as error:
        load_problem(path)
    assert repr(path) in str(error.value)


def test_a_key_that_is_there_twice_is_named(root, refusal):
    text = (root / "params.yaml").read_text()
    said = refusal(text.replace("  max_depth: 6", "  max_depth: 6\n  max_depth: 9"))
    assert "'max_depth' is there twice" in said
