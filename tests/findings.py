"""Build what README and its pages show from `outputs/published/`: `findings.py`; see `make readme`.

Between its markers a page holds the tables that this writes; the figures go to
`outputs/published/*.png`. Tests hold both to the recorded numbers. Words are written by hand here;
a number never is. `--pictures` also makes the pictures of the method and of a report; `--reports`
makes the reports of all recorded studies for the site instead.
"""

import hashlib
import html
import re
import shutil
import sys
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import bench
import matplotlib.pyplot as plt
import numpy as np
import pairing
import pandas as pd
from matplotlib.figure import Figure

from semisiam import ROOT
from semisiam.atomic import read_json, replacing
from semisiam.cell import Study
from semisiam.evidence import figures, results, statistics, tables
from semisiam.evidence.paper import ROW, read_printed

PUBLISHED = ROOT / "outputs" / "published"
HEADLINE = PUBLISHED / "headline.png"
DPI = 110
CELL = ("fashion_mnist", 1.0, "mobilenet_v2")  # the largest published gain, Table III
STEPS = ("fashion_baseline", "audit_momentum")  # the same cells, the second with momentum 0.99
PIXELS = {"fashion_mnist": "Fashion-MNIST", "malaria": "malaria"}
TASKS = {"rotation": "rotation", "barlow": "Barlow Twins", "consistency": "consistency"}
SCENARIOS = {  # of the study `scenarios`; without any: `fashion_gain`
    "marks": "one-pixel marks",
    "noise": "20 % wrong labels",
    "fewer": "half the unlabelled classes missing",
}
CHECKS = {True: "", None: " (perhaps not learnt)", False: " (not learnt)"}
NO_HISTORY = pd.DataFrame({"cell": [], "accuracy_unlabelled": []})  # newer cells have scores
SEEN = 3  # labelled sets of `scenarios` when two more of `clean-barlow` were added
PLAIN = {"rotation": "clean-rotation", "equal-updates": "clean-none"}  # names in `fashion_gain`


def read(name: str) -> pd.DataFrame:
    """Read a recorded study."""
    return results.collect(PUBLISHED / name)


def average(cells: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Average supervised cells without attack, indexed by backbone."""
    return results.summarise(cells, measure).droplevel(["dataset", "percent", "mode"])


# README: the verdicts --------------------------------------------------------------------------


def write_verdicts() -> str:
    """Write README's table: question, answer, evidence, strength."""
    found = [
        judge_baseline(),
        judge_malaria(),
        judge_pixels(),
        judge_gain(),
        judge_need(),
        judge_tasks(),
        judge_size(),
        judge_cells(),
        judge_cost(),
        judge_robustness(),
    ]
    rows = [("question", "answer", "evidence", "strength"), *found]
    lines = ["|".join(row) for row in rows]
    return "\n".join([lines[0], "---|---|---|---", *lines[1:]])


def write_summary() -> str:
    """Write README's answer in a few sentences."""
    parts, pixels, start = compare_gain()
    added = parts.loc[[("rotation", "equal-updates")], "mean"].iloc[0]
    beats = "beats" if start["low"] > 0 else "does not clearly beat"
    words = {True: "is", False: "is not", None: "is perhaps"}
    blood = read("malaria_task")
    siamese, alone, free = compare_size()
    equal = alone[alone["n_updates"] == siamese["n_updates"]]["%"]
    copy = average(read("fashion_baseline"), "accuracy_recalibrated").loc[(CELL[2], "none")]
    largest = find_printed(*CELL, "semi", "none")["mean"] - copy["published_mean"]
    return (
        f"**In short**: the paper's largest gain over labels alone is {largest:.0f} points. In our "
        f"copy, renewing old averages of batch normalisation gives "
        f"{copy['mean'] - copy['published_mean']:.0f} of them, without unlabelled images. On "
        f"Fashion-MNIST at 64 px the rotation task adds {added:.0f} points to labels alone. But it "
        f"{beats} untrained features, and an SVM on raw pixels is "
        f"{pixels['mean']:.0f} points better. At the paper's size one run has "
        f"{siamese['%']:.0f} %, {''.join(f'equal updates {of:.0f}, ' for of in equal)}raw pixels "
        f"{free['pixels']:.0f}. On malaria the task "
        f"{words[check_rotations('malaria_task')['learnt']]} learnt after {blood['epochs'].max()} "
        "epochs. Whether it helps under attack is open."
    )


def judge_baseline() -> tuple[str, ...]:
    """Is the baseline of the largest published gain as weak as printed?"""
    trained, again = (
        average(read("fashion_baseline"), measure).loc[CELL[2], "none"]
        for measure in list(results.MEASURES)[:2]
    )
    siamese = find_printed(*CELL, "semi", "none")["mean"]
    guesses = "yes" if trained["collapsed"] == again["n"] else "not always"
    return (
        f"The largest gain's baseline has {again['published_mean']:.1f} %, a guess. Does ours "
        "guess?",
        f"As trained {guesses}; re-estimated no: **{write_mean(again)} %** (paper, *with* "
        f"unlabelled images: {siamese:.1f})",
        f"Fashion-MNIST, 600 labels, 96 px, MobileNetV2; n = {again['n']:.0f}",
        mark_strength("shown" if again["n"] >= statistics.SEVERAL else "suggestive"),
    )


def judge_malaria() -> tuple[str, ...]:
    """And are the baselines on malaria?"""
    cells = read("malaria_whole").query("test_split == 'random'")
    again = average(cells, "accuracy_recalibrated").droplevel("attack")
    lifts = 100 * (cells["accuracy_recalibrated"] - cells["accuracy"].astype(float))
    lifts = {b: statistics.compare_paired(of) for b, of in lifts.groupby(cells["backbone"])}
    lifts = pd.DataFrame(lifts).T
    lifts["p_holm"] = statistics.correct_holm(lifts["p"])
    texts, gains = [], []
    for name, row in again.iterrows():
        theirs = find_printed("malaria", 1, name, "semi", "none")["mean"] - row["published_mean"]
        lift = set_bold(lifts.loc[name], "{mean:.1f}") + " points" * (not texts)
        texts += [f"{lift} ({results.NAMES[name]}: {write_mean(row)})"]
        gains += [f"{theirs:.1f}"]
    firm = {statistics.rate_strength(*row) for row in lifts[["n", "p_holm"]].to_numpy()}
    return (
        "And on malaria?",
        f"Re-estimation adds {', '.join(texts)}; the paper's gains: {', '.join(gains)}",
        f"137 labels, 128 px, 4,000 test images; n = {again['n'].min():.0f}",
        mark_strength(firm.pop() if len(firm) == 1 else "suggestive"),
    )


def set_bold(row: pd.Series | dict[str, float], text: str = "") -> str:
    """Write a difference, in bold if it is not 0 after correction."""
    told = text.format(**row) if text else tables.write_interval(pd.Series(row))
    return f"**{told}**" if row["p_holm"] < 0.05 else told


def mark_strength(strength: str) -> str:
    """Set the firmest in bold, so that an eye finds it."""
    return f"**{strength}**" if strength == "shown" else strength


def judge_pixels() -> tuple[str, ...]:
    """What does one have without training?"""
    pool = read("references").query("attack == 'none' and percent == 1")
    pool = pool.query("test_split == 'random' and unlabelled_limit == 0")
    values = (100 * pool["accuracy"]).groupby([pool["backbone"], pool["dataset"]])
    values = values.agg(mean="mean", std="std", n="count")
    pixels, untrained = (values.loc[name] for name in ("pixels", "mobilenet_v2"))
    texts = [f"**{write_mean(pixels.loc[d])} %** ({name})" for d, name in PIXELS.items()]
    others = [write_mean(untrained.loc[d]) for d in PIXELS]
    n = values["n"].min()
    return (
        "And without any training?",
        f"Raw pixels (32 px): {', '.join(texts)}; untrained MobileNetV2: {', '.join(others)}",
        f"as in rows 1 and 2; n = {n:.0f}",
        mark_strength("shown" if n >= statistics.SEVERAL else "suggestive"),
    )


def compare_gain(
    measure: str = "re-estimated",
) -> tuple[pd.DataFrame, dict[str, float], dict[str, float]]:
    """Compare parts of the gain at 64 px, as one family, in points; also by `neighbours`.

    Then raw pixels - rotation, and rotation - the features of an untrained network.
    """
    controls = results.read_controls(PUBLISHED / "fashion_gain")
    pairs = ["rotation", "equal-updates"], ["rotation", "no-task"], ["no-task", "equal-updates"]
    pool = read("references").query("image_size == 64 and attack == 'none' and label_noise == 0")
    pool = pool.rename(columns=results.FURTHER | {"accuracy": "re-estimated"})
    pool["as trained"] = pool["re-estimated"]  # what is not trained has one reading
    free = 100 * pool.pivot(index="split", columns="backbone", values=measure)
    more = free.sub(controls.loc["rotation", measure], axis=0)
    table = statistics.compare_controls(controls, pairs, measure).set_axis(map(tuple, pairs))
    found = statistics.compare_paired
    return table, found(more["pixels"]), found(-more["mobilenet_v2"])


def judge_gain() -> tuple[str, ...]:
    """Does the rotation task help? At 32 px, learnt too, `fashion_small` does not decide it."""
    parts, pixels, start = compare_gain()
    trained = compare_gain("as trained")[0].loc[[("rotation", "equal-updates")]].iloc[0]
    both = parts.loc[[("rotation", "equal-updates"), ("rotation", "no-task")]]
    gain = both.iloc[0].copy()
    gain["p_holm"] = both["p_holm"].max(skipna=False)  # no task, too
    learnt = check_rotations("fashion_gain")["learnt"]
    strength = statistics.rate_strength(gain["n"], gain["p_holm"], learnt)
    gain["p_holm"] = gain["p_holm"] if strength == "shown" else np.nan
    pixels |= {
        name: -pixels[old] for name, old in (("mean", "mean"), ("low", "high"), ("high", "low"))
    }
    free = pd.DataFrame([start, pixels])
    free["p_holm"] = statistics.correct_holm(free["p"])
    over_start, over_pixels = (set_bold(row) for _, row in free.iterrows())
    weak = "" if trained["p_holm"] < 0.05 else ", not decided"
    return (
        "Does the rotation task on unlabelled images help?",
        f"{set_bold(gain)} points over equal updates on labels alone (as trained "
        f"{tables.write_signed(trained['mean'])}{weak}), {over_start} over untrained features, "
        f"{over_pixels} over raw pixels",
        "Fashion-MNIST, 64 px, 100 labels, 10,000 unlabelled images, MobileNetV2 (momentum 0.99); "
        f"n = {gain['n']:.0f}",
        mark_strength(strength) + " where bold" * (strength == "shown"),
    )


def compare_size() -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    """Compare at the paper's image size, one labelled set: siamese, labels alone, no training.

    Of the first two the settings and `%`; labels alone with equal updates first, once recorded.
    """
    usual = read("audit_momentum").query("attack == 'none' and split == 0")
    cells = pd.concat([read("fashion_task").query("pretext == 'rotation'"), usual])
    cells["%"] = 100 * cells["accuracy_recalibrated"].astype(float)
    pool = read("references").query("attack == 'none' and percent == 1 and image_size == 96")
    pool = pool.query("dataset == 'fashion_mnist' and split == 0").set_index("backbone")
    siamese, alone = (cells[cells["mode"] == mode] for mode in ("semi", "supervised"))
    return siamese.iloc[0], alone, 100 * pool["accuracy"].astype(float)


def judge_size() -> tuple[str, ...]:
    """And at the paper's image size and number of images?"""
    (siamese, alone, free), check = compare_size(), check_rotations("fashion_task")
    most, least = (f"{of:.1f}" for of in alone["%"].iloc[[0, -1]])
    told = f"labels alone {least} after a ninth of its updates"
    if alone["n_updates"].iloc[0] == siamese["n_updates"]:
        told = f"equal updates {most} (a ninth of them: {least})"
    return (
        "And at the paper's size?",
        f"{check['test']:.0f} % of rotations named. Siamese network {siamese['%']:.1f} %; {told}; "
        f"raw pixels {free['pixels']:.1f}, untrained {free['mobilenet_v2']:.1f}",
        f"600 labels, 96 px, 60,000 images, {siamese['epochs']} epochs (paper: 30); n = 1",
        "suggestive" if check["learnt"] else "untested",
    )


def judge_need() -> tuple[str, ...]:
    """Does the task need more images, or would the labelled ones do?"""
    needs = compare_need()
    task, images = (set_bold(row) for _, row in needs.iterrows())
    row = needs.loc["images"]
    strength = statistics.rate_strength(row["n"], row["p_holm"])
    answer = ("Yes: " if row["mean"] > 0 else "No: ") if strength == "shown" else ""
    return (
        "Does it need unlabelled images?",
        f"{answer}{images} over the task on labelled images alone, which adds {task}",
        f"the same; n = {row['n']:.0f}",
        mark_strength(strength) + " where bold" * (strength == "shown"),
    )


def compare_need() -> pd.DataFrame:
    """Compare the task on labelled images alone with what has more and less, as one family."""
    runs = [results.read_controls(PUBLISHED / name) for name in ("fashion_gain", "labelled_task")]
    pairs = ["rotation", "rotation-labelled"], ["rotation-labelled", "equal-updates"]
    return statistics.compare_controls(pd.concat(runs), pairs[::-1]).set_axis(["task", "images"])


def check_rotations(study: str) -> pd.Series:
    """Was the rotation task of a recorded study learnt? A row of `results.check_pretext`."""
    return results.check_pretext(read(study), NO_HISTORY).iloc[0]


def judge_cells() -> tuple[str, ...]:
    """Is the rotation task learnt on blood cells, and what does it add?"""
    cells, check = read("malaria_task"), check_rotations("malaria_task")
    values = 100 * cells.set_index(["mode", "split"])["accuracy_recalibrated"].astype(float)
    values = values.unstack("mode").dropna()  # pairs alone
    added = pd.Series(statistics.compare_paired(values["semi"] - values["supervised"]))
    answer = {True: "Yes", False: "Not yet", None: "Not known"}[check["learnt"]]
    heads = 100 * cells["rotation_accuracy.test"].dropna().astype(float)
    named = " to ".join(dict.fromkeys(f"{value:.0f}" for value in (heads.min(), heads.max())))
    histories = results.read_details(PUBLISHED / "malaria_task", cells["cell"], "history")
    by_cell = histories.dropna(subset="accuracy_unlabelled").groupby("cell")["accuracy_unlabelled"]
    rising = ", rising" * bool((by_cell.last() > by_cell.nth(-2).to_numpy()).all())
    return (
        "Are rotations learnt on malaria?",
        f"{answer}: {named} % named (guessing: 25){rising}; "
        f"{tables.write_interval(added)} points against equal updates",
        f"137 labels, 128 px, {cells['epochs'].max()} epochs (paper: 100), MobileNetV2; "
        f"n = {len(values)}",
        "suggestive",
    )


def judge_tasks() -> tuple[str, ...]:
    """What do other tasks add, and what do all of them in other scenarios?"""
    table = compare_tasks()
    gains = table.loc["gain"]
    clean, others = gains.loc[("clean", "barlow")], gains.drop("clean", level="scenario")
    rated = gains[["n", "p_holm", "learnt"]].to_numpy()
    firm = pd.Series([statistics.rate_strength(*row) for row in rated], gains.index)
    shown = [
        f"{TASKS[task]} with {SCENARIOS[scenario]} {tables.write_interval(row)}"
        for (scenario, task), row in others[firm[others.index] == "shown"].iterrows()
    ]
    kinds = set(firm) - {"untested"} or {"untested"}
    return (
        "Do other tasks help, also under attack?",
        f"Barlow Twins{CHECKS[clean['learnt']]} {tables.write_interval(clean)}. With marks, wrong "
        f"labels or missing classes: {'; '.join(shown) or 'not decided'}",
        f"the same; n = {gains['n'].min():.0f} to {gains['n'].max():.0f} ({SEEN} planned), "
        f"{table['p_holm'].count()} tests",
        mark_strength(kinds.pop() if len(kinds) == 1 else "suggestive"),
    )


def compare_tasks() -> pd.DataFrame:
    """Estimate what each task adds to as many updates, and what each scenario takes of that.

    On the labelled sets of `scenarios`, in points, as one family of tests. Indexed by what
    (`gain`; `lost`, the gain on images as they are less that in the scenario: with marks the
    interaction; `over` rotation), scenario and task; `learnt`: was the task?
    """
    runs = read_tasks()
    known, pairs = set(runs.index.unique("control")), {}
    for scenario, task in product(("clean", *SCENARIOS), TASKS):
        pair = f"{scenario}-{task}", f"{scenario}-none"
        if set(pair) <= known:
            pairs["gain", scenario, task] = pair
            clean = pairs.get(("gain", "clean", task))
            if clean and scenario != "clean":
                pairs["lost", scenario, task] = clean, pair
            if ("gain", scenario, "rotation") in pairs and task != "rotation":
                pairs["over", scenario, task] = pair[0], f"{scenario}-rotation"
    pairs.pop(("gain", "clean", "rotation"), None)  # one test, one verdict: `compare_gain`
    table = statistics.compare_controls(runs, pairs.values())
    table.index = pd.MultiIndex.from_tuples(list(pairs), names=["what", "scenario", "task"])
    twice = (table.index.get_level_values("scenario") == "clean") & (table["n"] > SEEN)
    twice &= table.index.get_level_values("task") == "barlow"
    table.loc[twice, "p_holm"] = (2 * table["p_holm"]).clip(upper=1)  # Bonferroni, for two looks
    cells = pd.concat(map(read, ("fashion_gain", "scenarios")))
    cells["control"] = cells["cell"].str.extract(r"-s\d+-(.+)$", expand=False).replace(PLAIN)
    check = {
        n: results.check_pretext(of, NO_HISTORY)["learnt"] for n, of in cells.groupby("control")
    }
    table["learnt"] = [check[f"{scenario}-{task}"].iloc[0] for _, scenario, task in table.index]
    return table


def read_tasks() -> pd.DataFrame:
    """Read the controls of `scenarios`, by their names there, on its labelled sets."""
    runs = [results.read_controls(PUBLISHED / name) for name in ("fashion_gain", "scenarios")]
    sets = runs[1].index.unique("split")
    runs = pd.concat(runs).rename(PLAIN, level="control")
    return runs[runs.index.isin(sets, level="split")]


def judge_cost() -> tuple[str, ...]:
    """What does the attack cost a supervised network?"""
    costs = statistics.compare(read("fashion_baseline"), "accuracy_recalibrated").loc["cost"]
    costs = costs.loc[CELL[:2]].droplevel("at")
    row = costs.loc[CELL[2]]
    others = [
        "{} {mean:.1f} (paper: {published:.1f})".format(results.NAMES[b], **costs.loc[b])
        for b in costs.index.drop(CELL[2])
    ]
    by_draw = cost_by_draw()
    return (
        "What does the attack cost a supervised network?",
        f"MobileNetV2 **{write_range(row)}** points, with other marks "
        f"{by_draw.min():.1f} to {by_draw.max():.1f}; {', '.join(others)}",
        f"Fashion-MNIST, 600 labels, 96 px; n = {row['n']:.0f}, one draw; others 1",
        f"**{statistics.rate_strength(row['n'], row['p_holm'])}**; others suggestive",
    )


def cost_by_draw() -> pd.Series:
    """Points that the attack costs MobileNetV2 on labelled set 0, by draw, re-estimated."""
    first = read("audit_momentum").query("split == 0")
    draws = pd.concat([first, read("fashion_draws")]).query("backbone == 'mobilenet_v2'")
    values = 100 * draws.set_index(["attack", "attack_draw"])["accuracy_recalibrated"].astype(float)
    return values["none"].item() - values["pixel"]


def judge_robustness() -> tuple[str, ...]:
    """Is the siamese network hurt less? The paper's numbers; none of ours is at that scale."""
    printed = read_printed("accuracy").pivot(index=[*ROW, "mode"], columns="attack", values="mean")
    cost = (
        (printed["none"] - printed["pixel"]).unstack("mode").drop("mobilenet_v2", level="backbone")
    )
    less = (cost["semi"] < cost["supervised"]).groupby("percent")
    texts = [f"{of.sum()} of {len(of)} with {percent} %" for percent, of in less]
    told = ", ".join(texts).replace(" with", " settings with", 1)
    row = compare_tasks().loc[("lost", "marks", "rotation")]
    ours = f"{tables.write_interval(row)} points more than its baseline"
    strength = statistics.rate_strength(row["n"], row["p_holm"], row["learnt"])
    values = read_tasks()["re-estimated"]
    hit = pd.Series(statistics.compare_paired(values["clean-none"] - values["marks-none"]))
    if not hit["p"] < 0.05:
        ours = f"untested (marks cost its baseline {tables.write_interval(hit)} points)"
        strength = "untested"
    return (
        "Does it cost the siamese network less?",
        f"Paper: in {told} labelled. Ours: {ours}",
        f"InceptionV3, ResNet50V2; ours: n = {row['n']:.0f}",
        f"counted; ours {strength}",
    )


def write_range(row: dict[str, float]) -> str:
    """Write a positive difference with its interval: `8.8 (5.7 to 11.9)`."""
    return "{mean:.1f} ({low:.1f} to {high:.1f})".format(**row)


def find_printed(*key: str | float) -> pd.Series:
    """Find a printed accuracy by ROW, mode and attack: mean and std, percent."""
    return read_printed("accuracy").set_index([*ROW, "mode", "attack"]).loc[key]


def write_mean(row: pd.Series) -> str:
    """Write mean ± std, or the one number where there is one run; collapsed ones have none."""
    if row["n"] == 0:
        return f"{row['collapsed']:.0f} of {row['collapsed']:.0f} collapsed"
    return f"{row['mean']:.1f}" + (f" ± {row['std']:.1f}" if row["n"] > 1 else "")


# The other pages -------------------------------------------------------------------------------

CLAIMS = {  # the ledger's claims, by how they begin: in plain words
    "With few labels": "Holds on paper; over half is MobileNetV2's, over baselines at chance.",
    "It allows learning": "Holds on paper with MobileNetV2; else losses on malaria cancel gains.",
    "Overall": "Holds on paper, as the two above together.",
    "For STL-10 and Fashion": "Holds without MobileNetV2, whose gains with 1 % start at chance.",
    "Malaria improves": "Holds on paper with 1 %; with 5 %, MobileNetV2 alone gains.",
    "The representation": "The reverse is printed: the attack costs the siamese network more.",
    "The attack hits malaria": "Holds for the siamese network; the other loses no more there.",
    "MobileNetV2, which": "Holds on paper. On Fashion-MNIST most of it needs no unlabelled image.",
    "Unlabelled data": "“All” is too much: three of 18 gains are negative; one ends at −0.05.",
    "Malaria: 137": "Five runs do not show that they come within three points.",
}


def write_claims() -> str:
    """Write each claim of the paper with both verdicts, from the ledger that the notebook shows."""
    (path,) = pairing.NOTEBOOKS.glob("0*_results.ipynb")
    outputs = [o for cell in pairing.executed(path.stem).cells for o in cell.get("outputs", ())]
    pages = [o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {})]
    (ledger,) = [page for page in pages if "the paper's numbers" in page]
    names = re.findall(r"<th>([^<\d][^<]*)</th>", ledger)
    texts = [html.unescape(text) for text in re.findall(r"<td>(.*?)</td>", ledger, re.DOTALL)]
    lines = [
        "| the paper says | in plain words | its own numbers | without MobileNetV2 | our cells |",
        "|---|---|---|---|---|",
    ]
    for start in range(0, len(texts), len(names)):
        row = dict(zip(names, texts[start : start + len(names)], strict=True))
        (words,) = [words for begin, words in CLAIMS.items() if row["claim"].startswith(begin)]
        theirs = ": ".join([row["the paper's numbers"], row["deciding"]])
        others = row["without MobileNetV2"]
        ours = ": ".join(filter(None, [row["ours"], row["deciding of ours"]]))
        ours += f"; {row['settings run']} run"
        lines.append(f"| {' | '.join([row['claim'], words, theirs, others, ours])} |")
    return "\n".join(lines)


def write_records() -> str:
    """Write what was recorded of each study: cells, hours, code, versions, and a hash."""
    lines = ["| study | cells | hours | code | TensorFlow, Keras | SHA-256 of cells.json |"]
    lines.append("|---|---|---|---|---|---|")
    for path in sorted((ROOT / "params" / "studies").glob("*.yaml")):
        file = PUBLISHED / path.stem / "cells.json"
        study = f"[{path.stem}](../../{path.relative_to(ROOT)})"
        planned = {(name, cell.hash) for name, cell in Study.load(path).cells().items()}
        if not file.exists():
            lines.append(f"| {study} | 0 of {len(planned)} | | | | |")
            continue
        cells = results.collect(file.parent)
        recorded = set(cells[["cell", "hash"]].itertuples(index=False, name=None))
        count = f"{len(planned & recorded)} of {len(planned)}"
        hours = f"{cells['seconds.total'].sum() / 3600:.1f}"
        code = ", ".join(sorted({revision[:7] for revision in cells["revision"]}))
        versions = zip(cells["versions.tensorflow"], cells["versions.keras"], strict=True)
        versions = "; ".join(sorted({", ".join(pair) for pair in versions}))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        lines.append(f"| {study} | {count} | {hours} | {code} | {versions} | `{digest}` |")
    return "\n".join(lines)


def write_oracle() -> str:
    """Write where three searches set the mark: a table."""
    found = pd.read_csv(PUBLISHED / "oracle.csv")
    found["place"] = found["row"] * 32 + found["column"]
    wide = found.pivot(index=["dataset", "split", "class"], columns="source", values="place")
    counts = {"classes marked": wide.notna(), "at our place": wide.eq(wide["ours"], axis=0)}
    counts = {what: of.groupby("dataset").sum() for what, of in counts.items()}
    places = wide.groupby(["dataset", "split"]).nunique().groupby("dataset").sum()
    total = wide.groupby("dataset").size()
    lines = ["| data set, search | classes marked | at our place | distinct places |"]
    lines.append("|---|---|---|---|")
    for (dataset, n), search in product(total.items(), wide.columns):
        row = [f"{of.loc[dataset, search]} of {n}" for of in counts.values()]
        row.append(str(places.loc[dataset, search]))
        lines.append(f"| {' | '.join([f'{results.NAMES[dataset]}, {search}', *row])} |")
    return "\n".join(lines)


def write_precision() -> str:
    """Write what bfloat16 costs in accuracy: a sentence."""
    cells = read("precision")
    texts = []
    for measure in list(results.MEASURES)[:2]:
        wide = 100 * cells.pivot(index="split", columns="precision", values=measure).astype(float)
        change = statistics.compare_paired(wide["mixed_bfloat16"] - wide["float32"])
        text = tables.write_interval(pd.Series(change))
        texts.append(f"{text} points {results.MEASURES[measure]}")
    n = cells["split"].nunique()
    return f"In accuracy bfloat16 made a difference of {', '.join(texts)}, over {n} labelled sets."


def write_bench(name: str) -> str:
    """Write recorded measurements of speed and memory, one of `bench.TABLES`."""
    return bench.make_tables(read_json(PUBLISHED / "bench.json"), name)


PAGES = {  # what stands between each page's markers
    ROOT / "README.md": {"summary": write_summary, "verdicts": write_verdicts},
    PUBLISHED / "README.md": {"records": write_records, "oracle": write_oracle},
    PUBLISHED / "claims.md": {"claims": write_claims},
    PUBLISHED / "speed.md": {name: partial(write_bench, name) for name in bench.TABLES}
    | {"precision": write_precision},
}


def fill_in(page: Path) -> str:
    """Put the tables between a page's markers."""
    text = page.read_text("utf-8")
    for name, write in PAGES[page].items():
        filled = f"<!-- {name} -->\n{write()}\n<!-- end -->"
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text, count = re.subn(pattern, lambda _, f=filled: f, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"{page.name} needs <!-- {name} --> and <!-- end --> once")
    return text


# Pictures --------------------------------------------------------------------------------------


def gather_headline() -> dict[str, tuple[str, list[float]]]:
    """Gather the headline cell's accuracies (%), one a labelled set: text to (colour, values)."""
    baseline, momentum = (read(name).query("attack == 'none'") for name in STEPS)
    baseline = baseline[baseline["backbone"] == CELL[2]]
    steps = {
        "ours, as trained": (baseline, "accuracy"),
        "the same weights, statistics re-estimated": (baseline, "accuracy_recalibrated"),
        "ours with momentum 0.99, as trained": (momentum, "accuracy"),
    }
    found = {
        text: (figures.COLOURS["supervised"], list(100 * cells[measure].astype(float)))
        for text, (cells, measure) in steps.items()
    }
    pool = read("references").query("attack == 'none' and image_size == 96")
    pool = pool[(pool["dataset"] == CELL[0]) & (pool["percent"] == CELL[1])]
    for backbone, cells in pool.groupby("backbone", sort=False):
        text = "no network: pixels" if backbone == "pixels" else "untrained MobileNetV2"
        found[text] = (figures.COLOURS["clean"], list(100 * cells["accuracy"].astype(float)))
    return found


def draw_headline() -> Figure:
    """Draw the headline cell from the printed baseline to the printed siamese network."""
    published = {mode: find_printed(*CELL, mode, "none") for mode in ("supervised", "semi")}
    rows = [("published, 600 labels alone", published["supervised"])]
    rows += list(gather_headline().items())
    rows += [("published, with unlabelled images", published["semi"])]
    fig, ax = plt.subplots(figsize=(6.4, 0.38 * len(rows) + 0.8))
    for place, (_, row) in enumerate(rows):
        if isinstance(row, tuple):
            colour, values = row
            mean, std, n = np.mean(values), pd.Series(values).std(), f" (n = {len(values)})"
            ax.plot(values, [place] * len(values), "o", color=colour, ms=6, alpha=0.6)
        else:
            mean, std, n, values = row["mean"], row["std"], "", [row["mean"]]
            ax.errorbar(mean, place, xerr=std, fmt="D", color=figures.COLOURS["published"], ms=6)
        side = (
            {"ha": "left", "x": max(values) + 3}
            if mean < 50
            else {"ha": "right", "x": min(values) - 3}
        )
        spread = "" if np.isnan(std) else f" ± {std:.1f}"  # one run has none
        ax.text(y=place, s=f"{mean:.1f}{spread}{n}", va="center", fontsize=9, **side)
    ax.axvline(10, color="0.6", linestyle=":", zorder=0)
    ax.set_yticks(range(len(rows)), [text for text, _ in rows])
    ax.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel("test accuracy (%); dotted: guessing")
    ax.set_title("Fashion-MNIST, 96 px, MobileNetV2 (grey: the paper's)")
    return fig


def draw_method() -> Figure:
    """Draw the method as README shows it."""
    fig, ax = plt.subplots(figsize=(8, 3.2))
    figures.method(ax)
    return fig


def report_recorded(name: str, folder: Path) -> Path:
    """Write the report of a recorded study to `folder/NAME/report.html`."""
    from semisiam.evidence.page import write_report

    study = Study.load(ROOT / "params" / "studies" / f"{name}.yaml")
    recorded = set(results.collect(PUBLISHED / name)["cell"])
    undone = [[cell, "missing", "not recorded"] for cell in study.cells() if cell not in recorded]
    kept = shutil.copytree(PUBLISHED / name, folder / name, dirs_exist_ok=True)
    page = write_report(study, kept, undone)
    for file in kept.glob("*.*"):
        if file != page:
            file.unlink()
    return page


def picture_report(target: Path) -> None:
    """Make the first screen of the recorded demo's report a picture; needs Chromium."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = report_recorded("demo", Path(folder))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        view = browser.new_page(viewport={"width": 1000, "height": 760})
        view.goto(page.as_uri())
        view.screenshot(path=target)
        browser.close()


def save(fig: Figure, path: Path) -> None:
    """Save a figure."""
    with replacing(path) as temporary:
        fig.savefig(temporary, format="png", dpi=DPI)


def main(*options: str) -> None:
    """Write the tables and the figure anew; or the pictures, or the site's reports."""
    if options == ("--reports",):
        for file in sorted(PUBLISHED.glob("*/cells.json")):
            print(report_recorded(file.parent.name, ROOT / "outputs" / "site" / "reports"))
        return
    for page in PAGES:
        text = fill_in(page)
        with replacing(page) as temporary:
            temporary.write_text(text, "utf-8")
    save(draw_headline(), HEADLINE)
    if options == ("--pictures",):
        save(draw_method(), PUBLISHED / "method.png")
        picture_report(PUBLISHED / "report.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
