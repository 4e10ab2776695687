"""Base of all parameter models: strict YAML, one-line errors, common fields.

A parameter is explained in one place: the comment on its line in the parameters cell.
"""

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

from ohlora_lib.io.disk import complaint
from ohlora_lib.study import cells
from ohlora_lib.study.records import command, project_root, read_json, replaced_inputs
from ohlora_lib.study.run_folder import Run, start_run

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class StrictLoader(yaml.SafeLoader):
    """Safe YAML loader that rejects duplicate names, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping; MarkedYAMLError if a name appears twice."""
        names: set[str] = set()
        for key, _ in node.value:
            if (name := str(key.value)) in names:
                problem = f"{name!r} appears twice; remove one of the two lines"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file without executing anything in it; one-line ValueError if malformed."""
    remedy = "Correct the path, or write plain `name: value` lines as UTF-8, indented with spaces."
    errors = OSError, yaml.YAMLError, ValueError  # or not UTF-8, an impossible date
    with complaint(path, "not readable YAML", remedy, errors):
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=StrictLoader)  # noqa: S506


def _check_name(name: str) -> str:
    if name and not re.fullmatch(NAME, name):
        raise ValueError("must be 1 to 64 letters, digits, dots, - or _, starting with a letter "
                         "or digit")  # fmt: skip
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class NotebookParameters(BaseModel):
    """Parameters and settings common to all notebooks."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    NOTEBOOK: ClassVar[str] = ""
    NEEDS: ClassVar[dict[str, str]] = {}  # what each `source` or `candidates` requires
    ONLY: ClassVar[dict[str, str]] = {}  # by condition on a choice: what is ignored otherwise
    MAKES: ClassVar[tuple[str, ...]] = ()  # files without which a run has not finished
    CURRENT: ClassVar[dict[str, str]] = {}  # by input: its own inputs that must be as it read them
    LONGER: ClassVar[str] = ""  # parameter that resumes a finished run if it grows
    IN_PLACE: ClassVar[bool] = False  # whether the run folder holds manual work: never moved
    SHOWN: ClassVar[frozenset[str]] = frozenset()  # shown on the page only: no reason to rerun
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

    @model_validator(mode="after")
    def _ignores_nothing(self) -> Self:
        for condition, names in self.ONLY.items():
            choice, values = condition.split(": ")
            if getattr(self, choice) not in values.split(" or "):
                for name in names.split():
                    if getattr(self, name) != type(self).model_fields[name].default:
                        either = condition.replace(" or ", "` or `")
                        raise ValueError(f"{name} needs `{either}`; set that or remove {name}")
        return self

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> Self:
        """Builds the model from a notebook's `globals()`; every notebook starts with this call.

        From then on the notebook shows errors that the package raises as one line.

        Raises:
            ValueError: If a value is not allowed, or `cells.check_history` rejects the cell.
        """
        session, source = namespace.get("get_ipython", lambda: None)(), ""
        try:
            if session:  # None in a script
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
        """Builds the model; one-line ValueError, prefixed with `source`, if a value is invalid."""
        cells.check_known(given, cls.model_fields, source)
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"] if "[" not in str(part))  # of a union
        value = f"{name} is {first['input']!r}: " if name else ""
        message = first["msg"].removeprefix("Value error, ")
        hint, number = "", r"[-+.\d]+[eE][-+\d]+"
        if isinstance(first["input"], str) and re.fullmatch(number, first["input"]):
            hint = ". YAML reads that as text: write 1.0e-4 or 1.0e+6, with point and sign"
        raise ValueError(f"{source}: {value}{message[:1].lower()}{message[1:]}{hint}.")

    def check_trained(self, root: Path) -> None:
        """Raises ValueError if `cnn_run` holds no CNN for a property."""
        run = getattr(self, "cnn_run", "")
        if read_json(root / run / "summary.json").get("status") != "finished":
            return  # reported by the check of inputs
        there = read_json(root / run / "config.json").get("properties", [])
        field = "concept" if hasattr(self, "concept") else "properties"
        for name in getattr(self, field):
            if name not in there:
                more = "Correct the name, or train its CNNs in 03_train_property_cnn."
                raise ValueError(
                    f"{field} names {name!r}, but the CNNs in {run} score {sorted(there)}. "
                    f"{cells.did_you_mean(name, there, more)}"
                )

    def check_current(self, root: Path) -> None:
        """Raises ValueError if an input was made from an earlier run of its own input."""
        for name, own in self.CURRENT.items():
            text = getattr(self, name)
            gone = replaced_inputs(root / text) if text else {}
            for earlier in (gone[part] for part in own.split() if part in gone):
                raise ValueError(
                    f"{name} is {text!r}, which was made from an earlier {earlier}. Make it again "
                    f"with: {command(root / text)}"
                )

    @property
    def stage(self) -> str:
        """Name of the run folder: the notebook's name, then the variant's if there is one."""
        return f"{self.NOTEBOOK}-{self.variant}" if self.variant else self.NOTEBOOK

    def config(self) -> dict[str, Any]:
        """All values that affect the result, as plain types."""
        return self.model_dump(exclude=set(self.SHOWN))

    def open_run(self) -> Run:
        """Opens the run folder for these parameters; see `start_run`.

        Raises:
            ValueError: If this machine lacks `device`, a property has no CNN, or an input is out
                of date.
        """
        if getattr(self, "device", "cpu") not in {"auto", "cpu"}:
            from ohlora_lib.nets.compute import pick_device  # imports torch, so only if needed

            pick_device(self.device)
        self.check_trained(project_root())
        self.check_current(project_root())
        how = {"longer": self.LONGER, "in_place": self.IN_PLACE, "start_anew": self.start_anew}
        return start_run(self.NOTEBOOK, self.config(), makes=self.MAKES, **how)

    def pick(self, names: str | type, *, but: str = "") -> dict[str, Any]:
        """Values by name: names in `"a b c"` or of a dataclass's fields, except names in `but`."""
        wanted = names.split() if isinstance(names, str) else [f.name for f in fields(names)]
        known = type(self).model_fields
        return {k: getattr(self, k) for k in wanted if k in known and k not in but.split()}

    def table(self) -> pd.DataFrame:
        """Name, value and comment of every parameter in use, in the order of the cell."""
        values, said = self.model_dump(), cells.comments(self._cell)
        names = dict.fromkeys([name for name in [*said, *values] if name in values])
        names = [name for name in names if name not in cells.unused(self._cell, values)]
        rows = [(name, str(values[name]), said.get(name, "")) for name in names]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index("parameter")
