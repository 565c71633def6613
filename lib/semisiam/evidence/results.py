"""Finished cells of a study, collected, averaged over splits and compared with the paper.

A study is read from its folder of cells or from a recorded set in `outputs/published/`. Means are
in percent, differences in points, standard deviations are sample ones (ddof=1) over splits. Every
accuracy comes twice, see `MEASURES`. `tables` writes the numbers out in the paper's layout.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from semisiam.cell import NOT_RESULTS, Cell
from semisiam.evidence.paper import ATTACKS, MODES, ROW, SCORES, read_printed
from semisiam.evidence.statistics import compare_paired, correct_holm
from semisiam.run.folder import explain_undone, write_json

MEASURES = {"accuracy": "as trained", "accuracy_recalibrated": "re-estimated"}
NAMES = {  # in the order of the tables
    "stl10": "STL-10",
    "fashion_mnist": "Fashion-MNIST",
    "malaria": "Malaria",
    "digits": "Digits",
    "folder": "Own images",
    "mobilenet_v2": "MobileNetV2",
    "inception_v3": "InceptionV3",
    "resnet50_v2": "ResNet50V2",
    "small_cnn": "Small CNN",
    "supervised": "Supervised",
    "semi": "Semi-supervised",
    "pixel": "Pixel attack",
    "searched": "Searched mark",
    "random": "Random marks",
    "none": "No attack",
    "delta": "Δ",
}
OF_NAME = {"dataset", "label_fraction", "backbone", "attack", "mode", "split"}
OF_MODE = {
    "epochs",
    "lambda_l",
    "lambda_u",
    "rotations",
    "pretext",
    "equal_updates",
}  # may differ between the modes
SCALE = [name for name in Cell.model_fields if name not in OF_NAME | NOT_RESULTS]
SCALE += ["n_unlabelled", "n_labelled", "n_test"]
STAGES = ["data", "model", "training", "embedding", "svm", "neighbours", "silhouette"]
STAGES += ["trigger", "evaluation", "tsne"]  # evaluation: the rest, or all of it in older cells
SEPARABILITY = ["knn_accuracy", "silhouette", "fisher_ratio", "effective_rank", "dead_units"]


class MixtureError(ValueError):
    """Cells of different scale in one average; the message names the settings that differ."""


def collect(folder: Path) -> pd.DataFrame:
    """Read every done cell of a study.

    Args:
        folder: `outputs/STUDY`, with one folder a cell, or a recorded set (see `record`). In the
            former a cell counts only if its `done.json` carries the hash of its settings.

    Returns:
        One row a cell, sorted by name: `cell` (its folder), the fields of `Cell`, `percent`, the
        entries of metrics.json (nested ones as `seconds.total`; accuracies in [0, 1]) and
        `duplicate_of`: an earlier cell with the same settings, or "".
    """
    recorded = folder / "cells.json"
    runs = json.loads(recorded.read_text("utf-8")) if recorded.exists() else _read_runs(folder)
    rows = [
        {"cell": run["cell"]} | Cell.check(run["settings"]).model_dump() | _flatten(run["metrics"])
        for run in runs
    ]
    columns = None if rows else ["cell", "hash", *Cell.model_fields, *MEASURES]
    cells = pd.DataFrame(rows, columns=columns)
    cells["bn_momentum"] = pd.Series([row["bn_momentum"] for row in rows], dtype=object)  # or None
    cells = cells.sort_values("cell", ignore_index=True)
    cells["percent"] = (cells["label_fraction"].astype(float) * 100).round(6)
    first = cells.groupby("hash")["cell"].transform("first")
    return cells.assign(duplicate_of=first.where(first != cells["cell"], ""))


def _read_runs(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*/params.yaml")):
        try:
            cell = Cell.check(yaml.safe_load(path.read_text("utf-8")))
            if explain_undone(path.parent, cell):
                continue
            metrics = json.loads((path.parent / "metrics.json").read_text("utf-8"))
        except (ValueError, TypeError, yaml.YAMLError):
            continue  # half-written, or the settings of another version
        yield {"cell": path.parent.name, "settings": cell.model_dump(), "metrics": metrics}


def _flatten(metrics: dict[str, Any]) -> dict[str, Any]:
    nested = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    flat = {key: value for key, value in metrics.items() if key not in nested | {"name": 0}}
    for group, values in nested.items():
        flat |= {f"{group}.{key}": value for key, value in values.items()}
    return flat


def read_details(folder: Path, cells: Iterable[str], kind: str) -> pd.DataFrame:
    """Read one kind of table of some cells, stacked, `cell` as the first column.

    Args:
        folder: as for `collect`.
        cells: names of cell folders; those without such a table are left out.
        kind: `report` (class-wise scores), `history` (one row an epoch) or `tsne` (x, y, label).
    """
    if (folder / "cells.json").exists():
        path = folder / f"{kind}.csv"
        known = (
            pd.read_csv(path, dtype={"class": str}) if path.exists() else pd.DataFrame({"cell": []})
        )
        return known[known["cell"].isin(set(cells))].reset_index(drop=True)
    read = _read_points if kind == "tsne" else partial(pd.read_csv, dtype={"class": str})
    file = "features.npz" if kind == "tsne" else f"{kind}.csv"
    tables = {c: read(folder / c / file) for c in cells if (folder / c / file).exists()}
    if not tables:
        return pd.DataFrame({"cell": []})
    return pd.concat(tables, names=["cell", None]).reset_index("cell").reset_index(drop=True)


def _read_points(path: Path) -> pd.DataFrame:
    with np.load(path) as arrays:
        points, labels = arrays["tsne"], arrays["labels"][arrays["tsne_index"]]
    return pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "label": labels})


def record(folder: Path, target: Path) -> Path:
    """Write the small part of a study that tables and figures are rebuilt from.

    Args:
        folder: `outputs/STUDY`.
        target: e.g. `outputs/published/STUDY`; gets cells.json, report.csv, history.csv and
            tsne.csv (the first split of each combination), without any path of this machine.
            Cells recorded there before, by code of the same results version, stay if `folder` does
            not have them: a study may be recorded from several machines.

    Returns:
        `target`, which `collect` and `read_details` read like the study's own folder.
    """
    runs = {run["cell"]: run for run in _read_recorded(target)} | {
        run["cell"]: run
        | {"settings": {k: v for k, v in run["settings"].items() if k not in NOT_RESULTS}}
        for run in _read_runs(folder)
    }
    here = collect(folder)["cell"]
    before = sorted(set(runs) - set(here))
    tables = {
        kind: pd.concat([read_details(target, before, kind), read_details(folder, here, kind)])
        for kind in ("report", "history", "tsne")
    }
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "cells.json", [runs[name] for name in sorted(runs)])
    shown = pick_first(collect(target))["cell"]
    tables["tsne"] = tables["tsne"][tables["tsne"]["cell"].isin(shown)]
    for kind, table in tables.items():
        table = table.sort_values("cell", kind="stable")
        table.to_csv(target / f"{kind}.csv", index=False, float_format="%.5g")
    return target


def _read_recorded(target: Path) -> Iterable[dict[str, Any]]:
    file = target / "cells.json"
    for run in json.loads(file.read_text("utf-8")) if file.exists() else []:
        if Cell.check(run["settings"]).hash == run["metrics"]["hash"]:
            yield run


def pick_first(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep the first split of each combination of the other settings, for figures of one run."""
    others = [name for name in Cell.model_fields if name not in NOT_RESULTS | {"split"}]
    return cells.sort_values("split", kind="stable").drop_duplicates(others).sort_index()


def check_scale(cells: pd.DataFrame, within: list[str] = ROW) -> None:
    """Refuse cells that differ in more than what a table compares.

    Args:
        cells: from `collect`.
        within: the columns that may differ freely. Cells that agree in them must agree in every
            setting of scale; epochs, loss weights and rotations must agree within a mode.

    Raises:
        MixtureError: naming the settings, their values and cells that have them.
    """
    shown = cells[SCALE].map(repr)
    keys = {"mode": [*within, "mode"], "n_labelled": [*within, "label_fraction"], "": within}
    kind = {name: "mode" if name in OF_MODE else name if name in keys else "" for name in SCALE}
    differing = [
        _describe_difference(name, cells["cell"].groupby(shown.loc[group.index, name]))
        for name in SCALE
        for _, group in cells.groupby(keys[kind[name]], sort=False)
        if shown.loc[group.index, name].nunique() > 1
    ]
    if differing:
        raise MixtureError(
            "cells of different scale are never averaged together; these differ in "
            f"{'; and in '.join(dict.fromkeys(differing))}. Keep each scale in a study of its own, "
            "or make what differs an axis of the study"
        )


def _describe_difference(name: str, groups: Any) -> str:
    found = [f"{value} ({len(cells)}, e.g. {cells.iloc[0]})" for value, cells in groups]
    return f"{name}: {', '.join(found)}"


def split_variants(cells: pd.DataFrame, axes: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Split a study's cells by its axes outside the tables, e.g. `bn_momentum`.

    Returns:
        The cells of each variant by its description, `bn_momentum = 0.99`; "" if there is one.
    """
    axes = [axis for axis in axes if axis not in OF_NAME]
    if not axes or cells.empty:
        return {"": cells}
    groups = cells.groupby([cells[axis].map(str) for axis in axes], sort=False)
    return {
        ", ".join(f"{a} = {v}" for a, v in zip(axes, key, strict=True)): group
        for key, group in groups
    }


def summarise(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Average an accuracy over splits, beside the published one (Tables I-VI).

    Returns:
        Indexed by dataset, percent, backbone, mode, attack: mean, std, n (splits), `collapsed`
        (how many of them, as trained), published_mean, published_std, difference; percent and
        points. What was not run or not published is NaN.

    Raises:
        MixtureError: see `check_scale`.
    """
    cells = cells[cells["duplicate_of"] == ""]
    check_scale(cells)
    keys = [*ROW, "mode", "attack"]
    percent = cells.assign(value=cells[measure].astype(float) * 100)
    groups = percent.groupby(keys)
    ours = groups["value"].agg(["mean", "std", n := "count"]).rename(columns={n: "n"})
    ours["collapsed"] = groups["collapsed"].sum().astype(int) if measure == "accuracy" else 0
    printed = read_printed("accuracy").set_index(keys)[["mean", "std"]].add_prefix("published_")
    both = in_order(ours.join(printed))
    return both.assign(difference=both["mean"] - both["published_mean"])


def compare_modes(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Estimate each Δ = semi - supervised, paired over the splits that both have.

    Returns:
        Indexed by dataset, percent, backbone, attack: the columns of `statistics.compare_paired` in
        points, `p_holm` (over all rows), `published` (Δ) and `difference`.

    Raises:
        MixtureError: see `check_scale`.
    """
    keys = [*ROW, "attack"]
    delta = _subtract(cells, measure, "mode")
    rows = {key: compare_paired(group) for key, group in delta.groupby(keys)}
    index = pd.MultiIndex.from_tuples(rows, names=keys) if rows else delta.droplevel("split").index
    table = pd.DataFrame(list(rows.values()), index=index[: len(rows)])
    table = table if rows else table.reindex(columns=list(compare_paired([])))
    printed = read_printed("delta").set_index(keys)["delta"].rename("published")
    table = in_order(table.assign(p_holm=correct_holm(table["p"])).join(printed))
    return table.assign(difference=table["mean"] - table["published"])


def average_differences(
    cells: pd.DataFrame, measure: str = "accuracy", *, of: str = "mode"
) -> pd.DataFrame:
    """Estimate a mean difference over backbones and fractions, paired over the splits.

    Args:
        cells: from `collect`.
        measure: a key of `MEASURES`.
        of: `mode`, the gain semi - supervised, or `attack`, what the attack costs: none - pixel.

    Returns:
        Indexed by dataset and the other of mode and attack: the columns of
        `statistics.compare_paired` in points. Each split counts once, and only if it has every
        backbone and fraction that another has: a half-run one would weigh in with easier ones.

    Raises:
        MixtureError: see `check_scale`.
    """
    difference = _subtract(cells, measure, of)
    keys = ["dataset", *({"mode", "attack"} - {of})]
    rows = {
        key: compare_paired(values.unstack("split").dropna(axis="columns").mean())
        for key, values in difference.groupby(keys)
    }
    return in_order(pd.DataFrame(rows).T.rename_axis(keys))


def _subtract(cells: pd.DataFrame, measure: str, of: str) -> pd.Series:
    """Subtract in points, for each combination and split: modes or attacks, in their order."""
    cells = cells[cells["duplicate_of"] == ""]
    check_scale(cells)
    other = {"mode": "attack", "attack": "mode"}[of]
    wide = cells.pivot(index=[*ROW, other, "split"], columns=of, values=measure)
    order = {"mode": MODES, "attack": ATTACKS}[of]
    return (wide.reindex(columns=order).astype(float) * 100).diff(axis=1)[order[1]].dropna()


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort by index in the paper's order: its data sets, backbones, modes and attacks."""
    places = {name: place for place, name in enumerate(NAMES)}
    return table.sort_index(key=lambda level: level.map(lambda value: places.get(value, value)))


def average_classes(cells: pd.DataFrame, reports: pd.DataFrame) -> pd.DataFrame:
    """Average class-wise scores over splits (Tables VII-X).

    Args:
        cells: from `collect`.
        reports: from `read_details(..., "report")`.

    Returns:
        Indexed by dataset, percent, backbone, attack, mode, class: precision, recall, f1 in
        [0, 1] and n (splits).
    """
    cells = cells[cells["duplicate_of"] == ""]
    check_scale(cells)
    keys = [*ROW, "attack", "mode"]
    joined = reports.merge(cells[["cell", *keys]], on="cell")
    groups = joined.groupby([*keys, "class"], sort=False)
    table = groups[SCORES].mean().assign(n=groups.size())
    return table.sort_index(level=keys, sort_remaining=False)  # classes stay in their order


def measure_embeddings(cells: pd.DataFrame) -> pd.DataFrame:
    """Average what is measured of the embedding beyond the SVM, over splits.

    Returns:
        Indexed by dataset, percent, backbone, attack, mode: n, the accuracies (percent), the
        k-nearest-neighbour accuracy (percent), silhouette, Fisher ratio, effective rank, dead
        units, relative spread, and how many embeddings are `collapsed`.
    """
    cells = cells[cells["duplicate_of"] == ""]
    check_scale(cells)
    measured = cells.rename(columns={f"separability.{name}": name for name in SEPARABILITY})
    for name in [*MEASURES, "knn_accuracy"]:
        measured[name] = measured[name].astype(float) * 100
    groups = measured.groupby([*ROW, "attack", "mode"])
    table = groups[[*MEASURES, *SEPARABILITY, "embedding_std"]].mean()
    table.insert(0, "n", groups.size())
    return in_order(table.assign(collapsed=groups["collapsed"].sum().astype(int)))


def sum_seconds(cells: pd.DataFrame) -> pd.DataFrame:
    """Sum the time spent, in seconds, by dataset, backbone and mode (rows) and stage (columns)."""
    stages = [name for name in STAGES if f"seconds.{name}" in cells]
    table = cells.groupby(["dataset", "backbone", "mode"])[[f"seconds.{s}" for s in stages]].sum()
    return in_order(table.set_axis(stages, axis=1))
