"""Settings of the command line: one list of options, read from arguments and from a YAML file by the same rules."""

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadp.commands.errors import InputError
from tadp.extras import need

AUTO = "auto"
DTYPES = (AUTO, "bfloat16", "float16", "float32")
_PROMPT_SOURCES = ("prompts", "prompts_file")
_POLICY = re.compile(r"[A-Za-z_]+\s*(:|$)")


@dataclass(frozen=True)
class Settings:
    """Everything a command can be told. None stands for the model's own default."""

    prompts: tuple[str, ...] = ()
    prompts_file: Path | None = None
    model: str | None = None
    policy: str = "complexity"
    calibration: Path | None = None
    codes: Path | None = None
    compare: tuple[str, ...] = ()
    seed: int = 0
    out: Path = Path("out")
    steps: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    max_sequence_length: int | None = None
    fps: int = 8
    dtype: str = AUTO
    device: str = "auto"
    group_size: int | None = None
    seconds: float = 0.5
    arch: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """One setting: its name in YAML (and, with dashes, on the command line), how a value is read, and its help."""

    name: str
    read: Callable[[Any], Any]
    help: str
    metavar: str
    commands: tuple[str, ...] = ("generate", "explain", "precompile", "bench", "calibrate", "compensate")

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def merge(arguments: Mapping[str, Any], config: Path | None) -> Settings:
    """Settings from given arguments, then from a YAML file, then from defaults: the first that has a value wins.

    Prompts are one setting in two forms: where arguments give any, those of the file are left out.

    Raises:
        InputError: for a value or key that cannot be used, naming where it stands and what is valid.
    """
    from_file = read_yaml(config) if config else {}
    if any(source in arguments for source in _PROMPT_SOURCES):
        from_file = {name: value for name, value in from_file.items() if name not in _PROMPT_SOURCES}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name in arguments:
            place, value = (option.flag if option.name != "prompts" else "prompt"), arguments[option.name]
        elif from_file.get(option.name) is not None:
            place, value = f"{config}: {option.name}", from_file[option.name]
        else:
            continue
        try:
            values[option.name] = option.read(value)
        except ValueError as error:
            raise InputError(f"{place}: {error}") from error
    return Settings(**values)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's settings, keys checked, values as they stand.

    Raises:
        InputError: if the file cannot be read, is no mapping, or has an unknown key; the message names the nearest.
    """
    yaml = need("yaml", "cli", "configuration files need PyYAML")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold settings as `name: value` lines, not a {type(content).__name__}")
    valid = [option.name for option in OPTIONS]
    for key in content:
        if key not in valid:
            nearest = difflib.get_close_matches(str(key).replace("-", "_"), valid, n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise InputError(f"{path}: unknown key {key!r}; {hint}Valid keys are {', '.join(valid)}")
    return content


def collect_prompts(settings: Settings) -> tuple[str, ...]:
    """The prompts of a run: those given, then one for each line of the prompts file (blank and # lines are skipped).

    Raises:
        InputError: if there is none, if one is empty, or if the file cannot be read.
    """
    prompts = list(settings.prompts)
    if settings.prompts_file is not None:
        try:
            lines = settings.prompts_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the prompts file {settings.prompts_file}: {error}") from error
        prompts += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not prompts:
        raise InputError(
            'no prompt given; write it after the command (tadp generate "a red circle moves left on a black '
            'background"), or one a line in a file named by --prompts-file'
        )
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise InputError(
                f"prompt {number} of {len(prompts)} is empty, so there is nothing to draw and nothing to score; "
                "describe the clip in a few words, or leave this prompt out"
            )
    return tuple(prompts)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, got {value!r}")
    return value.strip()


def _prompts(value: Any) -> tuple[str, ...]:
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"expected a prompt or a list of prompts, got {value!r}")
    return tuple(entries)


def _names(value: Any) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, (list, tuple)):
        raise ValueError(f"expected names separated by commas, got {value!r}")
    return tuple(dict.fromkeys(_text(entry) for entry in entries))


def _policies(value: Any) -> tuple[str, ...]:
    """Policies, whose settings have commas of their own: each begins with a word alone or before a colon."""
    if not isinstance(value, str):
        return _names(value)
    entries: list[str] = []
    for part in value.split(","):
        if entries and not _POLICY.match(part.strip()):
            entries[-1] += f",{part}"
        else:
            entries.append(part)
    return _names(entries)


def _path(value: Any) -> Path:
    return Path(_text(value)).expanduser()


def _whole(minimum: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool) or number < minimum:
            raise ValueError(f"expected a whole number of at least {minimum}, got {value!r}")
        return number

    return read


def _number(value: Any) -> float:
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise ValueError(f"expected a number of at least 0, got {value!r}")
    return number


def _dtype(value: Any) -> str:
    if value not in DTYPES:
        raise ValueError(f"expected one of {', '.join(DTYPES)}, got {value!r}")
    return str(value)


_GENERATE = ("generate",)
_SAMPLING = ("generate", "calibrate", "compensate")
_COMPILING = ("generate", "explain", "precompile")
OPTIONS: tuple[Option, ...] = (
    Option("prompts", _prompts, "what the clips show; quote each prompt", "PROMPT", _GENERATE),
    Option("prompts_file", _path, "a text file with one prompt a line; # starts a comment", "FILE", _SAMPLING),
    Option(
        "model",
        _text,
        "directory or Hub id of a diffusers pipeline, or few-step (default: the embedded model)",
        "MODEL",
    ),
    Option(
        "policy",
        _text,
        "complexity, static:16, static:8, ..., budget:quality=40, ... (default: complexity)",
        "POLICY",
        _COMPILING,
    ),
    Option(
        "calibration",
        _path,
        "what `tadp calibrate` measured, or none (default: the file beside the weights or in the cache)",
        "FILE",
        _COMPILING,
    ),
    Option("codes", _path, "what `tadp compensate` wrote for this model (default: none)", "DIR", _COMPILING),
    Option(
        "compare", _policies, "policies to run again from the same seed, e.g. static:16,static:8", "POLICIES", _GENERATE
    ),
    Option("seed", _whole(0), "seed of every generation (default: 0)", "N", _SAMPLING),
    Option("out", _path, "directory for what is written (default: out)", "DIR", (*_SAMPLING, "curve")),
    Option("steps", _whole(1), "sampling steps (default: the model's)", "N", _SAMPLING),
    Option("frames", _whole(1), "frames of a clip (default: the model's)", "N"),
    Option("height", _whole(1), "height of a frame in pixels (default: the model's)", "PIXELS"),
    Option("width", _whole(1), "width of a frame in pixels (default: the model's)", "PIXELS"),
    Option("guidance", _number, "classifier-free guidance scale (default: the model's)", "SCALE"),
    Option("max_sequence_length", _whole(1), "tokens of a prompt that are read (default: the model's)", "TOKENS"),
    Option("fps", _whole(1), "frames a second of the written clips (default: 8)", "N", _GENERATE),
    Option(
        "dtype",
        _dtype,
        f"the model's 16-bit type, or float32: {', '.join(DTYPES)} (default: auto, which is bfloat16, but float32 on "
        "processors without instructions for it)",
        "DTYPE",
    ),
    Option(
        "device",
        _text,
        "cpu, cuda, cuda:1, ... (default: a GPU if there is one; of doctor all)",
        "DEVICE",
        ("generate", "explain", "precompile", "bench", "calibrate", "compensate", "doctor"),
    ),
    Option("group_size", _whole(1), "columns that share a scale: 64 or 128 (default: all of a row)", "COLUMNS"),
    Option("arch", _names, "compile kernels for these GPUs instead, e.g. sm_90,sm_120", "NAMES", ("precompile",)),
    Option("seconds", _number, "time for each comparison (default: 0.5)", "SECONDS", ("bench", "doctor")),
)
