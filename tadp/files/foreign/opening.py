"""Opening a checkpoint of any format that is read."""

from pathlib import Path
from typing import Protocol

from tadp.files.foreign import comfyui, gguf, plain, saved, torchao, turbodiffusion
from tadp.files.foreign.containers import Container, open_pickled, open_safetensors, read_config
from tadp.files.foreign.names import named
from tadp.files.foreign.tensors import Checkpoint, Stored
from tadp.files.manifest import NAME as MANIFEST

_ZIP = b"PK\x03\x04"
_OLD_PICKLE = b"\x80"
_PICKLED = (".pth", ".pt", ".ckpt", ".bin")


class Format(Protocol):
    """What a module has that reads a format out of safetensors or PyTorch files."""

    NAME: str

    def recognizes(self, container: Container) -> bool:
        """Whether the tensors are of this format."""

    def read(self, container: Container) -> tuple[Stored, ...]:
        """All tensors, under their own names.

        Raises:
            ValueError: for what is damaged or not followed; names file and key.
        """


_FORMATS: tuple[Format, ...] = (torchao, turbodiffusion, comfyui, plain)
"""In the order in which they are asked; the last takes whatever has tensors."""


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint: a safetensors, GGUF or PyTorch file, or a directory with one, or one that `tadp.save` wrote.

    Nothing but headers is read before a tensor is asked for, and no code that a file may hold is run.

    Args:
        path: of the file or directory.

    Raises:
        ValueError: for anything else, with what was looked at, and for files that are damaged or hold formats that are
            not read, with file and field.
        MissingExtraError: for GGUF files without the extra "formats".
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise ValueError(f"{found} does not exist")
    if (found / "model_index.json").exists():
        parts = sorted(folder.name for folder in found.iterdir() if folder.name.startswith("transformer"))
        raise ValueError(f"{found} is a whole pipeline: name one of its transformers ({', '.join(parts) or 'none'})")
    if (found / MANIFEST).exists():
        return Checkpoint(found, saved.NAME, saved.read(found), read_config(found))
    file = _only_file(found) if found.is_dir() else found
    magic = b"" if file.is_dir() else _magic(file)
    if magic[:4] == gguf.MAGIC:
        return _checkpoint(found, gguf.NAME, gguf.read(file), ())
    if file.is_dir() or magic[8:9] == b"{":  # asked first: a header may have any length
        container = open_safetensors(file)
    elif magic[:4] == _ZIP:
        container = open_pickled(file)
    elif magic[:1] == _OLD_PICKLE:
        raise ValueError(f"{file} is a PyTorch file from before 1.6: load and save it again with a newer PyTorch")
    else:
        raise ValueError(
            f"{file} has no format that tadp reads: its first bytes {magic[:9]!r} are those of no safetensors, PyTorch "
            "or GGUF file"
        )
    kind = next((kind for kind in _FORMATS if kind.recognizes(container)), None)
    if kind is None:
        raise ValueError(f"{found} holds no tensors: looked for *.safetensors, *.gguf and {', '.join(_PICKLED)} in it")
    return _checkpoint(found, kind.NAME, kind.read(container), container.left_out)


def _checkpoint(path: Path, kind: str, tensors: tuple[Stored, ...], left_out: tuple[str, ...]) -> Checkpoint:
    try:
        renamed, is_wan = named(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Checkpoint(path, kind, renamed, read_config(path), is_wan, tuple(f"{key}: no tensor" for key in left_out))


def _only_file(directory: Path) -> Path:
    """The file of a directory that holds a single checkpoint of another kind than safetensors; else the directory."""
    if any(directory.glob("*.safetensors")) or any(directory.glob("*.safetensors.index*.json")):
        return directory
    files = [path for path in sorted(directory.iterdir()) if path.suffix in (*_PICKLED, ".gguf")]
    if len(files) > 1:
        raise ValueError(f"{directory} holds several checkpoints ({', '.join(file.name for file in files)}): name one")
    return files[0] if files else directory


def _magic(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return content.read(16)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error})") from error
