"""New images through a finished cell: embeddings, classes and how sure they are, as a table."""

import json
import zipfile
import zlib
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semisiam.atomic import replacing
from semisiam.cell import Cell
from semisiam.data import files, pixels
from semisiam.data.files import DataError, Opener
from semisiam.data.parts import Part
from semisiam.run.folder import explain_undone

BATCH_SIZE = 256  # images in memory at once


def write_embeddings(cell_folder: Path, images: Path, output: Path) -> pd.DataFrame:
    """Write the table of `embed_images` as `cli.embed` says, by the suffix of `output`; returns it.

    Raises `DataError`, at once if `output` cannot be written.
    """
    if output.suffix not in (".csv", ".npz"):
        raise DataError(f"--output {output}: the name must end in .csv or .npz")
    try:
        with replacing(output) as temporary:
            temporary.touch()
            try:
                table = embed_images(cell_folder, images)
            except OSError as error:
                told = f"{error.filename or images} cannot be read: {error.strerror or error}"
                raise DataError(told) from None
            if output.suffix == ".csv":
                table.to_csv(temporary, index=False, float_format="%.9g")  # digits for any float32
                return table
            np.savez_compressed(
                temporary,
                files=table["file"].to_numpy(str),  # as objects they would be pickled
                predicted_classes=table["predicted_class"].to_numpy(str),
                confidences=table["confidence"].to_numpy(),
                embeddings=table.filter(regex=r"^e\d+$").to_numpy(),
            )
    except OSError as error:
        raise DataError(f"--output {output} cannot be written: {error.strerror}") from None
    return table


def embed_images(cell_folder: Path, images: Path) -> pd.DataFrame:
    """Embed an image file, or all images below a folder, and predict their classes (III-C).

    Images are decoded and resized as when the cell's data was prepared. No code in the cell's
    folder runs: the network is built anew and takes its weights alone.

    Returns one row an image, sorted by file: `file` (its path in `images`), `predicted_class` by
    the linear SVM on the cell's labelled embeddings, `confidence`, and the embedding, float32 `e0`
    to `e127`. `confidence` is the probability in [0, 1], not calibrated, that the network's class
    head gives to that class; without a network, a forest's share of trees, or NaN.
    `attrs["left_out"]` lists images that are not in it, and why; `attrs["notes"]` tells of other
    files and of images that were converted.

    Raises `DataError` where the cell is not finished, or no image can be embedded;
    `SettingsError` where its settings cannot be read.
    """
    cell, (members, notes) = _read_cell(cell_folder), _find_images(images)
    network, svm, about = _load(cell_folder, cell)
    reader = pixels.Reader(cell.image_size, about.get("value_range", ()))
    names, rows, found = np.array([*members]), [], []
    readable = reader.read(Part(members.values(), names, np.full(len(names), -1)), "images")
    while batch := list(islice(readable, BATCH_SIZE)):
        rows += [row for row, _, _ in batch]
        found.append(network.predict_on_batch(np.stack([image for _, _, image in batch])))
    if not found:
        raise DataError(explain_left_out(reader.damaged, 0))
    outputs = {key: np.concatenate([of[key] for of in found]) for key in found[0]}
    embeddings, chances = outputs["embedding"], outputs.get("y_lab")
    predicted = svm.predict(embeddings)
    if chances is None and hasattr(svm, "predict_proba"):
        chances = svm.predict_proba(embeddings)
    first = {"file": names[rows], "predicted_class": np.array(about["class_names"])[predicted]}
    first["confidence"] = np.nan if chances is None else chances[np.arange(len(rows)), predicted]
    table = pd.DataFrame(first).join(pd.DataFrame(embeddings).add_prefix("e"))
    table.attrs = {"left_out": reader.damaged, "notes": notes + reader.describe()}
    return table


def explain_left_out(left_out: list[str], n_embedded: int) -> str:
    """Say which images are not in the table."""
    total = n_embedded + len(left_out)
    few = files.enumerate_few(left_out, 10, "\n  ")
    return f"{len(left_out):,} of {total:,} images are not embedded:\n  {few}\nmend or remove them"


def _read_cell(folder: Path) -> Cell:
    if not (folder / "params.yaml").exists():
        raise DataError(f"{folder} is not a cell's folder: it has no params.yaml")
    cell = Cell.read(folder / "params.yaml")
    if reason := explain_undone(folder, cell):
        raise DataError(f"the cell in {folder} is not done ({reason}): run it first")
    if not cell.keep_model:
        told = "set keep_model: true, remove its done.json and run it again"
        raise DataError(f"the cell in {folder} kept no model: {told}")
    return cell


def _find_images(place: Path) -> tuple[dict[str, Opener], list[str]]:
    """List the image files, those of formats that are not supported too, and note the others."""
    if place.is_file():
        return {files.show(place.name): partial(place.open, "rb")}, []
    if not place.is_dir():
        raise DataError(f"there is no image file or folder {place}")
    members = files.list_members(place)
    if images := {name: opener for name, opener in members.items() if files.is_picture(name)}:
        return images, files.tell_left_out(members.keys() - images)
    known = ", ".join(sorted(files.IMAGE_SUFFIXES))
    raise DataError(f"{place} holds no image ({len(members)} other files); known are {known}")


def _load(folder: Path, cell: Cell) -> tuple[Any, Any, dict[str, Any]]:
    """Build the classifier with the cell's weights, fit the SVM again, and read the metrics."""
    import keras  # slow, and mistakes are told without it
    from sklearn.ensemble import RandomForestClassifier

    from semisiam.method import evaluation, model

    policy = keras.config.dtype_policy()
    try:
        about = json.loads((folder / "metrics.json").read_text("utf-8"))
        keras.config.set_dtype_policy(cell.precision)
        frozen = cell.mode == "frozen"
        build = model.build_frozen if frozen else model.build_encoder
        encoder = build(cell.backbone, cell.image_size)
        network = None if frozen else model.build_supervised(encoder, len(about["class_names"]))
        classifier = model.build_classifier(network, encoder)
        classifier.load_weights(folder / "model.keras")
        with np.load(folder / "features.npz") as saved:
            known = saved["labelled_embeddings"], saved["labelled_labels"]
        forest = RandomForestClassifier(500, random_state=0)  # see 09_own_images
        is_forest = about.get("classifier") == "forest"
        svm = forest.fit(*known) if is_forest else evaluation.fit_svm(*known, scaled=cell.scaled)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"the cell in {folder} is damaged ({error}): run it again") from None
    finally:
        keras.config.set_dtype_policy(policy)
    return classifier, svm, about
