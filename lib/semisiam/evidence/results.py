"""Finished cells of a study, collected, averaged over splits and compared with the paper.

A study is read from its folder of cells or from a recorded set in `outputs/published/`. Means are
in percent, differences in points, standard deviations are sample ones (ddof=1) over splits. Every
accuracy has three readings, see `MEASURES`; a collapsed cell is left out of means as trained, since
its value is which class won.
"""

import json
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from semisiam.atomic import read_json, replacing, write_json
from semisiam.cell import NOT_RESULTS, Cell
from semisiam.evidence.paper import ROW, SCORES, read_printed
from semisiam.run.folder import explain_undone

MEASURES = {"accuracy": "as trained", "accuracy_recalibrated": "re-estimated"}
MEASURES |= {"accuracy_better": "better of both"}
FURTHER = {"separability.knn_accuracy": "neighbours"}
# In the order of the tables: data sets, backbones, modes, attacks.
NAMES = {"stl10": "STL-10", "fashion_mnist": "Fashion-MNIST", "malaria": "Malaria"}
NAMES |= {"digits": "Digits", "folder": "Own images"}
NAMES |= {"pixels": "Pixels", "mobilenet_v2": "MobileNetV2", "inception_v3": "InceptionV3"}
NAMES |= {"resnet50_v2": "ResNet50V2", "small_cnn": "Small CNN", "mean": "Mean"}
NAMES |= {"supervised": "Supervised", "semi": "Semi-supervised", "frozen": "No training"}
NAMES |= {"pixel": "Pixel attack", "searched": "Searched mark", "random": "Random marks"}
NAMES |= {"patch": "Class patches", "none": "No attack", "delta": "Δ"}
OF_NAME = {"dataset", "label_fraction", "backbone", "attack", "mode", "split", "attack_draw"}
OF_ATTACK = {"attack_pixels", "attack_value", "attack_share", "attack_unlabelled"}  # may differ
OF_MODE = {"epochs", "lambda_l", "lambda_u", "rotations", "pretext"}  # may differ
OF_MODE |= {"equal_updates", "pretext_images"}
SCALE = [name for name in Cell.model_fields if name not in OF_NAME | NOT_RESULTS]
SCALE += ["n_unlabelled", "n_labelled", "n_test"]
LABELLED_SET = ["dataset", "percent", "split", "test_split", "unlabelled_limit", "test_limit"]
LABELLED_SET += ["splits_file", "label_noise", "attack", "unlabelled_classes", "attack_pixels"]
LABELLED_SET += ["attack_value", "attack_share", "attack_draw", "defence", "jpeg_quality", "seed"]
N_TRANSFORMS = {"rotation": 4, "rotation_flip": 6, "jigsaw": 24}  # labels of a pretext task
N_TRANSFORMS |= {"barlow_twins": np.inf}  # names nothing: chance is 0
MEAN = (0.0, "mean")  # percent and backbone of a mean over them
WEIGHTS = {"none": "untrained", "imagenet": "ImageNet"}


class MixtureError(ValueError):
    """Cells of different scale in one average; the message names the settings that differ."""


def collect(folder: Path, left_out: Container[str] = ()) -> pd.DataFrame:
    """Read every done cell of `outputs/STUDY` or of a recorded set, but for those in `left_out`.

    One row a cell, sorted by name: `cell` (its folder), the fields of `Cell`, `percent`, the
    entries of metrics.json (nested as `seconds.total`; accuracies in [0, 1]), `accuracy_better`
    (see `_choose_reading`), `duplicate_of`: an earlier cell of these settings and data, or "".
    """
    rows = [
        {"cell": run["cell"]} | Cell.check(run["settings"]).model_dump() | run["metrics"]
        for run in _read_runs(folder)
        if run["cell"] not in left_out
    ]
    empty = pd.DataFrame(columns=["cell", "hash", "collapsed", *Cell.model_fields, *MEASURES])
    cells = pd.json_normalize(rows, max_level=1) if rows else empty
    cells = cells.drop(columns="name", errors="ignore")
    cells["bn_momentum"] = pd.Series([row["bn_momentum"] for row in rows], dtype=object)  # or None
    cells = cells.sort_values("cell", ignore_index=True)
    cells["percent"] = (cells["label_fraction"].astype(float) * 100).round(6)
    for what in ("accuracy", "collapsed"):  # with `bn_recalibrate` what is kept is not as trained
        kept = cells[f"{what}_kept"] = cells[what]  # of the class tables, too
        cells[what] = cells.get(f"{what}_as_trained", kept).fillna(kept)
    flags = ["collapsed", "collapsed_kept"]
    cells[flags] = cells[flags].eq(True)
    cells["accuracy_better"] = _choose_reading(cells)
    content = cells.get("content", pd.Series("", cells.index)).fillna("")  # older cells have none
    first = cells.groupby(["hash", content])["cell"].transform("first")
    return cells.assign(duplicate_of=first.where(first != cells["cell"], ""))


def _choose_reading(cells: pd.DataFrame) -> pd.Series:
    """Take the reading with the higher mean over splits; re-estimated if one of them collapsed."""
    readings = list(MEASURES)[:2]
    cells = cells.astype(dict.fromkeys(readings, float))
    groups = cells.groupby(_settings_but("split", "attack_draw"), sort=False, dropna=False)
    lower = np.less(*(groups[name].transform("mean") for name in readings))
    lower |= groups["collapsed"].transform("any")
    trained, again = (cells[name] for name in readings)
    return again.where(lower, trained).fillna(trained.mask(cells["collapsed"]))


def _settings_but(*names: str) -> list[str]:
    return [name for name in Cell.model_fields if name not in NOT_RESULTS | set(names)]


def _read_runs(folder: Path) -> Iterable[dict[str, Any]]:
    if (folder / "cells.json").exists():
        yield from json.loads((folder / "cells.json").read_text("utf-8"))
    for path in sorted(folder.glob("*/params.yaml")):
        with suppress(OSError, ValueError):  # half-written, or the settings of another version
            cell, metrics = Cell.read(path), read_json(path.parent / "metrics.json")
            if metrics and not explain_undone(path.parent, cell):
                yield {"cell": path.parent.name, "settings": cell.model_dump(), "metrics": metrics}


def read_details(folder: Path, cells: Iterable[str], kind: str) -> pd.DataFrame:
    """Read one kind of table of some cells, those that have it, with `cell` as the first column.

    `folder` is as for `collect`; `kind` is `report` (class-wise scores), `history` (one row an
    epoch) or `tsne` (x, y, label).
    """
    if (folder / "cells.json").exists():
        path = folder / f"{kind}.csv"
        known = _read_table(path) if path.exists() else pd.DataFrame({"cell": []})
        return known[known["cell"].isin(set(cells))].reset_index(drop=True)
    file, read = (f"{kind}.csv", _read_table) if kind != "tsne" else ("features.npz", _read_points)
    tables = {c: read(folder / c / file) for c in cells if (folder / c / file).exists()}
    if not tables:
        return pd.DataFrame({"cell": []})
    return pd.concat(tables, names=["cell", None]).reset_index("cell").reset_index(drop=True)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV; a class may be called `None`, `NA` or `7`."""
    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False, na_values=[""])


def _read_points(path: Path) -> pd.DataFrame:
    with np.load(path) as arrays:
        points, labels = arrays["tsne"], arrays["labels"][arrays["tsne_index"]]
    return pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "label": labels})


def record(folder: Path, target: Path, left_out: Container[str] = ()) -> Path:
    """Write what tables and figures are rebuilt from, without any path of this machine.

    `target`, e.g. `outputs/published/STUDY`, gets cells.json, report.csv, history.csv and tsne.csv
    (first splits alone) of the cells in `folder` that are not in `left_out`. What was recorded
    there before by code of this results version stays: a study may come from several machines.
    """
    here = {run["cell"]: run for run in _read_runs(folder) if run["cell"] not in left_out}
    for run in here.values():
        run["settings"] = {k: v for k, v in run["settings"].items() if k not in NOT_RESULTS}
    before = {
        run["cell"]: run
        for run in _read_runs(target)
        if Cell.check(run["settings"]).hash == run["metrics"]["hash"] and run["cell"] not in here
    }
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "cells.json", [run for _, run in sorted((before | here).items())])
    shown = pick_first(collect(target))["cell"]
    for kind in ("report", "history", "tsne"):
        table = pd.concat([read_details(target, before, kind), read_details(folder, here, kind)])
        if kind == "tsne":
            table = table[table["cell"].isin(shown)]
        table = table.sort_values("cell", kind="stable")
        with replacing(target / f"{kind}.csv") as temporary:
            table.to_csv(temporary, index=False, float_format="%.5g")
    return target


def pick_first(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep the first split of each combination of the other settings, for figures of one run."""
    ordered = cells.sort_values("split", kind="stable")
    return ordered.drop_duplicates(_settings_but("split")).sort_index()


def find_mixture(cells: pd.DataFrame, within: list[str] = ROW) -> str:
    """Find the settings in which cells differ although a table compares something else.

    Cells that agree in the columns `within` must agree in every setting of scale and their images;
    in epochs, loss weights and pretext task within a mode. Returns what differs, its values and
    cells that have them, as text; "" if nothing does.
    """
    shown = cells[SCALE].map(repr).assign(content=cells.get("content", np.nan))  # older: unknown
    keys = {name: [*within, "mode"] for name in OF_MODE}
    keys |= {name: [*within, "attack"] for name in OF_ATTACK}
    keys["n_labelled"] = [*within, "label_fraction"]
    found = {}  # each once, in order
    for name in shown:
        groups = cells.groupby(keys.get(name, within), sort=False)
        unlike = shown[name].groupby(groups.ngroup()).nunique().max() > 1  # far quicker than texts
        for _, group in groups if unlike else ():
            values = group["cell"].groupby(shown.loc[group.index, name])
            texts = [f"{value} ({len(of)}, e.g. {of.iloc[0]})" for value, of in values]
            if len(texts) > 1:
                found[f"{name}: {', '.join(texts)}"] = True
    return "; and in ".join(found)


def select(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep trained cells, each once; raises `MixtureError` if they are not of one scale."""
    cells = cells[(cells["duplicate_of"] == "") & (cells["mode"] != "frozen")]
    _refuse_mixture(cells, ROW)
    return cells


def _refuse_mixture(cells: pd.DataFrame, within: list[str]) -> None:
    if differing := find_mixture(cells, within):
        raise MixtureError(
            f"cells of different scale are never averaged together; these differ in {differing}. "
            "Keep each scale in a study of its own, or make what differs an axis of the study"
        )


def read_percent(cells: pd.DataFrame, measure: str) -> pd.Series:
    """Give an accuracy in percent, NaN where it says nothing."""
    return (cells[measure].astype(float) * 100).mask(cells["collapsed"] & (measure == "accuracy"))


def by_split(cells: pd.DataFrame, measure: str) -> pd.Series:
    """Give an accuracy by ROW, mode, attack and split; draws of the attack are averaged."""
    values = cells.assign(value=read_percent(cells, measure))
    return values.groupby([*ROW, "mode", "attack", "split"])["value"].mean()


def keep_paired(cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Leave out draws of the attack that one of the modes run on a labelled set lacks."""
    keys = [*ROW, "attack", "split"]
    known = cells.assign(known=cells["mode"].where(read_percent(cells, measure).notna()))
    of_draw = known.groupby([*keys, "attack_draw"])["known"].transform("nunique")
    return cells[of_draw == known.groupby(keys)["known"].transform("nunique")]


def summarise(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Average an accuracy over splits, beside the published one (Tables I-VI).

    Indexed by ROW, mode, attack: mean, std, n (splits), `collapsed` (cells that are left out, as
    trained), published_mean and published_std; NaN where not run or not published. Raises
    `MixtureError`, see `select`.
    """
    cells, keys = select(cells), [*ROW, "mode", "attack"]
    ours = by_split(cells, measure).groupby(keys).agg(mean="mean", std="std", n="count")
    collapsed = cells.groupby(keys)["collapsed"].sum().astype(int)
    ours["collapsed"] = collapsed if measure == "accuracy" else 0
    printed = read_printed("accuracy").set_index(keys)[["mean", "std"]].add_prefix("published_")
    return in_order(ours.join(printed))


def find_references(cells: pd.DataFrame, pool: pd.DataFrame) -> pd.Series:
    """Find what one would have had without training, on the labelled sets of some cells: percent.

    Cells of `pool` with mode `frozen` count if they were drawn like one of `cells`, of the same
    images if both say so, and, but for pixels, have an image size of theirs. Indexed by dataset,
    percent, reference (`Pixels`; `MobileNetV2, untrained`), attack and split; averaged over draws.
    """
    fits = (pool["backbone"] == "pixels") | pool["image_size"].isin(cells["image_size"])
    ran, there = (t.get("content", pd.Series(None, t.index, object)) for t in (cells, pool))
    older = pool["dataset"].isin(cells.loc[ran.isna(), "dataset"])
    fits &= there.isin(ran) | there.isna() | older
    frozen = pool[(pool["mode"] == "frozen") & (pool["duplicate_of"] == "") & fits]
    frozen = frozen.merge(cells[LABELLED_SET].drop_duplicates())
    frozen = frozen.sort_values("backbone", ascending=False, kind="stable")  # pixels first
    frozen["image_size"] = frozen["image_size"].mask(frozen["backbone"] == "pixels", 32)
    frozen = frozen.drop_duplicates([*LABELLED_SET, "backbone", "weights", "image_size"])
    weights = ", " + frozen["weights"].map(WEIGHTS).fillna("own weights")
    names = frozen["backbone"].map(NAMES) + weights.mask(frozen["backbone"] == "pixels", "")
    frozen = frozen.assign(reference=names, value=frozen["accuracy"].astype(float) * 100)
    keys = ["dataset", "percent", "reference", "attack"]
    alike = [*keys, "split", "attack_draw"]  # all else that differs is told
    for what in [name for name in (*LABELLED_SET, "image_size") if name not in alike]:
        several = frozen.groupby(keys)[what].transform("nunique") > 1
        frozen["reference"] += (f", {what} = " + frozen[what].astype(str)).where(several, "")
    return frozen.groupby([*keys, "split"], sort=False)["value"].mean()


def check_pretext(cells: pd.DataFrame, histories: pd.DataFrame) -> pd.DataFrame:
    """Ask whether the pretext task was learnt: at least half of the way from chance to no error.

    Indexed by ROW and attack, of cells with a task: n, and in percent `test`, `training` (in older
    cells from `histories`) and `chance`; `learnt`, None if neither was measured, or it failed by
    moving averages alone (older cells). `test` is the head's accuracy on test images; for
    `barlow_twins` diagonal - off-diagonal of the cross-correlation; for `consistency` the accuracy
    of pseudo-labels, 0 if fewer than half of the images have one.
    """
    cells = cells[(cells["mode"] == "semi") & (cells["pretext"] != "none")]
    known = histories.reindex(columns=["cell", "accuracy_unlabelled"])  # tasks on views have none
    trained = cells["cell"].map(known.groupby("cell")["accuracy_unlabelled"].last()).astype(float)
    training = _get(cells, "rotation_accuracy.training").fillna(trained)
    checks = [_get(cells, f"{of}.by_batch").eq(1) for of in ("rotation_accuracy", "pretext_check")]
    sure = _get(cells, "pretext_check.confident")
    named = _get(cells, "pretext_check.accuracy").where(sure >= 0.5, 0.0).where(sure.notna())
    apart = _get(cells, "pretext_check.diagonal") - _get(cells, "pretext_check.off_diagonal")
    test = _get(cells, "rotation_accuracy.test").fillna(apart).fillna(named)
    ways = cells["pretext"].map(N_TRANSFORMS).astype(float).fillna(_get(cells, "n_classes"))
    cells = cells.assign(training=training, test=test, chance=1 / ways, fair=checks[0] | checks[1])
    groups = cells.groupby([*ROW, "attack"])
    table = 100 * groups[["test", "training", "chance"]].mean()
    known = table["test"].fillna(table["training"])
    limit = (100 + table["chance"]) / 2
    learnt = (known >= limit).astype(object)
    told = known.notna() & (groups["fair"].all() | (known >= limit) | (table["training"] < limit))
    return in_order(table.assign(n=groups.size(), learnt=learnt.where(told, None)))


def _get(cells: pd.DataFrame, column: str) -> pd.Series:
    return cells.get(column, pd.Series(np.nan, cells.index)).astype(float)


def find_chance(cells: pd.DataFrame, reports: pd.DataFrame) -> pd.Series:
    """Find what always naming the largest class would get, by dataset, in percent."""
    support = reports.groupby("cell")["support"].agg(["max", "sum"])
    share = 100 * cells["cell"].map(support["max"] / support["sum"])
    share = share.fillna(100 / cells["n_classes"].astype(float))
    return share.groupby(cells["dataset"]).mean()


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by index in the paper's order: its data sets, backbones, modes and attacks."""
    places = {name: i for i, name in enumerate([*NAMES, "gain", "lead", "cost", "interaction"])}
    other = len(places)  # as references, which keep their order

    def place(name: Any) -> float:
        return places.get(name, other if isinstance(name, str) else name)

    return table.sort_index(key=lambda level: level.map(place))


def average_classes(cells: pd.DataFrame, reports: pd.DataFrame) -> pd.DataFrame:
    """Average class-wise scores over splits (Tables VII-X), from `read_details(..., "report")`.

    Returns precision, recall, f1 in [0, 1] and n (splits), indexed by ROW, attack, mode and class.
    """
    cells, keys = select(cells[~cells["collapsed_kept"]]), [*ROW, "attack", "mode"]
    groups = reports.merge(cells[["cell", *keys]], on="cell").groupby([*keys, "class"], sort=False)
    table = groups[SCORES].mean().assign(n=groups.size())
    return table.sort_index(level=keys, sort_remaining=False)  # classes stay in their order


def read_controls(folder: Path) -> pd.DataFrame:
    """Read a study of `variants`: percent by reading, `FURTHER` and trigger, of each control.

    Indexed by control (the variant's name) and split; also `updates` and `collapsed` (bool). Raises
    `MixtureError` if cells of one control differ in scale, or two are of one split.
    """
    cells, columns = collect(folder), MEASURES | FURTHER
    cells["control"] = cells["cell"].str.extract(r"-s\d+-(.+)$", expand=False)
    _refuse_mixture(cells, ["control"])
    if (twice := cells[cells.duplicated(["control", "split"])]).size:
        raise MixtureError(f"{twice['cell'].iloc[0]}: its control has two cells of this split")
    table = pd.DataFrame({name: read_percent(cells, key) for key, name in columns.items()})
    flipped = cells["trigger"].map(lambda rows: 100 * np.mean([row["flipped"] for row in rows]))
    flipped = flipped.mask(cells["collapsed_kept"])  # what names one class follows no mark
    table = table.assign(trigger=flipped, updates=cells["n_updates"], collapsed=cells["collapsed"])
    return table.set_index([cells["control"], cells["split"]]).sort_index()
