"""Populations from every source: images, labels with the right sign, skipped files."""

from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Generator
from ohlora_lib.population import sources as pop
from ohlora_lib.population.faces.faces import draw_attributes, render_faces
from ohlora_lib.population.inputs import check_labels
from ohlora_lib.study.parameters import LabelImages, MakePopulation
from ohlora_lib.study.run_folder import Run
from tests.checks import complaint

COUNT = 12
PROPS = ["gender", "quality", "age", "glass"]


def make(tmp_path, **given):
    """Makes a population from parameters that are not validated."""
    config = MakePopulation.model_construct(**{"image_px": 32, "label_rules": {}, **given})
    return pop.make(config, tmp_path / "run")


def write_faces(folder, count=COUNT):
    """Writes built-in faces as lossless files, so that pixels can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    images = render_faces(range(count), image_px=32)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k + 1:06d}.png")
    return images, draw_attributes(range(count))


def from_folder(tmp_path, table=None, **given):
    """Makes the population of the folder `in`, with a label table if given."""
    if table is not None:
        given["labels_csv"] = str(tmp_path / "labels.csv")
        (tmp_path / "labels.csv").write_text(table)
    return make(tmp_path, source="folder", image_folder=str(tmp_path / "in"), **given)


def celeba(tmp_path, *, suffix="txt", count=COUNT):
    """Writes CelebA's layout: attributes are 1 or -1, and a blurred young man has three ones."""
    root = tmp_path / "celeba"
    images, faces = write_faces(root / "img_align_celeba", count)
    table = pd.DataFrame({
        "5_o_Clock_Shadow": -1,
        "Blurry": 1 - 2 * faces["quality"], "Eyeglasses": 2 * faces["glass"] - 1,
        "Male": 1 - 2 * faces["gender"], "Young": 1 - 2 * faces["age"],
    }).astype(int)  # fmt: skip
    table.index = [f"{k + 1:06d}.png" for k in range(count)]
    if suffix == "csv":
        table.index = [name.replace("png", "jpg") for name in table.index]  # as in another edition
        (root / "Anno").mkdir()
        table.rename_axis("image_id").to_csv(root / "Anno" / "list_attr_celeba.csv")
        return images, faces
    lines = [str(count), " ".join(table.columns)]
    lines += [f"{k}  {'  '.join(map(str, row))}" for k, *row in table.itertuples()]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return images, faces


def from_celeba(tmp_path, **given):
    return make(tmp_path, source="celeba", image_folder=str(tmp_path / "celeba"), **given)


def test_faces_and_properties_by_rule(tmp_path):
    made = make(tmp_path, labelled_images=300, seed=3, label_rules={"eyes_open": "eyes>=0.7"})
    assert np.array_equal(made.images, render_faces(range(300), seed=3, image_px=32))
    faces = draw_attributes(range(300), seed=3)
    assert made.labels["img_no"].tolist() == list(range(300))
    assert made.labels["gender"].tolist() == faces["gender"].tolist()
    assert made.labels["eyes_open"].tolist() == (faces["eyes"] >= 0.7).astype(int).tolist()
    assert 0 < made.shares["eyes_open"] < 1
    assert made.properties == ["eyes_open", *PROPS]
    again = pop.load_population(tmp_path / "run")
    assert np.array_equal(again.images, made.images)
    assert (again.properties, again.shares) == (made.properties, made.shares)


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_celeba_attributes_get_the_right_sign(tmp_path, suffix):
    images, faces = celeba(tmp_path, suffix=suffix)
    made = from_celeba(tmp_path)
    assert np.array_equal(made.images, images)
    assert made.properties == PROPS
    assert np.array_equal(made.labels[PROPS], faces[PROPS])
    assert (faces[PROPS].nunique() == 2).all()  # both values, so that a wrong sign shows
    rules = {"shadow": "5_o_Clock_Shadow>=1", "man": "Male>=1"}
    made = from_celeba(tmp_path, label_rules=rules)
    assert made.properties == ["shadow", "man"]
    assert made.shares["shadow"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: text.rindex("000011")], "declares 12 images and lists 10"),
        (lambda text: text.rstrip()[:-2], "too few or too many values: 1"),
        (lambda text: text.replace("000003.png", "000003.png 1 1 1"), "CelebA's attribute list"),
        (lambda text: "", "not CelebA's attribute list"),
    ],
)
def test_a_malformed_celeba_list_is_rejected(tmp_path, change, words):
    celeba(tmp_path)
    path = tmp_path / "celeba" / "list_attr_celeba.txt"
    path.write_text(change(path.read_text()))
    text = complaint(from_celeba, tmp_path)
    assert words in text
    assert path.name in text
    path.unlink()
    assert "img_align_celeba/" in complaint(from_celeba, tmp_path)


def test_folder_with_labels_by_name(tmp_path):
    images, _ = write_faces(tmp_path / "in")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    Image.fromarray(images[2]).save(tmp_path / "in" / "z-again.png")
    table = pd.DataFrame({"file": [f"{k + 1:06d}.png" for k in range(COUNT)]})
    table["smiles"] = [k % 2 for k in range(COUNT)]
    table.loc[4, "smiles"] = np.nan  # not labelled yet
    table.loc[COUNT] = ["absent.png", 1]
    table = table.sample(frac=1, random_state=0)
    made = from_folder(tmp_path, table.to_csv(index=False))
    assert np.array_equal(made.images, images)
    assert made.properties == ["smiles"]
    assert made.labels["img_no"].tolist() == [0, 1, 2, 3, *range(5, 12)]
    assert made.labels["smiles"].tolist() == [k % 2 for k in made.labels["img_no"]]
    status = made.files.set_index("file")["status"].to_dict()
    odd = {"broken.png": "unreadable", "z-again.png": "duplicate"}
    odd |= {"000005.png": "unlabelled", "absent.png": "no image"}
    assert status == dict.fromkeys(status, "read") | odd
    assert len(status) == COUNT + 3
    for words in ("1 unreadable", "1 duplicate", "1 no image", "12 images", "11 labelled"):
        assert words in made.describe()


def test_a_label_counts_whichever_copy_of_an_image_it_names(tmp_path):
    images, _ = write_faces(tmp_path / "in", 3)
    for name in ("again.png", "b.png", "copy.png"):
        Image.fromarray(images[1]).save(tmp_path / "in" / name)
    (tmp_path / "in" / "000002.png").rename(tmp_path / "in" / "000002-copy.png")
    made = from_folder(tmp_path, "file,hat\n000001.png,0\nb.png,0\nagain.png,1\n")
    assert made.labels[["img_no", "hat"]].to_numpy().tolist() == [[0, 0], [1, 1]]
    files = made.files.set_index("file")
    assert files["img_no"].dropna().to_dict() == {"000001.png": 0, "again.png": 1, "000003.png": 2}
    assert files.loc["000002-copy.png", "detail"] == "same pixels as again.png"
    assert files.loc["b.png", "detail"].endswith("its label is ignored")
    assert files.loc["copy.png", "status"] == "duplicate"


def test_folder_without_labels(tmp_path):
    write_faces(tmp_path / "in", 2)
    made = from_folder(tmp_path)
    assert (len(made.images), len(made.labels), made.properties) == (2, 0, [])
    assert "No labels yet" in made.describe()
    assert pop.load_population(tmp_path / "run").properties == []
    said = complaint(pop.load_population, tmp_path / "run", ["hat"])
    assert "none for 'hat'" in said
    assert "label_images" in said


def test_published_label_format(tmp_path):
    """In the published table, the first rows are manual labels and the others are scores."""
    _, faces = write_faces(tmp_path / "in")
    table = pd.DataFrame({"img_no": range(1, COUNT + 1)})
    table["gender_score"] = faces["gender"].to_numpy(dtype=float)
    table.loc[8:, "gender_score"] = 0.4567
    rules = {"gender": "gender_score>=0.5"}
    options = {"label_rules": rules, "labelled_rows": 8}
    made = from_folder(tmp_path, table.to_csv(index=False), **options)
    assert made.labels["img_no"].tolist() == list(range(8))  # 000001.png is row 0 of the store
    assert made.labels["gender"].tolist() == faces["gender"].astype(int).tolist()[:8]
    assert made.files["status"].value_counts().to_dict() == {"read": 8, "unlabelled": 4}
    table["gender"] = table.pop("gender_score")  # without a rule, 0.4567 is not a label
    table.to_csv(tmp_path / "labels.csv", index=False)
    for rows in (8, 0):
        given = {"source": "folder", "image_folder": "in", "labelled_rows": rows}
        config = MakePopulation.model_construct(label_rules={}, **given)
        with nullcontext() if rows else pytest.raises(ValueError, match="row 8 has gender"):
            check_labels(config, tmp_path / "labels.csv", tmp_path)


def test_generator_samples(tmp_path):
    torch.manual_seed(0)
    save_weights(Generator(8, z_dim=8, w_dim=8, fmaps_base=16), tmp_path / "g.safetensors")
    (tmp_path / "labels.csv").write_text("img_no,look\n3,1\n1,0\n")
    given = {"source": "generator", "generator_file": str(tmp_path / "g.safetensors"), "seed": 5}
    given |= {"labels_csv": str(tmp_path / "labels.csv"), "labelled_images": 30}
    made = make(tmp_path, **given)
    images = np.array(made.images)
    assert images.shape == (30, 8, 8, 3)
    assert np.array_equal(make(tmp_path, **given).images, images)
    assert made.labels.to_dict("list") == {"img_no": [1, 3], "look": [0, 1]}


def labels_of(tmp_path, names, table, **rules):
    """Labels by index of the file, coded as its shade; a file named b.png is not an image."""
    (tmp_path / "in").mkdir()
    for k, name in enumerate(names):
        image = Image.new("RGB", (8, 8), (20 * k + 10,) * 3)
        image.save(tmp_path / "in" / name)
    if "b.png" in names:
        (tmp_path / "in" / "b.png").write_bytes(b"")
    made = from_folder(tmp_path, table, image_px=8, label_rules=rules)
    shade = (made.images[:, 0, 0, 0].astype(int) - 10) // 20
    return dict(zip(shade[made.labels["img_no"]], made.labels["smile"], strict=True)), made


@pytest.mark.parametrize(
    ("names", "table", "found"),
    [
        (["face1.png", "face2.png", "face10.png"], "img_no,smile\n10,1\n1,0\n2,0\n", [0, 0, 1]),
        (["1.png", "202611242215301234567890.png"], "img_no,smile\n1,1\n", [1]),
        (["007.png", "008.png"], "file,smile\n008,1\n007,0\n", [0, 1]),
    ],
)
def test_rows_match_images_by_number_or_name(tmp_path, names, table, found):
    assert labels_of(tmp_path, names, table)[0] == dict(enumerate(found))


NUMBERED = [f"{k:06d}.png" for k in (1, 2, 3)]
MISFITS = [  # files, label table, rules, words of the message
    (NUMBERED, "file,look\n1.png,1\n000001.png,1\n000001.png,0\n", {}, "more than once"),
    (NUMBERED, "file,look\n000001.png,0.3\n000002.png,0.2\n", {}, "no column contains labels"),
    (NUMBERED, "file,look\n000001.png,yes\n000002.png,no\n", {}, "labels as 1 (yes) and 0 (no)"),
    (NUMBERED, "file,look\n000001.png,1\n000002,0\n000003,2\n", {}, "row 2 has look = 2"),
    (NUMBERED, "file,look\n,1\n000002.png,0\n", {}, "must name an image"),
    (NUMBERED, "file,word\n000001.png,1\n", {"look": "absent>=1"}, "'absent'"),
    (NUMBERED, "file,word\n000001.png,1\n000002.png,yes\n", {"look": "word>=1"}, "word = 'yes'"),
    (["000001.png", "cover.png"], "img_no,look\n1,1\n2,0\n", {}, "Add a column `file`"),
    (["b.png"], "img_no,look\n1,1\n", {}, "none of its 1 image files is readable; the first is b"),
]


@pytest.mark.parametrize(("names", "table", "rules", "words"), MISFITS)
def test_labels_that_do_not_fit_their_images_are_rejected(tmp_path, names, table, rules, words):
    assert words in complaint(labels_of, tmp_path, names, table, **rules)
    assert not (tmp_path / "run" / "labels.csv").exists()


def test_positions_count_unreadable_files(tmp_path):
    table = "img_no,smile\n0,0\n1,1\n2,0\n"
    found, made = labels_of(tmp_path, ["a.png", "b.png", "c.png"], table)
    assert found == {0: 0, 2: 0}
    row = made.files.set_index("file").loc["b.png"]
    assert (row["status"], row["detail"].endswith("its label is ignored")) == ("unreadable", True)
    assert len(made.files) == 3


def test_shares_come_from_images_drawn_at_random(tmp_path):
    write_faces(tmp_path / "in")
    table = (
        "img_no,hat,bald,source,how,round,hat_weight\n"
        "1,1,0,random,key,0,1\n2,0,1,random,key,0,1\n3,0,1,random,key,0,1\n4,0,0,random,key,0,1\n"
        "5,1,,chosen,grid,1,0.2\n6,1,,chosen,grid,1,0.2\n7,,,chosen,grid,1,\n"
    )
    made = from_folder(tmp_path, table)
    assert made.properties == ["hat", "bald"]
    assert made.shares == {"hat": 0.25, "bald": 0.5}
    assert made.describe() == (
        "12 images of 32 px, 6 labelled. Share of ones among the 4 drawn at random: "
        "hat 25.0%, bald 50.0%."
    )
    assert made.files.set_index("file")["status"].value_counts()["unlabelled"] == 6
    again = pop.load_population(tmp_path / "run", ["bald"])
    assert again.properties == ["hat", "bald"]
    assert len(again.labels) == 4
    assert again.shares == made.shares
    assert made.labels["hat_weight"].tolist() == [1, 1, 1, 1, 0.2, 0.2]
    partly = from_folder(tmp_path, table.replace("source", "origin").replace("0.2", "0"))
    assert len(partly.labels) == 4  # without sources, every label of a row is needed


def test_only_disagreements_are_labelled_again(tmp_path):
    images, _ = write_faces(tmp_path / "in")
    (tmp_path / "t.csv").write_text(
        "file,property,mine,hers\n000003.png,hat,0,1\n000004.png,hat,1,1\n000009.png,hat,1,0\n"
    )
    given = {"image_folder": str(tmp_path / "in"), "settle_csv": str(tmp_path / "t.csv")}
    config = LabelImages.model_construct(image_px=32, **given)
    run = Run(tmp_path / "run", "label_images", {}, {})
    found, names = pop.to_label(config, run)
    assert names == ["000003.png", "000009.png"]
    assert np.array_equal(found, images[[2, 8]])
    assert not list(run.path.glob("*.csv"))  # the folder's labels.csv is manual work
