"""Results written out as text: the paper's Tables I-X, differences, and verdicts."""

from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import pandas as pd

from semisiam.evidence.paper import ATTACKS, MODES, ROW, SCORES, read_printed
from semisiam.evidence.results import MEAN, MEASURES, NAMES, check_pretext, in_order, summarise
from semisiam.evidence.statistics import compare, compare_modes, rate_strength, weigh_deltas

BETTER = "accuracy_better"
ANSWERS = "yes", "no, worse"
QUESTIONS = {  # what, at: the question, and the answer if the difference is above and below zero
    ("gain", "none"): ("Is the siamese network better?", *ANSWERS),
    ("gain", "pixel"): ("Is it better under attack?", *ANSWERS),
    ("cost", "supervised"): ("Does the attack cost the supervised network?", "yes", "no, it helps"),
    ("cost", "semi"): ("Does it cost the siamese network?", "yes", "no, it helps"),
    ("interaction", ""): ("Does it cost the siamese one more?", "yes", "no, less"),
}
VERDICT = ["data set", "question", "answer", "points", "n", "draws", "strength", "over"]


def give_verdicts(
    cells: pd.DataFrame, histories: pd.DataFrame, free: pd.Series | None = None
) -> pd.DataFrame:
    """Answer a study's questions, by data set, from the better of both readings.

    As text: data set, question, answer, points (with 95 % interval), n, draws (of the attack's
    places, where it counts), strength (see `rate_strength`; corrected for all differences of the
    study; "" if unclear), over: the mean of several combinations and each firm one that it does not
    speak for, or each if one has more splits than the mean. `free`: see `compare`.
    """
    check, learnt = check_pretext(cells, histories)["learnt"], {}
    # of several tasks: False if one was not learnt, else None if that is not known of one
    worst = partial(min, key=[False, None, True].index)
    for by in (["dataset"], ROW):
        learnt |= {(*key, ""): worst(of) for key, of in check.groupby(by)}
        learnt |= {key: worst(of) for key, of in check.groupby([*by, "attack"])}
    table = compare(cells, BETTER, free)
    groups = dict(iter(table.groupby(["dataset", "what", "at"], sort=False)))
    siamese = set(cells.loc[cells["mode"] == "semi", "dataset"])
    (first, *others), rows = QUESTIONS, []
    leads = [(what, at) for _, what, at in groups if what == "lead"]
    for dataset, (what, at) in product(NAMES, dict.fromkeys([first, *leads, *others])):
        if (dataset, what, at) in groups:
            of, of_attack = groups[dataset, what, at], at if what == "gain" else ""
            mean = of[of.index.get_level_values("backbone") == MEAN[1]]
            shown = of.drop(mean.index)
            if mean["n"].max() == of["n"].max():
                of_mean = learnt.get((dataset, of_attack)) is not False
                of_mean &= mean["p_holm"].max() < 0.05
                alike = np.sign(shown["mean"]) == np.sign(mean["mean"].max())
                shown = pd.concat([mean, shown[shown["p_holm"].lt(0.05) & ~(of_mean & alike)]])
            for (*_, percent, backbone, _), row in shown.iterrows():
                key = (dataset,) if backbone == MEAN[1] else (dataset, percent, backbone)
                needed = what != "lead" and at != "supervised"
                network = "siamese" if dataset in siamese else "supervised"
                lead = f"Is the {network} network better than no training ({at})?", *ANSWERS
                question, *answers = QUESTIONS.get((what, at), lead)
                answer = _answer(*answers, row, learnt.get((*key, of_attack)) if needed else None)
                rows.append((NAMES[dataset], question, *answer, name_row(percent, backbone, "")))
    return pd.DataFrame(rows, columns=VERDICT)


def _answer(above: str, below: str, row: pd.Series, learnt: bool | None) -> tuple[str, ...]:
    answer = "unclear"
    if row["n"] == 0:
        answer = "no pair of runs"
    elif learnt is False:
        answer = "the pretext task was not learnt"
    elif row["p"] < 0.05:
        answer = above if row["mean"] > 0 else below
        answer = answer if row["p_holm"] < 0.05 else f"perhaps {answer}"
    draws = f"{row['draws']:.0f} draw" + "s" * int(row["draws"] > 1) if row["draws"] else ""
    strength = "" if answer == "unclear" else rate_strength(row["n"], row["p_holm"], learnt)
    return answer, write_interval(row), f"n = {row['n']:.0f}", draws, strength


def lay_out(cells: pd.DataFrame, dataset: str, percent: float, check: pd.DataFrame) -> pd.DataFrame:
    """Lay out one of Tables I-VI as text: supervised | semi | Δ, each under attack | without.

    `check`, from `check_pretext`, stands below each backbone. Indexed by architecture and line:
    published, then the readings. `60.1 ± 2.0 (5)` is mean ± std over 5 splits, `2 †` that two cells
    collapsed and are left out, "" what was not run.
    """
    here = cells[(cells["dataset"] == dataset) & (cells["percent"] == percent)]
    backbones = set(here.loc[here["mode"] != "frozen", "backbone"])
    printed = read_printed("accuracy").set_index([*ROW, "mode", "attack"])[["mean", "std"]]
    sources = {"published": (printed, _read_deltas())}
    sources |= {how: (summarise(here, m), compare_modes(here, m)) for m, how in MEASURES.items()}
    lines = {}
    for backbone in [name for name in NAMES if name in backbones]:
        deltas = [(dataset, percent, backbone, a) for a in ATTACKS]
        means = [(dataset, percent, backbone, m, a) for m in MODES for a in ATTACKS]
        for line, (of_modes, of_deltas) in sources.items():
            lines[NAMES[backbone], line] = _fill(of_modes, means) + _fill(of_deltas, deltas)
        for kind in ("test", "training"):
            texts = _fill(check[kind].dropna(), deltas, "{:.0f}".format)
            lines[NAMES[backbone], f"pretext task, {kind}"] = ["", "", *texts, "", ""]
    table = pd.DataFrame(lines, pd.MultiIndex.from_product([[*MODES, "delta"], ATTACKS])).T
    return table[table.ne("").any(axis=1)].rename_axis(["Architecture", ""]).rename(columns=NAMES)


def _read_deltas() -> pd.DataFrame:
    """Read the printed gains in the shape of `compare_modes`."""
    return weigh_deltas().set_index([*ROW, "attack"]).rename(columns={"delta": "mean"})


def name_row(percent: float, backbone: str, at: str) -> str:
    """Name a row of `statistics.compare`: `MobileNetV2, 1 %, no attack`."""
    words = [NAMES[backbone], f"{percent:g} %"] if percent else ["mean of all"]
    words += [NAMES[at].lower() if at in NAMES else at] if at else []
    return ", ".join(words)


def write_interval(row: pd.Series) -> str:
    """Write a mean difference with its 95 % interval: `+7.0 (−5.4 to +19.4)`."""
    mean, low, high = (write_signed(row[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})" if low else mean


def gather_gains(cells: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Gather gains with their intervals, for `figures.differences`: by data set, then by source.

    Sources are published, where the paper has it, and each reading: mean, low and high (points),
    indexed by text, e.g. `MobileNetV2, 1 %, no attack`.
    """
    found = {read: compare_modes(cells, measure) for measure, read in MEASURES.items()}
    keys = found["as trained"].index
    printed = _read_deltas()
    sources = {"published": printed[printed.index.isin(keys)]} | found
    gathered = {}
    for dataset, (source, table) in product(keys.unique("dataset"), sources.items()):
        if dataset in table.index.unique("dataset"):
            of = in_order(table.loc[dataset]).sort_index(level="attack", sort_remaining=False)
            texts = [name_row(*key) for key in of.index]
            gathered.setdefault(dataset, {})[source] = of.set_axis(texts)
    return gathered


def write_signed(value: float) -> str:
    """Write a difference with its sign: `+1.4`, `−0.1`, `0.0`; "" for NaN."""
    text = f"{value:+.1f}"
    return "" if np.isnan(value) else text[1:] if float(text) == 0 else text.replace("-", "−")


def write_estimate(values: pd.Series) -> str:
    """Write a mean, or a difference if it has a p: `60.1 ± 2.0 (5)`; `2 †` collapsed."""
    collapsed = [f"{values['collapsed']:.0f} †"] if values.get("collapsed", 0) else []
    if np.isnan(values["mean"]):
        return "".join(collapsed)
    text = write_signed(values["mean"]) if "p" in values else f"{values['mean']:.1f}"
    text += "" if np.isnan(values.get("std", np.nan)) else f" ± {values['std']:.1f}"
    text += f" ({values['n']:.0f})" if "n" in values else ""
    return " ".join([text, *collapsed])


def _fill(table: pd.DataFrame, keys: list[tuple], write: Callable = write_estimate) -> list[str]:
    return [write(table.loc[key]) if key in table.index else "" for key in keys]


def lay_out_classes(cells: pd.DataFrame, classes: pd.DataFrame, key: tuple) -> pd.DataFrame:
    """Lay out one of Tables VII-X as text, the published scores beside where there are any.

    `classes` is from `average_classes`; `key` is dataset, percent, backbone, attack. One line a
    class, then mean ± std over classes and the accuracy over splits; columns mode, source (ours,
    published; not if all are ours) and score.
    """
    sound = cells[(cells["duplicate_of"] == "") & ~cells["collapsed_kept"]]
    means = sound.groupby([*ROW, "attack", "mode"])["accuracy_kept"].mean()
    printed = read_printed("classwise").set_index([*ROW, "attack", "mode"])
    accuracy = read_printed("classwise_accuracy").set_index(means.index.names)["accuracy"]
    spelt = {name.lower(): name for name in classes.loc[key].index.unique("class")}
    blocks = {}
    for place in [(*key, mode) for mode in MODES]:
        mode = NAMES[place[-1]]
        if place in means.index and place in classes.index:
            ours = classes.loc[place][SCORES]
            spread = ours.mean(), ours.std().round(2)
            blocks[mode, "ours"] = _write_block(ours, spread, means[place])
        if place in accuracy.index:
            theirs = printed.loc[[place]].set_index("class")[SCORES].rename(index=spelt)
            spread = theirs.loc["mean"], theirs.loc["std"]
            theirs = theirs.drop(["mean", "std"])
            blocks[mode, "published"] = _write_block(theirs, spread, accuracy[place])
    table = pd.concat(blocks, axis=1).fillna("")
    sources = set(table.columns.get_level_values(1))
    return table if "published" in sources else table.droplevel(1, axis=1)


def _write_block(rows: pd.DataFrame, spread: tuple, accuracy: float) -> pd.DataFrame:
    text = rows.map("{:.2f}".format)
    text.loc["mean ± std"] = [f"{m:.2f} ± {s:.2g}" for m, s in zip(*spread, strict=True)]
    text.loc["accuracy"] = [f"{accuracy:.3f}", "", ""]
    return text


def describe_scale(cells: pd.DataFrame) -> str:
    """Say the scale of some cells in one line: sizes, counts, epochs and hardware."""
    names = ("image_size", "n_unlabelled", "n_labelled", "n_test")
    size, n_u, n_l, n_test = (
        " and ".join(f"{value:,}" for value in sorted(set(cells[name]))) for name in names
    )
    of_mode = {mode: sorted(set(cells.loc[cells["mode"] == mode, "epochs"])) for mode in MODES}
    epochs = " and ".join(f"{count} ({mode})" for mode in MODES for count in of_mode[mode])
    machines = cells["hardware.cpu"] + cells["hardware.cores"].map(", {} cores".format)
    told = f"{size} px a side, N_u = {n_u}, N_l = {n_l}, {n_test} test images"
    return f"{told}, epochs {epochs}, on {'; '.join(sorted(set(machines)))}"
