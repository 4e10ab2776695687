"""Prints requirements for pip: `versions.py pins 3.11.0` or `versions.py lowest`.

`pins` prints the pins of constraints.txt for one version of Python, because pip evaluates markers
for the Python it runs in. `lowest` prints the lowest version of each direct dependency that
pyproject.toml allows. Both leave out torch: each further version takes gigabytes.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(python: str) -> Iterator[str]:
    """Pins of constraints.txt that apply to a version of Python, without torch."""
    place = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.name != "torch" and (pin.marker is None or pin.marker.evaluate(place)):
                yield f"{pin.name}{pin.specifier}"


def lowest() -> Iterator[str]:
    """The lowest allowed version of each direct dependency, without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        needed = Requirement(line)
        least = next(part for part in needed.specifier if part.operator == ">=")
        if needed.name != "torch":
            yield f"{needed.name}=={least.version}"


if __name__ == "__main__":
    found = pins(sys.argv[2]) if sys.argv[1] == "pins" else lowest()
    sys.stdout.write("".join(f"{line}\n" for line in found))
