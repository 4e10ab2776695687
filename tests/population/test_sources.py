"""Populations from every source: images, labels that point the right way, what was left out."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ohlora_lib.io.weights import save_weights
from ohlora_lib.nets import Generator
from ohlora_lib.population import sources as pop
from ohlora_lib.population.faces.faces import draw_attributes, render_faces

COUNT = 12


def write_faces(folder, count=COUNT, name="{:06d}.png"):
    """Built-in faces as files; lossless, so that pixels can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    images = render_faces(range(count), image_px=32)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / name.format(k + 1))
    return images, draw_attributes(range(count))


def celeba(root, *, suffix="txt", names=None):
    """CelebA's layout: attributes are 1 and -1, a blurred, young man has 1 in all three."""
    images, faces = write_faces(root / "img_align_celeba")
    table = pd.DataFrame({
        "5_o_Clock_Shadow": -1,
        "Blurry": 1 - 2 * faces["quality"], "Eyeglasses": 2 * faces["glass"] - 1,
        "Male": 1 - 2 * faces["gender"], "Young": 1 - 2 * faces["age"],
    }).astype(int)  # fmt: skip
    table.index = names or [f"{k + 1:06d}.png" for k in range(COUNT)]
    if suffix == "csv":
        table.rename_axis("image_id").to_csv(root / "list_attr_celeba.csv")
        return images, faces
    lines = [str(COUNT), " ".join(table.columns)]
    lines += [f"{k}  {'  '.join(map(str, row))}" for k, *row in table.itertuples()]
    (root / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return images, faces


def complaint(make, *args, **options):
    with pytest.raises(ValueError, match=".") as caught:
        make(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_faces(tmp_path):
    made = pop.draw_faces(tmp_path, 300, image_px=32, seed=3)
    assert np.array_equal(made.images, render_faces(range(300), seed=3, image_px=32))
    faces = draw_attributes(range(300), seed=3)
    assert made.labels["img_no"].tolist() == list(range(300))
    assert made.labels["gender"].tolist() == faces["gender"].tolist()
    assert made.properties == ["gender", "quality", "age", "glass"]
    again = pop.load_population(tmp_path)
    assert np.array_equal(again.images, made.images)
    assert again.properties == made.properties
    assert again.shares == made.shares


def test_properties_by_rule(tmp_path):
    rules = {"eyes_open": "eyes>=0.7", "mouth_open": "mouth>=0.5"}
    made = pop.draw_faces(tmp_path, 40, image_px=32, seed=0, rules=rules)
    faces = draw_attributes(range(40))
    assert made.labels["eyes_open"].tolist() == (faces["eyes"] >= 0.7).astype(int).tolist()
    assert made.properties[:2] == ["eyes_open", "mouth_open"]
    assert 0 < made.shares["eyes_open"] < 1
    for name in ("eyes_open", "mouth_open"):
        assert set(made.labels[name]) == {0, 1}


@pytest.mark.parametrize("suffix", ["txt", "csv"])
def test_celeba_attributes_are_turned_right(tmp_path, suffix):
    images, faces = celeba(tmp_path / "celeba", suffix=suffix)
    made = pop.import_celeba(tmp_path / "run", tmp_path / "celeba", image_px=32)
    assert np.array_equal(made.images, images)
    for name in ("gender", "quality", "age", "glass"):
        assert made.labels[name].tolist() == faces[name].astype(int).tolist(), name
        assert set(made.labels[name]) == {0, 1}, name  # the draw has both, so a turn shows
    assert made.properties == ["gender", "quality", "age", "glass"]
    assert "5_o_Clock_Shadow" in made.labels


def test_celeba_rules_of_ones_own(tmp_path):
    celeba(tmp_path / "celeba")
    rules = {"shadow": "5_o_Clock_Shadow>=1", "man": "Male>=1"}
    made = pop.import_celeba(tmp_path / "run", tmp_path / "celeba", image_px=32, rules=rules)
    assert made.properties == ["shadow", "man"]
    assert made.shares["shadow"] == 0


def test_celeba_s_other_edition_has_another_suffix_than_its_list(tmp_path):
    celeba(tmp_path / "celeba")
    plain = pop.import_celeba(tmp_path / "plain", tmp_path / "celeba", image_px=32)
    path = tmp_path / "celeba" / "list_attr_celeba.txt"
    assert ".png" in path.read_text()
    path.write_text(path.read_text().replace(".png", ".jpg"))
    made = pop.import_celeba(tmp_path / "run", tmp_path / "celeba", image_px=32)
    assert made.labels[made.properties].equals(plain.labels[plain.properties])
    assert set(made.files["status"]) == {"read"}


def test_celeba_may_be_linked_together(tmp_path):
    celeba(tmp_path / "data")
    (tmp_path / "lists").mkdir()
    (tmp_path / "data" / "list_attr_celeba.txt").rename(tmp_path / "lists/list_attr_celeba.txt")
    (tmp_path / "celeba").mkdir()
    (tmp_path / "celeba" / "Anno").symlink_to("../lists")
    (tmp_path / "celeba" / "img_align_celeba").symlink_to("../data/img_align_celeba")
    made = pop.import_celeba(tmp_path / "run", tmp_path / "celeba", image_px=32)
    assert set(made.files["status"]) == {"read"}


def test_celeba_list_cut_off(tmp_path):
    celeba(tmp_path / "celeba")
    path = tmp_path / "celeba" / "list_attr_celeba.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-2]) + "\n")
    text = complaint(pop.import_celeba, tmp_path / "run", tmp_path / "celeba", image_px=32)
    assert "says 12 images and lists 10" in text


@pytest.mark.parametrize("content", ["", "twelve\nMale\na.png 1\n", "2\n"])
def test_celeba_list_of_another_form(tmp_path, content):
    celeba(tmp_path / "celeba")
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text(content)
    text = complaint(pop.import_celeba, tmp_path / "run", tmp_path / "celeba", image_px=32)
    assert "list_attr_celeba.txt" in text


def test_celeba_layout_missing(tmp_path):
    write_faces(tmp_path / "plain")
    text = complaint(pop.import_celeba, tmp_path / "run", tmp_path / "plain", image_px=32)
    assert "img_align_celeba" in text


def test_folder_with_labels_by_name(tmp_path):
    images, faces = write_faces(tmp_path / "in")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    Image.fromarray(images[2]).save(tmp_path / "in" / "z-again.png")
    table = pd.DataFrame({"file": [f"{k + 1:06d}.png" for k in range(COUNT)]})
    table["smiles"] = [k % 2 for k in range(COUNT)]
    table.loc[4, "smiles"] = np.nan  # not labelled yet
    table.loc[COUNT] = ["absent.png", 1]
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "labels.csv", index=False)
    made = pop.import_folder(
        tmp_path / "run", tmp_path / "in", image_px=32, labels_csv=tmp_path / "labels.csv"
    )
    assert np.array_equal(made.images, images)
    assert made.properties == ["smiles"]
    assert made.labels["img_no"].tolist() == [0, 1, 2, 3, *range(5, 12)]
    assert made.labels["smiles"].tolist() == [k % 2 for k in made.labels["img_no"]]
    status = made.files.set_index("file")["status"]
    assert status["broken.png"] == "unreadable"
    assert status["z-again.png"] == "duplicate"
    assert status["000005.png"] == "unlabelled"
    assert status["absent.png"] == "no image"
    assert status["000001.png"] == "read"
    assert len(made.files) == COUNT + 3
    for words in ("1 unreadable", "1 duplicate", "1 no image", "12 images", "11 labelled"):
        assert words in made.describe()


def test_folder_without_labels(tmp_path):
    write_faces(tmp_path / "in")
    made = pop.import_folder(tmp_path / "run", tmp_path / "in", image_px=32)
    assert (len(made.images), len(made.labels), made.properties) == (COUNT, 0, [])
    assert "No labels yet" in made.describe()
    assert pop.load_population(tmp_path / "run").properties == []


def test_published_label_format(tmp_path):
    """The first rows of the published table of scores are labels by hand, the others scores."""
    images, faces = write_faces(tmp_path / "in", name="{:06d}.png")
    table = pd.DataFrame({"img_no": range(1, COUNT + 1)})
    table["gender_score"] = faces["gender"].to_numpy(dtype=float)
    table.loc[8:, "gender_score"] = 0.4567
    table.to_csv(tmp_path / "scores.csv", index=False)
    made = pop.import_folder(
        tmp_path / "run",
        tmp_path / "in",
        image_px=32,
        labels_csv=tmp_path / "scores.csv",
        rules={"gender": "gender_score>=0.5"},
        labelled_rows=8,
    )
    assert made.labels["img_no"].tolist() == list(range(8))  # 000001.png is row 0 of the store
    assert made.labels["gender"].tolist() == faces["gender"].astype(int).tolist()[:8]
    assert made.files["status"].value_counts().to_dict() == {"read": 8, "unlabelled": 4}


def test_samples_of_a_generator(tmp_path):
    torch.manual_seed(0)
    save_weights(Generator(32, z_dim=8, w_dim=8, fmaps_base=64), tmp_path / "g.safetensors")
    table = pd.DataFrame({"img_no": [3, 1], "look": [1, 0]})
    table.to_csv(tmp_path / "labels.csv", index=False)
    options = {"seed": 5, "labels_csv": tmp_path / "labels.csv"}
    made = pop.sample_generator(tmp_path / "a", tmp_path / "g.safetensors", 130, **options)
    again = pop.sample_generator(tmp_path / "b", tmp_path / "g.safetensors", 130, **options)
    assert made.images.shape == (130, 32, 32, 3)
    assert np.array_equal(made.images, again.images)
    assert made.labels.to_dict("list") == {"img_no": [1, 3], "look": [0, 1]}


BAD_TABLES = {  # content of the label table, words of the complaint
    "no column of images": ("look\n1\n", ["which image", "look"]),
    "other images": ("file,look\nx.png,1\ny.png,0\n", ["none of its images", "x.png"]),
    "an image twice": ("file,look\n000001.png,1\n000001.png,0\n", ["more than once"]),
    "no labels": ("file,look\n000001.png,0.3\n000002.png,0.2\n", ["no column holds labels"]),
    "empty": ("", ["not a readable CSV"]),
    "ragged": ("file,look\n000001.png,1\n000002.png,1,2,3\n", ["line 3 has 4 fields"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_label_tables(tmp_path, case):
    content, words = BAD_TABLES[case]
    write_faces(tmp_path / "in", 3)
    (tmp_path / "labels.csv").write_text(content)
    text = complaint(
        pop.import_folder,
        tmp_path / "run",
        tmp_path / "in",
        image_px=32,
        labels_csv=tmp_path / "labels.csv",
    )
    for word in ["labels.csv", *words]:
        assert word in text
    assert not (tmp_path / "run" / "labels.csv").exists()


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"look": "absent>=1"}, ["absent", "look"]),
        ({"look": "word>=1"}, ["row 1", "'yes'"]),
    ],
)
def test_bad_rules(tmp_path, rules, words):
    write_faces(tmp_path / "in", 3)
    (tmp_path / "labels.csv").write_text("file,word\n000001.png,1\n000002.png,yes\n")
    text = complaint(
        pop.import_folder,
        tmp_path / "run",
        tmp_path / "in",
        image_px=32,
        labels_csv=tmp_path / "labels.csv",
        rules=rules,
    )
    for word in words:
        assert word in text


def test_nothing_readable(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    text = complaint(pop.import_folder, tmp_path / "run", tmp_path / "in", image_px=32)
    assert "none of its 1 image files can be read" in text
    assert not (tmp_path / "run" / "images" / "images.npy").exists()


def numbered(folder, *names):
    """Files whose shade says which one they are."""
    folder.mkdir()
    for k, name in enumerate(names):
        Image.new("RGB", (8, 8), (20 * k + 10,) * 3).save(folder / name)


def labels_of(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    made = pop.import_folder(
        tmp_path / "run", tmp_path / "in", image_px=8, labels_csv=tmp_path / "labels.csv"
    )
    shade = (made.images[:, 0, 0, 0].astype(int) - 10) // 20  # which file it was
    return dict(zip(shade[made.labels["img_no"]], made.labels["smile"], strict=True)), made


def test_numbers_are_those_in_the_names(tmp_path):
    numbered(tmp_path / "in", "face1.png", "face2.png", "face10.png")
    found, _ = labels_of(tmp_path, "img_no,smile\n10,1\n1,0\n2,0\n")
    assert found == {2: 1, 0: 0, 1: 0}


def test_a_file_without_a_number_makes_numbers_unclear(tmp_path):
    numbered(tmp_path / "in", "000001.png", "000002.png", "cover.png")
    with pytest.raises(ValueError, match=r"cover\.png.*Add a column `file`"):
        labels_of(tmp_path, "img_no,smile\n1,1\n2,0\n")


def test_places_count_what_could_not_be_read(tmp_path):
    numbered(tmp_path / "in", "a.png", "b.png", "c.png")
    (tmp_path / "in" / "b.png").write_bytes(b"")
    found, made = labels_of(tmp_path, "img_no,smile\n0,0\n1,1\n2,0\n")
    assert found == {0: 0, 2: 0}
    row = made.files.set_index("file").loc["b.png"]
    assert (row["status"], row["detail"].endswith("its label is not used")) == ("unreadable", True)
    assert len(made.files) == 3


def test_one_bad_label_is_named(tmp_path):
    numbered(tmp_path / "in", "a.png", "b.png", "c.png")
    for value in ("2", "y"):
        with pytest.raises(ValueError, match="row 2 has smile"):
            labels_of(tmp_path, f"file,smile,hat\na.png,1,1\nb.png,0,0\nc.png,{value},1\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,smile\na.png,1,\nb.png,0,\n", "line 2 has 3 fields, the first line names 2"),
        ("file,smile\n,1\nb.png,0\n", "row 0 has no name"),
        ("img_no\n", "no rows yet"),
    ],
)
def test_tables_that_would_be_misread(tmp_path, text, words):
    numbered(tmp_path / "in", "a.png", "b.png")
    with pytest.raises(ValueError, match=words):
        labels_of(tmp_path, text)


def test_names_without_suffix_and_with_leading_zeros(tmp_path):
    numbered(tmp_path / "in", "007.png", "008.png")
    found, _ = labels_of(tmp_path, "file,smile\n008,1\n007,0\n")
    assert found == {1: 1, 0: 0}
