"""Prints requirements for pip: `versions.py pins 3.11.0` or `versions.py lowest`.

`pins` prints the pins of constraints.txt for a given Python version, because pip evaluates markers
only for the Python it runs in. `lowest` prints the lowest version that pyproject.toml allows of
each direct dependency. Both leave out torch, whose other versions take gigabytes to download.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(python: str) -> Iterator[str]:
    """Yields the pins of constraints.txt that apply to a Python version, except torch."""
    place = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.name != "torch" and (pin.marker is None or pin.marker.evaluate(place)):
                yield f"{pin.name}{pin.specifier}"


def lowest() -> Iterator[str]:
    """Yields the lowest allowed version of each direct dependency, except torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        needed = Requirement(line)
        least = next(part for part in needed.specifier if part.operator == ">=")
        if needed.name != "torch":
            yield f"{needed.name}=={least.version}"


if __name__ == "__main__":
    found = pins(sys.argv[2]) if sys.argv[1] == "pins" else lowest()
    sys.stdout.write("".join(f"{line}\n" for line in found))
