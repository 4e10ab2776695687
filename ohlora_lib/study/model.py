"""What the parameters of all notebooks share: strict YAML, one-line errors, common fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ohlora_lib.study import cells
from ohlora_lib.study.run_folder import Run, project_root, read_summary, start_run
from ohlora_lib.study.words import MEANING

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
NAMES = "1 to 64 letters, digits, dots, - and _, the first a letter or digit"
SHOWN_LETTERS = 80  # of a value in a message
Resolution = Field(64, ge=8, le=1024, description="side of the images, pixels; a power of two")
Concept = dict[str, float]
Words = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2, max_length=2)]


class StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a name that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping whose names are all different."""
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value!r} is given twice. Keep one of the two lines",
                    problem_mark=key.start_mark,
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; nothing in it is executed.

    Raises:
        ValueError: If it cannot be read or parsed; one line.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=StrictLoader)  # noqa: S506
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}). Correct the file or its rights."
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or an impossible date
        raise ValueError(f"{path}: not readable YAML, {_yaml_problem(error)}.") from error


def _yaml_problem(error: Exception) -> str:
    """What is wrong, where, and what to do about the usual slips."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8. Save it as UTF-8"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    parts = (getattr(error, name) for name in ("context", "problem"))
    words = " ".join(" ".join(part.split()) for part in parts if part)
    if "'\\t'" in words:
        words += ". Indent with spaces, not tabs"
    if isinstance(error, yaml.constructor.ConstructorError):
        words += ". Give plain values"
    return f"line {mark.line + 1}: {words}"


def describe_error(error: ValidationError, source: str) -> str:
    """One line from a pydantic error: where, what was given, what is allowed."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"]) or "parameters"
    if first["type"] == "extra_forbidden":
        return (
            f"{source}: unknown parameter {name!r}. Check its spelling against the notebook's "
            f"parameters cell."
        )
    given = first["input"]
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if first["type"] == "string_pattern_mismatch" and name in {"study", "variant"}:
        message = f"must be {NAMES}"
    elif first["type"] == "string_pattern_mismatch":
        allowed = first["ctx"]["pattern"].strip("^$()").replace(r"(:\d+)?", ", cuda:0")
        message = f"must be one of {allowed.replace('|', ', ')}"
    hint = ""
    if isinstance(given, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", given):
        hint = f" YAML reads {given} as text: write {given.lower().replace('e', '.0e')}."
    value = "" if isinstance(given, dict) else f" is {shortened(given)}"
    return f"{source}: {name}{value}: {message}.{hint}"


def shortened(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[: SHOWN_LETTERS - 3]}..."


class NotebookParameters(BaseModel):
    """What all notebooks share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    NOTEBOOK: ClassVar[str] = ""
    LONGER: ClassVar[str] = ""  # the parameter that a finished training may be resumed with
    IN_PLACE: ClassVar[bool] = False  # whether the run folder is a person's work, never moved
    SHOWN: ClassVar[frozenset[str]] = frozenset()  # on its page only: no reason to run it again

    study: str = Field("quickstart", pattern=NAME, description="name of the study")
    variant: str = Field(
        "", pattern=r"^$|" + NAME, description="name of this variant of the stage"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seeds every random draw of the stage")
    start_anew: bool = Field(
        False, exclude=True, description="run it again although it has finished; that run is kept"
    )

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> Self:
        """Picks the parameters out of a notebook's `globals()`; every notebook starts with it.

        In a notebook, errors that the package raises are one line from then on.

        Raises:
            ValueError: If a name or value is not allowed, or the parameters cell as last run does
                not set every parameter; one line.
        """
        session = namespace.get("get_ipython", lambda: None)()
        if session is None:  # a script
            cells.check_known(namespace.get("__annotations__", ()), cls.model_fields, cls.NOTEBOOK)
        else:
            cells.show_complaints(session)
            cells.check_history(session, cls.model_fields, cls.NOTEBOOK)
        given = {name: namespace[name] for name in cls.model_fields if name in namespace}
        return cls.checked(given, cls.NOTEBOOK)

    @classmethod
    def checked(cls, given: Mapping[str, Any], source: str) -> Self:
        """Builds the model; errors are one line that begins with the source."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise ValueError(describe_error(error, source)) from None

    def check_device(self) -> None:
        """Raises ValueError if `device` is not in this machine."""
        if getattr(self, "device", "cpu") not in {"auto", "cpu"}:
            from ohlora_lib.nets.compute import pick_device  # imports torch: for trainings only

            pick_device(self.device)

    def check_trained(self, root: Path) -> None:
        """Raises ValueError if the property CNNs' run has finished without one that is named."""
        run, field = getattr(self, "cnn_run", ""), "concept"
        try:
            read_summary(root / run)
        except ValueError:  # a matter of the inputs' check
            return
        if field not in type(self).model_fields:
            field = "properties"
        there = {path.name.rsplit("-fold", 1)[0] for path in (root / run).glob("*/*-fold*")}
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
        """Opens the run folder of these parameters.

        Raises:
            ValueError: If a runner started this kernel for another run folder, this machine or an
                input run lacks what a parameter names, an input is not finished, or the folder is
                taken or cannot be written.
        """
        cells.check_started(self.study, self.stage)
        self.check_device()
        self.check_trained(project_root())
        return start_run(
            self.NOTEBOOK,
            self.config(),
            input_runs=self.input_runs(),
            input_files=self.input_files(),
            longer=self.LONGER,
            in_place=self.IN_PLACE,
            start_anew=self.start_anew,
        )

    def pick(self, names: str | type, *, but: str = "") -> dict[str, Any]:
        """Some values by name: `"a b c"`, or those a dataclass has fields for, but for some."""
        wanted = names.split() if isinstance(names, str) else [f.name for f in fields(names)]
        known = type(self).model_fields
        return {k: getattr(self, k) for k in wanted if k in known and k not in but.split()}

    def input_runs(self) -> dict[str, Any]:
        """Parameters that name run folders: `*_run` one, `*_runs` several."""
        values = self.model_dump()
        return {k: v for k, v in values.items() if k.endswith(("_run", "_runs")) and v}

    def input_files(self) -> dict[str, Any]:
        """Parameters that name files or folders of files, and are not empty."""
        values = self.model_dump()
        ends = ("_csv", "_csvs", "_file", "_folder")
        return {k: v for k, v in values.items() if k.endswith(ends) and v}

    def table(self) -> pd.DataFrame:
        """Name, value and meaning of every parameter, for showing."""
        known = type(self).model_fields
        rows = [(k, str(v), known[k].description or "") for k, v in self.model_dump().items()]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index("parameter")


class Compute(BaseModel):
    """Where and in which number format a stage computes."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda")
    precision: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16)$",
        description="number format; auto takes the faster one",
    )


def check_power_of_two(image_px: int) -> int:
    """Validator: image sides are powers of two."""
    if image_px & (image_px - 1):
        raise ValueError("must be a power of two from 8 to 1024")
    return image_px


def check_share(shares: Mapping[str, float]) -> Mapping[str, float]:
    """Validator: every value lies in 0..1."""
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}; it must be from 0 to 1")
    return shares


class Meaning(BaseModel):
    """What the scores say."""

    meaning: dict[str, Words] = Field(
        default_factory=lambda: dict(MEANING), description="what 0 and 1 of a property mean"
    )


class Look(Meaning):
    """The look to teach."""

    concept: Concept = Field(min_length=1, description="target score of each property")
    _concept = field_validator("concept")(check_share)
