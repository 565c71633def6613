import gzip
import hashlib
import json
import os
import re
from typing import get_args

import numpy as np
import pytest
from archives import (
    encode,
    make_fashion,
    make_images,
    make_malaria,
    make_official,
    make_stl10,
    serve,
    write_files,
    write_folder,
    write_tar,
    write_zip,
)
from PIL import Image

from semisiam.cell import Cell
from semisiam.data import sources
from semisiam.data.datasets import load, summarise
from semisiam.data.files import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMISIAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("semisiam.data.files.PAUSE", 0)


def open_images(part) -> np.ndarray:
    return np.stack([*part.images])


def test_the_settings_know_every_source():
    assert set(get_args(Cell.model_fields["dataset"].annotation)) == set(sources.SOURCES)


# digits


def test_digits_are_scaled_and_split_once_and_for_all():
    raw = sources.digits(None).read()
    train, test = raw.parts["train"], raw.parts["test"]
    assert len(train.labels) == 1198 and len(test.labels) == 599
    assert not set(train.names) & set(test.names)
    images = open_images(train)
    assert images.shape == (1198, 8, 8) and images.max() == 255
    assert set(np.unique(images)) <= {round(i * 255 / 16) for i in range(17)}
    assert load("digits", 8, seed=5).content == load("digits", 8).content


# Fashion-MNIST


def test_fashion_files_are_read_packed_and_unpacked(tmp_path, monkeypatch):
    packed = make_fashion(monkeypatch)
    write_files(tmp_path / "packed", packed)
    plain = {name[:-3]: gzip.decompress(data) for name, data in packed.items()}
    write_files(tmp_path / "plain", plain)
    for folder in ("packed", "plain"):
        raw = sources.fashion_mnist(tmp_path / folder).read()
        assert (open_images(raw.parts["train"]) == make_images(20, 28, 28, seed=20)).all()
        assert raw.parts["train"].labels.tolist() == [*range(10)] * 2
        assert raw.parts["test"].labels.tolist() == [*range(10)]


def test_fashion_is_downloaded_from_a_mirror(tmp_path, monkeypatch):
    with serve(tmp_path / "served") as url:
        write_files(tmp_path / "served", make_fashion(monkeypatch, f"{url}/no/", f"{url}/"))
        assert len(load("fashion_mnist", 28).train) == 20
    assert len(load("fashion_mnist", 28).train) == 20


def test_a_file_of_another_data_set_under_fashions_name(tmp_path, monkeypatch):
    packed = make_fashion(monkeypatch)
    packed["train-images-idx3-ubyte.gz"] = packed["t10k-images-idx3-ubyte.gz"]
    write_files(tmp_path / "raw", packed)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not Fashion-MNIST's"):
        load("fashion_mnist", 28, data_dir=str(tmp_path / "raw"))


def test_wrong_files_are_noticed_though_the_right_ones_were_prepared(tmp_path, monkeypatch):
    packed = make_fashion(monkeypatch)
    folder = write_files(tmp_path / "raw", packed)
    load("fashion_mnist", 28, data_dir=str(folder))
    write_files(folder, {"train-images-idx3-ubyte.gz": packed["t10k-images-idx3-ubyte.gz"]})
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not Fashion-MNIST's"):
        load("fashion_mnist", 28, data_dir=str(folder))


def test_a_truncated_and_a_missing_fashion_file(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "raw", make_fashion(monkeypatch))
    path = folder / "t10k-labels-idx1-ubyte.gz"
    for broken in (path.read_bytes()[:-4], b"no gzip"):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is truncated"):
            load("fashion_mnist", 28, data_dir=str(folder))
    path.unlink()
    with pytest.raises(DataError, match="has neither t10k-labels-idx1-ubyte nor"):
        load("fashion_mnist", 28, data_dir=str(folder))


def test_another_archive_in_the_place_of_one_is_read_anew(tmp_path):
    content = []
    for n in (4, 5):
        write_zip(tmp_path / "cell_images.zip", make_malaria(n))
        content.append(load("malaria", 32, data_dir=str(tmp_path)).content)
    assert content[0] != content[1]


# STL-10

LABELS = {"train": [1, 2, 2, 10], "test": [2, 10, 1]}


def test_stl10_is_stored_by_channel_and_column(tmp_path):
    files = make_stl10(LABELS, 5)
    first_column = bytes([200] * 96)
    files["train_X.bin"] = first_column + files["train_X.bin"][96:]
    write_tar(tmp_path / "stl10_binary.tar.gz", files)
    raw = sources.stl10(tmp_path).read()
    images = open_images(raw.parts["train"])
    assert images.shape == (4, 96, 96, 3)
    assert (images[0, :, 0, 0] == 200).all()
    assert (images[1:] == make_images(4, 96, 96, 3, seed=0)[1:]).all()


def test_stl10_has_images_without_labels_and_classes_without_images(tmp_path):
    write_tar(tmp_path / "stl10_binary.tar.gz", make_stl10(LABELS | {"test": [2, 10, 1, 8]}, 5))
    data = load("stl10", 96, data_dir=str(tmp_path))
    assert data.class_names == ("airplane", "bird", "truck")
    assert data.train_labels.tolist() == [0, 1, 1, 2]
    assert data.test_labels.tolist() == [1, 2, 0]
    assert len(data.unlabelled) == 5 and data.unlabelled is not data.train
    assert (data.unlabelled == make_images(5, 96, 96, 3, seed=9)).all()
    notes = " ".join(data.notes)
    assert "not the official stl10_binary.tar.gz" in notes
    assert "left out, with 1 test images: cat, deer" in notes.replace("car, ", "")


def test_stl10_unpacked_equals_the_archive(tmp_path):
    files = make_stl10(LABELS, 5)
    write_tar(tmp_path / "a" / "stl10_binary.tar.gz", files)
    write_files(tmp_path / "b" / "stl10_binary", files)
    write_files(tmp_path / "c", files)
    contents = {load("stl10", 32, data_dir=str(tmp_path / place)).content for place in "abc"}
    assert len(contents) == 1


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("train_y.bin", bytes([1, 2, 2]), "train_y.bin has 3 labels for 4 images"),
        (
            "test_y.bin",
            bytes([2, 11, 1]),
            "has 3 labels for 3 images, 1 of them outside 1-10",
        ),
        (
            "test_y.bin",
            bytes([0, 1, 1]),
            "has 3 labels for 3 images, 1 of them outside 1-10",
        ),
        ("unlabeled_X.bin", bytes(30_000), "unlabeled_X.bin is truncated"),
        ("unlabeled_X.bin", b"", "unlabeled_X.bin is truncated"),
        ("test_X.bin", None, "has no test_X.bin"),
        ("test_y.bin", None, "has no test_y.bin"),
    ],
)
def test_broken_stl10_files(tmp_path, file, content, why):
    files = make_stl10(LABELS, 5) | {file: content}
    files = {name: content for name, content in files.items() if content is not None}
    write_tar(tmp_path / "raw" / "stl10_binary.tar.gz", files)
    with pytest.raises(DataError, match=why):
        load("stl10", 32, data_dir=str(tmp_path / "raw"))
    assert not list((tmp_path / "cache" / "prepared").glob("[!.]*"))


def test_a_truncated_stl10_archive_leaves_nothing(tmp_path):
    path = write_tar(tmp_path / "raw" / "stl10_binary.tar.gz", make_stl10(LABELS, 20))
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="truncated, damaged"):
        load("stl10", 32, data_dir=str(tmp_path / "raw"))
    assert not [p for p in (tmp_path / "cache" / "prepared").iterdir() if p.suffix != ".lock"]


# Malaria


def test_malaria_is_halved_at_random_or_by_patient(tmp_path):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20))
    data = load("malaria", 16, data_dir=str(tmp_path))
    assert len(data.train) == len(data.test) == 20
    assert np.bincount(data.train_labels).tolist() == [10, 10]
    assert data.unlabelled is data.train
    assert not set(data.parts["train"].names) & set(data.parts["test"].names)
    assert "4 of 4 patients are on both sides" in " ".join(data.notes)
    assert "2 files that are not" not in " ".join(data.notes)
    assert "left out (2): Parasitized/Thumbs.db" in " ".join(data.notes)
    apart = load("malaria", 16, data_dir=str(tmp_path), test_split="patient")
    assert "0 of 4 patients are on both sides" in " ".join(apart.notes)
    assert not set(apart.parts["train"].groups) & set(apart.parts["test"].groups)


@pytest.mark.parametrize("inside", ["./", "", "./cell_images/"])
def test_archives_packed_another_way_are_read(tmp_path, inside):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20), inside=inside)
    write_tar(tmp_path / "stl10_binary.tar.gz", make_stl10(LABELS, 3), inside=inside)
    assert len(load("malaria", 16, data_dir=str(tmp_path)).train) == 20
    assert len(load("stl10", 16, data_dir=str(tmp_path)).unlabelled) == 3


def test_two_files_of_one_name_are_refused(tmp_path):
    files = make_malaria(20)
    name = next(name for name in files if name.endswith(".png"))
    write_files(tmp_path, files | {f"segmented/{name}": b"x"})
    with pytest.raises(DataError, match=f"twice: {re.escape(name)} and segmented/"):
        load("malaria", 16, data_dir=str(tmp_path))


@pytest.mark.parametrize("write", [write_zip, lambda path, files: write_files(path.parent, files)])
def test_kaggles_second_copy_of_malaria_is_passed_over(tmp_path, write):
    files = make_malaria(20)
    again = {f"cell_images/{name}": data for name, data in files.items()}
    inside = {"": files | again} if write is write_zip else {"cell_images/": files | again}
    ((folder, content),) = inside.items()
    write(tmp_path / "cell_images.zip", {folder + name: data for name, data in content.items()})
    data = load("malaria", 16, data_dir=str(tmp_path))
    assert len(data.train) + len(data.test) == 40


def test_digits_are_of_no_folder(tmp_path):
    with pytest.raises(DataError, match="digits come with scikit-learn: leave out the folder"):
        load("digits", 16, data_dir=str(tmp_path))
    (tmp_path / "cell_images.zip").touch()
    with pytest.raises(DataError, match=": a file, give its folder"):
        load("malaria", 16, data_dir=str(tmp_path / "cell_images.zip"))


def test_malarias_halves_follow_the_seed(tmp_path):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20))
    first, second = (load("malaria", 16, data_dir=str(tmp_path), seed=s) for s in (0, 1))
    assert first.content != second.content
    assert set(first.parts["train"].names) != set(second.parts["train"].names)


def test_recorded_halves_are_repeated_whatever_the_seed(tmp_path):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20))
    drawn = load("malaria", 16, data_dir=str(tmp_path), test_split="patient")
    record = json.loads(json.dumps(drawn.test_rows.tolist()))
    repeated = load("malaria", 16, data_dir=str(tmp_path), test_rows=record, seed=7)
    assert repeated.content == drawn.content
    assert repeated.test_rows.tolist() == record
    names = sorted([*drawn.parts["train"].names, *drawn.parts["test"].names])
    assert [names[row] for row in record] == drawn.parts["test"].names.tolist()
    assert "a half as recorded" in repeated.notes[-1]
    for wrong in ([0, 40], [], list(range(40)), [1, 1]):
        with pytest.raises(DataError, match="the recorded test set is not one of these 40"):
            load("malaria", 16, data_dir=str(tmp_path), test_rows=wrong)


def test_malaria_unpacked_equals_the_archive(tmp_path):
    files = make_malaria(6)
    write_zip(tmp_path / "a" / "cell_images.zip", files)
    write_files(tmp_path / "b" / "cell_images", files)
    write_files(tmp_path / "c", files)
    loaded = [load("malaria", 16, data_dir=str(tmp_path / place)) for place in "abc"]
    assert len({data.content for data in loaded}) == 1
    assert "unpacked" in " ".join(loaded[1].notes)


def test_a_png_damaged_inside_the_zip_is_named(tmp_path):
    files = make_malaria(6)
    name = next(name for name in files if name.endswith(".png"))
    files[name] = files[name][:-200]
    write_zip(tmp_path / "cell_images.zip", files)
    with pytest.raises(DataError, match=f"1 of 12 images do not decode:\n  {name} does not"):
        load("malaria", 16, data_dir=str(tmp_path))


def test_a_malaria_image_without_a_patient(tmp_path):
    files = make_malaria(4) | {"Uninfected/cell.png": encode(make_images(1, 9, 9, 3)[0])}
    write_zip(tmp_path / "cell_images.zip", files)
    with pytest.raises(DataError, match=r"cell\.png does not begin with a patient"):
        load("malaria", 16, data_dir=str(tmp_path))


def test_an_archive_of_the_official_size_with_another_hash_is_damaged(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "cell_images.zip", make_malaria(4))
    make_official(monkeypatch, path.name, bytes=path.stat().st_size)
    with pytest.raises(DataError, match=r"is damaged \(wrong sha256\)"):
        load("malaria", 16, data_dir=str(tmp_path))


def test_the_official_archive_is_fetched_and_then_no_longer_needed(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "served" / "cell_images.zip", make_malaria(6))
    with serve(path.parent) as url:
        facts = {"bytes": path.stat().st_size, "urls": f"{url}/cell_images.zip"}
        facts |= {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        make_official(monkeypatch, path.name, **facts)
        data = load("malaria", 16)
    assert "official" not in " ".join(data.notes)
    (tmp_path / "cache" / "downloads" / "malaria" / "cell_images.zip").unlink()
    assert load("malaria", 16).content == data.content
    with pytest.raises(DataError, match="put the file cell_images"):
        load("malaria", 24)


# a folder of one's own


def test_a_folder_without_a_test_set(tmp_path):
    data = load("folder", 16, data_dir=write_folder(tmp_path / "own"))
    assert data.class_names == ("cat", "dog")
    assert np.bincount(data.train_labels).tolist() == [4, 4]
    assert np.bincount(data.test_labels).tolist() == [2, 2]
    assert data.unlabelled is data.train
    assert "a third of the labelled images, drawn by random with seed 0" in data.notes[-1]
    again = load("folder", 16, data_dir=str(tmp_path / "own"), test_rows=data.test_rows, seed=1)
    assert again.content == data.content


def test_a_folder_with_unlabelled_and_test_images(tmp_path):
    write_folder(tmp_path / "own" / "test", n=2)
    write_files(tmp_path / "own" / "unlabelled", {"a.JPG": encode(make_images(1, 9, 9, 3)[0])})
    data = load("folder", 16, data_dir=write_folder(tmp_path / "own"))
    assert (len(data.train), len(data.unlabelled), len(data.test)) == (12, 1, 4)
    assert data.parts["test"].names[0] == "test/cat/0.png"


def test_class_names_may_have_spaces_and_any_letters(tmp_path):
    names = ("Äpfel (rot)", "кот и пёс", "犬")
    data = load("folder", 16, data_dir=write_folder(tmp_path / "eigene Bilder", names))
    assert data.class_names == names


def test_the_order_of_files_on_disk_plays_no_part(tmp_path):
    write_folder(tmp_path / "a", ("cat", "dog"))
    write_folder(tmp_path / "b", ("dog",))
    write_folder(tmp_path / "b", ("cat", "dog"))
    first, second = (load("folder", 16, data_dir=str(tmp_path / place)) for place in "ab")
    assert first.content == second.content


def test_hidden_and_other_files_are_left_out(tmp_path):
    place = write_folder(tmp_path / "own")
    other = {"cat/notes.txt": b"x", "cat/.DS_Store": b"x", ".git/x": b"x", "readme.md": b"x"}
    write_files(tmp_path / "own", other)
    data = load("folder", 16, data_dir=place)
    assert len(data.train) + len(data.test) == 12
    assert data.notes[0] == "files that are not images left out (2): cat/notes.txt, readme.md"


def test_an_empty_class_folder_is_noticed_even_later(tmp_path):
    place = write_folder(tmp_path / "own")
    load("folder", 16, data_dir=place)
    (tmp_path / "own" / "horse").mkdir()
    with pytest.raises(DataError, match="has no image in horse"):
        load("folder", 16, data_dir=place)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="needs data_dir"):
        load("folder", 16)
    with pytest.raises(DataError, match="there is no such folder"):
        load("folder", 16, data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="1 class folders: at least 2"):
        load("folder", 16, data_dir=write_folder(tmp_path / "one", ["cat"]))
    with pytest.raises(DataError, match="a single image"):
        load("folder", 16, data_dir=write_folder(tmp_path / "single", n=1))
    write_folder(tmp_path / "other" / "test", ("cat", "dog", "fox"))
    with pytest.raises(DataError, match="has fox, which is no class"):
        load("folder", 16, data_dir=write_folder(tmp_path / "other"))
    write_folder(tmp_path / "half" / "test", ("cat",))
    with pytest.raises(DataError, match="has no image in test/dog"):
        load("folder", 16, data_dir=write_folder(tmp_path / "half"))


def test_damaged_images_are_named_counted_and_left_out_only_if_told(tmp_path):
    place = write_folder(tmp_path / "own")
    (tmp_path / "own" / "cat" / "0.png").write_bytes(b"")
    (tmp_path / "own" / "dog" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        load("folder", 16, data_dir=place)
    for words in ("2 of 12 images", "cat/0.png is empty", "dog/3.png is not an image", "--skip"):
        assert words in str(caught.value)
    assert not list((tmp_path / "cache" / "prepared").glob("[!.]*"))
    load("folder", 16, data_dir=place, skip_damaged=True)
    data = load("folder", 16, data_dir=place)
    assert len(data.train) + len(data.test) == 10
    assert "do not decode left out (2)" in data.notes[-1]


def test_a_recorded_test_set_is_found_among_images_of_which_some_are_left_out(tmp_path):
    place = write_folder(tmp_path / "own")
    (tmp_path / "own" / "cat" / "0.png").write_bytes(b"")
    data = load("folder", 16, data_dir=place, skip_damaged=True)
    again = load("folder", 16, data_dir=place, test_rows=data.test_rows)
    assert (again.folder, again.content) == (data.folder, data.content)


def test_other_images_of_equal_names_sizes_and_times_are_read_anew(tmp_path):
    place = write_folder(tmp_path / "own")
    images = [encode(image, "bmp") for image in make_images(2, 20, 30, 3)]
    path = tmp_path / "own" / "cat" / "0.bmp"
    contents = []
    for image in images:
        path.write_bytes(image)
        os.utime(path, ns=(0, 0))
        contents.append(load("folder", 16, data_dir=place).content)
    assert contents[0] != contents[1]


def test_leaving_out_all_images_of_a_class_is_an_error(tmp_path):
    place = write_folder(tmp_path / "own")
    for path in (tmp_path / "own" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image is left in train of cat"):
        load("folder", 16, data_dir=place, skip_damaged=True)


def test_conversions_are_said(tmp_path):
    place = write_folder(tmp_path / "own")
    grey = encode(make_images(1, 9, 9)[0])
    write_files(tmp_path / "own" / "cat", {"grey.png": grey, "grey2.png": grey})
    data = load("folder", 16, data_dir=place)
    assert "images converted, grey: 2" in data.notes


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_may_not_be_read_is_named(tmp_path):
    place = write_folder(tmp_path / "own")
    (tmp_path / "own" / "cat" / "0.png").chmod(0)
    with pytest.raises(DataError, match=r"cat/0\.png cannot be read"):
        load("folder", 16, data_dir=place)


def test_names_of_classes_and_files_are_text_whatever_they_are(tmp_path):
    names = (os.fsdecode(b"caf\xe9"), "NA", "None", "nan", "null")
    place = write_folder(tmp_path / os.fsdecode(b"gr\xfcn"), names)
    data = load("folder", 16, data_dir=place)
    assert data.class_names == ("NA", "None", "caf\\xe9", "nan", "null")
    assert all(f"\n{name} " in summarise(data) for name in data.class_names)
    assert "caf\\xe9/0.png" in {*data.parts["train"].names, *data.parts["test"].names}
    assert data.notes[-1].isascii()


@pytest.mark.parametrize(
    ("values", "levels", "ends"),
    [
        (np.arange(256), 256, (0, 256)),
        # of 4,000 values the middle 99.8 %, as a sample tells it
        (np.linspace(100, 4100, 3000).astype(int), 250, pytest.approx((104, 4097), abs=5)),
    ],
)
def test_deep_images_keep_their_grey_levels_by_one_range(tmp_path, values, levels, ends):
    rng = np.random.default_rng(0)
    for place in ("cat/0", "cat/1", "dog/0", "dog/1", "test/cat/0", "test/dog/0", "unlabelled/0"):
        image = rng.permutation(np.resize(values, 6400)).reshape(80, 80).astype(np.uint16)
        write_files(tmp_path / "own", {f"{place}.png": encode(image)})
    write_files(tmp_path / "own", {"cat/8.png": encode(np.full((80, 80, 3), 9, np.uint8))})
    data = load("folder", 80, data_dir=str(tmp_path / "own"))
    low, high = data.decoding["value_range"]
    assert (low, high) == ends
    note = next(note for note in data.notes if note.startswith("deeper than 8 bits"))
    assert f"from {low:g} to below {high:g}" in note
    assert len(np.unique(data.test)) >= levels and data.test.max() == 255
    assert (data.train[2] == 9).all()  # an image of 8 bits is left as it is
    assert note.endswith(", 0 values clipped") == (len(values) == 256)
    assert load("digits", 8).decoding == {}


def test_an_image_of_several_pages_is_refused_by_name(tmp_path):
    place = write_folder(tmp_path / "own")
    pages = [Image.fromarray(image) for image in make_images(3, 9, 9)]
    data = encode(pages[0], "tiff", save_all=True, append_images=pages[1:])
    write_files(tmp_path / "own", {"cat/stack.tif": data})
    with pytest.raises(DataError, match=r"cat/stack\.tif holds 3 frames or pages"):
        load("folder", 16, data_dir=place)


def test_malarias_patients_are_its_groups(tmp_path):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20))
    data = load("malaria", 16, data_dir=str(tmp_path), unlabelled_limit=8)
    patients = [re.search(r"C\d+", name).group() for name in data.parts["train"].names]
    assert data.parts["train"].groups.tolist() == patients
    assert len(data.parts["train"].groups) == 8 and set(data.parts["test"].groups) == {
        "C0",
        "C1",
        "C2",
        "C3",
    }
    assert len(load("digits", 8).parts["train"].groups) == 0
