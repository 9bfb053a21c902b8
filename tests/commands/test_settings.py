"""Settings: arguments over YAML over defaults, and every wrong value answered with a way out."""

from pathlib import Path

import pytest

from tadp.commands.errors import InputError
from tadp.commands.settings import OPTIONS, Settings, collect_prompts, merge


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_without_arguments_or_file() -> None:
    assert merge({}, None) == Settings()


def test_every_setting_has_an_option() -> None:
    assert {option.name for option in OPTIONS} == set(Settings.__dataclass_fields__)


def test_yaml_gives_every_setting(tmp_path: Path) -> None:
    config = write(
        tmp_path / "tadp.yaml",
        "prompts: [a red circle, a blue star]\nprompts_file: more.txt\nmodel: some/dir\npolicy: static:8\n"
        "compare: [static:16, static:4]\nseed: 3\nout: there\nsteps: 7\nframes: 9\nheight: 32\nwidth: 48\n"
        "guidance: 5\nmax_sequence_length: 80\nfps: 12\ndtype: float32\ndevice: cpu\n"
        "group_size: 64\nseconds: 0.1\narch: sm_90, sm_120\ncodes: out/codes\n",
    )
    assert merge({}, config) == Settings(
        prompts=("a red circle", "a blue star"),
        prompts_file=Path("more.txt"),
        model="some/dir",
        policy="static:8",
        compare=("static:16", "static:4"),
        seed=3,
        out=Path("there"),
        steps=7,
        frames=9,
        height=32,
        width=48,
        guidance=5.0,
        max_sequence_length=80,
        fps=12,
        dtype="float32",
        device="cpu",
        group_size=64,
        seconds=0.1,
        arch=("sm_90", "sm_120"),
        codes=Path("out/codes"),
    )


def test_compared_policies_keep_the_commas_of_their_settings() -> None:
    compare = "static:16, budget:quality=46,ends=free,complexity,fixed:blocks.0=8+attention:8,b=4,staged:8,0.8:16"
    assert merge({"compare": compare}, None).compare == (
        "static:16",
        "budget:quality=46,ends=free",
        "complexity",
        "fixed:blocks.0=8+attention:8,b=4",
        "staged:8,0.8:16",
    )


def test_arguments_win_over_yaml_and_yaml_over_defaults(tmp_path: Path) -> None:
    config = write(tmp_path / "tadp.yaml", "seed: 3\nsteps: 7\ncompare: static:16,static:8\n")
    settings = merge({"seed": "5"}, config)
    assert (settings.seed, settings.steps, settings.compare) == (5, 7, ("static:16", "static:8"))


@pytest.mark.parametrize("given", [{"prompts": ["mine"]}, {"prompts_file": "mine.txt"}])
def test_prompts_given_as_arguments_replace_all_prompts_of_yaml(tmp_path: Path, given: dict[str, object]) -> None:
    config = write(tmp_path / "tadp.yaml", "prompts: [theirs]\nprompts_file: theirs.txt\n")
    settings = merge(given, config)
    assert "theirs" not in settings.prompts
    assert settings.prompts_file != Path("theirs.txt")


@pytest.mark.parametrize(
    ("key", "nearest"), [("polcy", "policy"), ("max-sequence-length", "max_sequence_length"), ("promts", "prompts")]
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, key: str, nearest: str) -> None:
    config = write(tmp_path / "tadp.yaml", f"{key}: 1\n")
    with pytest.raises(InputError, match=f"unknown key '{key}'; did you mean '{nearest}'"):
        merge({}, config)


def test_a_key_like_no_other_gets_the_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key 'zzz'; Valid keys are prompts, .*, device"):
        merge({}, write(tmp_path / "tadp.yaml", "zzz: 1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "not a list"),
        ("seed: [\n", "not valid YAML"),
        ("seed: many\n", "seed: expected a whole number of at least 0, got 'many'"),
        ("steps: true\n", "steps: expected a whole number of at least 1, got True"),
        ("steps: 2.5\n", "steps: expected a whole number"),
        ("guidance: .nan\n", "guidance: expected a number"),
        ("dtype: float8\n", "dtype: expected one of auto, bfloat16, float16, float32"),
        ("compare: 8\n", "compare: expected names"),
        ("prompts: [1, 2]\n", "prompts: expected a prompt"),
    ],
)
def test_a_wrong_yaml_value_names_file_key_and_what_is_valid(tmp_path: Path, text: str, message: str) -> None:
    config = write(tmp_path / "tadp.yaml", text)
    with pytest.raises(InputError) as caught:
        merge({}, config)
    assert message in str(caught.value)
    assert str(config) in str(caught.value)


def test_a_missing_yaml_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the configuration .*absent.yaml"):
        merge({}, tmp_path / "absent.yaml")


def test_an_empty_yaml_file_changes_nothing(tmp_path: Path) -> None:
    assert merge({}, write(tmp_path / "tadp.yaml", "")) == Settings()


@pytest.mark.parametrize(("flag", "value"), [("steps", "0"), ("seed", "-1"), ("guidance", "-2"), ("height", "tall")])
def test_a_wrong_argument_names_its_flag(flag: str, value: str) -> None:
    with pytest.raises(InputError, match=f"^--{flag}: expected"):
        merge({flag: value}, None)


def test_prompts_come_from_arguments_then_from_the_file(tmp_path: Path) -> None:
    lines = write(tmp_path / "prompts.txt", "# simple ones\n\n  a red circle  \na blue star\n")
    assert collect_prompts(Settings(prompts=("first",), prompts_file=lines)) == ("first", "a red circle", "a blue star")


def test_no_prompt_and_an_empty_prompt_name_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prompt given; write it after the command"):
        collect_prompts(Settings())
    with pytest.raises(ValueError, match=r"prompt 2 of 2 is empty.*describe the clip"):
        collect_prompts(Settings(prompts=("a red circle", " \t")))
    with pytest.raises(InputError, match="cannot read the prompts file"):
        collect_prompts(Settings(prompts_file=tmp_path / "absent.txt"))
