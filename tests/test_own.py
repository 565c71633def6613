"""One's own images: each number of notebook 09 by hand, bad input, and `semisiam own`."""

import ast
import os
import re
import shutil
import sys
from types import SimpleNamespace

import command
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pairing
import pandas as pd
import pytest
from archives import encode, make_images, write_files

from semisiam.cell import Cell, SettingsError
from semisiam.data.files import DataError
from semisiam.embed import embed_images
from semisiam.evidence import page, statistics
from semisiam.method import evaluation
from semisiam.run import folder as folders
from semisiam.run import grid

SMALL = {"image_size": 32, "updates": 4, "batch_size": 4, "n_folds": 2}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMISIAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run_cells(found, start="", end="", **parameters):
    """Run the notebook's cells in this process, from one that holds a text until before another."""
    cells = pairing.source("09_own_images").cells
    places = [i for text in (start, end) for i, c in enumerate(cells) if text and text in c.source]
    first, last = (places[:1] if start else [0])[0], places[-1] if end else len(cells)
    for cell in cells[first:last]:
        if cell.cell_type == "code":
            exec(cell.source, found)
            found.update(parameters if "parameters" in cell.metadata.get("tags", []) else {})
    plt.close("all")
    return found


def write_own(place, n=6, n_unlabelled=30, classes=("cat", "dog")):
    """Write class folders, whose classes differ in brightness, and unlabelled images of both."""
    images = make_images(n * len(classes) + n_unlabelled, 20, 30, 3) // 2
    images[::2] += 120
    for i, image in enumerate(images):
        of = classes[i % len(classes)] if i < n * len(classes) else "unlabelled"
        write_files(place / of, {f"{i:03}.png": encode(image)})
    return place


@pytest.fixture(scope="module")
def own():
    """The functions of the notebook, and what they find around them: `data`, `by_fold`, `folds`."""
    found = {"data": SimpleNamespace(class_names=("cat", "dog", "eel")), "n_folds": 4}
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    for cell in pairing.source("09_own_images").cells:
        if cell.cell_type == "code":
            body = [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
            exec(compile(ast.Module(body, []), cell.source[:20], "exec"), found)
    return SimpleNamespace(**found)


def test_groups_are_what_the_pattern_matches(own):
    names = ["cat/plate1_a.png", "cat/plate12_b.png", "dog/plate1_c.png"]
    assert own.find_groups(names, "plate[0-9]+", []).tolist() == ["plate1", "plate12", "plate1"]
    assert own.find_groups(names, "", np.array(["a", "b", "a"])).tolist() == ["a", "b", "a"]
    assert len(own.find_groups(names, "", np.zeros(0))) == 0


def test_a_pattern_that_does_not_fit_is_told(own):
    with pytest.raises(DataError, match=r"groups = 'plate\[0-9\]\+' matches nothing in .*b.png"):
        own.find_groups(["a/plate1.png", "a/b.png"], "plate[0-9]+", [])
    with pytest.raises(DataError, match=r"groups = 'plate\[' is no pattern: unterminated"):
        own.find_groups(["a/plate1.png"], "plate[", [])
    with pytest.raises(DataError, match=r"has brackets: write \(\?: \) for \( \)"):
        own.find_groups(["plate1.png", "well2.png"], "(plate|well)[0-9]", [])
    with pytest.raises(DataError, match=r"finds groups that are alike .*: Plate1, plate1"):
        own.find_groups(["plate1_0.png", "Plate1_1.png", "plate2.png"], "(?i)plate[0-9]+", [])


def test_twins_are_found_the_most_alike_first(own):
    image, other = np.random.default_rng(0).integers(0, 200, (2, 32, 32, 3), dtype=np.uint8)
    brighter, flat = image // 2 + 50, np.full_like(image, 7)
    noisy = np.clip(image + np.random.default_rng(1).normal(0, 8, image.shape), 0, 255)
    images = np.stack([image, other, noisy.astype(np.uint8), flat, brighter])
    assert [sorted(pair) for pair in own.find_twins(images)[:1].tolist()] == [[0, 4]]
    assert {tuple(pair) for pair in own.find_twins(images).tolist()} == {(0, 2), (0, 4), (2, 4)}
    assert len(own.find_twins(images[:2])) == 0
    group = np.array(list("abcda"))  # the first and the last, the most alike, belong together
    assert {tuple(pair) for pair in own.find_twins(images, group).tolist()} == {(0, 2), (2, 4)}


def test_every_image_is_held_out_once_with_its_group(own):
    labels = np.repeat([0, 1, 2], 12)
    group = np.tile(np.repeat(list("abcdef"), 2), 3)
    folds = own.draw_folds(labels, group, 3, seed=1)
    assert np.sum(folds, axis=0).tolist() == [1] * 36
    for held_out in folds:
        assert not set(group[held_out]) & set(group[~held_out])
        assert np.bincount(labels[held_out]).tolist() == [4, 4, 4]


def test_without_groups_each_image_is_its_own(own):
    folds = own.draw_folds(np.repeat([0, 1], 4), np.zeros(0), 4, seed=0)
    assert [int(held_out.sum()) for held_out in folds] == [2] * 4


@pytest.mark.parametrize(
    ("labels", "group", "n_folds", "message"),
    [
        ([0] * 5 + [1] * 3, [], 4, "4 folds, but dog has 3 labelled images: label more"),
        ([0, 0, 1, 1], list("abab"), 1, "n_folds = 1: at least 2"),
        ([0, 0, 0, 1, 1, 1], list("abbbab"), 3, "3 folds, but there are 2 groups .a, b.: set"),
    ],
)
def test_folds_that_cannot_be_drawn_are_refused(own, labels, group, n_folds, message):
    with pytest.raises(DataError, match=message):
        own.draw_folds(np.array(labels), np.array(group), n_folds, seed=0)


def test_a_fold_that_holds_out_nothing_is_refused(own):
    """StratifiedGroupKFold leaves one of four folds empty where two of four slides hold most."""
    labels = np.repeat([0, 1, 0, 1], [23, 16, 26, 10])
    folds = own.draw_folds(labels, np.repeat(list("abcd"), [23, 16, 26, 10]), 4, seed=1)
    empty = [*folds[:3], np.zeros(75, bool)]
    with pytest.raises(DataError, match="groups are too uneven for 4 folds: set n_folds lower"):
        own.check_folds(labels, empty)


def test_a_group_that_holds_a_whole_class_is_refused(own):
    labels, group = np.array([0, 0, 1, 1, 1, 1]), np.array(list("aabbcc"))
    with pytest.raises(DataError, match="one group holds all images of cat: label images of more"):
        own.check_folds(labels, own.draw_folds(labels, group, 2, seed=0))


@pytest.mark.parametrize("mode", ["supervised", "semi"])
def test_no_fold_knows_of_another(own, mode, tmp_path):
    labels = np.arange(12) % 2
    images = make_images(12, 32, 32, 3) // np.where(labels == 0, 1, 8)[:, None, None, None]
    images, unlabelled = images.astype(np.uint8), make_images(12, 32, 32, 3, seed=1)
    folds = [np.arange(12) < 6, np.arange(12) >= 6]
    cell = Cell(dataset="folder", mode=mode, epochs=2, batch_size=6)
    first, turned = (
        own.predict_held_out(cell, images, labels, unlabelled, of, tmp_path, "content")[0]
        for of in (folds, folds[::-1])
    )
    assert set(first) == {"as trained", "re-estimated"}
    for how in first:
        assert (first[how] == turned[how]).all()
    assert (first["re-estimated"] == labels).mean() > 0.8


def test_balanced_accuracy_counts_classes_not_images(own):
    truth = np.array([0] * 8 + [1] * 2)
    assert own.balance(truth, np.zeros(10, int)) == 50
    assert own.balance(truth, np.array([0] * 6 + [1] * 2 + [1, 0])) == pytest.approx(62.5)
    assert own.balance(np.array([2, 2]), np.array([2, 0])) == 50


def test_copies_of_labelled_images_are_left_out(tmp_path, capsys):
    place = write_own(tmp_path / "own")
    for path in sorted((place / "cat").iterdir())[:2]:
        shutil.copy(path, place / "unlabelled" / f"copy-{path.name}")
    found = run_cells({}, end="## Look", folder=str(place))
    assert len(found["unlabelled"]) == 30
    assert not any("copy" in name for name in found["origin"].names)
    assert "2 unlabelled images left out: they are labelled ones" in capsys.readouterr().out


def test_a_test_folder_is_not_learnt_from(tmp_path):
    place = write_own(tmp_path / "own")
    write_own(place / "test", n_unlabelled=0)
    with pytest.raises(DataError, match="has a folder test, but here every labelled image"):
        run_cells({}, end="## Look", folder=str(place))


def test_the_interval_is_that_of_nadeau_and_bengio():
    """Four folds: t(0.975, 3) = 3.1824, std = 1.6330, sqrt(1/4 + 1/3) = 0.76376."""
    plain = statistics.compare_paired([3, 5, 1, 3])
    corrected = statistics.compare_paired([3, 5, 1, 3], shared=1 / 3)
    assert corrected["mean"] == plain["mean"] == 3
    assert corrected["high"] - 3 == pytest.approx(3.1824 * 1.6330 * 0.76376, abs=1e-3)
    assert 3 - corrected["low"] == pytest.approx(corrected["high"] - 3)
    assert (corrected["high"] - 3) / (plain["high"] - 3) == pytest.approx(1.5275, abs=1e-4)
    assert plain["low"] > 0 > corrected["low"]
    assert corrected["p"] == pytest.approx(0.0954, abs=1e-3)


def test_margins_by_hand(own):
    points, labels = np.array([[0.0], [2.0], [6.0]]), np.array([0, 1, 2])
    two = evaluation.fit_svm(points[:2], labels[:2])
    assert own.measure_margins(two, np.array([[1.0], [2.0], [0.5]])) == pytest.approx([0, 1, 0.5])
    three = evaluation.fit_svm(points, labels)  # borders at 1, 4 and, of no class that wins, 3
    near = np.array([[1.0], [1.1], [3.0], [3.9], [6.0]])
    assert own.measure_margins(three, near) == pytest.approx([0, 0.1, 1, 0.1, 2], abs=1e-2)
    lost = SimpleNamespace(  # the vote goes to class 0 although class 2 alone would beat it
        classes_=np.arange(3),
        coef_=np.ones((3, 1)),
        decision_function=lambda features: np.array([[3.0, -0.5, 2.0]]),
        predict=lambda features: np.array([0]),
    )
    assert own.measure_margins(lost, np.zeros((1, 1))) == pytest.approx([-0.5])
    scaled = evaluation.fit_svm(points, labels, scaled=True)  # in standard deviations
    assert own.measure_margins(scaled, near) == pytest.approx(
        np.array([0, 0.1, 1, 0.1, 2]) / points.std(), abs=1e-2
    )
    forest = SimpleNamespace(predict_proba=lambda features: np.array([[0.9, 0.1], [0.5, 0.5]]))
    assert own.measure_margins(forest, None) == pytest.approx([0.8, 0])


def test_help_is_said_in_words(own):
    assert own.say_help(0.1, 5) == "they seem to have helped"
    assert own.say_help(-5, -0.1) == "they seem to have done harm"
    assert own.say_help(-1, 4) == own.say_help(0, 4) == "that cannot be told from these labels"


# bad input: one sentence, before any training


def refuse(place, end, **parameters):
    with pytest.raises(DataError) as refused:
        run_cells({}, end=end, **SMALL | {"folder": str(place)} | parameters)
    return str(refused.value)


@pytest.mark.parametrize(("n_unlabelled", "told"), [(0, 0), (5, 5), (12, 12)])
def test_too_few_unlabelled_images(tmp_path, n_unlabelled, told):
    place = write_own(tmp_path / "own", n_unlabelled=n_unlabelled)
    message = refuse(place, "n_shown = min")
    assert f"has {told} unlabelled images and 12 labelled ones: put more images without" in message


def test_a_class_with_fewer_images_than_folds(tmp_path):
    place = write_own(tmp_path / "own", n=3)
    message = refuse(place, "def fit(name", n_folds=4)
    told = "4 folds, but cat has 3 labelled images: label more, or set n_folds lower"
    assert message == told


def test_groups_are_sought_below_the_class_folder(tmp_path):
    """cat/P1_2.png, dog/P1_3.png and unlabelled/P1_40.png are of one patient."""
    images = make_images(32, 20, 30, 3)
    for i, of in enumerate(["cat", "dog"] * 6 + ["unlabelled"] * 20):
        write_files(tmp_path / "own" / of, {f"P{i // 4 % 5}_{i}.png": encode(images[i])})
    settings = SMALL | {"folder": str(tmp_path / "own"), "groups": "^[^_]+"}
    found = run_cells({}, end="def draw_folds", **settings)
    assert sorted(set(found["group"])) == ["P0", "P1", "P2"]
    assert (found["n_known"], found["n_unknown"]) == (12, 0)  # the others are of P3 and P4


def test_without_spread_no_interval_is_told(own):
    """Eight folds that agree would have the interval 100 to 100, and p = 0."""
    found = own.estimate(np.full(4, 100.0))
    assert found["mean"] == 100 and np.isnan([found["low"], found["high"], found["p"]]).all()
    assert own.write_interval(found["low"], found["high"], ".0f") == "(the same in every fold)"
    found = own.estimate(np.array([90.0, 100, 90, 100]))
    assert own.write_interval(found["low"], found["high"], ".0f") == "(81 to 109)"


def test_what_lies_at_the_root_changes_nothing(tmp_path, capsys):
    place = write_own(tmp_path / "own")
    write_files(place, {"notes.txt": b"x", ".DS_Store": b"x", "@eaDir/x.png": b"x"})
    (place / "loop").symlink_to(place)
    (place / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    run_cells({}, end="def pool", folder=str(place))
    shown = capsys.readouterr().out.split("\n")
    assert [" ".join(line.split()) for line in shown if line] == [
        *(r"caf\xe9.txt", "cat/ 6 files", "dog/ 6 files", "notes.txt", "unlabelled/ 30 files")
    ]


def invoke(*words):
    result = command.invoke("own", *words)
    return result.exit_code, result.output.strip()


def test_a_table_with_a_mistake(tmp_path):  # test_parts has them all
    place = write_own(tmp_path / "own")
    shutil.rmtree(place / "unlabelled")
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*.png"))
    write_files(place, {"labels.csv": "\n".join(["file,label", *files]).encode()})
    code, told = invoke(place, "--output", tmp_path / "out")
    assert (code, told.count("\n")) == (1, 0)
    assert told.endswith("labels.csv has 0 classes: at least 2 are needed")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("updatez", 3), "-p updatez: there is no such parameter, but groups, image_size"),
        (("updates", "many"), "-p updates many: int is needed"),
        (("image_size", -3), "image_size = -3: input should be greater than or equal to 8"),
        (("image_size", 16), "image_size = 16 is too small for backbone 'small_cnn'"),
        (("weights", "imagenet"), "backbone 'small_cnn' was never trained on it"),
        (("folder", "x"), "-p folder: there is no such parameter"),
    ],
)
def test_a_parameter_with_a_mistake(tmp_path, settings, message):
    code, told = invoke(write_own(tmp_path / "own"), "-p", *settings)
    assert (code, told.count("\n")) == (1, 0)
    assert message in told


def test_parameters_are_read_as_the_notebook_declares_them():
    texts = {"groups": "[0-9]+", "updates": "30", "lambda_u": "1", "weights": "none"}
    found = page.read_settings(texts)
    assert found == {"groups": "[0-9]+", "updates": 30, "lambda_u": 1.0, "weights": "none"}
    assert type(found["lambda_u"]) is float


def test_notebooks_below_braces(tmp_path, monkeypatch):
    (place := tmp_path / "a{b}").mkdir()
    shutil.copy(page.NOTEBOOKS / f"{page.OWN}.ipynb", place)
    cell = nbformat.v4.new_code_cell("updates: int = 0", metadata={"tags": ["parameters"]})
    nbformat.write(
        nbformat.v4.new_notebook(cells=[cell], metadata=pairing.METADATA), place / "tiny.ipynb"
    )
    monkeypatch.setattr(page, "NOTEBOOKS", place)
    assert page.read_settings({"updates": "30"}) == {"updates": 30}
    assert len(page.run_notebook("tiny", {"updates": 3}, "no").cells) == 2
    monkeypatch.setattr(page, "make_ipkernel_cmd", lambda: [sys.executable, "-c", ""])
    with pytest.raises(SettingsError, match=r"it stopped: its process .* did not start: try again"):
        page.run_notebook("tiny", {"updates": 3}, "it stopped")


def test_folders_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "holds no image" in invoke(tmp_path / "empty")[1]
    assert "there is no such folder" in invoke(tmp_path / "nowhere")[1]


# whole runs


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A notebook run until its candidates have predicted."""
    home = tmp_path_factory.mktemp("judged")
    place = {"folder": str(write_own(home / "own")), "output_dir": str(home / "out")}
    return home, run_cells({}, end="def balance", **SMALL | place)


@pytest.mark.parametrize("best", ["pixels", "pixels, forest", "untrained", "semi, re-estimated"])
def test_the_best_is_kept_and_embeds(judged, best):
    home, found = judged
    place = home / best
    (place / ".folds").mkdir(parents=True)
    labels = found["labels"]
    predicted = {name: 1 - labels for name in found["predicted"]} | {best: labels}
    changed = {"predicted": predicted, "place": place, "checkpoints": place / ".folds"}
    found = run_cells(found | changed, start="def balance")
    assert found["best"] == best
    table = embed_images(place, home / "own")
    seen = dict(zip(table["file"], table["predicted_class"], strict=True))
    listed = pd.read_csv(place / "label_next.csv", dtype=str, keep_default_na=False)
    assert listed["margin"].astype(float).is_monotonic_increasing
    assert [seen[file] for file in listed["file"]] == listed["predicted_class"].tolist()
    assert table["confidence"].isna().all() == (best in ("pixels", "untrained"))
    assert not (place / ".folds").exists()


def test_labels_that_were_filled_in_are_kept(judged):
    home, found = judged
    place = home / "again"
    place.mkdir()
    mine = "file,label\nunlabelled/0.png,NA\nunlabelled/1.png,\n"
    (place / "label_next.csv").write_text(mine)
    changed = found | {"place": place, "checkpoints": place / ".folds"}
    run_cells(changed, start="def balance")
    assert (place / "label_next.1.csv").read_text() == mine
    listed = pd.read_csv(place / "label_next.csv")
    run_cells(changed, start="def balance")
    assert not (place / "label_next.2.csv").exists()  # nothing was filled in
    assert pd.read_csv(place / "label_next.csv").equals(listed)


def test_a_run_that_was_cut_off_goes_on(judged, monkeypatch):
    """The checkpoints of all folds are there: no epoch is trained again."""
    home, found = judged
    before = {p.name: p.stat().st_mtime_ns for p in (home / "out" / ".folds").iterdir()}
    assert sorted(before) == ["semi-1.npz", "semi-2.npz", "supervised-1.npz", "supervised-2.npz"]
    again = run_cells(dict(found), start="for mode, cell in cells", end="def balance")
    assert {p.name: p.stat().st_mtime_ns for p in (home / "out" / ".folds").iterdir()} == before
    for name, guess in found["predicted"].items():
        assert (again["predicted"][name] == guess).all(), name


def test_the_networks_see_as_many_images_as_the_updates_take(tmp_path):
    place = write_own(tmp_path / "own", n_unlabelled=40)
    found = {}
    run_cells(found, end="def predict_held_out", **SMALL | {"folder": str(place)})
    assert len(found["trained_on"]) == 16
    assert {mode: c.epochs for mode, c in found["cells"].items()} == {"semi": 1, "supervised": 1}
    assert found["cells"]["supervised"].equal_updates  # 4 in this epoch, too


def test_two_folders_of_one_name_have_outputs_of_their_own(tmp_path, monkeypatch):
    outputs = []
    monkeypatch.setattr("semisiam.run.folder.find_outputs", lambda: tmp_path)
    monkeypatch.setattr(page, "write_own", lambda folder, output, given: outputs.append(output))
    for i in range(2):
        assert invoke(write_own(tmp_path / str(i) / "images", n=6 + i))[0] == 0
    assert outputs[0] != outputs[1]
    assert all(output.name.startswith("images-") for output in outputs)


def test_ctrl_c_says_that_it_goes_on(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "write_own", stop)
    told = invoke(write_own(tmp_path / "own"), "--output", tmp_path / "out")
    assert told == (130, "stopped; give the same command again to go on")


def test_an_output_inside_the_folder_is_refused_and_nothing_made(tmp_path):
    place = write_own(tmp_path / "own")
    told = invoke(place, "--output", place / "result")
    assert told[0] == 1 and "choose a place outside" in told[1]
    assert not (place / "result").exists()


def test_a_second_run_on_one_output_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "write_own", lambda *_: pytest.fail("it was run"))
    lock = folders.hold(grid.make_folder(tmp_path / "out" / ".folds"))
    told = invoke(write_own(tmp_path / "own"), "--output", tmp_path / "out")
    os.close(lock)
    assert told[0] == 1 and f"another run works in {tmp_path / 'out'}; choose another" in told[1]


def test_the_page_has_the_verdict_first_and_nothing_for_readers_of_the_notebook(tmp_path):
    settings = [word for name, value in SMALL.items() for word in ("-p", name, value)]
    place = write_own(tmp_path / "<b>cells")
    code, told = invoke(place, "--output", tmp_path / "out", *settings)
    assert code == 0, told
    assert (tmp_path / "out" / "label_next.csv").exists()
    text = (tmp_path / "out" / "own.html").read_text("utf-8")
    start, rest = text.split("Contents", 1)
    assert "<h1" in start and "Best here:" in start
    assert "<b>cells" not in text and "&lt;b&gt;cells" in text
    assert ".ipynb" not in text and "Exercises" not in text and "Parameters" not in text
    assert len(set(re.findall(r'href="#([^"]+)"', rest))) == rest.count("<li><a")
    assert "No description has been provided" not in text
