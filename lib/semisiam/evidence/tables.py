"""Results written out as text: the paper's Tables I-X, differences, and verdicts."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from semisiam.evidence.paper import ATTACKS, MODES, ROW, SCORES, read_printed
from semisiam.evidence.results import (
    MEAN,
    MEASURES,
    NAMES,
    check_pretext,
    in_order,
    summarise,
)
from semisiam.evidence.statistics import compare, compare_modes, rate_strength, weigh_deltas

BETTER = "accuracy_better"
QUESTIONS = {  # what, at: the question, and the answer if the difference is above and below zero
    ("gain", "none"): ("Do unlabelled images help?", "yes", "no, they harm"),
    ("gain", "pixel"): ("And under attack?", "yes", "no, they harm"),
    ("cost", "supervised"): ("Does the attack cost the supervised network?", "yes", "no, it helps"),
    ("cost", "semi"): ("Does it cost the siamese network?", "yes", "no, it helps"),
    ("interaction", ""): ("Does it cost the siamese one less?", "no, more", "yes"),
}


def give_verdicts(cells: pd.DataFrame, histories: pd.DataFrame) -> pd.DataFrame:
    """Answer a study's questions, by data set, from the better of both readings.

    Args:
        cells: from `results.collect`.
        histories: of these cells.

    Returns:
        As text: data set, question, answer, points (with 95 % interval), n, draws (of the attack's
        places, where it counts), strength (see `statistics.rate_strength`; corrected for all
        differences of the study), over (which combinations): the mean of several, or each of them
        if one has more splits than the mean.
    """
    check = check_pretext(cells, histories)["learnt"]
    learnt = {dataset: all_learnt(of) for dataset, of in check.groupby("dataset")}
    rows = []
    for (what, dataset, at), of in compare(cells, BETTER).groupby(["what", "dataset", "at"]):
        mean = of[of.index.get_level_values("backbone") == MEAN[1]]
        known = None if (what, at) == ("cost", "supervised") else learnt.get(dataset)
        place = list(NAMES).index(dataset), list(QUESTIONS).index((what, at))
        for key, row in (
            mean if mean["n"].max() == of["n"].max() else of.drop(mean.index)
        ).iterrows():
            strength = rate_strength(row["n"], row["p_holm"], known)
            over = name_row(*key[1:4], "").partition(", ")[2]
            rows.append((place, NAMES[dataset], *_answer(what, at, row, known), strength, over))
    columns = [
        "place",
        "data set",
        "question",
        "answer",
        "points",
        "n",
        "draws",
        "strength",
        "over",
    ]
    table = pd.DataFrame(rows, columns=columns).sort_values("place", kind="stable")
    return table.drop(columns="place").reset_index(drop=True)


def all_learnt(learnt: pd.Series) -> bool | None:
    """Were all tasks learnt? False if one was not, None if that is not known of one."""
    return False if False in set(learnt) else None if learnt.isna().any() else True


def _answer(what: str, at: str, row: pd.Series, learnt: bool | None) -> tuple[str, ...]:
    question, above, below = QUESTIONS[what, at]
    answer = "unclear"
    if row["n"] == 0:
        answer = "no pair of runs"
    elif learnt is False:
        answer = "the pretext task was not learnt"
    elif row["p"] < 0.05:
        answer = above if row["mean"] > 0 else below
    draws = f"{row['draws']:.0f} draw" + "s" * int(row["draws"] > 1) if row["draws"] else ""
    return question, answer, write_interval(row), f"n = {row['n']:.0f}", draws


def lay_out(
    cells: pd.DataFrame,
    dataset: str,
    percent: float,
    references: pd.DataFrame | None = None,
    check: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Lay out one of Tables I-VI as text: supervised | semi | Δ, each under attack | without.

    Args:
        cells: from `results.collect`.
        dataset: the data set.
        percent: the labelled share.
        references: from `results.summarise_references`, shown below.
        check: from `results.check_pretext`, shown below each backbone.

    Returns:
        Indexed by architecture and line: published, then the readings; `60.1 ± 2.0 (5)` is mean ±
        std over 5 splits, `2 †` that two cells collapsed and are left out, "" what was not run.
    """
    columns = pd.MultiIndex.from_product([[*MODES, "delta"], ATTACKS])
    tables = {
        measure: (summarise(cells, measure), compare_modes(cells, measure)) for measure in MEASURES
    }
    here = cells[(cells["dataset"] == dataset) & (cells["percent"] == percent)]
    here = here[here["mode"] != "frozen"]
    lines = {}
    for backbone in [name for name in NAMES if name in set(here["backbone"])]:
        for line, texts in _lay_out_row(tables, check, (dataset, percent, backbone)):
            lines[NAMES[backbone], line] = texts
    lines |= _lay_out_references(references, dataset, percent)
    lines = {name: texts for name, texts in lines.items() if any(texts)}
    index = pd.MultiIndex.from_tuples(list(lines), names=["Architecture", ""])
    return pd.DataFrame(list(lines.values()), index, columns).rename(columns=NAMES)


def _lay_out_row(tables: dict, check: pd.DataFrame | None, row: tuple) -> Iterable[tuple]:
    yield "published", list(_write_printed(row))
    for measure, (means, deltas) in tables.items():
        places = [(means, (*row, m, a)) for m in MODES for a in ATTACKS]
        places += [(deltas, (*row, a)) for a in ATTACKS]
        found = [table.loc[key] if key in table.index else None for table, key in places]
        yield MEASURES[measure], [write_estimate(values) for values in found]
    for kind in ("test", "training") if check is not None else ():
        keys = [(*row, attack) for attack in ATTACKS]
        found = [check[kind].get(key, np.nan) for key in keys]
        texts = ["" if np.isnan(value) else f"{value:.0f}" for value in found]
        yield f"pretext task, {kind}", ["", "", *texts, "", ""]


def _write_printed(row: tuple) -> Iterable[str]:
    printed = read_printed("accuracy").set_index([*ROW, "mode", "attack"])
    deltas = read_printed("delta").set_index([*ROW, "attack"])["delta"]
    for key in [(*row, m, a) for m in MODES for a in ATTACKS]:
        values = printed.loc[key] if key in printed.index else None
        yield "" if values is None else f"{values['mean']:.1f} ± {values['std']:.1f}"
    for key in [(*row, a) for a in ATTACKS]:
        yield write_signed(deltas.loc[key]) if key in deltas.index else ""


def _lay_out_references(references: pd.DataFrame | None, dataset: str, percent: float) -> dict:
    if references is None or (dataset, percent) not in references.droplevel([2, 3]).index:
        return {}
    here = references.loc[(dataset, percent)]
    return {
        (name, "no training"): [
            write_estimate(of.loc[(name, a)]) if (name, a) in of.index else "" for a in ATTACKS
        ]
        + [""] * 4
        for name, of in here.groupby("reference", sort=False)
    }


def lay_out_differences(cells: pd.DataFrame, measure: str = BETTER) -> pd.DataFrame:
    """Lay out the differences of `statistics.compare` as text, and how firm each is.

    Returns:
        what, where, n, points (with interval), p after Holm's correction, detectable, and
        published where the paper has it.
    """
    table = compare(cells, measure)
    rows = [
        {
            "what": what,
            "where": name_row(dataset, percent, backbone, at),
            "n": f"{row['n']:.0f}",
            "points": write_interval(row),
            "p (Holm)": write_p(row["p_holm"]),
            "detectable": write_signed(row["detectable"]).lstrip("+"),
            "published": write_signed(row["published"]),
        }
        for (what, dataset, percent, backbone, at), row in table.iterrows()
    ]
    texts = pd.DataFrame(rows)
    return texts if not rows or texts["published"].any() else texts.drop(columns="published")


def name_row(dataset: str, percent: float, backbone: str, at: str) -> str:
    """Name a row of `statistics.compare`: `Malaria, MobileNetV2, 1 %, no attack`."""
    words = [NAMES[dataset], NAMES[backbone] if percent else "mean of all"]
    words += [f"{percent:g} %"] if percent else []
    return ", ".join([*words, NAMES[at].lower()] if at else words)


def write_interval(row: pd.Series) -> str:
    """Write a mean difference with its 95 % interval: `+7.0 (−5.4 to +19.4)`."""
    mean, low, high = (write_signed(row[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})" if low else mean


def gather_gains(cells: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Gather every gain by unlabelled images with its interval, for `figures.differences`.

    Returns:
        By data set, then by source (published, where the paper has it, and each reading): indexed
        by text, e.g. `MobileNetV2, 1 %, no attack`, with mean, low and high (points).
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
    """Write a row of `summarise` or `compare_modes`: `60.1 ± 2.0 (5)`; `2 †` collapsed."""
    if values is None:
        return ""
    collapsed = [f"{values['collapsed']:.0f} †"] if values.get("collapsed", 0) else []
    if np.isnan(values["mean"]):
        return "".join(collapsed)
    text = write_signed(values["mean"]) if "p" in values else f"{values['mean']:.1f}"
    text += "" if np.isnan(values["std"]) else f" ± {values['std']:.1f}"
    return " ".join([f"{text} ({values['n']:.0f})", *collapsed])


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
    means = cells.groupby([*ROW, "mode", "attack"])["accuracy"].mean()
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
