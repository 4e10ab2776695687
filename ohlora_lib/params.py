"""The parameters of every notebook: one strict model each, read from `params/<study>/*.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Resolution = Field(64, ge=8, le=1024, description="side of the images, pixels; a power of two")
Concept = dict[str, float]
QUICKSTART = "outputs/quickstart"


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
    message = first["msg"].removeprefix("Value error, ").lower()
    hint = ""
    if isinstance(given, str) and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", given):
        hint = f" YAML reads {given} as text: write {given.lower().replace('e', '.0e')}."
    value = "" if isinstance(given, dict) else f" is {given!r}"
    return f"{source}: {name}{value}: {message}.{hint}"


class NotebookParameters(BaseModel):
    """What all notebooks share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    NOTEBOOK: ClassVar[str] = ""

    study: str = Field("quickstart", pattern=NAME, description="name of the study")
    variant: str = Field(
        "", pattern=r"^$|" + NAME, description="name of this variant of the stage"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seeds every random draw of the stage")

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> Self:
        """Picks the parameters out of a notebook's `globals()`.

        Raises:
            ValueError: If a value is not allowed; one line.
        """
        given = {name: namespace[name] for name in cls.model_fields if name in namespace}
        return cls.checked(given, cls.NOTEBOOK)

    @classmethod
    def checked(cls, given: Mapping[str, Any], source: str) -> Self:
        """Builds the model; errors are one line that begins with the source."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            raise ValueError(describe_error(error, source)) from None

    @property
    def stage(self) -> str:
        """Name of the run folder: the notebook's, and the variant's if there is one."""
        return f"{self.NOTEBOOK}-{self.variant}" if self.variant else self.NOTEBOOK

    def config(self) -> dict[str, Any]:
        """All values, plain."""
        return self.model_dump()

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
        """Parameters that name files and are not empty."""
        values = self.model_dump()
        return {k: v for k, v in values.items() if k.endswith(("_csv", "_csvs", "_file")) and v}

    def table(self) -> pd.DataFrame:
        """Name, value and meaning of every parameter, for showing."""
        known = type(self).model_fields
        rows = [(k, str(v), known[k].description or "") for k, v in self.model_dump().items()]
        return pd.DataFrame(rows, columns=["parameter", "value", "meaning"]).set_index("parameter")


class Compute(BaseModel):
    """Where and in which number format a stage computes."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda")
    precision: str = Field(
        "auto", pattern="^(auto|float32|bfloat16)$", description="auto measures once and chooses"
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


class MakePopulation(NotebookParameters):
    """Parameters of 01_make_population."""

    NOTEBOOK: ClassVar[str] = "01_make_population"

    image_px: int = Field(64, ge=32, le=512, description="side of the images, pixels")
    labelled_images: int = Field(4000, ge=20, le=10**6, description="faces drawn with labels")
    shares: Concept = Field(default_factory=dict, description="share of ones of each property")
    _shares = field_validator("shares")(check_share)


class TrainBase(NotebookParameters, Compute):
    """Parameters of 02_train_base."""

    NOTEBOOK: ClassVar[str] = "02_train_base"

    source: str = Field("shipped", pattern="^(shipped|train)$", description="shipped or train")
    image_px: int = Resolution
    z_dim: int = Field(512, ge=1, le=4096, description="width of the latent")
    w_dim: int = Field(128, ge=1, le=4096, description="width of the style vector")
    fmaps_base: int = Field(2048, ge=64, le=65536, description="channels at r px: base / r ...")
    fmaps_max: int = Field(96, ge=1, le=2048, description="... but at most this many")
    num_properties: int = Field(7, ge=0, le=256, description="property scores beside the latent")
    training_images: int = Field(20000, ge=32, le=10**7, description="images to train on")
    total_kimg: float = Field(300.0, gt=0, le=1e6, description="images shown, thousands")
    grow_kimg: dict[str, float] = Field(default_factory=dict, description="px: kimg to grow at")
    fade_kimg: float = Field(15.0, gt=0, le=1e6, description="length of a cross-fade, kimg")
    batch: int = Field(32, ge=2, le=4096, description="images a step")
    learning_rate: float = Field(2e-3, ge=0, le=1, description="Adam")
    decay_kimg: float = Field(100.0, ge=0, le=1e6, description="learning rate falls at the end")
    r1_gamma: float = Field(2.0, ge=0, le=1e4, description="weight of the gradient penalty")
    r1_every: int = Field(16, ge=1, le=1000, description="steps from penalty to penalty")
    average_kimg: float = Field(5.0, gt=0, le=1e4, description="half-life of the average, kimg")
    mixing: float = Field(0.9, ge=0, le=1, description="share of batches with style mixing")
    normal_labels: float = Field(0.5, ge=0, le=1, description="share of non-zero scores")
    report_kimg: float = Field(10.0, gt=0, le=1e4, description="from one checkpoint to the next")
    _image_px = field_validator("image_px")(check_power_of_two)


class TrainPropertyCNN(NotebookParameters, Compute):
    """Parameters of 03_train_property_cnn."""

    NOTEBOOK: ClassVar[str] = "03_train_property_cnn"

    population_run: str = Field(description="run folder of the labelled images")
    properties: list[str] = Field(min_length=1, description="label columns to learn")
    folds: int = Field(5, ge=2, le=50, description="CNNs a property that select")
    judge_folds: int = Field(2, ge=2, le=50, description="CNNs a property that judge")
    width: float = Field(1.0, gt=0, le=8, description="multiplier of all channels")
    batch: int = Field(16, ge=2, le=4096, description="images a step")
    max_epochs: int = Field(100, ge=1, le=10**4, description="most passes over a fold")
    patience: int = Field(20, ge=1, le=10**4, description="epochs without a better loss")
    learning_rate: Concept = Field(default_factory=dict, description="AdamW, by property")
    loss_limit: Concept = Field(default_factory=dict, description="validation loss to stay under")
    max_attempts: int = Field(3, ge=1, le=100, description="trainings of one fold at most")
    mirror: bool = Field(False, description="show each image mirrored half of the time")
    crops: dict[str, list[float]] = Field(
        default_factory=dict, description="top, bottom, left, right as fractions, by property"
    )


class Look(BaseModel):
    """The look to teach."""

    concept: Concept = Field(min_length=1, description="target score of each property")
    _concept = field_validator("concept")(check_share)


class SelectImages(NotebookParameters, Compute, Look):
    """Parameters of 04_select_images."""

    NOTEBOOK: ClassVar[str] = "04_select_images"

    base_run: str = Field(description="run folder of the base")
    cnn_run: str = Field(description="run folder of the property CNNs")
    population_run: str = Field("", description="run folder of the population, or empty")
    samples: int = Field(15000, ge=10, le=10**7, description="images sampled from the base")
    keep: Concept = Field(min_length=1, description="threshold of each property")
    skip_first: int = Field(0, ge=0, description="first images left out")
    _keep = field_validator("keep")(check_share)

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.keep:
            if name not in self.concept:
                raise ValueError(f"keep names {name!r}, which is not in the concept")
        return self


class FinetuneGenerator(NotebookParameters, Compute, Look):
    """Parameters of 05_finetune_generator."""

    NOTEBOOK: ClassVar[str] = "05_finetune_generator"

    base_run: str = Field(description="run folder of the base")
    cnn_run: str = Field(description="run folder of the property CNNs")
    selection_run: str = Field(description="run folder of the selected images")
    recipe: str = Field("v9", pattern="^(v8|v9)$", description="v8 or v9")
    wide_dim: int = Field(2048, ge=1, le=65536, description="width of v9's new branch")
    epochs: int = Field(72, ge=1, le=10**5, description="passes over the selected images")
    batch: int = Field(8, ge=1, le=4096, description="images a step")
    learning_rate: float = Field(1e-4, ge=0, le=1, description="AdamW, constant")
    weight_decay: float = Field(0.01, ge=0, le=1, description="AdamW")
    r1_gamma: float = Field(10.0, ge=0, le=1e4, description="weight of the gradient penalty")
    every_batches: int = Field(50, ge=1, le=10**6, description="from evaluation to evaluation")
    first_epoch_every: int = Field(25, ge=1, le=10**6, description="the same in epoch 0")
    first_epoch_each: int = Field(10, ge=0, le=10**6, description="first batches all evaluated")
    samples: int = Field(100, ge=4, le=10**5, description="samples an evaluation")
    average_batches: float = Field(
        0.0, ge=0, le=1e6, description="half-life of averaged weights, batches; 0: none"
    )
    checkpoint_every: int = Field(
        1, ge=1, le=10**5, description="epochs from kept to kept weights"
    )
    grid_every: int = Field(1, ge=1, le=10**6, description="evaluations from grid to grid")


class EvaluateSamples(NotebookParameters, Compute, Look):
    """Parameters of 06_evaluate_samples."""

    NOTEBOOK: ClassVar[str] = "06_evaluate_samples"

    base_run: str = Field(description="run folder of the base")
    cnn_run: str = Field(description="run folder of the property CNNs")
    selection_run: str = Field(description="run folder of the selected images")
    finetune_run: str = Field(description="run folder of the fine-tuning")
    samples: int = Field(1000, ge=20, le=10**6, description="samples a checkpoint")


class ReportRun(NotebookParameters, Look):
    """Parameters of 07_report_run."""

    NOTEBOOK: ClassVar[str] = "07_report_run"

    finetune_run: str = Field(
        f"{QUICKSTART}/05_finetune_generator-v9",
        description="run folder of the fine-tuning, or empty",
    )
    log_csv: str = Field("", description="or a training log by itself, published ones included")
    evaluation_run: str = Field("", description="run folder of its evaluation sampling")
    earlier_run: str = Field("", description="run folder of an earlier fine-tuning")
    earlier_csv: str = Field("", description="or its training log by itself")


class CompareRuns(NotebookParameters, Look):
    """Parameters of 08_compare_runs."""

    NOTEBOOK: ClassVar[str] = "08_compare_runs"

    finetune_runs: list[str] = Field(
        [f"{QUICKSTART}/05_finetune_generator-{v}" for v in ("v8", "v9")],
        description="run folders to compare",
    )
    evaluation_runs: list[str] = Field(
        [f"{QUICKSTART}/06_evaluate_samples-{v}" for v in ("v8", "v9")],
        description="their evaluation sampling",
    )
    log_csvs: list[str] = Field(default_factory=list, description="or training logs by themselves")
    names: list[str] = Field(["v8", "v9"], description="what to call them")


MODELS: dict[str, type[NotebookParameters]] = {
    model.NOTEBOOK: model
    for model in (
        MakePopulation,
        TrainBase,
        TrainPropertyCNN,
        SelectImages,
        FinetuneGenerator,
        EvaluateSamples,
        ReportRun,
        CompareRuns,
    )
}


def load(path: Path | str) -> NotebookParameters:
    """Reads and checks one params file.

    Raises:
        ValueError: One line naming file, parameter, value and remedy.
    """
    path = Path(path)
    notebook = next((n for n in MODELS if path.stem == n or path.stem.startswith(f"{n}-")), None)
    if notebook is None:
        raise ValueError(f"{path}: the name is no notebook's; it must be one of {list(MODELS)}")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable YAML ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path}: must hold lines of the form `name: value`")
    model = MODELS[notebook].checked(given, str(path))
    if model.stage != path.stem:
        raise ValueError(
            f"{path}: variant is {model.variant!r}, so the file must be named {model.stage}.yaml"
        )
    return model
