"""Parameters of the notebooks: one strict model each, read from `params/<study>/*.yaml`.

The comment on a parameter's line in the notebook explains it.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from ohlora_lib.study.look import MEANING, conditions, parse_condition, parse_output
from ohlora_lib.study.model import NotebookParameters, read_yaml

QUICKSTART = "outputs/quickstart"
PROPERTIES = ["gender", "quality", "age", "glass"]
Side = Literal[8, 16, 32, 64, 128, 256, 512, 1024]  # of images, in pixels
Share = Annotated[float, Field(ge=0, le=1)]
Words = Annotated[list[str], Field(min_length=2, max_length=2)]  # what 0 and 1 mean
AtLeastTwo = Annotated[int, Field(ge=2)]
THREE = Field(min_length=3, max_length=3)  # one number per channel
Names = Annotated[list[str], Field(min_length=1)]


class Compute(BaseModel):
    """Device and number format of a stage."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class Meaning(BaseModel):
    """What the scores mean."""

    meaning: dict[str, Words] = MEANING


class Look(Meaning):
    """The look to teach."""

    concept: dict[str, Share] = Field(min_length=1)


class OtherLogs(BaseModel):
    """How to read logs written by other programs."""

    columns: dict[str, str] = {}
    complete: bool = False


class MakePopulation(NotebookParameters):
    """Parameters of 01_make_population."""

    NOTEBOOK = "01_make_population"
    MAKES = ("images/images.npy",)
    NEEDS = {"folder": "image_folder", "celeba": "image_folder", "generator": "generator_file"}
    ONLY = {"source: faces": "shares", "source: folder or celeba": "image_folder",
            "source: generator": "generator_file",
            "source: folder or generator": "labels_csv labelled_rows"}  # fmt: skip
    source: Literal["faces", "folder", "celeba", "generator"] = "faces"
    image_px: Side = 64
    labelled_images: int = Field(4000, ge=20)
    shares: dict[str, Share] = {}
    image_folder: str = ""
    fit: Literal["crop", "pad"] = "crop"
    generator_file: str = ""
    labels_csv: str = ""
    labelled_rows: NonNegativeInt = 0
    label_rules: dict[str, str] = {}

    @model_validator(mode="after")
    def _drawable(self) -> Self:
        for rule in self.label_rules.values():
            parse_condition(rule)
        if self.source == "faces" and not 32 <= self.image_px <= 512:
            raise ValueError(f"image_px is {self.image_px}; built-in faces need 32 to 512 px")
        return self


class TrainBase(NotebookParameters, Compute):
    """Parameters of 02_train_base."""

    NOTEBOOK = "02_train_base"
    MAKES = ("generator.safetensors", "discriminator.safetensors")
    NEEDS = {"files": "generator_file", "generator": "generator_file population_run"}
    ONLY = {"source: files or generator": "generator_file", "source: files": "discriminator_file",
            "source: generator or train": "population_run", "source: train": "grow_kimg",
            "architecture: stylegan1": "grow_kimg fade_kimg num_properties normal_labels",
            }  # fmt: skip
    source: Literal["shipped", "files", "generator", "train"] = "shipped"
    generator_file: str = ""
    discriminator_file: str = ""
    population_run: str = ""
    architecture: Literal["stylegan1", "stylegan2"] = "stylegan1"
    image_px: Side = 64
    z_dim: PositiveInt = 512
    w_dim: PositiveInt = 128
    fmaps_base: int = Field(2048, ge=64)
    fmaps_max: PositiveInt = 96
    num_properties: NonNegativeInt = 7
    training_images: int = Field(20000, ge=32)
    total_kimg: PositiveFloat = 300.0
    grow_kimg: dict[str, float] = {}
    fade_kimg: PositiveFloat = 15.0
    batch: AtLeastTwo = 32
    learning_rate: Share = 2e-3
    decay_kimg: NonNegativeFloat = 100.0
    r1_gamma: NonNegativeFloat = 2.0
    r1_every: PositiveInt = 16
    average_kimg: PositiveFloat = 5.0
    mixing: Share = 0.9
    normal_labels: Share = 0.5
    report_kimg: PositiveFloat = 10.0
    checkpoint_minutes: NonNegativeFloat = 10.0


class TrainPropertyCNN(NotebookParameters, Compute, Meaning):
    """Parameters of 03_train_property_cnn."""

    NOTEBOOK = "03_train_property_cnn"
    MAKES = ("judge-folds.csv", "judge-unseen-scores.csv")
    ONLY = {"architecture: published":
            "learning_rate judge_learning_rate loss_limit max_attempts crops"}  # fmt: skip
    SHOWN = frozenset({"meaning"})
    population_run: str
    properties: Names
    architecture: Literal["compact", "published"] = "compact"
    folds: AtLeastTwo = 3
    judge_folds: AtLeastTwo = 3
    width: PositiveFloat = 1.0
    batch: AtLeastTwo = 32
    max_epochs: PositiveInt = 11
    patience: PositiveInt = 10
    mirror: bool = True
    selector_folder: str = ""
    learning_rate: dict[str, float] = {}
    judge_learning_rate: dict[str, float] = {}
    loss_limit: dict[str, float] = {}
    max_attempts: PositiveInt = 3
    crops: dict[str, list[float]] | Literal["auto"] = {}

    @model_validator(mode="after")
    def _known(self) -> Self:
        for field in ("learning_rate", "judge_learning_rate", "loss_limit", "crops"):
            for name in getattr(self, field) if getattr(self, field) != "auto" else ():
                if name not in self.properties:
                    raise ValueError(f"{field} names {name!r}; use names in {self.properties}")
        return self


class SelectImages(NotebookParameters, Compute, Look):
    """Parameters of 04_select_images."""

    NOTEBOOK = "04_select_images"
    MAKES = ("scores.csv",)  # a score table alone gives no images
    CURRENT = {"cnn_run": "population_run"}
    NEEDS = {"base": "base_run cnn_run", "population": "population_run cnn_run",
             "table": "scores_csv"}  # fmt: skip
    ONLY = {"candidates: population or table": "scores_csv"}
    candidates: Literal["base", "population", "table"] = "base"
    base_run: str = ""
    cnn_run: str = ""
    population_run: str = ""
    scores_csv: str = ""
    samples: int = Field(15000, ge=10)
    keep: dict[str, Share] = Field(min_length=1)
    skip_first: NonNegativeInt = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        conditions(self.concept, self.keep)
        return self


class FinetuneGenerator(NotebookParameters, Compute, Look):
    """Parameters of 05_finetune_generator."""

    NOTEBOOK = "05_finetune_generator"
    MAKES = ("generator.safetensors", "train_log.csv")
    CURRENT = {"selection_run": "base_run cnn_run"}
    LONGER = "epochs"
    SHOWN = frozenset({"meaning"})
    base_run: str
    cnn_run: str
    selection_run: str
    recipe: Literal["v8", "v9"] = "v9"
    wide_dim: PositiveInt = 2048
    epochs: PositiveInt = 72
    batch: PositiveInt = 8
    learning_rate: Share = 1e-4
    weight_decay: Share = 0.01
    r1_gamma: NonNegativeFloat = 10.0
    every_batches: PositiveInt = 50
    first_epoch_every: PositiveInt = 25
    first_epoch_each: NonNegativeInt = 10
    samples: int = Field(100, ge=4)
    average_batches: NonNegativeFloat = 0.0
    checkpoint_every: PositiveInt = 1
    checkpoint_minutes: NonNegativeFloat = 10.0
    grid_every: PositiveInt = 1


class EvaluateSamples(NotebookParameters, Compute, Look):
    """Parameters of 06_evaluate_samples."""

    NOTEBOOK = "06_evaluate_samples"
    MAKES = ("evaluations.csv", "scores.csv")
    base_run: str
    cnn_run: str
    selection_run: str
    finetune_run: str
    samples: int = Field(1000, ge=20)
    onnx_files: list[str] = []
    onnx_outputs: dict[str, str] = {}
    onnx_activation: Literal["none", "softmax", "sigmoid"] = "none"
    onnx_px: NonNegativeInt = 0
    onnx_crop: Annotated[list[Share], Field(min_length=4, max_length=4)] = [0.0, 1.0, 0.0, 1.0]
    onnx_channels: Literal["RGB", "BGR"] = "RGB"
    onnx_mean: Annotated[list[float], THREE] = [0.0, 0.0, 0.0]
    onnx_std: Annotated[list[PositiveFloat], THREE] = [255.0, 255.0, 255.0]

    @model_validator(mode="after")
    def _scorable(self) -> Self:
        for prop, text in self.onnx_outputs.items():
            parse_output(text)
            if prop not in self.concept:
                raise ValueError(f"onnx_outputs has {prop!r}; use {list(self.concept)}")
        if bool(self.onnx_files) != bool(self.onnx_outputs):
            raise ValueError("onnx_files and onnx_outputs belong together; give both or neither")
        top, bottom, left, right = self.onnx_crop
        if top >= bottom or left >= right:
            raise ValueError(
                f"onnx_crop is {self.onnx_crop}; top must be < bottom, and left < right"
            )
        return self


class ReportRun(NotebookParameters, Look, OtherLogs):
    """Parameters of 07_report_run."""

    NOTEBOOK = "07_report_run"
    MAKES = ("verdict.csv",)
    finetune_run: str = f"{QUICKSTART}/05_finetune_generator-v9"
    log_csv: str = ""
    evaluation_run: str = ""
    earlier_run: str = ""
    earlier_csv: str = ""


class CompareRuns(NotebookParameters, Look, OtherLogs):
    """Parameters of 08_compare_runs."""

    NOTEBOOK = "08_compare_runs"
    MAKES = ("comparison.csv",)
    finetune_runs: list[str] = [f"{QUICKSTART}/05_finetune_generator-{v}" for v in ("v8", "v9")]
    evaluation_runs: list[str] = [f"{QUICKSTART}/06_evaluate_samples-{v}" for v in ("v8", "v9")]
    log_csvs: list[str] = []
    names: list[str] = ["v8", "v9"]

    @model_validator(mode="after")
    def _two_runs(self) -> Self:
        count = len(self.finetune_runs) + len(self.log_csvs)
        if count < 2:
            raise ValueError(f"give two or more runs or logs to compare; given: {count}")
        if self.names and (len(self.names) != count or len(set(self.names)) < 2):
            raise ValueError(f"names are {self.names} for {count} runs; give each run a "
                             "name, at least two of them different (seeds share one)")  # fmt: skip
        if "base" in self.names:
            raise ValueError("names has 'base', which means the base StyleGAN; rename that run")
        return self


class LabelImages(NotebookParameters, Meaning):
    """Parameters of label_images."""

    NOTEBOOK = "label_images"
    IN_PLACE = True
    population_run: str = ""
    image_folder: str = ""
    generator_file: str = ""
    settle_csv: str = ""
    image_px: Side = 64
    count: PositiveInt = 5000
    properties: Names = PROPERTIES
    by_image: bool = False
    order: Literal["chosen", "in order"] = "chosen"
    first: PositiveInt = 100
    by_key: PositiveInt = 20
    per_round: AtLeastTwo = 48
    page_images: int = Field(48, ge=1, le=48)
    target: PositiveInt = 1000

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = ("population_run", "image_folder", "generator_file")
        given = [name for name in names if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(names)}; given: {given}")
        return self


class ExploreLatents(NotebookParameters, Compute, Meaning):
    """Parameters of explore_latents."""

    NOTEBOOK = "explore_latents"
    IN_PLACE = True
    base_run: str = f"{QUICKSTART}/02_train_base"
    finetune_run: str = f"{QUICKSTART}/05_finetune_generator-v9"
    cnn_run: str = f"{QUICKSTART}/03_train_property_cnn"
    properties: Names = PROPERTIES


MODELS = {model.NOTEBOOK: model for model in NotebookParameters.__subclasses__()}


def load(path: Path | str) -> NotebookParameters:
    """Reads and checks a params file; ValueError names the file, parameter, value and remedy."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder. Give one of its params files.")
    if not path.is_file():
        raise ValueError(f"{path}: No such file. Correct the path.")
    notebook = next((n for n in MODELS if path.stem == n or path.stem.startswith(f"{n}-")), None)
    if notebook is None:
        raise ValueError(f"{path}: no notebook has this name; begin it with one of {list(MODELS)}")
    given = read_yaml(path)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: not a mapping; write lines of the form `name: value`")
    model = MODELS[notebook].checked(given, str(path))
    if model.stage != path.stem:
        raise ValueError(
            f"{path}: variant is {model.variant!r}, so rename the file to {model.stage}.yaml"
        )
    return model
