import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archives import (
    encode,
    make_fashion,
    make_images,
    make_malaria,
    make_stl10,
    write_files,
    write_folder,
    write_tar,
    write_zip,
)
from command import invoke

from semisiam import cli
from semisiam.cell import Cell
from semisiam.data import sources
from semisiam.data.datasets import describe_parts, load, summarise
from semisiam.data.files import DataError
from semisiam.data.parts import Raw
from semisiam.data.pixels import resize


@pytest.fixture(autouse=True)
def prepared_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEMISIAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("semisiam.data.files.PAUSE", 0)
    return tmp_path / "cache" / "prepared"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# the arrays


def test_shapes_types_and_what_is_shared():
    data = load("digits", 32)
    assert data.train.shape == (1198, 32, 32, 3) and data.test.shape == (599, 32, 32, 3)
    assert data.train.dtype == data.test.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.train_labels.shape == (1198,) and set(data.train_labels) == set(range(10))
    assert data.unlabelled is data.train
    assert isinstance(data.train, np.memmap) and not data.train.flags.writeable
    assert (data.train[..., 0] == data.train[..., 2]).all()
    assert len(data.test_rows) == 0
    assert len(data.parts["train"].names) == len(data.parts["train"].digests) == 1198


def test_images_of_the_right_size_are_kept_as_they_are():
    raw = sources.digits(None).read()
    expected = raw.parts["test"].images
    assert (load("digits", 8).test == expected[..., None]).all()


def test_enlarging_is_bilinear():
    image = np.array([[0, 255], [0, 255]], np.uint8)
    assert resize(image, 4)[0, :, 0].tolist() == [0, 64, 191, 255]


def test_shrinking_averages_over_what_it_covers():
    stripes = np.tile(np.array([[0, 255]], np.uint8), (64, 32))  # 64 px: point sampling gives 0
    shrunk = resize(stripes, 4)
    assert shrunk.shape == (4, 4, 3) and np.abs(shrunk.astype(int) - 127).max() <= 4


def test_any_aspect_becomes_a_square():
    assert resize(make_images(1, 50, 20, 3)[0], 16).shape == (16, 16, 3)


def test_the_content_names_the_images_and_not_their_size():
    assert load("digits", 8).content == load("digits", 16).content
    limited = load("digits", 8, test_limit=100)
    assert limited.content != load("digits", 8).content
    assert limited.content == load("digits", 8, test_limit=100).content
    assert limited.content != load("digits", 8, test_limit=100, seed=1).content


# identity without pixels


def identify(name: str, size: int, **settings) -> str:
    return load(name, size, **settings, local=True).content


@pytest.mark.parametrize("limits", [{}, {"unlabelled_limit": 200, "test_limit": 100, "seed": 1}])
def test_the_content_can_be_asked_for_alone(limits):
    expected = load("digits", 8, **limits).content
    assert identify("digits", 8, **limits) == expected
    assert identify("digits", 12, **limits) == expected  # prepared for it
    assert cli.identify(Cell(**limits)) == expected


def test_the_content_of_recorded_and_patients_halves(tmp_path):
    write_zip(tmp_path / "cell_images.zip", make_malaria(20))
    data = load("malaria", 16, data_dir=str(tmp_path), test_split="patient")
    given = {"data_dir": str(tmp_path), "test_split": "patient", "test_rows": None}
    assert identify("malaria", 16, **given) == data.content
    given |= {"test_split": "random", "test_rows": data.test_rows, "seed": 3}
    assert identify("malaria", 16, **given) == data.content


def test_other_images_have_another_content(tmp_path):
    place = write_folder(tmp_path / "own")
    before = identify("folder", 16, data_dir=place)
    (tmp_path / "own" / "cat" / "0.png").rename(tmp_path / "own" / "dog" / "9.png")
    assert identify("folder", 16, data_dir=place) != before


def test_what_cannot_be_identified_is_empty_and_nothing_is_downloaded(tmp_path, monkeypatch):
    make_fashion(monkeypatch)
    monkeypatch.setattr("semisiam.data.files.fetch", lambda *_: pytest.fail("a download"))
    place = write_folder(tmp_path / "own")
    (tmp_path / "own" / "cat" / "0.png").write_bytes(b"")
    cells = [Cell(dataset=name) for name in ("fashion_mnist", "stl10", "malaria", "folder")]
    cells += [Cell(dataset="folder", data_dir=where) for where in ("/nowhere", place)]
    assert [cli.identify(cell) for cell in cells] == [""] * 6


# reduced scale


def test_limits_are_stratified_seeded_and_said():
    full, data = load("digits", 8), load("digits", 8, unlabelled_limit=200, test_limit=100)
    assert len(data.train) == 200 and len(data.test) == 100
    assert data.unlabelled is data.train  # so D_l, drawn from train, lies inside D_u
    assert set(np.bincount(data.train_labels)) <= {19, 20, 21}
    assert "reduced scale: 200 of 1,198 unlabelled images" in data.notes
    assert "reduced scale: 100 of 599 test images" in data.notes
    place = {name: row for row, name in enumerate(full.parts["train"].names)}
    rows = [place[name] for name in data.parts["train"].names]
    assert (full.train[rows] == data.train).all()
    assert (full.train_labels[rows] == data.train_labels).all()
    other = load("digits", 8, unlabelled_limit=200, seed=1)
    assert set(other.parts["train"].names) != set(data.parts["train"].names)


def test_limits_leave_the_labelled_images_of_stl10_alone(tmp_path):
    write_tar(
        tmp_path / "stl10_binary.tar.gz",
        make_stl10({"train": [1, 2, 3], "test": [1, 1, 2, 2]}, 20),
    )
    data = load("stl10", 32, data_dir=str(tmp_path), unlabelled_limit=7, test_limit=2)
    assert (len(data.train), len(data.unlabelled), len(data.test)) == (3, 7, 2)
    assert data.test_labels.tolist() == [0, 1]


def test_a_limit_above_what_there_is_changes_nothing():
    assert load("digits", 8, test_limit=5000).content == load("digits", 8).content


def test_a_limit_below_the_number_of_classes():
    with pytest.raises(DataError, match="test_limit = 9 is less than one image for each of 10"):
        load("digits", 8, test_limit=9)


def test_names_that_do_not_exist():
    with pytest.raises(DataError, match="unknown data set 'digit'"):
        load("digit", 8)
    with pytest.raises(DataError, match="for malaria also 'patient'"):
        load("digits", 8, test_split="patient")


# the cache


def test_a_second_load_prepares_nothing(prepared_folder):
    folder = load("digits", 8).folder
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    load("digits", 8, test_limit=50)
    load("digits", 8, seed=3)
    assert visible(prepared_folder) == [folder.name]
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def shift(path):
    path.write_bytes(b"x" * 100 + path.read_bytes())


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *(
            (file, damage)
            for file in ("train.bin", "test.bin")
            for damage in (cut, shift, Path.unlink)
        ),
        *(("items.npz", damage) for damage in (cut, flip, Path.unlink)),
    ],
)
def test_damaged_arrays_are_noticed_and_made_again(prepared_folder, file, damage):
    data = load("digits", 8)
    expected = data.train.copy()
    damage(data.folder / file)
    again = load("digits", 8)
    assert (again.train == expected).all() and again.content == data.content
    assert visible(prepared_folder) == [data.folder.name]


def test_a_folder_that_changes_while_it_is_read_is_told(tmp_path, monkeypatch):
    place = write_folder(tmp_path / "own")
    read = sources.read_layout

    def read_and_change(*words):
        (Path(place) / "cat" / "new.png").write_bytes((Path(place) / "cat" / "0.png").read_bytes())
        return read(*words)

    monkeypatch.setattr(sources, "read_layout", read_and_change)
    with pytest.raises(DataError, match="changed while it was read"):
        load("folder", 16, data_dir=place)


def test_a_path_that_the_system_refuses_is_told():
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        load("folder", 16, data_dir="x" * 5000)


def test_a_data_set_in_use_survives_being_made_again(prepared_folder):
    data = load("digits", 8)
    expected = data.train.copy()
    (data.folder / "items.npz").unlink()
    load("digits", 8)
    assert (data.train == expected).all()


def test_cells_that_prepare_at_once_do_not_harm_each_other(prepared_folder):
    code = "from semisiam.data.datasets import load; print(load('digits', 24).content)"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    contents = {process.communicate(timeout=60)[0] for process in running}
    assert contents == {load("digits", 24).content + "\n"}
    assert len(visible(prepared_folder)) == 1


def test_what_a_killed_run_leaves_is_cleared_away(prepared_folder):
    code = """
import os, signal
from semisiam.data import datasets
datasets.np.savez = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # arrays are written
datasets.load("digits", 8)
"""
    killed = subprocess.run([sys.executable, "-c", code])
    assert killed.returncode == -signal.SIGKILL
    assert visible(prepared_folder) != []
    data = load("digits", 8)
    assert visible(prepared_folder) == [data.folder.name]


def test_a_full_disk(prepared_folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # 1 MB a file; 3.7 are needed
    try:
        with pytest.raises(DataError, match=r"to the cache .*: File too large; .* space"):
            load("digits", 32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible(prepared_folder) == []


def test_a_disk_without_locks_is_not_told_to_make_room(monkeypatch):
    def no_locks(_):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("semisiam.data.datasets.FileLock", no_locks)
    with pytest.raises(DataError, match=r"support flock; .* on a disk that knows locks"):
        load("digits", 8)


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEMISIAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="set SEMISIAM_CACHE to a folder that can be written"):
        load("digits", 8)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_serves_what_is_in_it(prepared_folder):
    expected = load("digits", 8).content
    prepared_folder.chmod(0o555)
    try:
        assert load("digits", 8).content == expected
        with pytest.raises(DataError, match="Permission denied"):
            load("digits", 16)
    finally:
        prepared_folder.chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_preparing_holds_one_image_in_memory_and_not_all(tmp_path):
    labels = {"train": [1, 2], "test": [1, 2]}
    write_tar(tmp_path / "small" / "stl10_binary.tar.gz", make_stl10(labels, 10))
    write_tar(tmp_path / "large" / "stl10_binary.tar.gz", make_stl10(labels, 1500))  # 41 MB
    code = """
from pathlib import Path
from semisiam.data import datasets

def load_and_see_peak(name):
    data = datasets.load("stl10", 96, data_dir=f"{FOLDER}/{name}")
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return peak, data.unlabelled.nbytes / 2**20

before, _ = load_and_see_peak("small")
after, size = load_and_see_peak("large")
assert size > 39, size
assert after - before < 15, (before, after)
"""
    subprocess.run([sys.executable, "-c", f"FOLDER = {str(tmp_path)!r}\n{code}"], check=True)


# one more source, as notebook 01 shows it


def test_a_sixth_source_is_one_function_and_one_line(monkeypatch):
    def stripes(folder):
        labels = np.arange(20) % 2
        images = np.zeros((20, 8, 8), np.uint8)
        images[::2, ::2] = images[1::2, :, ::2] = 255
        train = sources.number(images, "stripes", labels)
        parts = {"train": train, "test": train.select(labels == labels[:1])}
        return sources.Source("stripes", lambda: Raw(("across", "along"), parts))

    monkeypatch.setitem(sources.SOURCES, "stripes", stripes)
    data = load("stripes", 8)
    assert np.bincount(data.train_labels).tolist() == [10, 10]
    assert (data.test[0, ::2] == 255).all() and (data.test[0, 1::2] == 0).all()


# descriptions


def test_duplicates_within_and_across_parts_are_counted(tmp_path):
    labels = {"train": [1, 2, 2, 1], "test": [2, 1]}
    files = make_stl10(labels, 3)
    image = 96 * 96 * 3
    train, test = files["train_X.bin"], files["test_X.bin"]
    files["train_X.bin"] = train[:image] * 2 + train[2 * image :]
    files["test_X.bin"] = train[:image] + test[image:]
    write_tar(tmp_path / "stl10_binary.tar.gz", files)
    table = describe_parts(load("stl10", 32, data_dir=str(tmp_path)))
    assert table["images"].to_dict() == {"train": 4, "test": 2, "unlabelled": 3}
    assert table["repeats"].to_dict() == {"train": 1, "test": 0, "unlabelled": 0}
    assert table["in train"].to_dict() == {"train": "-", "test": 1, "unlabelled": 0}


def test_test_images_among_the_unlabelled_ones_are_told(tmp_path):
    place = write_folder(tmp_path / "own")
    image = make_images(1, 20, 30, 3, seed=9)[0]
    copy = {f"{name}/copy.png": encode(image) for name in ("test/cat", "unlabelled")}
    write_files(tmp_path / "own", copy | {"test/dog/0.png": encode(255 - image)})
    write_folder(tmp_path / "own", ["unlabelled"])
    notes = load("folder", 16, data_dir=place).notes
    assert "test images that are unlabelled images, too: 1" in notes
    write_files(tmp_path / "own", {"cat/copy.png": encode(image)})
    assert "test images that are train images, too: 1" in load("folder", 16, data_dir=place).notes


def test_a_cut_of_the_unlabelled_images_is_described():
    data = load("digits", 8, unlabelled_classes="other")
    assert describe_parts(data).loc["unlabelled", "heights"] == "8-8"


def test_sizes_before_resizing_and_classes_are_described(tmp_path):
    write_folder(tmp_path / "own", ["cat"], size=(20, 30))
    data = load("folder", 16, data_dir=write_folder(tmp_path / "own", ["dog"], size=(25, 10)))
    table = describe_parts(data)
    assert table.loc["train", ["heights", "widths"]].tolist() == ["20-25", "10-30"]
    assert "cat        4     2" in summarise(data)


# the command


def run(*arguments: str):
    return invoke("data", *arguments)


def test_the_command_prepares_and_describes():
    result = run("digits", "--size", "16")
    assert result.exit_code == 0, result.output
    for words in ("digits, 16 px", "1198", "a fixed stratified third", "kept in"):
        assert words in result.output


def test_a_relative_cache_is_that_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMISIAM_CACHE", "here")  # kernels run in other folders
    assert run("digits", "--size", "8").exit_code == 0
    assert os.environ["SEMISIAM_CACHE"] == str(tmp_path / "here")
    assert (tmp_path / "here" / "prepared").is_dir()
    monkeypatch.setenv("SEMISIAM_CACHE", "~nobody-of-this-name")
    assert "there is no such user" in run("digits").output


def test_a_mistake_ends_in_one_message():
    result = run("digitz")
    assert result.exit_code == 1 and "Error: unknown data set 'digitz'" in result.output


def test_without_network_the_command_says_which_file_to_put_where(tmp_path, monkeypatch):
    make_fashion(monkeypatch, "http://127.0.0.1:9/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    result = run("fashion_mnist")
    assert result.exit_code == 1
    assert "put the file train-labels-idx1-ubyte.gz (" in result.output
    assert str(tmp_path / "cache" / "downloads" / "fashion_mnist") in result.output


def test_a_folder_whose_name_is_no_utf8_gives_messages_all_the_same(tmp_path):
    place = write_folder(tmp_path / os.fsdecode(b"caf\xe9"), ["cat"])
    command = [sys.executable, "-m", "semisiam", "data", "folder", "--dir", place]
    ran = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert ran.returncode == 1 and ran.stderr.startswith("Error: ")
    assert "caf\\xe9 has 1 class folders" in ran.stderr


def test_the_command_leaves_out_damaged_images_when_told(tmp_path):
    place = write_folder(tmp_path / "own")
    (tmp_path / "own" / "cat" / "0.png").write_bytes(b"")
    result = run("folder", "--dir", place)
    assert result.exit_code == 1 and "cat/0.png is empty" in result.output
    command = result.output.strip().split(": semisiam data ")[1].split()
    result = run(*command)
    assert result.exit_code == 0 and "left out (1): cat/0.png" in result.output


def test_how_classes_were_recorded_is_told(tmp_path):
    """One microscope for each class: a network may learn the microscope."""
    images = [encode(image) for image in make_images(6, 20, 30, 3)]
    larger = [encode(image, "jpeg") for image in make_images(6, 31, 20, 3)]
    files = {f"cat/{i}.png": image for i, image in enumerate(images)}
    files |= {f"dog/{i}.jpg": image for i, image in enumerate(larger)}
    notes = load("folder", 16, data_dir=str(write_files(tmp_path / "own", files))).notes
    assert "sizes tell classes apart, longer side in px: cat 30-30, dog 31-31" in notes
    assert "file formats tell classes apart: cat .png, dog .jpg" in notes
    files |= {"dog/6.png": images[0], "cat/6.jpg": larger[0]}
    notes = load("folder", 16, data_dir=str(write_files(tmp_path / "own", files))).notes
    assert "tell classes apart" not in "".join(notes)


def test_what_is_odd_in_one_class_alone_is_told(tmp_path):
    place = write_folder(tmp_path / "own", ["cat", "dog"])
    (tmp_path / "own" / "test").mkdir()
    write_folder(tmp_path / "own" / "test", ["cat", "dog"], n=2)
    one = (tmp_path / "own" / "cat" / "0.png").read_bytes()
    grey = {f"cat/{i}.png": encode(image) for i, image in enumerate(make_images(6, 9, 9, seed=5))}
    same = {"dog/6.png": one, "cat/7.png": one, "cat/8.png": encode(np.zeros((9, 9, 3), np.uint8))}
    broken = {"test/dog/0.png": b"", "test/dog/1.png": b""}
    write_files(tmp_path / "own", grey | same | broken)
    notes = load("folder", 16, data_dir=place, skip_damaged=True).notes
    for told in (
        "images converted, grey: 6, the labelled ones all of cat",
        "images of one value all over: 1",
        "pictures that have more than one class: 1",
        "test images of dog: none",
    ):
        assert told in notes
