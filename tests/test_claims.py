"""The ledger of claims: its contrasts, and verdicts that follow from known numbers."""

import numpy as np
import pandas as pd
import pytest
from made_up import write_cell

from semisiam.evidence import claims, results
from semisiam.evidence.paper import read_printed

SIZES = {"stl10": 96, "fashion_mnist": 96, "malaria": 128}


def read(folder):
    """Read what `judge_claims` needs: cells, reports and histories."""
    cells = results.collect(folder)
    details = (results.read_details(folder, cells["cell"], kind) for kind in ("report", "history"))
    return cells, *details


def judge(*studies):
    """Judge the claims on the cells of some studies together."""
    tables = (pd.concat(tables, ignore_index=True) for tables in zip(*studies, strict=True))
    return claims.judge_claims(*tables).set_index("claim")


def find(words):
    return next(claim.text for claim in claims.CLAIMS if words in claim.text)


def write(folder, dataset, percent, backbone, mode, attack, accuracies, recalibrated=None, **other):
    for split, accuracy in enumerate(accuracies):
        write_cell(
            folder,
            accuracy,
            recalibrated,
            dataset=dataset,
            image_size=SIZES[dataset],
            label_fraction=percent / 100,
            backbone=backbone,
            mode=mode,
            attack=attack,
            split=split,
            **other,
        )


def test_there_are_at_least_eight_claims_from_all_parts_of_the_paper():
    assert len(claims.CLAIMS) >= 8
    assert {claim.section for claim in claims.CLAIMS} >= {"Abstract", "V", "VI"}
    assert len({claim.text for claim in claims.CLAIMS}) == len(claims.CLAIMS)
    assert max(len(claim.text.split()) for claim in claims.CLAIMS) < 20


def test_every_contrast_rests_on_printed_cells_and_sums_to_nothing():
    printed = set(read_printed("accuracy").set_index(claims.CELL).index)
    for claim in claims.CLAIMS:
        for contrast in claim.contrasts:
            assert set(contrast) <= printed, claim.text
            assert sum(contrast.values()) == pytest.approx(0), claim.text


def test_contrasts_by_hand():
    row = ("malaria", 1, "inception_v3")
    gain = claims.gain(*row, "none")
    assert gain == {(*row, "semi", "none"): 1, (*row, "supervised", "none"): -1}
    twice = claims.add((1, gain), (-1, gain))
    assert set(twice.values()) == {0}
    assert len(claims.gains()) == 36


def estimate(low, high, n=5):
    return {"mean": (low + high) / 2, "low": low, "high": high, "n": n}


@pytest.mark.parametrize(
    ("estimates", "verdict"),
    [
        ([estimate(1, 3)], "supported"),
        ([estimate(1, 3), estimate(0.1, 9)], "supported"),
        ([estimate(-3, -1)], "not supported"),
        ([estimate(1, 3), estimate(-3, -1, n=2)], "not supported"),
        ([estimate(-1, 3)], "not supported"),
        ([estimate(-1, 3, n=4)], "not enough runs"),
        ([estimate(np.nan, np.nan)], "not enough runs"),
        ([estimate(1, 3), estimate(np.nan, np.nan)], "not enough runs"),
        ([estimate(-3, -1), estimate(np.nan, np.nan)], "not supported"),
    ],
)
def test_verdicts(estimates, verdict):
    assert claims.reach_verdict(estimates) == verdict


def test_what_the_printed_numbers_say(tmp_path):
    write(tmp_path, "malaria", 1, "inception_v3", "semi", "none", [0.9])
    ledger = judge(read(tmp_path))
    verdicts, evidence = ledger["published_verdict"], ledger["published"]
    assert verdicts[find("linear discrimination")] == "supported"
    assert verdicts[find("MobileNetV2")] == "supported"
    assert verdicts[find("all cases")] == "not supported"
    assert verdicts[find("more robust")] == "not supported"
    assert evidence[find("all cases")].startswith("15 of 18 above 0; lowest −2 (")
    # Table IX: 0.35 - 0.04
    assert evidence[find("recognised more evenly")] == "+0.31, one run"


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """MobileNetV2 at 1 %: large gains as trained that are gone once re-estimated."""
    folder = tmp_path_factory.mktemp("mobilenet")
    for dataset in claims.DATASETS:
        for attack in ("none", "pixel"):
            cell = (folder, dataset, 1, "mobilenet_v2")
            semi = [0.68, 0.70, 0.72, 0.70, 0.70]
            write(*cell, "supervised", attack, [0.1] * 5, 0.70, epochs=5)
            write(*cell, "semi", attack, semi)
    return read(folder)


def test_a_claim_about_every_case(mobilenet):
    row = judge(mobilenet).loc[find("MobileNetV2")]
    assert (row["cells"], row["run"]) == (12, 12)
    assert row["accuracy_verdict"] == "supported"
    assert row["accuracy"].startswith("6 of 6 above 0; lowest +60 (95 %: +58.2 to +61.8")
    # the same cells re-estimated: mean gain 0, interval around 0, five splits
    assert row["accuracy_recalibrated_verdict"] == "not supported"


def test_missing_cells_mean_not_enough_runs(mobilenet):
    ledger = judge(mobilenet)
    row = ledger.loc[find("linear discrimination")]
    assert (row["cells"], row["run"]) == (36, 6)
    assert row["accuracy_verdict"] == "not enough runs"
    assert row["accuracy"] == "3 of 3 above 0, 15 not run"
    untouched = ledger.loc[find("comparable")]
    assert (untouched["run"], untouched["accuracy"]) == (0, "")


def test_one_refuted_case_is_enough_against_every_case(mobilenet, tmp_path):
    cell = (tmp_path, "malaria", 1, "inception_v3")
    write(*cell, "supervised", "none", [0.8, 0.81, 0.82], epochs=5)
    write(*cell, "semi", "none", [0.5, 0.51, 0.52])
    row = judge(mobilenet, read(tmp_path)).loc[find("all cases")]
    assert row["run"] < row["cells"]
    assert row["accuracy_verdict"] == "not supported"


def test_evenness_is_the_spread_of_recall_over_classes(tmp_path):
    cell = (tmp_path, "malaria", 1, "inception_v3")
    # recalls 0.9 and 0.3, then 0.8 and 0.7: sample std 0.424 and 0.071, the same in each split
    write(*cell, "supervised", "none", [0.6] * 3, recall=(0.9, 0.3))
    write(*cell, "semi", "none", [0.75] * 3, recall=(0.8, 0.7))
    row = judge(read(tmp_path)).loc[find("recognised more evenly")]
    assert row["accuracy_verdict"] == "supported"
    assert row["accuracy"].startswith("+0.354")
    assert np.isnan(row["accuracy_recalibrated_verdict"])


def test_epochs_until_the_loss_converged(tmp_path):
    # made-up losses halve from 1: ln(2) / 10 = 0.069 is passed in epoch 5 (0.0625)
    for dataset, percent, backbone, attack in (
        ("stl10", 1, "resnet50_v2", "pixel"),
        ("fashion_mnist", 5, "mobilenet_v2", "none"),
    ):
        cell = (tmp_path, dataset, percent, backbone)
        write(*cell, "supervised", attack, [0.5, 0.5], epochs=3)  # never: counts as 4
        write(*cell, "semi", attack, [0.5, 0.5], epochs=9)
    row = judge(read(tmp_path)).loc[find("fewer epochs")]
    assert row["accuracy"].startswith("0 of 2 above 0; lowest −1 ")
    assert row["accuracy_verdict"] == "not supported"


def test_scales_are_not_mixed_within_a_data_set(mobilenet, tmp_path):
    write(tmp_path, "malaria", 5, "mobilenet_v2", "semi", "none", [0.9], batch_size=32)
    other = read(tmp_path)
    results.summarise(
        pd.concat([mobilenet[0], other[0]], ignore_index=True)
    )  # rows of tables, each of one scale
    with pytest.raises(results.MixtureError, match="batch_size"):
        judge(mobilenet, other)
