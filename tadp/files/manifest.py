"""What a saved model says of itself: `tadp.json`, beside the safetensors files that hold its tensors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadp.files.shards import Written
from tadp.writing import replacing

SCHEMA = 1
NAME = "tadp.json"
CONFIG = "config.json"
REDO = "write it again with tadp.save"


@dataclass(frozen=True)
class Manifest:
    """Of a saved model.

    Attributes:
        fingerprint: of the model before its weights were packed, see `tadp.files.fingerprint`; "" where nobody knows.
        model: class of the model, ``module.Class``.
        tensors: by name, the file that a tensor lies in and its checksum.
        weights: SHA-256 of what the files say of packed weights beside their tensors.
        config: SHA-256 of the model's config.json; "" for a model without one.
        packing: how weights were packed: group size, rotated layers, whether codes were chosen with data.
        policy: that the model followed, in words; "" where it has none.
        versions: of the packages that wrote it.
    """

    fingerprint: str
    model: str
    tensors: Mapping[str, Written]
    weights: str = ""
    config: str = ""
    packing: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write it; the file is whole or not there."""
        content = {
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "weights": self.weights,
            "config": self.config,
            "packing": dict(self.packing),
            "policy": self.policy,
            "versions": dict(self.versions),
            "tensors": {name: [place.file, place.checksum] for name, place in self.tensors.items()},
        }
        with replacing(directory / NAME) as temporary:
            full = {**content, "checksum": _checksum(content)}
            temporary.write_text(json.dumps(full, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "Manifest":
        """Read it.

        Raises:
            ValueError: where there is none, and where it is damaged or of a newer tadp; names file and field.
        """
        path = directory / NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"{directory} holds no model that tadp.save wrote: it has no {NAME}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}): {REDO}") from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if type(schema) is not int:
            raise ValueError(f"{path} is not of tadp: it has no field 'schema'")
        if schema != SCHEMA:
            age = "a newer" if schema > SCHEMA else "an older"
            raise ValueError(f"{path} was written by {age} tadp (schema {schema}, this one reads {SCHEMA})")
        if content.pop("checksum", None) != _checksum(content):
            raise ValueError(f"{path} is damaged: it does not have the checksum in its field 'checksum'. {REDO}")
        try:
            return cls(
                fingerprint=_text(content, "fingerprint"),
                model=_text(content, "model"),
                tensors={name: _written(place) for name, place in content["tensors"].items()},
                weights=_text(content, "weights"),
                config=_text(content, "config"),
                packing=dict(content["packing"]),
                policy=_text(content, "policy"),
                versions=dict(content["versions"]),
            )
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it has no field {error}. {REDO}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}): {REDO}") from error

    def check_config(self, directory: Path) -> None:
        """That a model's configuration is the one that was saved.

        Raises:
            ValueError: where it is not.
        """
        path = directory / CONFIG
        if self.config and (not path.exists() or digest_of(path) != self.config):
            raise ValueError(f"{path} is missing or was changed since the model was saved. {REDO}")

    @property
    def files(self) -> tuple[str, ...]:
        """The safetensors files, in the order in which their tensors were written."""
        return tuple(dict.fromkeys(place.file for place in self.tensors.values()))


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _text(content: Mapping[str, object], name: str) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise TypeError(f"field {name!r} is no text")
    return value


def _written(place: object) -> Written:
    if not isinstance(place, list) or len(place) != 2 or not isinstance(place[1], str):
        raise TypeError("field 'tensors' has a place that is not a file and a checksum")
    return Written(_file_name(place[0]), place[1])


def _file_name(name: object) -> str:
    """A name without a directory: a manifest names nothing outside its own."""
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file beside it")
    return name


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
