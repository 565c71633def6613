import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from archives import encode, make_images, write_files, write_folder

from semisiam.data.datasets import load
from semisiam.data.files import DataError
from semisiam.data.parts import draw_stratified, halve_patients, hold_out, hold_out_groups


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISIAM_CACHE", f"{tmp_path}-cache")


@pytest.mark.parametrize(
    "extra",
    [
        *("train", "val", "Validation", "unlabeled", "Unlabelled", "Test", "test "),
        *(
            "unlabelled ",
            "unlabelled_images",
            "un-labelled",
            "unlabelled2",
            "test (1)",
            "no labels",
        ),
        *("unlabelled - Copy", "train (copy)", "evaluation", "_unlabelled", "00_unlabelled"),
        *("unannotated", "unsorted", "to_label", "unlabelled.", "labelled"),
    ],
)
def test_folders_that_are_no_class_are_refused_with_the_layout(tmp_path, extra):
    place = write_folder(tmp_path / "own")
    write_folder(tmp_path / "own" / extra)
    told = f"has {extra}, which is no class (or give it another name): expected are CLASS/"
    with pytest.raises(DataError, match=re.escape(told)):
        load("folder", 16, data_dir=place)


def test_classes_may_begin_like_a_part(tmp_path):
    names = ("testis", "trainer", "trains", "validated", "valve", "1.1", "1.10", "resorted")
    names += ("test" + "1" * 40 + "x", "3_train")  # the first is read in no time
    assert load("folder", 16, data_dir=write_folder(tmp_path / "own", names)).class_names == tuple(
        sorted(names)
    )


def test_a_class_may_be_called_train(tmp_path):
    data = load("folder", 16, data_dir=write_folder(tmp_path / "own", ("car", "train")))
    assert data.class_names == ("car", "train")


def test_formats_that_are_not_supported_are_counted(tmp_path):
    place = write_folder(tmp_path / "own")
    heic = {f"cat/{i}.HEIC": b"x" for i in range(12)}
    write_files(tmp_path / "own", heic | {"cat/x.psd": b"x"})
    note = load("folder", 16, data_dir=place).notes[0]
    assert note == "images left out (not supported: 12 .heic, 1 .psd)"
    write_files(tmp_path / "own", {f"eel/{i}.heic": b"x" for i in range(3)})
    with pytest.raises(DataError, match=r"no image in eel \(not supported: 3 .heic\): add"):
        load("folder", 16, data_dir=place)


def test_classes_that_differ_in_case_alone_are_told(tmp_path):
    table = "file,label\n" + rows(18, "{i:02}.png,{label}\n").replace("NA", "Cat")
    data = load("folder", 16, data_dir=write_table(tmp_path, table))
    assert data.notes[0] == "classes that differ in upper and lower case alone: Cat, cat"


@pytest.mark.parametrize("other", ["cat\u200b", "c\u00a0at", "c  at"])
def test_classes_that_look_alike_are_refused(tmp_path, other):
    name = "c at" if " " in other or "\u00a0" in other else "cat"
    table = "file,label\n" + rows(18, "{i:02}.png,{label}\n").replace("NA", other)
    with pytest.raises(DataError, match="classes alike but for spaces"):
        load("folder", 16, data_dir=write_table(tmp_path, table.replace("cat\n", f"{name}\n")))


def test_numbers_are_one_class_by_their_value(tmp_path):
    place = write_folder(tmp_path / "own", ("1", "01", "2", "cat", "cat ."))
    with pytest.raises(DataError, match=r"last dot: use one name: '01', '1', 'cat \.', 'cat'"):
        load("folder", 16, data_dir=place)


def test_folders_within_a_class_are_told_and_never_another_class(tmp_path):
    place = write_folder(tmp_path / "own")
    write_folder(tmp_path / "own" / "cat", ("indoors",))
    data = load("folder", 16, data_dir=place)
    assert data.notes[0] == "folders within a class taken for it: cat/indoors"
    for slip in ("dog", "test", "unlabelled"):
        other = tmp_path / slip
        write_folder(other)
        write_folder(other / "cat", (slip,))
        with pytest.raises(DataError, match=f"called like a class or a part.*: cat/{slip}; exp"):
            load("folder", 16, data_dir=str(other))


@pytest.mark.parametrize("name", ["Labels.csv", "labels.csv.csv", "label.csv", "labels (1).xlsx"])
def test_a_table_of_another_name_is_not_passed_over(tmp_path, name):
    place = write_folder(tmp_path / "own")
    write_files(tmp_path / "own", {name: b"file,label\n"})
    with pytest.raises(DataError, match=re.escape(f"has {name}: save it as CSV UTF-8 and call")):
        load("folder", 16, data_dir=place)
    (tmp_path / "own" / name).rename(tmp_path / "own" / "labels.txt")  # a list of the classes
    assert load("folder", 16, data_dir=place).class_names == ("cat", "dog")


def test_images_outside_the_class_folders_are_told(tmp_path):
    place = write_folder(tmp_path / "own")
    write_files(tmp_path / "own", {"loose.png": encode(make_images(1, 9, 9, 3)[0])})
    told = "images outside the class folders left out (1): loose.png"
    assert told in load("folder", 16, data_dir=place).notes


def test_a_folder_without_images_says_so(tmp_path):
    (place := tmp_path / "own").mkdir()
    with pytest.raises(DataError, match="holds no image: expected are CLASS/"):
        load("folder", 16, data_dir=str(place))
    write_files(place, {"a/1.heic": b"x"})
    with pytest.raises(DataError, match=r"holds no image \(not supported: 1 .heic\): expected"):
        load("folder", 16, data_dir=str(place))
    write_files(tmp_path / "flat", {"1.png": encode(make_images(1, 9, 9, 3)[0])})
    with pytest.raises(DataError, match=r"0 class folders: .* beside a labels\.csv"):
        load("folder", 16, data_dir=str(tmp_path / "flat"))


# a label table beside a flat folder


def write_table(place: Path, table: str | bytes, n: int = 18) -> str:
    """Write `n` images 00.png, 01.png, ... and a labels.csv; returns the folder as a setting."""
    images = enumerate(make_images(n, 9, 9, 3))
    write_files(place, {f"{i:02}.png": encode(image) for i, image in images})
    write_files(place, {"labels.csv": table if isinstance(table, bytes) else table.encode()})
    return str(place)


def rows(n: int, line: str = "{i:02}.png,{label},g{group}\n") -> str:
    parts = ({"i": i, "label": ("dog", "cat", "NA")[i % 3], "group": i // 3} for i in range(n))
    return "".join(line.format(**part) for part in parts)


def test_a_label_table_gives_labels_and_leaves_the_others_unlabelled(tmp_path):
    table = "\ufefffile,label\r\n" + rows(12, "{i:02}.png, {label}\r\n") + "12.png,\r\n"
    data = load("folder", 9, data_dir=write_table(tmp_path, table))
    assert data.class_names == ("NA", "cat", "dog")
    assert np.bincount(data.train_labels).sum() == 8 and len(data.test) == 4
    assert data.parts["unlabelled"].names.tolist() == [f"{i}.png" for i in range(12, 18)]
    labels = dict(zip(data.parts["train"].names, data.train_labels, strict=True))
    assert all(
        ("dog", "cat", "NA")[int(n[:2]) % 3] == data.class_names[c] for n, c in labels.items()
    )
    place = {f"{i:02}.png": image for i, image in enumerate(make_images(18, 9, 9, 3))}
    assert (data.train[0] == place[data.parts["train"].names[0]]).all()
    assert len(data.parts["train"].groups) == 0


def test_an_unlabelled_image_in_a_folder_needs_a_row_without_a_label(tmp_path):
    table = "file, label\n" + rows(6, "{i:02}.png,{label}\n") + "plate 1/a.png,\n"
    write_files(tmp_path, {"plate 1/a.png": encode(make_images(1, 9, 9, 3)[0])})
    data = load("folder", 9, data_dir=write_table(tmp_path, table, n=6))
    assert data.parts["unlabelled"].names.tolist() == ["plate 1/a.png"]


def test_names_that_macos_takes_apart_are_found(tmp_path):
    image = encode(make_images(1, 9, 9, 3)[0])
    write_files(tmp_path, {"a\u0308.png": image})  # an a, and two dots above it
    table = "file,label\n" + rows(6, "{i:02}.png,{label}\n") + "\u00e4.png,cat\n"  # one letter
    data = load("folder", 9, data_dir=write_table(tmp_path, table, n=6))
    assert data.unlabelled is data.train and len(data.train) + len(data.test) == 7


def test_of_two_spellings_of_a_name_each_is_found(tmp_path):
    images = make_images(2, 9, 9, 3)
    names = ["a\u0308.png", "\u00e4.png"]
    write_files(tmp_path, dict(zip(names, map(encode, images), strict=True)))
    table = "file,label\n" + rows(6, "{i:02}.png,{label}\n") + f"{names[1]},cat\n"
    data = load("folder", 9, data_dir=write_table(tmp_path, table, n=6))
    assert data.parts["unlabelled"].names.tolist() == names[:1]


def test_groups_of_a_table_stay_on_one_side_of_the_test_set(tmp_path):
    data = load("folder", 9, data_dir=write_table(tmp_path, "file,label,group\n" + rows(18)))
    assert not set(data.parts["train"].groups) & set(data.parts["test"].groups)
    assert len(data.parts["train"].groups) == 12 and len(data.parts["test"].groups) == 6
    assert [f"g{int(name[:2]) // 3}" for name in data.parts["train"].names] == data.parts[
        "train"
    ].groups.tolist()
    assert data.unlabelled is data.train
    assert "drawn by group with seed 0" in data.notes[-1]


def test_unlabelled_images_of_the_groups_in_the_test_set_are_told(tmp_path):
    table = "file,label,group\n" + rows(18, "{i:02}.png,{label},g{group}\n")
    table += "".join(f"{i}.png,,g{i - 18}\n" for i in range(18, 24))  # one of each group
    data = load("folder", 9, data_dir=write_table(tmp_path, table, n=24))
    assert data.notes[-1].endswith("; 2 unlabelled images are of groups in the test set")


def test_names_may_be_written_as_windows_or_a_shell_does(tmp_path):
    table = "file,label\n" + rows(18, ".\\{i:02}.png,{label}\n").replace(".\\1", "./1")
    place = write_table(tmp_path, table)
    assert set(load("folder", 9, data_dir=place).parts["train"].names) <= {
        path.name for path in Path(place).iterdir()
    }


def test_a_class_that_looks_like_a_missing_label_is_told(tmp_path):
    data = load("folder", 9, data_dir=write_table(tmp_path, "file,label,group\n" + rows(18)))
    assert data.notes[0] == "taken for a class or group, not for a missing one: NA"
    assert (
        load(
            "folder",
            9,
            data_dir=write_table(
                tmp_path / "b",
                "file,label\n" + rows(18, "{i:02}.png,{label}\n").replace("NA", "unlabelled"),
            ),
        )
        .notes[0]
        .endswith(": unlabelled")
    )


def test_groups_may_be_numbers_that_look_much_alike(tmp_path):
    table = "file,label,group\n" + rows(18)
    names = ("1.1", "1.10", "12345678901234567", "12345678901234568")
    for group, name in enumerate(names):
        table = table.replace(f",g{group}\n", f",{name}\n")
    data = load("folder", 9, data_dir=write_table(tmp_path, table))
    groups = {*data.parts["train"].groups, *data.parts["test"].groups}
    assert set(names) <= groups


@pytest.mark.parametrize("pair", [("a1", "A1"), ("1", "01"), ("p 1", "p  1"), ("p1", "p1\u200b")])
def test_a_group_spelt_in_two_ways_is_refused(tmp_path, pair):
    table = "file,label,group\n" + rows(18)
    table = table.replace(",g1\n", f",{pair[0]}\n").replace(",g2\n", f",{pair[1]}\n")
    with pytest.raises(DataError, match="has groups alike but for case"):
        load("folder", 9, data_dir=write_table(tmp_path, table))


@pytest.mark.parametrize("header", ["file,label,group ", "File, Label,Group"])
def test_a_header_may_have_spaces_and_capitals(tmp_path, header):
    data = load("folder", 9, data_dir=write_table(tmp_path, f"{header}\n" + rows(18)))
    assert len(data.parts["train"].groups) == 12


def test_a_column_that_is_not_read_is_told(tmp_path):
    table = "file,label,patient,\n" + rows(18, "{i:02}.png,{label},g{group},\n")
    data = load("folder", 9, data_dir=write_table(tmp_path, table))
    assert data.notes[1] == "column 'patient' of labels.csv left out"
    assert "unnamed" not in str(data.notes)


def test_a_label_may_be_written_in_two_ways_of_unicode(tmp_path):
    letters = {"dog": "\u00e4", "cat": "a\u0308", "NA": "b"}
    lines = [f"{i:02}.png,{letters[('dog', 'cat', 'NA')[i % 3]]}\n" for i in range(18)]
    data = load("folder", 9, data_dir=write_table(tmp_path, "file,label\n" + "".join(lines)))
    assert data.class_names == ("b", "\u00e4")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label,Group,group\n00.png,a,b,c\n", "has the columns file,label,group,group: it"),
        ("file,class\n00.png,a\n", "has the columns file,class: it needs file,label"),
        ("", "cannot be read as a CSV: No columns to parse"),
        ("file,label,label\n00.png,a,b\n", "has the columns file,label,label: it needs"),
        ("file,label\n00.png,K\u00e4fer\n".encode("latin-1"), "is not UTF-8 in line 2: save it as"),
        ("file,label\n00.png,a\n".encode("utf-16"), "is not UTF-8 in line 1: save it as CSV UTF-8"),
        (
            "file,label\n" + rows(6, "{i:02}.png,{label}\n") + "x.png,cat\n",
            "that are not there (1): x.png",
        ),
        (
            "file,label\n" + rows(6, "{i:02}.PNG,{label}\n"),
            "there (6): 00.PNG (there is 00.png), 01.PNG",
        ),
        (
            "file,label\n" + rows(6, "{i:02}.png,{label}\n") * 2,
            "more than once (6): 00.png, 01.png, 02",
        ),
        (
            "file,label\n" + rows(6, "{i:02}.png,{label}\n") + ",cat\n",
            "gives labels without a file (1): cat",
        ),
        (
            "file,label\n" + rows(7, "{i:02}.png,{label}\n") + "labels.csv,a\n",
            "no images (1): labels",
        ),
        ("file,label\n00.png,a\n01.png,a\n", "has 1 classes: at least 2 are needed"),
        ("file,label\n00.png,a,b\n01.png,c\n", "does not match length of data"),
        ("file,label\n00.png,a\n01.png,b,c\n", "Expected 2 fields in line 3, saw 3"),
        ('file,label\n00.png,"a\n', "EOF inside string"),
        ("file,label\n", "has 0 classes: at least 2 are needed"),
        ("file,label\n" + rows(5, "{i:02}.png,{label}\n"), "has a single image of NA: add more"),
        (
            "file,label,group\n" + rows(6) + "06.png,dog,\n",
            "gives no group to labelled images (1): 06.png",
        ),
        (
            "file,label,group\n" + rows(9, "{i:02}.png,{label},g{label}\n"),
            "needs labelled images of a second group for classes (3): NA, cat, dog; mend",
        ),
        ("file,label,group\n" + rows(6), "label images of more groups, at least 3"),
    ],
)
def test_label_tables_that_cannot_be_used(tmp_path, table, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        load("folder", 9, data_dir=write_table(tmp_path, table))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_table_may_be_separated_as_excel_does(tmp_path, mark):
    text = "file,label\n" + rows(18, "{i:02}.png,1{label}0\n")
    data = load("folder", 9, data_dir=write_table(tmp_path, text.replace(",", mark)))
    assert data.class_names == ("1NA0", "1cat0", "1dog0")


def test_rows_that_are_missing_or_shifted_are_told(tmp_path):
    place = write_folder(tmp_path / "own")
    names = [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)]
    labels = ["dog", *["cat"] * 6, *["dog"] * 5]  # a column moved down by one
    table = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    write_table(tmp_path / "own", "\n".join(["file,label", *table]), n=2)
    notes = load("folder", 9, data_dir=place).notes
    assert "images without a row taken for unlabelled (2): 00.png, 01.png" in notes
    assert "labels that are not that of the folder (2): cat/0.png, dog/0.png" in notes


def test_a_group_that_only_unlabelled_images_have_is_told(tmp_path):
    table = "file,label,group\n" + rows(12, "{i:02}.png,{label},\n") + "12.png,,a\n"
    data = load("folder", 9, data_dir=write_table(tmp_path, table))
    assert "column 'group' of labels.csv left out" in data.notes


def test_folders_that_are_in_every_class_are_told(tmp_path):
    for plate in ("plate1", "plate2"):
        place = write_folder(tmp_path / "own" / plate, ["neg", "pos"])
    notes = load("folder", 16, data_dir=Path(place).parent).notes
    assert "every class folder holds neg, pos: are these the classes?" in notes


@pytest.mark.parametrize("folder", ["test", "Validation", "hold-out"])
def test_a_table_does_not_learn_from_a_folder_of_test_images(tmp_path, folder):
    place = Path(write_folder(tmp_path / "own" / folder)).parent
    names = sorted(str(path.relative_to(place)) for path in place.rglob("*.png"))
    rows = [f"{name},{name.split('/')[1]}" for name in names]
    (place / "labels.csv").write_text("\n".join(["file,label", *rows]))
    with pytest.raises(DataError, match="has labels for images in a folder of test images"):
        load("folder", 16, data_dir=place)
    (place / folder).rename(place / "Test 2")  # an experiment
    table = (place / "labels.csv").read_text().replace(f"{folder}/", "Test 2/")
    (place / "labels.csv").write_text(table)
    assert load("folder", 16, data_dir=place).class_names == ("cat", "dog")
    shutil.copytree(place / "Test 2", place / folder)  # without rows, as the message advises
    data = load("folder", 16, data_dir=place)
    assert data.unlabelled is data.train
    assert f"images in a folder of test images left out ({len(names)}): " in "".join(data.notes)


def test_hidden_images_are_told(tmp_path):
    place = Path(write_folder(tmp_path / "own"))
    one = (tmp_path / "own" / "cat" / "0.png").read_bytes()
    write_files(place, {"cat/.a.png": one, "cat/._0.png": b"x", "dog/.1.jpg.icloud": b"x"})
    write_files(place, {".Trash-1000/0.png": one})
    notes = load("folder", 16, data_dir=place).notes
    assert "hidden images left out (2): cat/.a.png, dog/.1.jpg.icloud" in notes


def test_class_folders_and_a_table_are_not_mixed(tmp_path):
    write_table(tmp_path / "own", "file,label\n" + rows(6, "{i:02}.png,{label}\n"), n=6)
    with pytest.raises(DataError, match=r"needs a row .* for images outside .*cat/0\.png, cat/1"):
        load("folder", 9, data_dir=write_folder(tmp_path / "own"))


# random choices of images


def test_a_draw_keeps_the_shares_of_the_classes():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    drawn = draw_stratified(labels, 20, seed=0)
    assert np.bincount(labels[drawn]).tolist() == [12, 6, 2]
    assert len(set(drawn)) == 20 and (np.diff(drawn) > 0).all()


def test_a_draw_that_does_not_divide_gives_the_rest_to_the_largest_remainders():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    assert np.bincount(labels[draw_stratified(labels, 7, seed=0)]).tolist() == [4, 2, 1]


def test_a_rare_class_keeps_one_image():
    labels = np.repeat([0, 1, 2], [97, 1, 2])
    assert np.bincount(labels[draw_stratified(labels, 5, seed=0)]).tolist() == [3, 1, 1]


def test_all_images_without_labels_are_one_class():
    drawn = draw_stratified(np.full(50, -1), 20, seed=0)
    assert len(set(drawn)) == 20


def test_draws_follow_the_seed():
    labels = np.arange(100) % 4
    first = draw_stratified(labels, 40, seed=1)
    assert (first == draw_stratified(labels, 40, seed=1)).all()
    assert (first != draw_stratified(labels, 40, seed=2)).any()


def test_holding_out_half_of_an_odd_number():
    is_test = hold_out(np.arange(27) % 3, 1 / 2, seed=0)
    assert is_test.sum() == 14  # 13.5 is rounded to even


def test_holding_out_leaves_every_class_on_both_sides():
    labels = np.repeat(np.arange(10), 2)
    is_test = hold_out(labels, 1 / 3, seed=0)
    assert set(labels[is_test]) == set(labels[~is_test]) == set(range(10))


def test_patients_stay_together_and_halves_are_even():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 40, 2000).astype(str)
    labels = rng.integers(0, 2, 2000)
    is_test = halve_patients(patients, labels, seed=0)
    assert not set(patients[is_test]) & set(patients[~is_test])
    assert 900 < is_test.sum() < 1100
    assert 450 < (is_test & (labels == 1)).sum() < 550
    assert (is_test != halve_patients(patients, labels, seed=1)).any()


@pytest.mark.filterwarnings("error")
def test_groups_are_held_out_whole_and_every_class_is_on_both_sides():
    groups = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    labels = np.array([0, 1, 0, 1, 0, 0, 2, 2])
    with pytest.raises(DataError, match="label images of more groups"):
        hold_out_groups(groups, labels, seed=0)  # class 2 is of one group
    labels[[0, 7]] = 2, 1  # two images of class 2, in two groups
    is_test = hold_out_groups(groups, labels, seed=0)
    assert set(labels[is_test]) == set(labels[~is_test]) == {0, 1, 2}
    assert not set(groups[is_test]) & set(groups[~is_test])


def test_of_uneven_groups_those_nearest_to_a_third_are_held_out():
    groups = np.repeat(["a", "b", "c", "d"], [100, 10, 10, 10])
    labels = np.arange(130) % 2
    for seed in range(5):
        assert hold_out_groups(groups, labels, seed).sum() <= 20  # and not the 100 of one group
    assert hold_out_groups(groups, labels, seed=1).sum() == 20  # folds have 100, 20 and 10
