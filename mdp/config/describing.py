"""Every setting with its type, default, range and text, as the models say it.

Not here: values (``effective``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

from mdp.config.masking import SECRETS
from mdp.config.problems import variable
from mdp.config.settings import Settings

_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
_PLAIN = {"array": "JSON list of", "object": "JSON object of"}


@dataclass(frozen=True, slots=True)
class Described:
    """One setting.

    Attributes:
        path: Where it is: ``("exchanges", "okx", "rest_url")``.
        kind: What it is, in words: ``whole number``, ``one of a, b``.
        allowed: Range or form; empty: anything of that kind.
        default: As the model has it.
        text: What it is for.
    """

    path: tuple[str, ...]
    kind: str
    allowed: str
    default: object
    text: str

    @property
    def setting(self) -> str:
        """The variable that gives it."""
        return variable(*self.path)

    @property
    def is_secret(self) -> bool:
        """Whether it is a secret, or holds one."""
        return self.path in SECRETS


@cache
def described_settings() -> tuple[Described, ...]:
    """Return every setting there is, in the order of the models."""
    return tuple(_described(Settings, ()))


def section_text(model: type[BaseModel]) -> str:
    """Return the first sentence of a section."""
    return inspect.cleandoc(model.__doc__ or "").split("\n", 1)[0]


def sections() -> dict[str, type[BaseModel]]:
    """Return the sections of the settings by name; the first, without a name, is what belongs to none."""
    found: dict[str, type[BaseModel]] = {"": Settings}
    for name, field in Settings.model_fields.items():
        section = _as_section(field.annotation)
        if section is not None:
            found[name] = section
    return found


def attribute_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring of a model says of each attribute, on one line each."""
    _, _, listed = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif line.strip():
            found[name] += f" {line.strip()}"
    return found


def _described(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Described]:
    texts = attribute_texts(model)
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        section = _as_section(field.annotation)
        if section is not None:
            yield from _described(section, (*above, name))
            continue
        kind, allowed = _in_words(schema["properties"][name], schema.get("$defs", {}))
        default = field.get_default(call_default_factory=True, validated_data={})
        yield Described((*above, name), kind, allowed, default, texts.get(name, ""))


def _as_section(annotation: Any) -> type[BaseModel] | None:
    return annotation if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else None


def _in_words(schema: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, str]:
    """Return kind and range of a JSON schema."""
    if "$ref" in schema:
        return _in_words(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        (one,) = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return _in_words(one, known)
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"]), ""
    of = schema.get("items") or schema.get("additionalProperties")
    if schema["type"] in _PLAIN and isinstance(of, Mapping):
        kind, allowed = _in_words(of, known)
        return f"{_PLAIN[schema['type']]} {kind}", allowed
    return "path" if schema.get("format") == "path" else _KINDS[schema["type"]], _range(schema)


def _range(schema: Mapping[str, Any]) -> str:
    if "pattern" in schema:
        return f"`{schema['pattern']}`"
    said = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
    }
    return ", ".join(text.format(f"{schema[name]:_}") for name, text in said.items() if name in schema)
