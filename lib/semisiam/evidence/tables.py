"""Results written out as text, in the layout of the paper's Tables I-X."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from semisiam.evidence.paper import ATTACKS, MODES, ROW, SCORES, read_printed, weigh_deltas
from semisiam.evidence.results import MEASURES, NAMES, compare_modes, in_order, summarise


def lay_out(cells: pd.DataFrame, dataset: str, percent: float) -> pd.DataFrame:
    """Lay out one of Tables I-VI as text: supervised | semi | Δ, each under attack | without.

    Returns:
        Indexed by architecture and line: published, then as trained and re-estimated, each with
        its difference from the published; `60.1 ± 2.0 (5)` is mean ± std over 5 splits, † marks
        collapsed embeddings, "" what was not run.
    """
    columns = pd.MultiIndex.from_product([[*MODES, "delta"], ATTACKS])
    tables = {
        measure: (summarise(cells, measure), compare_modes(cells, measure)) for measure in MEASURES
    }
    here = cells[(cells["dataset"] == dataset) & (cells["percent"] == percent)]
    backbones = [name for name in NAMES if name in set(here["backbone"])]
    lines = [
        ((NAMES[backbone], line), texts)
        for backbone in backbones
        for line, texts in _lay_out_row(tables, (dataset, percent, backbone))
        if any(texts)
    ]
    index = pd.MultiIndex.from_tuples([name for name, _ in lines], names=["Architecture", ""])
    table = pd.DataFrame([texts for _, texts in lines], index=index, columns=columns)
    return table.rename(columns=NAMES)


def _lay_out_row(tables: dict, row: tuple) -> Iterable[tuple[str, list[str]]]:
    yield "published", [*_write_printed(row)]
    for measure, (means, deltas) in tables.items():
        places = [(means, (*row, m, a)) for m in MODES for a in ATTACKS]
        places += [(deltas, (*row, a)) for a in ATTACKS]
        found = [table.loc[key] if key in table.index else None for table, key in places]
        yield MEASURES[measure], [write_estimate(values) for values in found]
        yield "difference", ["" if v is None else write_signed(v["difference"]) for v in found]


def _write_printed(row: tuple) -> Iterable[str]:
    printed = read_printed("accuracy").set_index([*ROW, "mode", "attack"])
    deltas = read_printed("delta").set_index([*ROW, "attack"])["delta"]
    for key in [(*row, m, a) for m in MODES for a in ATTACKS]:
        values = printed.loc[key] if key in printed.index else None
        yield "" if values is None else f"{values['mean']:.1f} ± {values['std']:.1f}"
    for key in [(*row, a) for a in ATTACKS]:
        yield write_signed(deltas.loc[key]) if key in deltas.index else ""


def lay_out_gains(cells: pd.DataFrame) -> pd.DataFrame:
    """Lay out every gain by unlabelled images as text, in points.

    Returns:
        Indexed by dataset, percent, backbone, attack: the published Δ; ours as trained and
        re-estimated, `+7.0 ± 5.0 (3)` for mean ± std over 3 splits; and the 95 % interval of the
        re-estimated one. "" for what was not published or has too few splits.
    """
    found = {read: compare_modes(cells, measure) for measure, read in MEASURES.items()}
    last = found["re-estimated"]
    table = pd.DataFrame({"published": last["published"].map(write_signed)}, index=last.index)
    for read, gains in found.items():
        table[read] = [write_estimate(row) for _, row in gains.iterrows()]
    ends = last[["low", "high"]].map(write_signed)
    table["interval"] = [" to ".join(pair) if all(pair) else "" for pair in ends.to_numpy()]
    return table.rename(index=NAMES)


def gather_gains(cells: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Gather every gain by unlabelled images with its interval, for `figures.differences`.

    Returns:
        By data set, then by source (published, as trained, re-estimated): indexed by text, e.g.
        `MobileNetV2, 1 %, no attack`, with mean, low and high (points).
    """
    found = {read: compare_modes(cells, measure) for measure, read in MEASURES.items()}
    keys = found["as trained"].index
    printed = weigh_deltas().set_index(keys.names).rename(columns={"delta": "mean"})
    sources = {"published": printed[printed.index.isin(keys)]} | found
    gathered = {}
    for dataset in keys.unique("dataset"):
        for source, table in sources.items():
            if dataset in table.index.unique("dataset"):
                of = in_order(table.loc[dataset]).sort_index(level="attack", sort_remaining=False)
                texts = [f"{NAMES[b]}, {p:g} %, {NAMES[a].lower()}" for p, b, a in of.index]
                gathered.setdefault(dataset, {})[source] = of.set_axis(texts)
    return gathered


def write_signed(value: float, digits: int = 1) -> str:
    """Write a difference with its sign: `+1.4`, `-0.1`, `0.0`; "" for NaN."""
    if np.isnan(value):
        return ""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def write_p(p: float) -> str:
    """Write a p-value: `0.031`, `<0.0001`; "" for NaN."""
    return "" if np.isnan(p) else "<0.0001" if p < 1e-4 else f"{p:.2g}"


def write_estimate(values: pd.Series | None) -> str:
    """Write a row of `summarise` or `compare_modes`: `60.1 ± 2.0 (5)`, † where collapsed."""
    if values is None or np.isnan(values["mean"]):
        return ""
    is_delta = "published" in values
    text = write_signed(values["mean"]) if is_delta else f"{values['mean']:.1f}"
    text += "" if np.isnan(values["std"]) else f" ± {values['std']:.1f}"
    return f"{text} ({values['n']:.0f})" + (" †" if values.get("collapsed", 0) else "")


def lay_out_classes(cells: pd.DataFrame, classes: pd.DataFrame, key: tuple) -> pd.DataFrame:
    """Lay out one of Tables VII-X as text, the published scores beside where there are any.

    Args:
        cells: from `collect`.
        classes: from `average_classes`.
        key: dataset, percent, backbone, attack.

    Returns:
        One line a class, then mean ± std over classes and the accuracy over splits; columns
        mode, source (ours, published; not if all are ours) and score.
    """
    means = summarise(cells)["mean"] / 100
    printed = read_printed("classwise").set_index([*ROW, "attack", "mode"])
    accuracy = read_printed("classwise_accuracy").set_index([*ROW, "attack", "mode"])["accuracy"]
    blocks = {}
    for mode in MODES:
        if (*key, mode) in classes.index:
            ours = classes.loc[(*key, mode)][SCORES]
            blocks[NAMES[mode], "ours"] = _write_block(ours, means[(*key[:3], mode, key[3])])
        if blocks and (*key, mode) in printed.index:
            theirs = printed.loc[[(*key, mode)]].set_index("class")[SCORES]
            theirs = theirs.rename(index=_same_spelling(blocks))
            blocks[NAMES[mode], "published"] = _write_block(theirs, accuracy[(*key, mode)])
    table = pd.concat(blocks, axis=1).fillna("")
    sources = set(table.columns.get_level_values(1))
    return table if "published" in sources else table.droplevel(1, axis=1)


def _same_spelling(blocks: dict) -> dict[str, str]:
    return {name.lower(): name for block in blocks.values() for name in block.index}


def _write_block(scores: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    rows = scores.drop(index=["mean", "std"], errors="ignore")
    mean, std = scores.loc[["mean", "std"]].values if len(rows) < len(scores) else _average(rows)
    text = rows.map("{:.2f}".format)
    text.loc["mean ± std"] = [f"{m:.2f} ± {s:.2g}" for m, s in zip(mean, std, strict=True)]
    text.loc["accuracy"] = [f"{accuracy:.3f}", "", ""]
    return text


def _average(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return rows.mean().to_numpy(), rows.std(ddof=1).round(2).to_numpy()


def describe_scale(cells: pd.DataFrame) -> str:
    """Say the scale of some cells in one line: sizes, counts, epochs and hardware."""

    def distinct(name):
        return " and ".join(f"{value:,}" for value in sorted(set(cells[name])))

    epochs = " and ".join(
        f"{count} ({mode})"
        for mode in MODES
        for count in sorted(set(cells.loc[cells["mode"] == mode, "epochs"]))
    )
    machines = sorted(
        {
            f"{cpu}, {cores} cores"
            for cpu, cores in zip(cells["hardware.cpu"], cells["hardware.cores"], strict=True)
        }
    )
    return (
        f"{distinct('image_size')} px a side, N_u = {distinct('n_unlabelled')}, "
        f"N_l = {distinct('n_labelled')}, {distinct('n_test')} test images, epochs {epochs}, "
        f"on {'; '.join(machines)}"
    )
