"""The parameters of every notebook: one strict model each, read from `params/<study>/*.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from ohlora_lib.study.conditions import conditions, parse_condition
from ohlora_lib.study.model import (
    Compute,
    Concept,
    Look,
    Meaning,
    NotebookParameters,
    Resolution,
    check_power_of_two,
    check_share,
    read_yaml,
)

QUICKSTART = "outputs/quickstart"


class MakePopulation(NotebookParameters):
    """Parameters of 01_make_population."""

    NOTEBOOK: ClassVar[str] = "01_make_population"

    source: str = Field(
        "faces",
        pattern="^(faces|folder|celeba|generator)$",
        description="faces, folder, celeba or generator",
    )
    image_px: int = Resolution
    labelled_images: int = Field(4000, ge=20, le=10**6, description="faces drawn, or samples")
    shares: Concept = Field(default_factory=dict, description="faces: share of ones by property")
    image_folder: str = Field("", description="folder, celeba: where the images are")
    fit: str = Field("crop", pattern="^(crop|pad)$", description="how images become square")
    generator_file: str = Field("", description="generator: its weights")
    labels_csv: str = Field("", description="folder, generator: label table, or empty")
    labelled_rows: int = Field(0, ge=0, description="first rows of it that are labels; 0: all")
    label_rules: dict[str, str] = Field(
        default_factory=dict, description="labels by rule, property: condition on a column"
    )
    _shares = field_validator("shares")(check_share)
    _image_px = field_validator("image_px")(check_power_of_two)

    @field_validator("label_rules")
    @classmethod
    def _rules(cls, rules: dict[str, str]) -> dict[str, str]:
        for rule in rules.values():
            parse_condition(rule)
        return rules

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "faces" and not 32 <= self.image_px <= 512:
            raise ValueError(f"faces are drawn at 32 to 512 px; image_px is {self.image_px}")
        needed = {
            "folder": "image_folder",
            "celeba": "image_folder",
            "generator": "generator_file",
        }
        name = needed.get(self.source)
        if name and not getattr(self, name):
            raise ValueError(f"source {self.source!r} needs {name}")
        return self


class TrainBase(NotebookParameters, Compute):
    """Parameters of 02_train_base."""

    NOTEBOOK: ClassVar[str] = "02_train_base"

    source: str = Field(
        "shipped", pattern="^(shipped|train|files)$", description="shipped, train or files"
    )
    generator_file: str = Field("", description="files: weights of the generator")
    discriminator_file: str = Field("", description="files: weights of its discriminator")
    population_run: str = Field("", description="train: run folder of the images; empty: faces")
    image_px: int = Resolution
    z_dim: int = Field(512, ge=1, le=4096, description="width of the latent")
    w_dim: int = Field(128, ge=1, le=4096, description="width of the style vector")
    fmaps_base: int = Field(2048, ge=64, le=65536, description="channels at r px: base / r ...")
    fmaps_max: int = Field(96, ge=1, le=2048, description="... but at most this many")
    num_properties: int = Field(7, ge=0, le=256, description="property scores beside the latent")
    training_images: int = Field(20000, ge=32, le=10**7, description="faces drawn to train on")
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
    report_kimg: float = Field(
        10.0, gt=0, le=1e4, description="from one row of the log to the next"
    )
    checkpoint_minutes: float = Field(
        10.0, ge=0, le=1e4, description="longest time between checkpoints, minutes"
    )
    _image_px = field_validator("image_px")(check_power_of_two)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source == "files" and not (self.generator_file and self.discriminator_file):
            raise ValueError("source 'files' needs generator_file and discriminator_file")
        return self


class TrainPropertyCNN(NotebookParameters, Compute, Meaning):
    """Parameters of 03_train_property_cnn."""

    NOTEBOOK: ClassVar[str] = "03_train_property_cnn"
    SHOWN: ClassVar[frozenset[str]] = frozenset({"meaning"})

    population_run: str = Field(description="run folder of the labelled images")
    properties: list[str] = Field(min_length=1, description="label columns to learn")
    folds: int = Field(5, ge=2, le=50, description="CNNs a property that select")
    judge_folds: int = Field(2, ge=2, le=50, description="CNNs a property that judge")
    width: float = Field(1.0, gt=0, le=8, description="multiplier of all channels")
    batch: int = Field(16, ge=2, le=4096, description="images a step")
    max_epochs: int = Field(100, ge=1, le=10**4, description="most passes over a fold")
    patience: int = Field(20, ge=1, le=10**4, description="epochs without a better loss")
    selector_folder: str = Field("", description="trained CNNs to select with, or empty")
    learning_rate: Concept = Field(default_factory=dict, description="AdamW, by property")
    judge_learning_rate: Concept = Field(
        default_factory=dict, description="the same for the judge, where it differs"
    )
    loss_limit: Concept = Field(default_factory=dict, description="validation loss to stay under")
    max_attempts: int = Field(3, ge=1, le=100, description="trainings of one fold at most")
    mirror: bool = Field(False, description="show each image mirrored half of the time")
    crops: dict[str, list[float]] = Field(
        default_factory=dict, description="top, bottom, left, right as fractions, by property"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        for field in ("learning_rate", "judge_learning_rate", "loss_limit", "crops"):
            for name in getattr(self, field):
                if name not in self.properties:
                    raise ValueError(f"{field} names {name!r}, which is not in properties")
        return self


class SelectImages(NotebookParameters, Compute, Look):
    """Parameters of 04_select_images."""

    NOTEBOOK: ClassVar[str] = "04_select_images"

    candidates: str = Field(
        "base", pattern="^(base|population|table)$", description="what to select from"
    )
    base_run: str = Field("", description="base: run folder of the base")
    cnn_run: str = Field("", description="run folder of the property CNNs")
    population_run: str = Field("", description="run folder of the population, or empty")
    scores_csv: str = Field("", description="scores made elsewhere, a row an image, or empty")
    samples: int = Field(15000, ge=10, le=10**7, description="base: images sampled")
    keep: Concept = Field(min_length=1, description="threshold of each property")
    skip_first: int = Field(0, ge=0, description="first images left out")
    _keep = field_validator("keep")(check_share)

    @model_validator(mode="after")
    def _known(self) -> Self:
        conditions(self.concept, self.keep)
        needed = {"base": "base_run cnn_run", "population": "population_run cnn_run"}
        for name in needed.get(self.candidates, "scores_csv").split():
            if not getattr(self, name):
                raise ValueError(f"candidates {self.candidates!r} need {name}")
        if self.candidates == "base" and self.scores_csv:
            raise ValueError("scores_csv scores no fresh samples; candidates must be 'population'")
        return self


class FinetuneGenerator(NotebookParameters, Compute, Look):
    """Parameters of 05_finetune_generator."""

    NOTEBOOK: ClassVar[str] = "05_finetune_generator"
    LONGER: ClassVar[str] = "epochs"
    SHOWN: ClassVar[frozenset[str]] = frozenset({"meaning"})

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
    checkpoint_minutes: float = Field(
        10.0, ge=0, le=1e4, description="longest time between checkpoints, minutes"
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


class OtherLogs(BaseModel):
    """What is said of logs that were written elsewhere."""

    columns: dict[str, str] = Field(
        default_factory=dict, description="what such a log calls a column, by our name of it"
    )
    complete: bool = Field(False, description="such a log is whole, however it ends")


class ReportRun(NotebookParameters, Look, OtherLogs):
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


class CompareRuns(NotebookParameters, Look, OtherLogs):
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
    names: list[str] = Field(["v8", "v9"], description="what to call them; seeds share a name")

    @model_validator(mode="after")
    def _two_runs(self) -> Self:
        count = len(self.finetune_runs) + len(self.log_csvs)
        if count < 2:
            raise ValueError(f"give two or more runs or logs to compare; given: {count}")
        if self.names and (len(self.names) != count or len(set(self.names)) < 2):
            raise ValueError(f"names are {self.names} for {count} runs; give each run one, and "
                             "two at least that are not seeds of one")  # fmt: skip
        if "base" in self.names:
            raise ValueError("a run cannot be called 'base', which is what all are measured from")
        return self


class LabelImages(NotebookParameters, Meaning):
    """Parameters of label_images."""

    NOTEBOOK: ClassVar[str] = "label_images"
    IN_PLACE: ClassVar[bool] = True

    population_run: str = Field("", description="run folder whose images are labelled")
    image_folder: str = Field("", description="or a folder of images")
    generator_file: str = Field("", description="or weights of a generator, which is sampled")
    image_px: int = Resolution
    count: int = Field(2000, ge=1, le=10**6, description="first images that are asked about")
    properties: list[str] = Field(
        ["gender", "quality", "age", "glass"], min_length=1, description="what is asked"
    )
    by_image: bool = Field(False, description="all questions about an image before the next")
    _image_px = field_validator("image_px")(check_power_of_two)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [
            n for n in ("population_run", "image_folder", "generator_file") if getattr(self, n)
        ]
        if len(given) != 1:
            raise ValueError(
                f"give one of population_run, image_folder and generator_file; given: {given}"
            )
        return self


class ExploreLatents(NotebookParameters, Compute, Meaning):
    """Parameters of explore_latents."""

    NOTEBOOK: ClassVar[str] = "explore_latents"
    IN_PLACE: ClassVar[bool] = True

    base_run: str = Field(f"{QUICKSTART}/02_train_base", description="run folder of the base")
    finetune_run: str = Field(
        f"{QUICKSTART}/05_finetune_generator-v9",
        description="a fine-tuning, or empty",
    )
    cnn_run: str = Field(
        f"{QUICKSTART}/03_train_property_cnn",
        description="CNNs that score, or empty",
    )
    properties: list[str] = Field(
        ["gender", "quality", "age", "glass"], min_length=1, description="what is scored"
    )


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
        LabelImages,
        ExploreLatents,
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
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: must hold lines of the form `name: value`")
    model = MODELS[notebook].checked(given, str(path))
    if model.stage != path.stem:
        raise ValueError(
            f"{path}: variant is {model.variant!r}, so the file must be named {model.stage}.yaml"
        )
    return model
