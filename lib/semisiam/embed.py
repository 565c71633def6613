"""New images through a finished cell: their embeddings and predicted classes, as a table."""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.svm import SVC
from tqdm import tqdm

from semisiam.cell import Cell
from semisiam.data.files import IMAGE_SUFFIXES, DataError, Member, decode_members, list_members
from semisiam.data.prepared import resize
from semisiam.method.evaluation import fit_svm
from semisiam.run.folder import explain_undone, replacing

BATCH_SIZE = 256  # images in memory at once


def embed_images(cell_folder: Path, images: Path) -> pd.DataFrame:
    """Embed image files and predict their classes, as the cell does with its test images.

    The class is that of the linear SVM fitted on the cell's labelled embeddings (paper, III-C).

    Args:
        cell_folder: folder of a finished cell.
        images: an image file, or a folder that is searched for image files to any depth. They may
            have any size and mode; they are decoded and resized as when the data was prepared.

    Returns:
        One row an image, sorted by file: `file` (its path in `images`), `predicted_class` and the
        embedding, float32 columns `e0` to `e127`.

    Raises:
        DataError: no finished cell, no image, or images that do not decode, each named.
    """
    cell = _read_cell(cell_folder)
    members = _find_images(images)
    encoder, svm, class_names = _load(cell_folder)
    embeddings = _embed(encoder, members, cell.image_size)
    predicted = {
        "file": list(members),
        "predicted_class": np.array(class_names)[svm.predict(embeddings)],
    }
    columns = [f"e{i}" for i in range(embeddings.shape[1])]
    return pd.concat([pd.DataFrame(predicted), pd.DataFrame(embeddings, columns=columns)], axis=1)


@contextmanager
def writing(output: Path) -> Iterator[Path]:
    """Yield a temporary path beside `output` that takes its place when the block succeeds.

    Raises:
        DataError: at once, if `output` is no .csv or .npz or cannot be written.
    """
    if output.suffix not in (".csv", ".npz"):
        raise DataError(f"--output {output}: the name must end in .csv or .npz")
    try:
        with replacing(output) as temporary:
            temporary.touch()
            yield temporary
    except OSError as error:
        raise DataError(f"--output {output} cannot be written: {error.strerror}") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write the table of `embed_images` as .csv or .npz, by the suffix of `path`.

    The .npz holds files and predicted_classes, str (N,), and embeddings, float32 (N, 128).
    """
    if path.suffix == ".csv":
        table.to_csv(path, index=False, float_format="%.9g")  # enough digits for any float32
        return
    np.savez_compressed(
        path,
        files=table["file"].to_numpy(str),  # as objects they would be pickled
        predicted_classes=table["predicted_class"].to_numpy(str),
        embeddings=table.iloc[:, 2:].to_numpy(),
    )


def _read_cell(folder: Path) -> Cell:
    if not folder.is_dir():
        raise DataError(f"there is no cell folder {folder}")
    try:
        cell = Cell.check(yaml.safe_load((folder / "params.yaml").read_text("utf-8")))
    except FileNotFoundError:
        raise DataError(f"{folder} is not a cell's folder: it has no params.yaml") from None
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{folder}/params.yaml cannot be used: {error}") from None
    if reason := explain_undone(folder, cell):
        raise DataError(f"the cell in {folder} is not done ({reason}): run it first")
    if not cell.keep_model:
        raise DataError(f"the cell in {folder} kept no model: run it with keep_model: true")
    return cell


def _find_images(place: Path) -> dict[str, Member]:
    if place.is_file():
        return {place.name: Member(place.stat().st_size, partial(place.open, "rb"))}
    if not place.is_dir():
        raise DataError(f"there is no image file or folder {place}")
    members = list_members(place)
    images = {name: m for name, m in members.items() if Path(name).suffix.lower() in IMAGE_SUFFIXES}
    if not images:
        raise DataError(
            f"{place} holds no image ({len(members)} other files); known are "
            + ", ".join(sorted(IMAGE_SUFFIXES))
        )
    return images


def _load(folder: Path) -> tuple[Any, SVC, list[str]]:
    """Load the Keras encoder and the class names, and fit the SVM again."""
    import keras  # slow, and mistakes are told without it

    try:
        classifier = keras.saving.load_model(folder / "model.keras", compile=False)
        with np.load(folder / "features.npz") as features:
            svm = fit_svm(features["labelled_embeddings"], features["labelled_labels"])
        class_names = json.loads((folder / "metrics.json").read_text("utf-8"))["class_names"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"the cell in {folder} is damaged ({error}): run it again") from None
    return classifier.get_layer("encoder"), svm, class_names


def _embed(encoder: Any, members: dict[str, Member], image_size: int) -> np.ndarray:
    """Embed image files batch by batch, float32 (N, 128), unless one does not decode."""
    from semisiam.method import model

    names, embeddings, damaged = list(members), [], []
    for start in tqdm(range(0, len(names), BATCH_SIZE), "batches", leave=False, disable=None):
        batch = names[start : start + BATCH_SIZE]
        images, remarks = _read(batch, members, image_size)
        damaged += remarks
        if not damaged:
            embeddings.append(model.embed(encoder, np.stack(images)))
    if damaged:
        raise DataError(
            f"{len(damaged):,} of {len(names):,} images do not decode:\n  "
            + "\n  ".join(damaged[:10] + ["..."] * (len(damaged) > 10))
            + "\nmend or remove them"
        )
    return np.concatenate(embeddings)


def _read(
    names: Sequence[str], members: dict[str, Member], image_size: int
) -> tuple[list[np.ndarray], list[str]]:
    """Read and resize images, uint8 (S, S, 3), and say which do not decode and why."""
    images, damaged = [], []
    decoded = decode_members([members[name] for name in names])
    for name, (pixels, remark) in zip(names, decoded, strict=True):
        if pixels is None:
            damaged.append(f"{name} {remark}")
        else:
            images.append(resize(pixels, image_size))
    return images, damaged
