"""Collecting cells and averaging them, on hand-made folders with known answers."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from made_up import write_cell

from semisiam import ROOT
from semisiam.evidence import results, statistics, tables
from semisiam.evidence.results import MixtureError

BASE = {
    "dataset": "fashion_mnist",
    "backbone": "mobilenet_v2",
    "label_fraction": 0.01,
    "image_size": 96,
}
ROW = ("fashion_mnist", 1.0, "mobilenet_v2")


@pytest.fixture
def folder(tmp_path):
    """Three splits: supervised at chance (collapsed), semi at 70, 75, 80 %; two under attack."""
    for split, semi in enumerate((0.70, 0.75, 0.80)):
        collapsed = {"metrics": {"collapsed": True}}
        write_cell(tmp_path, 0.10, 0.68, mode="supervised", split=split, **BASE, **collapsed)
        write_cell(tmp_path, semi, mode="semi", split=split, **BASE)
    write_cell(tmp_path, 0.60, mode="semi", split=0, attack="pixel", **BASE)
    write_cell(tmp_path, 0.64, mode="semi", split=1, attack="pixel", **BASE)
    return tmp_path


def test_collect_gives_a_row_a_cell_with_settings_and_metrics(folder):
    cells = results.collect(folder)
    assert len(cells) == 8
    row = cells.set_index("cell").loc["fashion_mnist-mobilenet_v2-1pct-pixel-semi-s1"]
    assert (row["attack"], row["split"], row["accuracy"]) == ("pixel", 1, 0.64)
    assert row["percent"] == 1.0
    assert row["seconds.total"] == 40.0
    assert row["separability.effective_rank"] == 12.0
    assert (cells["duplicate_of"] == "").all()


def test_an_empty_or_missing_folder_has_no_cells(tmp_path):
    assert results.collect(tmp_path).empty
    assert results.collect(tmp_path / "nowhere").empty


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("done.json", None),
        ("done.json", '{"hash": "0123456789abcdef"}'),
        ("done.json", '{"ha'),
        ("done.json", "[]"),
        ("metrics.json", None),
        ("metrics.json", '{"accuracy": 0.'),
        ("params.yaml", None),
        ("params.yaml", "dataset: [fash"),
        ("params.yaml", "datset: digits\n"),
        ("params.yaml", ""),
    ],
)
def test_a_half_written_cell_never_counts(folder, file, content):
    path = folder / "fashion_mnist-mobilenet_v2-1pct-clean-semi-s0" / file
    path.write_text(content) if content is not None else path.unlink()
    cells = results.collect(folder)
    assert len(cells) == 7
    assert results.summarise(cells).loc[(*ROW, "semi", "none"), "mean"] == pytest.approx(77.5)


def test_mean_and_sample_std_over_splits_beside_the_published(folder):
    table = results.summarise(results.collect(folder))
    semi = table.loc[(*ROW, "semi", "none")]
    assert semi["mean"] == pytest.approx(75.0)
    assert semi["std"] == pytest.approx(5.0)  # sample: sqrt((25 + 0 + 25) / 2)
    assert (semi["n"], semi["collapsed"]) == (3, 0)
    assert (semi["published_mean"], semi["published_std"]) == (79.6, 1.9)
    supervised = table.loc[(*ROW, "supervised", "none")]
    assert (supervised["n"], supervised["collapsed"]) == (0, 3)
    assert np.isnan(supervised["mean"])  # which class won says nothing
    assert (*ROW, "supervised", "pixel") not in table.index


def test_a_mixture_of_scales_is_refused_and_named(folder):
    settings = BASE | {"image_size": 32, "split": 3}
    write_cell(folder, 0.9, mode="semi", **settings)
    cells = results.collect(folder)
    for table in (results.summarise, statistics.compare):
        with pytest.raises(MixtureError) as error:
            table(cells)
        message = str(error.value)
        assert "image_size: 32 (1, e.g. fashion_mnist-mobilenet_v2-1pct-clean-semi-s3)" in message
        assert "96 (8" in message
        assert "epochs" not in message


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 9},
        {"batch_size": 32},
        {"unlabelled_limit": 500},
        {"test_limit": 10},
        {"bn_momentum": 0.99},
        {"seed": 1},
        {"metrics": {"n_unlabelled": 999}},
    ],
)
def test_any_setting_of_scale_counts(folder, other):
    write_cell(folder, 0.9, mode="semi", split=4, **BASE, **other)
    name = "n_unlabelled" if "metrics" in other else next(iter(other))
    with pytest.raises(MixtureError, match=name):
        results.summarise(results.collect(folder))


def test_draws_of_the_attack_are_averaged_before_splits(tmp_path):
    for draw, accuracy in enumerate((0.5, 0.7)):
        of = {"attack": "pixel", "split": 0, "attack_draw": draw, "name": f"semi-{draw}"}
        write_cell(tmp_path, accuracy, mode="semi", **of, **BASE)
        of["name"] = f"supervised-{draw}"
        write_cell(tmp_path, accuracy - 0.1, mode="supervised", **of, **BASE)
    cells = results.collect(tmp_path)
    row = results.summarise(cells).loc[(*ROW, "semi", "pixel")]
    assert (row["mean"], row["n"]) == (pytest.approx(60), 1)
    gain = statistics.compare(cells).loc[("gain", *ROW, "pixel")]
    assert (gain["mean"], gain["draws"]) == (pytest.approx(10), 2)


def test_a_draw_of_the_attack_that_one_mode_lacks_is_no_part_of_a_gain(tmp_path):
    for split in range(3):
        runs = [("supervised", 0, 0.6), ("supervised", 1, 0.4), ("semi", 0, 0.6)]
        for mode, draw, accuracy in runs:
            of = {"attack_draw": draw, "name": f"{mode}-{split}-{draw}"}
            write_cell(tmp_path, accuracy, mode=mode, attack="pixel", split=split, **of, **BASE)
    cells = results.collect(tmp_path)
    gain = statistics.compare(cells).loc[("gain", *ROW, "pixel")]
    assert (gain["mean"], gain["n"], gain["draws"]) == (pytest.approx(0), 3, 1)
    assert results.summarise(cells).loc[(*ROW, "supervised", "pixel"), "mean"] == pytest.approx(50)
    apart = cells[(cells["mode"] == "semi") | (cells["attack_draw"] == 1)]  # no draw has both
    assert statistics.compare(apart).empty


def test_collapse_is_that_of_the_network_as_trained(tmp_path):
    metrics = {"accuracy_as_trained": 0.1, "collapsed": False, "collapsed_as_trained": True}
    of = {"mode": "supervised", "bn_recalibrate": "labelled", "metrics": metrics}
    write_cell(tmp_path, 0.76, 0.76, **of, **BASE)
    cells = results.collect(tmp_path)
    row = results.summarise(cells).loc[(*ROW, "supervised", "none")]
    assert (row["n"], row["collapsed"]) == (0, 1)
    reports = results.read_details(tmp_path, cells["cell"], "report")
    assert len(results.average_classes(cells, reports)) == 2  # of the network that was kept


def test_controls_of_different_scale_are_no_one_control(tmp_path):
    for split, epochs in enumerate((10, 10, 20)):
        settings = BASE | {"mode": "semi", "epochs": epochs, "split": split}
        write_cell(tmp_path, 0.5, name=f"some-s{split}-rotation", **settings)
    with pytest.raises(MixtureError, match="epochs: 10"):
        results.read_controls(tmp_path)


def test_cells_of_two_backbones_are_no_one_control(tmp_path):
    for backbone in ("small_cnn", "mobilenet_v2"):
        settings = BASE | {"mode": "semi", "backbone": backbone, "split": 0}
        write_cell(tmp_path, 0.5, name=f"{backbone}-s0-rotation", **settings)
    with pytest.raises(MixtureError, match="two cells of this split"):
        results.read_controls(tmp_path)


def test_equal_settings_on_other_images_are_no_duplicates(tmp_path):
    for content in ("a", "b"):
        of = {"name": f"cell-{content}", "metrics": {"content": content}}
        write_cell(tmp_path, 0.5, mode="semi", split=0, **of, **BASE)
    cells = results.collect(tmp_path)
    assert cells["duplicate_of"].tolist() == ["", ""]
    with pytest.raises(MixtureError, match=r"content: a \(1, e\.g\. cell-a\), b"):
        results.summarise(cells)
    write_cell(tmp_path / "older", 0.5, mode="semi", split=0, **BASE)
    assert results.find_mixture(results.collect(tmp_path / "older")) == ""


def test_what_collapsed_follows_no_mark_and_says_nothing_of_it(tmp_path):
    for split, collapsed in enumerate((False, True)):
        metrics = {"trigger": [{"flipped": 0.2}, {"flipped": 0.4}], "collapsed": collapsed}
        of = {"name": f"cell-s{split}-marked", "split": split, "metrics": metrics}
        write_cell(tmp_path, 0.5, mode="semi", attack="pixel", **of, **BASE)
    found = results.read_controls(tmp_path)["trigger"]
    assert found.tolist() == [pytest.approx(30), pytest.approx(np.nan, nan_ok=True)]


def test_modes_may_differ_in_epochs(folder):
    write_cell(folder, 0.2, mode="supervised", attack="pixel", epochs=3, **BASE)
    for split in range(2):
        settings = BASE | {"backbone": "resnet50_v2", "split": split}
        write_cell(folder, 0.3, mode="supervised", epochs=100, **settings)
        write_cell(folder, 0.4, mode="semi", epochs=30, **settings)
    assert len(results.select(results.collect(folder))) == 13


def test_duplicates_are_noticed_and_count_once(folder):
    first = folder / "fashion_mnist-mobilenet_v2-1pct-clean-semi-s2"
    shutil.copytree(first, folder / "zweitlauf")
    cells = results.collect(folder)
    assert dict(zip(cells["cell"], cells["duplicate_of"], strict=True))["zweitlauf"] == first.name
    assert results.summarise(cells).loc[(*ROW, "semi", "none"), "n"] == 3


def test_class_scores_are_means_over_splits(tmp_path):
    write_cell(tmp_path, 0.7, mode="semi", split=0, recall=(0.8, 0.6), **BASE)
    write_cell(tmp_path, 0.7, mode="semi", split=1, recall=(0.9, 0.4), **BASE)
    cells = results.collect(tmp_path)
    classes = results.average_classes(
        cells, results.read_details(tmp_path, cells["cell"], "report")
    )
    table = classes.loc[(*ROW, "none", "semi")]
    assert table["recall"].to_dict() == pytest.approx({"cat": 0.85, "dog": 0.5})
    assert (table["n"] == 2).all()


def test_a_collapsed_cell_is_in_no_class_table(tmp_path):
    collapsed = {"metrics": {"collapsed": True}}
    write_cell(tmp_path, 0.5, mode="semi", split=0, recall=(1.0, 0.0), **collapsed, **BASE)
    write_cell(tmp_path, 0.9, mode="semi", split=1, recall=(0.9, 0.8), **BASE)
    cells = results.collect(tmp_path)
    reports = results.read_details(tmp_path, cells["cell"], "report")
    classes = results.average_classes(cells, reports)
    key = (*ROW, "none")
    assert classes.loc[(*key, "semi")]["recall"].to_dict() == pytest.approx(
        {"cat": 0.9, "dog": 0.8}
    )
    table = tables.lay_out_classes(cells, classes, key)
    assert table.loc["accuracy"].iloc[0] == "0.900"


def test_an_attack_of_four_pixels_is_no_mixture(tmp_path):
    for mode in ("supervised", "semi"):
        write_cell(tmp_path, 0.7, mode=mode, **BASE)
        marks = {"attack": "pixel", "attack_pixels": 4}  # which no cell without attack can have
        write_cell(tmp_path, 0.6, mode=mode, **marks, **BASE)
    cells = results.collect(tmp_path)
    assert statistics.compare(cells)["mean"]["cost"].tolist() == pytest.approx([10, 10])
    write_cell(tmp_path, 0.6, mode="semi", attack="pixel", split=1, **BASE)
    with pytest.raises(MixtureError, match="attack_pixels"):
        statistics.compare(results.collect(tmp_path))


def test_details_are_stacked_by_cell(folder):
    cells = results.collect(folder)
    points = results.read_details(folder, cells["cell"], "tsne")
    assert points.groupby("cell").size().tolist() == [6] * 8
    assert points["label"].head(6).tolist() == [0, 1, 0, 1, 0, 1]  # of images 0-4 and 19
    losses = results.read_details(folder, cells["cell"].head(1), "history")
    assert losses["loss_labelled"].tolist() == [1.0, 0.5, 0.25]
    assert results.read_details(folder, ["nowhere"], "history").empty


def test_a_recorded_set_gives_the_same_tables(folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("published") / "study"
    write_cell(folder, 0.7, mode="semi", split=2, attack="pixel", data_dir="/secret", **BASE)
    assert results.record(folder, home) == home
    ours, recorded = results.collect(folder), results.collect(home)
    pd.testing.assert_frame_equal(ours.assign(data_dir=""), recorded)
    pd.testing.assert_frame_equal(results.summarise(ours), results.summarise(recorded))
    for kind in ("report", "history"):
        pd.testing.assert_frame_equal(
            results.read_details(folder, ours["cell"], kind),
            results.read_details(home, ours["cell"], kind),
            check_dtype=False,  # 1.0 is recorded as 1
        )
    assert set(results.read_details(home, ours["cell"], "tsne")["cell"]) == {
        "fashion_mnist-mobilenet_v2-1pct-clean-semi-s0",
        "fashion_mnist-mobilenet_v2-1pct-clean-supervised-s0",
        "fashion_mnist-mobilenet_v2-1pct-pixel-semi-s0",
    }
    assert "secret" not in (home / "cells.json").read_text()
    assert sorted(path.suffix for path in home.iterdir()) == [".csv"] * 3 + [".json"]


def test_a_study_is_recorded_from_several_machines(tmp_path):
    home = tmp_path / "published"
    for split, accuracy in [(0, 0.5), (1, 0.6)]:
        write_cell(tmp_path / str(split), accuracy, mode="semi", split=split, **BASE)
        results.record(tmp_path / str(split), home)
    cells = results.collect(home)
    assert cells[["split", "accuracy"]].to_numpy().tolist() == [[0, 0.5], [1, 0.6]]
    assert results.read_details(home, cells["cell"], "report")["cell"].nunique() == 2
    assert set(results.read_details(home, cells["cell"], "tsne")["cell"]) == {cells["cell"][0]}
    write_cell(tmp_path / "again", 0.7, mode="semi", split=1, **BASE)
    results.record(tmp_path / "again", home)
    assert results.collect(home)["accuracy"].tolist() == [0.5, 0.7]


def test_a_record_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    write_cell(tmp_path / "0", 0.5, mode="semi", split=0, **BASE)
    home = results.record(tmp_path / "0", tmp_path / "published")
    before = (home / "report.csv").read_text()

    def fill(table, path, **_):
        path.write_text("half of it")
        raise OSError("full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fill)
    with pytest.raises(OSError, match="full"):
        results.record(tmp_path / "0", home)
    assert (home / "report.csv").read_text() == before


def test_a_record_by_other_code_goes(tmp_path, monkeypatch):
    home = tmp_path / "published"
    with monkeypatch.context() as other:
        other.setattr("semisiam.cell.RESULTS_VERSION", -1)
        other.setattr("semisiam.run.folder.RESULTS_VERSION", -1)
        write_cell(tmp_path / "then", 0.5, mode="semi", split=0, **BASE)
        results.record(tmp_path / "then", home)
    write_cell(tmp_path / "now", 0.6, mode="semi", split=1, **BASE)
    results.record(tmp_path / "now", home)
    assert results.collect(home)["accuracy"].tolist() == [0.6]


def test_numbered_classes_stay_text(tmp_path):
    home = write_cell(tmp_path, 0.5, mode="semi", **BASE)
    report = pd.read_csv(home / "report.csv").assign(**{"class": ["0", "1"]})
    report.to_csv(home / "report.csv", index=False)
    assert results.read_details(tmp_path, [home.name], "report")["class"].tolist() == ["0", "1"]


def test_a_metric_may_be_missing_from_some_cells(folder):
    path = folder / "fashion_mnist-mobilenet_v2-1pct-clean-semi-s0" / "metrics.json"
    metrics = json.loads(path.read_text()) | {"accuracy_recalibrated": None}
    path.write_text(json.dumps(metrics))
    table = results.summarise(results.collect(folder), "accuracy_recalibrated")
    assert table.loc[(*ROW, "semi", "none"), "n"] == 2


def test_the_studies_recorded_with_the_project_can_be_read():
    recorded = sorted((ROOT / "outputs" / "published").glob("*/cells.json"))
    assert recorded
    for path in recorded:
        cells = results.collect(path.parent)
        assert len(cells) > 0
        assert not (cells["data_dir"] != "").any()
        for kind in ("report", "history"):
            found = results.read_details(path.parent, cells["cell"], kind)
            trained = cells[(cells["mode"] != "frozen") | (kind == "report")]  # else no epoch
            assert set(found["cell"]) == set(trained["cell"])


def test_classes_called_none_or_na_stay(tmp_path):
    home = write_cell(tmp_path, 0.5, mode="semi", **BASE)
    names = ["None", "NA", "null", "nan"]
    scores = {key: [0.2, 0.4, 0.6, 0.8] for key in ["precision", "recall", "f1"]}
    report = pd.DataFrame({"class": names} | scores | {"support": [5, 5, 5, 5]})
    report.to_csv(home / "report.csv", index=False)
    results.record(tmp_path, tmp_path / "recorded")
    for folder in (tmp_path, tmp_path / "recorded"):
        cells = results.collect(folder)
        reports = results.read_details(folder, cells["cell"], "report")
        assert reports["class"].tolist() == names
        table = results.average_classes(cells, reports).loc[(*ROW, "none", "semi")]
        assert table["recall"].mean() == pytest.approx(0.5)


def test_the_better_of_both_is_chosen_by_mode_not_by_cell(tmp_path):
    # supervised: 60 and 64 as trained, 61 and 61 again: the means are 62 and 61
    for split, (trained, again) in enumerate([(0.60, 0.61), (0.64, 0.61)]):
        write_cell(tmp_path, trained, again, mode="supervised", split=split, **BASE)
        write_cell(tmp_path, 0.5, 0.7, mode="semi", split=split, **BASE)
    cells = results.collect(tmp_path).set_index(["mode", "split"])
    better = cells["accuracy_better"]
    assert better["supervised"].tolist() == [0.60, 0.64]
    assert better["semi"].tolist() == [0.7, 0.7]


def test_the_better_of_both_is_re_estimated_where_one_collapsed(tmp_path):
    for split, collapsed in enumerate((True, False)):
        metrics = {"metrics": {"collapsed": collapsed}}
        write_cell(tmp_path, 0.6, 0.5, mode="supervised", split=split, **BASE, **metrics)
    assert results.collect(tmp_path)["accuracy_better"].tolist() == [0.5, 0.5]


def test_the_pretext_task_is_checked_on_test_images_or_else_in_training(tmp_path):
    write_cell(tmp_path, 0.5, mode="semi", split=0, **BASE)  # ends at 0.5 in its history
    older = results.collect(tmp_path)
    histories = results.read_details(tmp_path, older["cell"], "history")
    row = results.check_pretext(older, histories).loc[(*ROW, "none")]
    assert np.isnan(row["test"])
    assert (row["training"], row["chance"], row["learnt"]) == (50, 25, False)
    newer = older.assign(**{"rotation_accuracy.test": 0.7, "rotation_accuracy.training": 0.9})
    row = results.check_pretext(newer, histories).loc[(*ROW, "none")]
    assert (row["test"], row["training"]) == (pytest.approx(70), pytest.approx(90))
    assert row["learnt"] is True


@pytest.mark.parametrize(
    ("accuracy", "others", "learnt"),
    [
        (0.25, {"by_batch": True}, False),
        (0.62, {"by_batch": True}, False),
        (0.63, {}, True),
        (np.nan, {}, None),
        (0.5, {"training": 0.78}, None),  # by moving averages, which may be wrong
        (0.5, {"training": 0.78, "by_batch": True}, False),
        (0.5, {"training": 0.6}, False),
    ],
)
def test_learnt_is_half_of_the_way_from_chance(tmp_path, accuracy, others, learnt):
    write_cell(tmp_path, 0.5, mode="semi", **BASE)
    checks = {f"rotation_accuracy.{name}": of for name, of in ({"test": accuracy} | others).items()}
    cells = results.collect(tmp_path).assign(**checks)
    histories = pd.DataFrame({"cell": [], "accuracy_unlabelled": []})
    assert results.check_pretext(cells, histories).loc[(*ROW, "none"), "learnt"] is learnt


FAIR = {"by_batch": True}


@pytest.mark.parametrize(
    ("task", "check", "test", "chance", "learnt"),
    [
        ("barlow_twins", {"diagonal": 0.9, "off_diagonal": 0.1}, 80, 0, True),
        ("barlow_twins", {"diagonal": 0.9, "off_diagonal": 0.8} | FAIR, 10, 0, False),  # all alike
        ("barlow_twins", {"diagonal": 0.9, "off_diagonal": 0.8}, 10, 0, None),  # moving averages
        ("consistency", {"confident": 0.6, "accuracy": 0.8}, 80, 50, True),
        ("consistency", {"confident": 0.4, "accuracy": 0.9} | FAIR, 0, 50, False),
        ("consistency", {"confident": 0.0, "accuracy": None} | FAIR, 0, 50, False),
        ("consistency", {}, np.nan, 50, None),
    ],
)
def test_tasks_on_views_have_a_check_of_their_own(tmp_path, task, check, test, chance, learnt):
    metrics = {"pretext_check": check} if check else {}
    write_cell(tmp_path, 0.5, mode="semi", pretext=task, metrics=metrics, **BASE)
    histories = pd.DataFrame({"cell": [], "accuracy_unlabelled": []})
    row = results.check_pretext(results.collect(tmp_path), histories).loc[(*ROW, "none")]
    assert (row["test"], row["chance"]) == pytest.approx((test, chance), nan_ok=True)
    assert row["learnt"] is learnt


def test_histories_of_view_tasks_alone_name_no_right_answers(tmp_path):
    metrics = {"pretext_check": {"diagonal": 0.9, "off_diagonal": 0.1}}
    write_cell(tmp_path, 0.5, mode="semi", pretext="barlow_twins", metrics=metrics, **BASE)
    histories = pd.DataFrame({"cell": ["some"], "loss": [1.0]})
    row = results.check_pretext(results.collect(tmp_path), histories).loc[(*ROW, "none")]
    assert row["learnt"] and np.isnan(row["training"])


def test_as_trained_is_as_trained_where_the_network_kept_other_statistics(tmp_path):
    metrics = {"accuracy_as_trained": 0.10}
    base = BASE | {"mode": "supervised", "bn_recalibrate": "labelled", "metrics": metrics}
    write_cell(tmp_path, 0.76, 0.76, **base)
    names = ["accuracy", "accuracy_better", "accuracy_kept"]
    (row,) = results.collect(tmp_path)[names].to_numpy().tolist()
    assert row == [0.10, 0.76, 0.76]


def test_chance_is_the_share_of_the_largest_class(tmp_path):
    home = write_cell(tmp_path, 0.5, mode="semi", **BASE)
    report = pd.read_csv(home / "report.csv").assign(support=[59, 41])
    report.to_csv(home / "report.csv", index=False)
    cells = results.collect(tmp_path)
    reports = results.read_details(tmp_path, cells["cell"], "report")
    assert results.find_chance(cells, reports)["fashion_mnist"] == pytest.approx(59)
    assert results.find_chance(cells, reports.iloc[:0])["fashion_mnist"] == 50


def average_references(cells, pool):
    of = results.find_references(cells, pool)
    return of.groupby(of.index.names[:-1], sort=False).agg(mean="mean", std="std", n="count")


def test_references_stand_beside_the_labelled_sets_they_were_drawn_like(tmp_path):
    for split, accuracy in enumerate((0.76, 0.78)):
        write_cell(tmp_path, accuracy, mode="supervised", split=split, **BASE)
    cells = results.collect(tmp_path)
    # as `mode: frozen` cells will be: no such mode is needed to match them
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none", image_size=32)
    other = frozen.assign(unlabelled_limit=2000, accuracy=0.1)  # other labelled sets
    other = pd.concat([other, frozen.assign(split=frozen["split"] + 2, accuracy=0.1)])
    untrained = frozen.assign(backbone="mobilenet_v2", image_size=96, accuracy=0.5)
    pool = pd.concat([frozen, other, untrained], ignore_index=True)
    table = average_references(cells, pool)
    row = table.loc[("fashion_mnist", 1.0, "Pixels", "none")]
    assert (row["n"], row["mean"]) == (2, pytest.approx(77))
    assert table.loc[("fashion_mnist", 1.0, "MobileNetV2, untrained", "none"), "mean"] == 50
    assert len(results.summarise(pool.assign(attack="none"))) == 0  # never in a trained mean


def test_references_with_other_marks_do_not_stand_beside(tmp_path):
    marks = {"attack": "pixel", "attack_pixels": 4, "defence": "median"}
    write_cell(tmp_path, 0.5, mode="supervised", **marks, **BASE)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none")
    assert len(average_references(cells, frozen)) == 1
    for name, value in {"attack_pixels": 1, "attack_draw": 1, "defence": "none"}.items():
        assert average_references(cells, frozen.assign(**{name: value})).empty


def test_references_are_averaged_over_draws_first(tmp_path):
    for split in range(2):
        for draw in range(2):
            of = {"attack": "pixel", "attack_draw": draw, "split": split, "name": f"{split}-{draw}"}
            write_cell(tmp_path, 0.5 + draw / 10, mode="supervised", **of, **BASE)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none")
    (row,) = average_references(cells, frozen).to_dict("records")
    assert (row["mean"], row["n"], row["std"]) == (pytest.approx(55), 2, pytest.approx(0))


def test_references_of_unlike_labels_are_no_one_mean(tmp_path):
    for limit, accuracy in ((0, 0.7), (500, 0.5)):
        own = BASE | {"unlabelled_limit": limit, "name": str(limit)}
        write_cell(tmp_path, accuracy, mode="supervised", **own)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none")
    table = average_references(cells, pd.concat([frozen, frozen]))  # given twice
    table = table.droplevel(["dataset", "percent", "attack"])
    assert table["mean"].to_dict() == {
        "Pixels, unlabelled_limit = 0": pytest.approx(70),
        "Pixels, unlabelled_limit = 500": pytest.approx(50),
    }
    assert (table["n"] == 1).all()


def test_references_are_of_the_same_images(tmp_path):
    write_cell(tmp_path, 0.5, mode="supervised", metrics={"content": "a"}, **BASE)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none")
    assert len(average_references(cells, frozen)) == 1
    assert len(average_references(cells, frozen.assign(content="b"))) == 0
    older = cells.drop(columns="content")  # cells that do not say
    assert len(average_references(older, frozen.assign(content="b"))) == 1
    others = pd.concat([cells, older.assign(dataset="malaria")])  # which says nothing of these
    assert len(average_references(others, frozen.assign(content="b"))) == 0


def test_untrained_networks_of_two_sizes_are_two_references(tmp_path):
    for size in (96, 128):
        base = BASE | {"image_size": size}
        write_cell(tmp_path, 0.5, mode="supervised", name=str(size), **base)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", weights="none", accuracy=cells["image_size"] / 200)
    found = average_references(cells, frozen)["mean"].groupby("reference").first()
    assert found.to_dict() == {
        "MobileNetV2, untrained, image_size = 128": pytest.approx(64),
        "MobileNetV2, untrained, image_size = 96": pytest.approx(48),
    }


def test_pixels_of_two_sizes_are_one_reference(tmp_path):
    write_cell(tmp_path, 0.5, mode="supervised", **BASE)
    cells = results.collect(tmp_path)
    frozen = cells.assign(mode="frozen", backbone="pixels", weights="none")
    pool = pd.concat([frozen, frozen.assign(image_size=128)])
    assert average_references(cells, pool)["n"].tolist() == [1]


def test_cells_can_be_left_out(folder):
    name = "fashion_mnist-mobilenet_v2-1pct-clean-semi-s0"
    assert len(results.collect(folder, left_out={name})) == 7
