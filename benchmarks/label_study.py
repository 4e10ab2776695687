"""Compares a study from 300 answers per property with one from 2,000 random images.

`python -m benchmarks.label_study FOLDER` makes a project with built-in faces as image files, whose
true labels answer. One study labels 120 images drawn at random, and 180 more for each property, in
rounds, that `asking.next_images` chooses. The other labels all properties of 2,000 random images.
Both run the stages of `params/quickstart` up to the report, with recipe v9. A judge trained on the
true labels of other faces measures how far the samples of each are from the look, and more faces
test the studies' own CNNs. Finished stages are skipped.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from ohlora_lib.base.base import load_base
from ohlora_lib.evaluation import evidence
from ohlora_lib.io.weights import load_generator
from ohlora_lib.nets.samples import sample_images
from ohlora_lib.population import asking
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.population.labels import save_table
from ohlora_lib.properties.ensemble import Ensemble, load_ensemble, unseen_scores
from ohlora_lib.properties.lesson import CNNSettings
from ohlora_lib.properties.training import train_ensemble
from ohlora_lib.runner.runner import run_study
from ohlora_lib.study.records import project_root

CONCEPT = {"gender": 1.0, "quality": 1.0, "age": 0.0, "glass": 0.0}
PX, CANDIDATES, FIRST, PER_ROUND = 64, 4000, 120, 45
OTHER, TESTED, SAMPLES = 1000, 3000, 1000  # seed of other faces; how many; samples of a generator
STAGES = ("01*", "02*", "03*", "04*", "05*v9", "06*v9", "07*v9")


def asked(faces: pd.DataFrame, features: np.ndarray, answers: int, seed: int) -> pd.DataFrame:
    """A label table of `answers` per property: first random images, then chosen ones."""
    order = np.random.default_rng(seed).permutation(len(faces))
    drawn = np.isin(np.arange(len(faces)), order[: min(FIRST, answers)])
    table = pd.DataFrame({"file": names(len(faces))}).assign(source=np.where(drawn, "random", ""))
    for prop in CONCEPT:
        truth = faces[prop].to_numpy(float)
        labels = np.where(drawn, truth, np.nan)
        while (left := answers - int((~np.isnan(labels)).sum())) > 0:
            rest = order[np.isnan(labels[order])]
            found = asking.next_images(features, labels, rest, min(left, PER_ROUND))
            labels[found] = truth[found]
        rows = np.flatnonzero(~np.isnan(labels))
        probabilities = asking.guess(features, labels)
        source = np.where(drawn[rows], "random", "chosen")
        table.loc[rows, f"{prop}_weight"] = asking.weights(probabilities, rows, source)
        table[prop] = pd.array(labels, dtype="Int64")
    table["source"] = table["source"].replace("", "chosen")
    return table.assign(how="key", round=0).dropna(subset=list(CONCEPT), how="all")


def names(count: int) -> list[str]:
    """File names of the faces."""
    return [f"{k:06d}.png" for k in range(count)]


def new_project(folder: Path, answers: int, many: int, seed: int) -> None:
    """Writes faces, both label tables and both studies' parameters; keeps what is there."""
    home, inputs = project_root(Path(__file__)), folder / "inputs"
    if not (folder / "notebooks").exists():
        shutil.copytree(home / "notebooks", folder / "notebooks")
        shutil.copytree(home / "docs", folder / "docs")
    (inputs / "faces").mkdir(parents=True, exist_ok=True)
    images = render_faces(range(CANDIDATES), seed=seed, image_px=PX)
    for name, image in zip(names(CANDIDATES), images, strict=True):
        Image.fromarray(image).save(inputs / "faces" / name)
    faces = draw_attributes(range(CANDIDATES), seed=seed).reset_index(drop=True)
    rows = np.sort(np.random.default_rng(seed + 1).permutation(CANDIDATES)[:many])
    whole = faces[list(CONCEPT)].assign(file=names(CANDIDATES))
    save_table(inputs / "many.csv", whole.iloc[rows])
    save_table(inputs / "few.csv", asked(faces, asking.features(images), answers, seed))
    for study in ("few", "many"):
        (folder / "params" / study).mkdir(parents=True, exist_ok=True)
        for path in sorted((home / "params" / "quickstart").glob("0[1-7]*.yaml")):
            if "v8" not in path.stem:
                write_params(path, folder / "params" / study, seed)


def write_params(path: Path, folder: Path, seed: int) -> None:
    """Writes a file of the quickstart's parameters for a study of labelled image files."""
    study = folder.name
    text = path.read_text(encoding="utf-8").replace("quickstart", study)
    params = yaml.safe_load(text) | {"seed": seed}
    params.pop("earlier_run", None)
    if "labelled_images" in params:
        del params["labelled_images"]
        params |= {"source": "folder", "image_folder": "inputs/faces"}
        params |= {"labels_csv": f"inputs/{study}.csv"}
    (folder / path.name).write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def true_judge(folder: Path) -> Ensemble:
    """CNNs trained on the true labels of faces that no study has seen."""
    images = torch.from_numpy(render_faces(range(TESTED), seed=OTHER, image_px=PX))
    labels = draw_attributes(range(TESTED), seed=OTHER).reset_index(drop=True)
    settings = CNNSettings(seed=OTHER)
    data = (images, labels, np.arange(TESTED), list(CONCEPT), settings, folder)
    for _ in train_ensemble(*data):
        pass
    return load_ensemble(folder, list(CONCEPT))


def of_cnns(run: Path, study: str) -> pd.DataFrame:
    """AUROC and calibration error of a study's selector and judge on unseen faces."""
    images = torch.from_numpy(render_faces(range(TESTED), seed=OTHER + 1, image_px=PX))
    labels = draw_attributes(range(TESTED), seed=OTHER + 1).reset_index(drop=True)
    unseen = {
        f"{study} {role}": unseen_scores(load_ensemble(run / role, list(CONCEPT)), images, labels)
        for role in ("selector", "judge")
    }
    return evidence.auroc_table(unseen)[["auroc"]].join(
        evidence.calibration_table(unseen)["error"]
    )


def of_samples(judge: Ensemble, outputs: Path) -> dict[str, float]:
    """Distance of the samples' mean score from the target, by property, and their mean."""
    generator = load_generator(outputs / "05_finetune_generator-v9" / "generator.safetensors")
    return distances(judge, generator)


def distances(judge: Ensemble, generator: torch.nn.Module) -> dict[str, float]:
    """Distance of a generator's samples from the look, by property, and the mean distance."""
    images = torch.cat(list(sample_images(generator, SAMPLES, seed=OTHER)))
    means = judge.scores(images).mean(dim=0).tolist()
    gaps = {
        p: abs(mean - target) for (p, target), mean in zip(CONCEPT.items(), means, strict=True)
    }
    return gaps | {"mean": float(np.mean(list(gaps.values())))}


def main() -> None:
    """Runs both studies and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_study", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the project; may exist")
    parser.add_argument("--answers", type=int, default=300, help="answers per property")
    parser.add_argument("--many", type=int, default=2000, help="images of the other study")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cnns-only", action="store_true", help="stop after stage 3")
    given = parser.parse_args()
    folder = given.folder.resolve()
    new_project(folder, given.answers, given.many, given.seed)
    stages = STAGES[:1] + STAGES[2:3] if given.cnns_only else STAGES
    for study in ("few", "many"):
        run_study(folder / "params" / study, only=",".join(stages))
    outputs = {study: folder / "outputs" / study for study in ("few", "many")}
    runs = [of_cnns(path / "03_train_property_cnn", s) for s, path in outputs.items()]
    print(pd.concat(runs).unstack("by").round(4).to_string())
    if not given.cnns_only:
        judge = true_judge(folder / "judge")
        base = load_base(outputs["few"] / "02_train_base").generator
        rows = {study: of_samples(judge, path) for study, path in outputs.items()}
        print(pd.DataFrame({"base": distances(judge, base)} | rows).round(4).to_string())


if __name__ == "__main__":
    main()
