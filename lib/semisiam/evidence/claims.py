"""The paper's claims, each as a difference between cells, and what the runs say of it.

A claim becomes one or more contrasts: weighted sums of cells' numbers that are positive if the
claim is true. Where the paper's words leave the reading open, `reading` says how it was read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from semisiam.evidence.paper import ATTACKS, ROW, SPLITS, read_printed
from semisiam.evidence.results import MEASURES, check_scale
from semisiam.evidence.statistics import compare_paired, compare_summaries

CELL = [*ROW, "mode", "attack"]
BACKBONES = ("mobilenet_v2", "inception_v3", "resnet50_v2")
DATASETS = ("stl10", "fashion_mnist", "malaria")
CONVERGED = 0.1  # of the loss of guessing, ln(n_classes)
SUPPORTED, NOT_SUPPORTED, NOT_ENOUGH = "supported", "not supported", "not enough runs"

Contrast = dict[tuple, float]  # the weight of each cell's number


@dataclass(frozen=True)
class Claim:
    """One claim: what must be positive.

    section: where the paper makes it.
    text: the claim, in few words.
    reading: how it is read here.
    contrasts: the comparisons it rests on.
    rule: `mean`, the average of the contrasts must be positive, or `every`, each of them.
    measure: `accuracy`, `recall_std` (over classes) or `epochs` (until the loss converged).
    margin: added to each contrast; points of accuracy that still count as equal.
    """

    section: str
    text: str
    reading: str
    contrasts: tuple[Contrast, ...]
    rule: str = "mean"
    measure: str = "accuracy"
    margin: float = 0.0


def gain(dataset: str, percent: int, backbone: str, attack: str) -> Contrast:
    """Semi-supervised minus supervised."""
    row = (dataset, percent, backbone)
    return {(*row, "semi", attack): 1.0, (*row, "supervised", attack): -1.0}


def loss_to_attack(dataset: str, percent: int, backbone: str, mode: str) -> Contrast:
    """Accuracy without attack minus under attack."""
    row = (dataset, percent, backbone, mode)
    return {(*row, "none"): 1.0, (*row, "pixel"): -1.0}


def add(*parts: tuple[float, Contrast]) -> Contrast:
    """Add weighted contrasts."""
    total: Contrast = {}
    for weight, contrast in parts:
        for key, value in contrast.items():
            total[key] = total.get(key, 0.0) + weight * value
    return total


def gains(
    datasets: Iterable[str] = DATASETS,
    percents: Iterable[int] = (1, 5),
    backbones: Iterable[str] = BACKBONES,
    attacks: Iterable[str] = ATTACKS,
) -> tuple[Contrast, ...]:
    """Every gain of part of the paper's grid."""
    return tuple(gain(*key) for key in product(datasets, percents, backbones, attacks))


_OTHERS = ("stl10", "fashion_mnist")
_NATURAL = tuple(product(_OTHERS, BACKBONES))
CLAIMS = (
    Claim(
        "Abstract",
        "With few labels, self-supervision improves linear discrimination",
        "mean gain without attack > 0",
        gains(attacks=["none"]),
    ),
    Claim(
        "Abstract",
        "It allows learning even under attack",
        "mean gain under attack > 0",
        gains(attacks=["pixel"]),
    ),
    Claim(
        "V",
        "Overall, semi-supervised improves over supervised",
        "mean gain over the whole grid > 0",
        gains(),
    ),
    Claim(
        "V",
        "MobileNetV2, which did not converge on 1 %, is significantly improved",
        "each gain of MobileNetV2 at 1 % > 0",
        gains(percents=[1], backbones=["mobilenet_v2"]),
        rule="every",
    ),
    Claim(
        "V",
        "For STL-10 and Fashion the gain under attack is higher with 5 % than with 1 %",
        "mean of (gain at 5 % - gain at 1 %) under attack > 0",
        tuple(add((1, gain(d, 5, b, "pixel")), (-1, gain(d, 1, b, "pixel"))) for d, b in _NATURAL),
    ),
    Claim(
        "V",
        "Malaria improves significantly although its images have no upright",
        "mean gain on malaria without attack > 0",
        gains(["malaria"], attacks=["none"]),
    ),
    Claim(
        "V",
        "The attack hits malaria harder than the other images",
        "semi: points lost to the attack, malaria - mean of the other two data sets > 0",
        tuple(
            add(
                (1, loss_to_attack("malaria", p, b, "semi")),
                *((-0.5, loss_to_attack(d, p, b, "semi")) for d in _OTHERS),
            )
            for p, b in product((1, 5), BACKBONES)
        ),
    ),
    Claim(
        "V",
        "Malaria: 137 labels with unlabelled images are comparable to 685 labels",
        "InceptionV3 without attack: semi at 1 % - the better of 5 % (semi, supervised), "
        "3 points allowed, > 0",
        tuple(
            {
                ("malaria", 1, "inception_v3", "semi", "none"): 1.0,
                ("malaria", 5, "inception_v3", mode, "none"): -1.0,
            }
            for mode in ("supervised", "semi")
        ),
        rule="every",
        margin=3.0,
    ),
    Claim(
        "VI",
        "Unlabelled data significantly improved all cases with minimal labels (1 %)",
        "each gain at 1 %, under attack and without, > 0",
        gains(percents=[1]),
        rule="every",
    ),
    Claim(
        "VI",
        "The representation is more robust to attack",
        "points lost to the attack, supervised - semi, mean > 0",
        tuple(
            add((1, loss_to_attack(*row, "supervised")), (-1, loss_to_attack(*row, "semi")))
            for row in product(DATASETS, (1, 5), BACKBONES)
        ),
    ),
    Claim(
        "IV-A",
        "Malaria 1 %: the two classes are recognised more evenly",
        "InceptionV3 without attack: std of recall over classes, supervised - semi > 0",
        (add((-1, gain("malaria", 1, "inception_v3", "none"))),),
        measure="recall_std",
    ),
    Claim(
        "IV-A",
        "STL-10 5 % under attack: recall is more even over classes",
        "InceptionV3: std of recall over classes, supervised - semi > 0",
        (add((-1, gain("stl10", 5, "inception_v3", "pixel"))),),
        measure="recall_std",
    ),
    Claim(
        "IV-B",
        "The joint loss converges in fewer epochs (each with more updates)",
        "epochs until the class loss is a tenth of guessing's, supervised - semi, of the cells "
        "in Figures 10 and 11, each > 0",
        (
            add((-1, gain("stl10", 1, "resnet50_v2", "pixel"))),
            add((-1, gain("fashion_mnist", 5, "mobilenet_v2", "none"))),
        ),
        rule="every",
        measure="epochs",
    ),
)


def judge_claims(
    cells: pd.DataFrame, reports: pd.DataFrame, histories: pd.DataFrame
) -> pd.DataFrame:
    """Draw up the ledger: what the printed numbers and the runs say of each claim.

    Args:
        cells: from `results.collect`.
        reports: of these cells, from `results.read_details(..., "report")`.
        histories: of these cells, likewise.

    Returns:
        One row a claim: section, claim, reading, `cells` (needed), `run` (of these, with any
        split), then evidence and verdict: `published`, `published_verdict`, and the same for
        each of `MEASURES`. Class-wise scores and losses exist as trained only.

    Raises:
        MixtureError: cells of one data set differ in scale.
    """
    cells = cells[cells["duplicate_of"] == ""]
    check_scale(cells, within=["dataset"])
    values = {name: _spread(cells, cells[name].astype(float) * 100) for name in MEASURES}
    others = {
        "recall_std": _spread(cells, cells["cell"].map(_measure_recall_std(reports))),
        "epochs": _spread(cells, cells["cell"].map(_count_epochs(cells, histories))),
    }
    rows = []
    for claim in CLAIMS:
        row = _describe(claim, values["accuracy"]) | _judge_printed(claim)
        for name in MEASURES:
            if claim.measure == "accuracy":
                row |= _judge(claim, values[name], name)
            elif name == "accuracy":
                row |= _judge(claim, others[claim.measure], name)
        rows.append(row)
    return pd.DataFrame(rows)


def _spread(cells: pd.DataFrame, values: pd.Series) -> dict[tuple, pd.Series]:
    """Return each grid cell's values by split."""
    by_split = values.set_axis(cells["split"])
    return {
        key: by_split.iloc[rows] for key, rows in cells.reset_index().groupby(CELL).indices.items()
    }


def _measure_recall_std(reports: pd.DataFrame) -> pd.Series:
    return reports.groupby("cell")["recall"].std(ddof=1)


def _count_epochs(cells: pd.DataFrame, histories: pd.DataFrame) -> pd.Series:
    """Epochs until the class loss has converged; one more than there were if it never did."""
    guessing = cells.set_index("cell")["n_classes"].astype(float).map(np.log)
    low = histories["loss_labelled"] <= CONVERGED * histories["cell"].map(guessing)
    reached = histories[low].groupby("cell")["epoch"].min()
    return reached.reindex(guessing.index).fillna(histories.groupby("cell")["epoch"].max() + 1)


def _describe(claim: Claim, values: dict[tuple, pd.Series]) -> dict[str, object]:
    needed = {key for contrast in claim.contrasts for key in contrast}
    row = {"section": claim.section, "claim": claim.text, "reading": claim.reading}
    return row | {"cells": len(needed), "run": len(needed & set(values))}


def _judge(claim: Claim, values: dict[tuple, pd.Series], name: str) -> dict[str, str]:
    parts = [_combine(contrast, values) + claim.margin for contrast in claim.contrasts]
    known = [part for part in parts if part.notna().any()]
    above = sum(part.mean() > 0 for part in known)
    whole = [sum(parts) / len(parts)] if claim.rule == "mean" else parts
    estimates = [compare_paired(part) for part in whole]
    evidence = _write_evidence(estimates, above, len(known), len(parts)) if known else ""
    return {name: evidence, f"{name}_verdict": reach_verdict(estimates)}


def _combine(contrast: Contrast, values: dict[tuple, pd.Series]) -> pd.Series:
    """Return a contrast on each split that has all its cells, NaN on the others."""
    if not set(contrast) <= set(values):
        return pd.Series([np.nan])
    return sum(weight * values[key] for key, weight in contrast.items())


def reach_verdict(estimates: list[dict[str, float]]) -> str:
    """Judge a claim by the 95 % intervals of what must be positive.

    Returns:
        `supported` if every interval lies above 0; `not supported` if one lies below 0, or none
        does but one reaches 0 with at least the paper's five splits; else `not enough runs`.
    """
    if any(estimate["high"] < 0 for estimate in estimates):
        return NOT_SUPPORTED
    if any(np.isnan(estimate["low"]) for estimate in estimates):
        return NOT_ENOUGH
    short = [estimate for estimate in estimates if estimate["low"] <= 0]
    if not short:
        return SUPPORTED
    return NOT_SUPPORTED if all(e["n"] >= SPLITS for e in short) else NOT_ENOUGH


def _write_evidence(estimates: list[dict], above: int, known: int, parts: int) -> str:
    """Write the lowest estimate with its interval, and how many contrasts are positive."""
    counted = f"{above} of {known} above 0" + (f", {parts - known} not run" * (known < parts))
    judged = [estimate for estimate in estimates if not np.isnan(estimate["low"])]
    if not judged:
        return counted
    lowest = min(judged, key=lambda estimate: estimate["low"])
    text = "{mean:+.3g} (95 %: {low:+.3g} to {high:+.3g})".format(**lowest).replace("-", "−")
    if len(estimates) > 1:
        return f"{counted}; lowest {text}"
    return text if parts == 1 else f"{text}; {counted}"


def _judge_printed(claim: Claim) -> dict[str, str]:
    """Judge a claim by the printed numbers: five runs a cell, not paired."""
    if claim.measure == "epochs":
        return {"published": "in figures only", "published_verdict": ""}
    if claim.measure == "recall_std":
        std = read_printed("classwise").query("`class` == 'std'").set_index(CELL)["recall"]
        total = sum(weight * std[key] for key, weight in claim.contrasts[0].items())
        return {
            "published": f"{total:+.3g}".replace("-", "−") + ", one run",
            "published_verdict": NOT_ENOUGH,
        }
    printed = read_printed("accuracy").set_index(CELL)[["mean", "std"]].to_dict("index")
    parts = [_combine_printed(contrast, printed, claim.margin) for contrast in claim.contrasts]
    above = sum(part["mean"] > 0 for part in parts)
    weight = 1 / len(parts)
    whole = add(*((weight, contrast) for contrast in claim.contrasts))
    mean = claim.rule == "mean"
    estimates = [_combine_printed(whole, printed, claim.margin)] if mean else parts
    evidence = _write_evidence(estimates, above, len(parts), len(parts))
    return {"published": evidence, "published_verdict": reach_verdict(estimates)}


def _combine_printed(contrast: Contrast, printed: dict[tuple, dict], margin: float) -> dict:
    means = [printed[key]["mean"] for key in contrast]
    stds = [printed[key]["std"] for key in contrast]
    result = compare_summaries(list(contrast.values()), means, stds, SPLITS)
    return result | {name: result[name] + margin for name in ("mean", "low", "high")}
