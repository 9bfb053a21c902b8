"""The `tadp` command: reads its arguments, hands them to a module of tadp.commands, and turns errors into messages."""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tadp.commands.errors import InputError
from tadp.commands.settings import OPTIONS, Settings, merge
from tadp.errors import MissingExtraError
from tadp.files.foreign.kinds import WRITTEN

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

_GENERATE_EXAMPLES = """\
examples:
  tadp generate "a red circle moves left on a black background"
  tadp generate "a red circle moves left on a black background" --compare static:16,static:8 --out out
  tadp generate --config tadp.yaml --prompts-file prompts.txt
"""

_CALIBRATE_EXAMPLES = """\
examples:
  tadp calibrate --out out
  tadp calibrate ./Wan2.1-T2V-1.3B-Diffusers --prompts prompts.txt --dtype bfloat16 --out calibration
  tadp generate "a red circle bounces" --policy budget:quality=40 --calibration out/calibration.json
"""

_COMPENSATE_EXAMPLES = """\
examples:
  tadp compensate --out out
  tadp compensate ./Wan2.1-T2V-1.3B-Diffusers --prompts prompts.txt --dtype bfloat16 --out weights
  tadp generate "a red circle bounces" --policy static:4 --codes out/codes
"""

_CONVERT_EXAMPLES = """\
formats:
  read: diffusers' and original safetensors, torchao int8 and float8, ComfyUI int8 (ConvRot too) and float8,
        TurboDiffusion .pth, GGUF Q8_0, Q4_K and Q6_K (pip install 'tadp[formats]'), and what tadp.save wrote
  written: tadp, for tadp.load; diffusers, 16 bits; torchao, int8; comfyui and comfyui-convrot, int8, one file;
        turbodiffusion, int8, one file

examples:
  tadp convert ./Wan2.1-T2V-14B-Diffusers/transformer wan-tadp
  tadp convert wan2.1_t2v_14B_int8.safetensors wan-tadp --config ./Wan2.1-T2V-14B-Diffusers/transformer --verify
  tadp convert TurboWan2.1-T2V-1.3B-480P-quant.pth turbo.safetensors --to comfyui-convrot
  tadp convert wan-tadp wan-comfyui.safetensors --to comfyui --dry-run
"""

_OF_CONVERT = ("source", "target", "to", "model_config", "compute_dtype", "max_shard_size", "verify", "dry_run")

_OF_ONE_COMMAND = (*_OF_CONVERT, "json", "tune", "explain", "gpu", "compile", "roles", "file")
"""Arguments that are no settings."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0, 1 where `tadp doctor` finds something wrong, 2 for a request that cannot be met as given, 130
        after an interrupt.
    """
    for library in ("torchao", "torch.utils._pytree", "diffusers.quantizers"):
        logging.getLogger(library).setLevel(logging.ERROR)  # what they say at import is about kernels not used here
    arguments = vars(build_parser().parse_args(argv))
    command, show_traceback = arguments.pop("command"), arguments.pop("traceback")
    given: dict[str, Any] = {name: arguments.pop(name) for name in _OF_ONE_COMMAND if name in arguments}
    try:
        settings = merge(arguments, arguments.pop("config", None))
        with _plain_warnings():
            return _run(command, settings, given)
    except (InputError, MissingExtraError) as error:
        if show_traceback:
            raise
        print(f"tadp {command}: error: {error}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print(f"tadp {command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands. Settings that were not given are absent from its result."""
    parser = argparse.ArgumentParser(
        prog="tadp", description="Diffusion transformers whose precision follows the content, while they sample."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="generate clips and report what precision they took",
        description="Generate a clip for each prompt, at the precision a policy chooses, and report what was done.",
        epilog=_GENERATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    generate.add_argument("prompts", nargs="*", metavar="PROMPT", default=argparse.SUPPRESS, help="what a clip shows")
    explain = commands.add_parser(
        "explain",
        help="show the pieces of a model, their levels and kernels, and every fallback with its reason",
        description="Compile a model, run it once, and print its pieces with structure, roles, levels and kernels.",
    )
    explain.add_argument("--json", action="store_true", help="print the rows as JSON instead of as a table")
    precompile = commands.add_parser(
        "precompile",
        help="compile all variants of a policy ahead of time, so that the first generation starts at once",
        description="Compile every variant that a policy may choose for a model at a size, and keep them on disk.",
    )
    bench = commands.add_parser(
        "bench",
        help="measure every kernel on a model's layers, and let later compilations choose by it",
        description="Time every kernel on the linear layers of a model at a size, beside the 16-bit product.",
    )
    bench.add_argument("--json", action="store_true", help="print the rows as JSON instead of as a table")
    bench.add_argument("--tune", action="store_true", help="keep the times: compilations on this device choose by them")
    bench.add_argument(
        "--explain",
        action="store_true",
        help="measure nothing: say what limits the product on the layers of Wan2.1, on GPUs that need not be there",
    )
    bench.add_argument(
        "--gpu", metavar="NAMES", help="of --explain: GPUs separated by commas, e.g. H100,RTX4090 (default: all known)"
    )
    bench.add_argument(
        "--compile", action="store_true", help="of --explain: compile the kernels too, and show registers and waits"
    )
    calibrate = commands.add_parser(
        "calibrate",
        help="measure errors and costs of lower levels on a model, for the score and for budgets",
        description="Measure errors and costs of lower levels on sample prompts, fit the complexity score to them, and "
        "write calibration.json and calibration.safetensors. An interrupted run goes on where it was.",
        epilog=_CALIBRATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    calibrate.add_argument(
        "--roles",
        action="store_true",
        help="measure how sensitive the roles of every block are too (a fifth longer, and no policy reads it)",
    )
    compensate = commands.add_parser(
        "compensate",
        help="choose the codes of a model's weights with sample prompts: 6 and 4 bits become more precise",
        description="Gather activations on sample prompts, and round weights so that a layer's output errs least at 8, "
        "6 and 4 bits together. Writes a directory for --codes. An interrupted run goes on where it was.",
        epilog=_COMPENSATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for command in (calibrate, compensate):
        command.add_argument(
            "--prompts",
            dest="prompts_file",
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="as --prompts-file (the embedded model has its own)",
        )
    curve = commands.add_parser(
        "curve",
        help="draw what quality a model has left at which speed, from its calibration",
        description="Solve budgets from a calibration, and print and draw predicted quality over time.",
    )
    curve.add_argument("file", type=Path, metavar="CALIBRATION", help="the file that `tadp calibrate` wrote")
    doctor = commands.add_parser(
        "doctor",
        help="look at this machine: what it has, and whether kernels are there, right and fast",
        description="Say what this machine has and which kernels serve on it, and check within a minute whether they "
        "are right and fast. The exit code is 1 where something is wrong.",
    )
    doctor.add_argument("--json", type=Path, metavar="FILE", help="also write everything here, to attach to a report")
    convert = commands.add_parser(
        "convert",
        help="turn a checkpoint into one of another format, and say what is kept exactly and what is rounded",
        description="Read a checkpoint and write it in another format, one tensor in memory at a time. Codes that the "
        "target can hold are kept bit for bit; a table says which layers are rounded, once more if they had been, and "
        "by how many dB.",
        epilog=_CONVERT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("source", type=Path, metavar="IN", help="file or directory")
    convert.add_argument("target", type=Path, metavar="OUT", help="directory, or the name of a file where TO is one")
    convert.add_argument("--to", choices=WRITTEN, default=WRITTEN[0], help="the format of OUT (default: %(default)s)")
    convert.add_argument(
        "--config",
        type=Path,
        dest="model_config",
        metavar="FILE",
        help="the model's config.json of diffusers, or its directory, where IN has none; --to tadp needs one",
    )
    convert.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16"),
        default="auto",
        dest="compute_dtype",
        help="type of what is not quantized, and that the model computes in (default: that of IN, at 16 bits)",
    )
    convert.add_argument(
        "--max-shard-size", default="5GB", metavar="SIZE", help="of a file, in directories (default: %(default)s)"
    )
    convert.add_argument("--verify", action="store_true", help="read OUT back and compare it with IN")
    convert.add_argument("--dry-run", action="store_true", help="do everything but write: print the table")
    for command in (explain, precompile, bench, calibrate, compensate):
        command.add_argument(
            "model",
            nargs="?",
            metavar="MODEL",
            default=argparse.SUPPRESS,
            help="as --model of generate (default: embedded)",
        )
    parsers = {
        "generate": generate,
        "explain": explain,
        "precompile": precompile,
        "bench": bench,
        "calibrate": calibrate,
        "compensate": compensate,
        "curve": curve,
        "doctor": doctor,
        "convert": convert,
    }
    for name, command in parsers.items():
        positional = "prompts" if name == "generate" else "model"
        for option in OPTIONS:
            if name in option.commands and option.name != positional:
                command.add_argument(
                    option.flag, dest=option.name, metavar=option.metavar, default=argparse.SUPPRESS, help=option.help
                )
        if name != "convert":  # it has no settings, and its --config is that of a model
            command.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the same settings")
        command.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    return parser


def _run(command: str, settings: Settings, given: Mapping[str, Any]) -> int:
    """Call a command with its settings and with what is given to it alone."""
    # Imported here, so that --help and wrong arguments answer without loading PyTorch.
    if command == "generate":
        from tadp.commands.generate import generate

        return generate(settings)
    if command == "precompile":
        from tadp.commands.precompile import precompile

        return precompile(settings)
    if command == "bench" and given["explain"]:
        from tadp.commands.ceilings import explain_ceilings

        names = [name.strip() for name in (given["gpu"] or "").split(",") if name.strip()]
        return explain_ceilings(names, compiled=given["compile"], as_json=given["json"])
    if command == "bench":
        if given["gpu"] or given["compile"]:
            raise InputError("--gpu and --compile are of --explain, which was not given")
        from tadp.commands.bench import bench

        return bench(settings, tune=given["tune"], as_json=given["json"])
    if command == "calibrate":
        from tadp.commands.calibrate import write_calibration

        return write_calibration(settings, roles=given["roles"])
    if command == "compensate":
        from tadp.commands.compensate import compensate

        return compensate(settings)
    if command == "curve":
        from tadp.commands.curve import curve

        return curve(given["file"].expanduser(), settings.out)
    if command == "convert":
        from tadp.commands.convert import convert

        return convert(
            given["source"].expanduser(),
            given["target"].expanduser(),
            given["to"],
            None if given["model_config"] is None else given["model_config"].expanduser(),
            given["compute_dtype"],
            given["max_shard_size"],
            verify=given["verify"],
            dry_run=given["dry_run"],
        )
    if command == "doctor":
        from tadp.commands.doctor import doctor

        path = given["json"]
        return doctor(settings, None if path is None else path.expanduser())
    from tadp.commands.explain import explain

    return explain(settings, as_json=given["json"])


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings meant for users as one line, without the place in the code that they came from."""
    standard = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        own = issubclass(category, UserWarning)
        return f"tadp: warning: {message}\n" if own else standard(message, category, *place, **line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = standard


if __name__ == "__main__":
    sys.exit(main())
