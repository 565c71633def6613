"""`semisiam embed` on a real, tiny cell: one epoch on a few made-up images."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import command
import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from archives import encode, make_images, write_files, write_folder
from PIL import Image

from semisiam import embed
from semisiam.cell import Cell, SettingsError
from semisiam.data import datasets
from semisiam.data.files import DataError
from semisiam.data.pixels import resize
from semisiam.method import evaluation, model, training
from semisiam.run import folder as records


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of one's own and the folder of a cell trained on it, with its test files' names."""
    root = tmp_path_factory.mktemp("own")
    images = write_folder(root / "images", ("cat", "sea otter"), n=9, size=(20, 31))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMISIAM_CACHE", str(root / "cache"))
        data = datasets.load("folder", 32, data_dir=images)
    cell = Cell(dataset="folder", mode="supervised", epochs=1, output_dir=str(root / "cell"))
    folder = records.open_folder(cell)
    encoder, network = training.start_network(cell, 2)
    history = training.train(cell, network, data.train, data.train_labels, data.train)
    labelled, test = model.embed(encoder, data.train), model.embed(encoder, data.test)
    records.close_folder(
        folder,
        cell,
        metrics={"class_names": list(data.class_names)},
        split={},
        report=pd.DataFrame(),
        history=history,
        features={
            "embeddings": test,
            "predictions": evaluation.fit_svm(labelled, data.train_labels).predict(test),
            "labelled_embeddings": labelled,
            "labelled_labels": data.train_labels,
        },
        model=model.build_classifier(network, encoder),
    )
    return root / "images", folder, data.parts["test"].names


@pytest.fixture
def cell_copy(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "cell")


def invoke(*words):
    return command.invoke("embed", *words)


def test_images_get_the_embeddings_and_classes_that_they_have_in_the_cell(made):
    images, folder, names = made
    features = np.load(folder / "features.npz")
    table = embed.embed_images(folder, images).set_index("file")
    columns = ["predicted_class", "confidence", *(f"e{i}" for i in range(128))]
    assert list(table.columns) == columns
    assert len(table) == 18
    of_test = table.loc[names]
    assert np.allclose(of_test.iloc[:, 2:], features["embeddings"], atol=1e-5)
    classes = np.array(["cat", "sea otter"])
    assert (of_test["predicted_class"] == classes[features["predictions"]]).all()


def test_more_images_than_fit_a_batch(made, monkeypatch):
    images, folder, _ = made
    whole = embed.embed_images(folder, images)
    monkeypatch.setattr(embed, "BATCH_SIZE", 5)
    batched = embed.embed_images(folder, images)
    assert batched["file"].equals(whole["file"])
    assert np.allclose(batched.iloc[:, 3:], whole.iloc[:, 3:], atol=1e-5)


def test_csv_and_npz_hold_the_same(made, tmp_path):
    images, folder, _ = made
    for suffix in ("csv", "npz"):
        result = invoke(folder, images, "--output", tmp_path / f"out.{suffix}")
        assert result.exit_code == 0, result.output
        assert f"18 images embedded: {tmp_path / f'out.{suffix}'}" in result.output
    table, arrays = pd.read_csv(tmp_path / "out.csv"), np.load(tmp_path / "out.npz")
    assert arrays["embeddings"].shape == (18, 128)
    assert arrays["embeddings"].dtype == np.float32
    assert (table.iloc[:, 3:].to_numpy(np.float32) == arrays["embeddings"]).all()
    assert (table["confidence"].to_numpy(np.float32) == arrays["confidences"]).all()
    assert table["file"].tolist() == arrays["files"].tolist()
    assert table["predicted_class"].tolist() == arrays["predicted_classes"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.npz"]


def test_the_default_is_embeddings_csv_here(made, tmp_path, monkeypatch):
    images, folder, _ = made
    monkeypatch.chdir(tmp_path)
    assert invoke(folder, images / "cat" / "0.png").exit_code == 0
    assert pd.read_csv("embeddings.csv")["file"].tolist() == ["0.png"]


def test_images_of_any_mode_size_and_depth(made, tmp_path):
    modes = {"L": "a.png", "RGBA": "b/c.png", "CMYK": "d.jpg", "P": "e.gif", "RGB": "ü/f f.jfif"}
    pixels = Image.fromarray(make_images(1, 50, 40, 3)[0])
    for mode, name in modes.items():
        kind = {"jpg": "jpeg", "fif": "jpeg"}.get(name[-3:], name[-3:])
        write_files(tmp_path, {name: encode(pixels.convert(mode), kind)})
    write_files(tmp_path, {"notes.txt": b"x", ".hidden/a.png": b"x"})
    table = embed.embed_images(made[1], tmp_path)
    assert table["file"].tolist() == sorted(modes.values())
    assert np.isfinite(table.iloc[:, 3:]).all(axis=None)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("done.json", r"is not done \(not finished\): run it first"),
        ("params.yaml", "is not a cell's folder: it has no params.yaml"),
        ("model.keras", r"is not done \(model.keras is missing\): run it first"),
    ],
)
def test_a_cell_that_lacks_a_file(made, cell_copy, broken, message):
    (cell_copy / broken).unlink()
    with pytest.raises(DataError, match=message):
        embed.embed_images(cell_copy, made[0])


def test_a_cell_that_kept_no_model(made, cell_copy):
    settings = Cell.read(cell_copy / "params.yaml").model_dump() | {"keep_model": False}
    (cell_copy / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(DataError, match=r"set keep_model: true, remove its done\.json and run it"):
        embed.embed_images(cell_copy, made[0])


@pytest.mark.parametrize("broken", ["model.keras", "features.npz", "metrics.json"])
def test_a_cell_with_a_damaged_file(made, cell_copy, broken):
    content = (cell_copy / broken).read_bytes()
    (cell_copy / broken).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"is not done \({broken} is damaged: \d+ bytes"):
        embed.embed_images(cell_copy, made[0])
    records.write_done(cell_copy, Cell.read(cell_copy / "params.yaml"), "")  # of the same size
    with pytest.raises(DataError, match=r"the cell in .* is damaged \(.*\): run it again"):
        embed.embed_images(cell_copy, made[0])


def test_a_cell_run_with_other_settings(made, cell_copy):
    settings = yaml.safe_load((cell_copy / "params.yaml").read_text())
    (cell_copy / "params.yaml").write_text(yaml.safe_dump(settings | {"epochs": 2}))
    with pytest.raises(DataError, match=r"its params.yaml was changed"):
        embed.embed_images(cell_copy, made[0])
    (cell_copy / "params.yaml").write_text("epochs: many")
    with pytest.raises(SettingsError, match="cannot be used: epochs = 'many'"):
        embed.embed_images(cell_copy, made[0])


def test_images_that_cannot_be_read_are_named_and_the_others_embedded(made, tmp_path):
    good = encode(make_images(1, 9, 9, 3)[0])
    deep = encode(make_images(1, 9, 9)[0].astype(np.uint16), "tiff")
    files = {"a.png": good, "b/broken.png": good[:60], "empty.jpg": b"", "h.heic": b"ftypheic"}
    files |= {"deep.tif": deep, "notes.txt": b"x", "IMG_0001": good}
    result = invoke(made[1], write_files(tmp_path / "in", files), "--output", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert "1 images embedded: " in result.output
    assert "files that are not images left out (2): IMG_0001, notes.txt\n" in result.output
    assert "Error: 4 of 5 images are not embedded:\n  b/broken.png " in result.output
    assert "deep.tif is deeper than 8 bits (16-bit, grey), and the cell's images" in result.output
    assert "empty.jpg is empty (0 bytes)\n  h.heic is not an image" in result.output
    assert pd.read_csv(tmp_path / "out.csv")["file"].tolist() == ["a.png"]
    (tmp_path / "in" / "a.png").unlink()
    result = invoke(made[1], tmp_path / "in", "--output", tmp_path / "none.csv")
    assert result.exit_code == 1 and "4 of 4 images are not embedded" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.csv"]


def test_deep_images_are_scaled_by_the_range_of_training(made, cell_copy, tmp_path):
    metrics = json.loads((cell_copy / "metrics.json").read_text()) | {"value_range": [100, 356]}
    (cell_copy / "metrics.json").write_text(json.dumps(metrics))
    records.write_done(cell_copy, Cell.read(cell_copy / "params.yaml"), "")
    grey = make_images(1, 9, 9)[0]
    grey[0, 0] = 0
    deep = grey.astype(np.uint16) + 100
    deep[0, 0] = 99  # below the range
    dark = np.linspace(0, 1, 81, dtype=np.float32).reshape(9, 9)
    files = {"deep.tif": encode(deep, "tiff"), "grey.png": encode(grey)}
    table = embed.embed_images(cell_copy, write_files(tmp_path / "in", files))
    assert np.allclose(table.iloc[0, 2:].to_numpy(float), table.iloc[1, 2:].to_numpy(float))
    assert table.attrs["left_out"] == []
    assert table.attrs["notes"][-1].endswith(", 1 values clipped")
    other = embed.embed_images(cell_copy, write_files(tmp_path / "one", {"grey.png": encode(grey)}))
    assert other.attrs["notes"] == [
        "images converted, grey, 8 bits: not scaled as the cell's deeper ones: 1"
    ]
    place = write_files(tmp_path / "two", {"dark.tif": encode(Image.fromarray(dark), "tiff")})
    told = "floating point, grey, few grey levels are left in the range of all (no-data values, "
    told = f"images converted, {told}several depths?): 1"
    assert embed.embed_images(cell_copy, place).attrs["notes"][0] == told


def test_the_confidence_is_the_class_heads_probability(made):
    images, folder, _ = made
    table = embed.embed_images(folder, images)
    classifier = keras.saving.load_model(folder / "model.keras", compile=False)
    pixels = np.stack([resize(np.asarray(Image.open(images / f)), 32) for f in table["file"]])
    head = classifier.predict(pixels, verbose=0)["y_lab"]
    of_class = [["cat", "sea otter"].index(name) for name in table["predicted_class"]]
    assert np.allclose(table["confidence"], head[np.arange(18), of_class], atol=1e-5)


def test_a_cell_of_another_precision_leaves_keras_as_it_was(made, cell_copy):
    settings = Cell.read(cell_copy / "params.yaml").model_dump() | {"precision": "mixed_bfloat16"}
    (cell_copy / "params.yaml").write_text(yaml.safe_dump(settings))
    records.write_done(cell_copy, Cell.check(settings), "")
    tables = [embed.embed_images(folder, made[0]).iloc[:, 3:] for folder in (cell_copy, made[1])]
    gap = (tables[0] - tables[1]).abs().max(axis=None)
    assert 0 < gap < 0.1 * tables[1].abs().max(axis=None)
    assert keras.config.dtype_policy().name == "float32"


def test_a_model_from_elsewhere_cannot_run_code(made, cell_copy, tmp_path):
    """Its `config.json` asks for a class that writes a file; only its weights are read."""
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Model: pass\n")
    config = {"module": "evil", "class_name": "Model", "config": {}, "registered_name": None}
    with zipfile.ZipFile(cell_copy / "model.keras") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(cell_copy / "model.keras", "w") as new:
        for name, content in (parts | {"config.json": json.dumps(config)}).items():
            new.writestr(name, content)
    records.write_done(cell_copy, Cell.read(cell_copy / "params.yaml"), "")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        assert len(embed.embed_images(cell_copy, made[0])) == 18
    assert not marker.exists()


def test_class_names_that_look_like_nothing_are_text(made, cell_copy, tmp_path):
    metrics = json.loads((cell_copy / "metrics.json").read_text()) | {"class_names": ["NA"] * 2}
    (cell_copy / "metrics.json").write_text(json.dumps(metrics))
    records.write_done(cell_copy, Cell.read(cell_copy / "params.yaml"), "")
    image = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(image)).write_bytes(encode(make_images(1, 9, 9, 3)[0]))
    result = invoke(cell_copy, os.fsdecode(image), "--output", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert table.iloc[0, :2].tolist() == ["caf\\xe9.png", "NA"]


def test_where_there_is_nothing_to_embed(made, tmp_path):
    write_files(tmp_path, {"notes.txt": b"x"})
    for place, message in (
        (tmp_path / "nowhere", "there is no image file or folder"),
        (tmp_path, r"holds no image \(1 other files\); known are .apng, .avif"),
    ):
        with pytest.raises(DataError, match=message):
            embed.embed_images(made[1], place)
    with pytest.raises(DataError, match="nowhere is not a cell's folder"):
        embed.embed_images(tmp_path / "nowhere", made[0])
    result = invoke(made[1], "x" * 300, "--output", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert result.output == f"Error: {'x' * 300} cannot be read: File name too long\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.txt", "the name must end in .csv or .npz"),
        ("nowhere/out.csv", "cannot be written: No such file or directory"),
        ("file/out.csv", "cannot be written: Not a directory"),
        ("folder.csv", "cannot be written: Is a directory"),
    ],
)
def test_output_that_cannot_be_written(made, tmp_path, output, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.csv").mkdir()
    result = invoke(made[1], made[0], "--output", tmp_path / output)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert message in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]
