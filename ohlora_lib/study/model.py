"""What the parameters of all notebooks share: strict YAML, one-line errors, common fields.

The meaning of a parameter stands in one place, the comment on its line of the parameters cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pandas as pd
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from ohlora_lib.study import cells
from ohlora_lib.study.records import project_root, read_json
from ohlora_lib.study.run_folder import Run, start_run

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a name that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping whose names are all different."""
        names: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in names:
                problem = f"{name!r} is given twice; keep one of the two lines"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; ValueError, of one line, if it cannot. Nothing in it is executed."""
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=StrictLoader)  # noqa: S506
    except (OSError, yaml.YAMLError, ValueError) as error:  # also: not UTF-8, an impossible date
        reason = " ".join((getattr(error, "strerror", "") or str(error)).split())
        raise ValueError(
            f"{path}: not readable YAML ({reason}). Correct the path, or write plain "
            f"`name: value` lines as UTF-8, indented with spaces."
        ) from error


def _check_name(name: str) -> str:
    if name and not re.fullmatch(NAME, name):
        raise ValueError("must be 1 to 64 letters, digits, dots, - and _, the first a letter "
                         "or digit")  # fmt: skip
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class NotebookParameters(BaseModel):
    """What all notebooks share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    NOTEBOOK: ClassVar[str] = ""
    NEEDS: ClassVar[dict[str, str]] = {}  # what a `source` or `candidates` cannot do without
    LONGER: ClassVar[str] = ""  # the parameter that a finished training may be resumed with
    IN_PLACE: ClassVar[bool] = False  # whether the run folder is a person's work, never moved
    SHOWN: ClassVar[frozenset[str]] = frozenset()  # on its page only: no reason to run it again
    _cell: str = PrivateAttr("")  # source of the parameters cell

    study: Annotated[Name, Field(min_length=1)] = "quickstart"
    variant: Name = ""
    seed: int = Field(0, ge=0, lt=2**31)
    start_anew: bool = Field(False, exclude=True)

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for choice in (getattr(self, name, "") for name in ("source", "candidates")):
            for name in self.NEEDS.get(choice, "").split():
                if not getattr(self, name):
                    raise ValueError(f"{choice!r} needs {name}, which is empty")
        return self

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> Self:
        """Picks the parameters out of a notebook's `globals()`; every notebook starts with it.

        Errors that the package raises in the notebook are one line from then on.

        Raises:
            ValueError: If a value is not allowed, or as `cells.check_history` says.
        """
        session, source = namespace.get("get_ipython", lambda: None)(), ""
        try:
            if session:  # else it is a script
                cells.show_complaints(session)
                source = cells.check_history(session, namespace, cls.model_fields)
        except ValueError as error:
            raise ValueError(f"{cls.NOTEBOOK}: {error}") from None
        given = {name: namespace[name] for name in cls.model_fields if name in namespace}
        model = cls.checked(given, cls.NOTEBOOK)
        model._cell = source
        return model

    @classmethod
    def checked(cls, given: Mapping[str, Any], source: str) -> Self:
        """Builds the model; errors are one line that begins with the source."""
        cells.check_known(given, cls.model_fields, source)
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        value = f"{name} is {first['input']!r}: " if name else ""
        message = first["msg"].removeprefix("Value error, ")
        hint = ""
        if isinstance(first["input"], str) and re.fullmatch(r"[-+\d]+[eE][-+\d]+", first["input"]):
            hint = ". YAML reads a number as text unless it has a point: write 1.0e-4, not 1e-4"
        raise ValueError(f"{source}: {value}{message[:1].lower()}{message[1:]}{hint}.")

    def check_trained(self, root: Path) -> None:
        """Raises ValueError if a property has no CNN in the run that is named for them."""
        run = getattr(self, "cnn_run", "")
        if read_json(root / run / "summary.json").get("status") != "finished":
            return  # a matter of the inputs' check
        there = read_json(root / run / "config.json").get("properties", [])
        field = "concept" if hasattr(self, "concept") else "properties"
        for name in getattr(self, field):
            if name not in there:
                raise ValueError(
                    f"{field} names {name!r}, but the CNNs in {run} are for {sorted(there)}. "
                    f"Correct the name, or train its CNNs in 03_train_property_cnn."
                )

    @property
    def stage(self) -> str:
        """Name of the run folder: the notebook's, and the variant's if there is one."""
        return f"{self.NOTEBOOK}-{self.variant}" if self.variant else self.NOTEBOOK

    def config(self) -> dict[str, Any]:
        """All values that decide the result, plain."""
        return self.model_dump(exclude=set(self.SHOWN))

    def open_run(self) -> Run:
        """Opens the run folder of these parameters, see `start_run`.

        Raises:
            ValueError: If `device` is not in this machine, or a property has no CNN.
        """
        if getattr(self, "device", "cpu") not in {"auto", "cpu"}:
            from ohlora_lib.nets.compute import pick_device  # imports torch: for trainings only

            pick_device(self.device)
        self.check_trained(project_root())
        how = {"longer": self.LONGER, "in_place": self.IN_PLACE, "start_anew": self.start_anew}
        return start_run(self.NOTEBOOK, self.config(), **how)

    def pick(self, names: str | type, *, but: str = "") -> dict[str, Any]:
        """Some values by name: `"a b c"`, or those a dataclass has fields for, but for some."""
        wanted = names.split() if isinstance(names, str) else [f.name for f in fields(names)]
        known = type(self).model_fields
        return {k: getattr(self, k) for k in wanted if k in known and k not in but.split()}

    def table(self) -> pd.DataFrame:
        """Name, value and comment of every parameter that counts here, in the cell's order."""
        values, said = self.model_dump(), cells.comments(self._cell)
        names = dict.fromkeys([name for name in [*said, *values] if name in values])
        names = [name for name in names if name not in cells.unused(self._cell, values)]
        rows = [(name, str(values[name]), said.get(name, "")) for name in names]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index("parameter")
