"""Reads YAML of plain values, strictly: nothing is executed, expanded or silently overwritten."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**20  # the largest params file here has two thousand


class PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases, whose few lines can stand for gigabytes, and without doubles."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses aliases."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem=f"*{event.anchor} is an alias. Write the value out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a name that is given twice, of which YAML would take the last."""
        seen: set[Hashable] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.MarkedYAMLError(
                    problem=f"the name {name!r} is no text. Write lines of the form `name: "
                    f"value`, names that are numbers in quotes",
                    problem_mark=key.start_mark,
                )
            if name in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{name!r} is given twice. Keep one of the two lines",
                    problem_mark=key.start_mark,
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path | str) -> Any:
    """Reads a YAML file of plain values.

    Raises:
        ValueError: If it cannot be read, is too large, or holds something else; one line.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ValueError(
                f"{path}: has {size} bytes; params files have at most {MOST_BYTES}. "
                f"Keep data in files of their own."
            )
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not readable YAML, byte {error.start} is no UTF-8. Save it as UTF-8."
        ) from error
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}). Correct the file or its rights."
        ) from error
    try:
        return yaml.load(text, Loader=PlainLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not readable YAML{_reason(error)}.") from error
    except RecursionError:
        raise ValueError(
            f"{path}: not readable YAML, it is nested too deep. Give plain values."
        ) from None
    except ValueError as error:  # of numbers and dates
        reason = str(error).partition(";")[0]
        raise ValueError(
            f"{path}: not readable YAML ({reason}). Write a shorter number, or quotes around text."
        ) from error


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong, where, and what to do about the usual slips."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f" ({' '.join(str(error).split())}). Take the character out"
    parts = (getattr(error, name, None) for name in ("context", "problem"))
    words = " ".join(" ".join(part.split()) for part in parts if part)
    if "'\\t'" in words:
        words += ". Indent with spaces, not tabs"
    if isinstance(error, yaml.constructor.ConstructorError):
        words += ". Give plain values"
    if "single document" in words:
        words += ". Keep one, without ---"
    return f", line {mark.line + 1}: {words}"
