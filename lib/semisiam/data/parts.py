"""Which image belongs where: class folders or a label table, and test sets drawn at random."""

import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from semisiam.data import files
from semisiam.data.files import DataError, Opener, count_unsupported, enumerate_few, is_image

LAYOUT = (
    "expected are CLASS/*.png|jpg|... with an optional unlabelled/* and test/CLASS/*, or images "
    "beside a labels.csv with the columns file,label[,group]"
)
TEST = r"(test|eval)(ing|uation)?|val(id(ation)?)?|hold.?out"
OTHER = r"train(ing)?|to.?label|labell?ed|(un|no|not).?(label(l?ed|s)?|tagged|annotated|sorted)"
AROUND = r"[\d_. -]*({})([ _.-]*\(?(images?|data|set|copy|\d)\)?)*[_. -]*"
TABLE = re.compile(r"labels?( ?\(\d+\))?\.(csv|tsv|xlsx?|ods)(\.csv)?", re.I)  # misnamed ones, too
NO_CLASS = re.compile(AROUND.format(f"{TEST}|{OTHER}"), re.I)  # names of parts, as of folders
OF_TEST = re.compile(rf"(.*/)?({TEST})[ _-]?(images?|data|set)?/.*", re.I)
NO_LABEL = {"na", "n/a", "n.a.", "#n/a", "<na>", "nan", "none", "null", "?", "-", "--", "-1"}
NO_LABEL |= {"unknown", "missing", "tbd", "todo"}
NOTHING = np.zeros(0, np.int64)


class Part(NamedTuple):
    """The images of one part of a data set, in order: as read, then as prepared."""

    images: Iterable[Opener | np.ndarray] | np.ndarray  # prepared: uint8 (N, S, S, 3), on disk
    names: np.ndarray  # where each image came from, e.g. a file name; str (N,)
    labels: np.ndarray  # int64 (N,), classes from 0; -1 where there is none
    groups: np.ndarray = NOTHING  # what an image shares with others, e.g. its patient; str (N,)
    digests: np.ndarray = NOTHING  # prepared: of the original pixels, uint8 (N, 16)

    def select(self, rows: np.ndarray) -> "Part":
        """Copy those rows, int or bool, of everything that is not empty."""
        return Part(*(np.asarray(column[rows]) if len(column) else column for column in self))


class Raw(NamedTuple):
    """A data set as read: parts `train` and, where there are such images, `test`, `unlabelled`."""

    class_names: Sequence[str]
    parts: dict[str, Part]
    notes: Sequence[str] = ()


def read_layout(place: Path, members: dict[str, Opener]) -> Raw:
    """Read one's own images, class folders or beside labels.csv. Raises `DataError`."""
    if not any(map(is_image, members)):
        raise DataError(f"{place} holds no image{count_unsupported(members)}: {LAYOUT}")
    tables = [n for n in members if TABLE.fullmatch(n)]
    if tables and "labels.csv" not in members:
        raise DataError(f"{place} has {tables[0]}: save it as CSV UTF-8 and call it labels.csv")
    raw = (_read_table if tables else _read_classes)(place, members)
    single = np.flatnonzero(np.bincount(raw.parts["train"].labels) == 1)
    if "test" not in raw.parts and len(single):
        told = ", ".join(raw.class_names[c] for c in single)
        told += ": add more, or give test images of their own"
        raise DataError(f"{place} has a single image of {told}")
    left_out = files.tell_left_out([name for name in members if name != "labels.csv"])
    if hidden := files.list_hidden(place):
        left_out.append(f"hidden images left out ({len(hidden)}): {enumerate_few(hidden)}")
    if twice := find_twins(raw.class_names):
        told = "alike but for spaces, invisible letters, zeros or a last dot: use one name"
        raise DataError(f"{place} has classes {told}: {', '.join(map(repr, twice))}")
    if twice := find_twins(raw.class_names, str.casefold):
        left_out.append(f"classes that differ in upper and lower case alone: {', '.join(twice)}")
    words = {name: NO_CLASS.fullmatch(name) for name in raw.class_names}
    words |= dict.fromkeys(raw.parts["train"].groups, None)
    ends = pd.Series([Path(name).suffix.lower() for name in raw.parts["train"].names])
    ends = ends.groupby(np.array(raw.class_names)[raw.parts["train"].labels]).agg(set)
    if not set.intersection(*ends):
        told = [f"{name} {' '.join(sorted(of))}" for name, of in ends.items()]
        left_out.append(f"file formats tell classes apart: {enumerate_few(told, 10)}")
    if unnamed := [word for word, odd in words.items() if odd or word.casefold() in NO_LABEL]:
        told = "taken for a class or group, not for a missing one"
        left_out.append(f"{told}: {', '.join(unnamed)}")
    return raw._replace(notes=[*left_out, *raw.notes])


def find_twins(names: Iterable[str], fold: Callable[[str], str] = str) -> list[str]:
    """Find names that agree when folded, but for invisible letters, spaces, zeros, a last dot."""
    seen: dict[str, list[str]] = {}
    for name in names:
        visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
        key = fold(" ".join(unicodedata.normalize("NFKC", visible).split())).rstrip(" .")
        whole = re.fullmatch(r"0*(\d+)(\.0*)?", key, re.ASCII)  # 1, 01 and 1.0, not 1.1 and 1.10
        seen.setdefault(whole[1] if whole else key, []).append(name)
    return [name for alike in seen.values() if len(alike) > 1 for name in alike]


def choose_images(place: Path, members: dict[str, Opener], folders: Sequence[str]) -> Part:
    """Choose the image files in some folders of one depth; labels are places in `folders`.

    Raises `DataError` where a folder has no image.
    """
    depth = folders[0].count("/") + 1
    inside = {name: "/".join(name.split("/")[:depth]) for name in members}
    names = [name for name in members if is_image(name) and inside[name] in folders]
    full = {inside[name] for name in names}
    if missing := [folder for folder in folders if folder not in full]:
        others = count_unsupported(name for name in members if inside[name] in missing)
        told = f"no image in {', '.join(missing)}{others}"
        left = "test/, which needs every class" if folders[0][:5] == "test/" else "the folder"
        raise DataError(f"{place} has {told}: add some, or remove {left}")
    return _take(members, names, [folders.index(inside[name]) for name in names])


def _take(members: dict[str, Opener], names: list[str], labels: list[int], groups=()) -> Part:
    images = np.array([members[name] for name in names], object)
    of = np.array([groups.get(name, "") for name in names]) if groups else NOTHING
    return Part(images, np.array(names), np.array(labels, np.int64), of)


def _read_classes(place: Path, members: dict[str, Opener]) -> Raw:
    folders = [name[:-1] for name in files.walk(place) if name[-1] == "/"]
    tops, inner = [n for n in folders if "/" not in n], [n for n in folders if "/" in n]
    classes = [top for top in tops if top not in ("test", "unlabelled")]
    nested = {name.split("/")[0] for name in inner}
    plain = {c: re.sub(r"^[\d_. -]+", "", c) == "train" and c not in nested for c in classes}
    odd = [c for c in classes if NO_CLASS.fullmatch(c.strip()) and not plain[c]]
    if odd:
        told = f"which is no class (or give it another name): {LAYOUT}"
        raise DataError(f"{place} has {', '.join(odd)}, {told}")
    ends = {n: n.rsplit("/", 1)[1] for n in inner if n.split("/")[0] in classes}
    if odd := [n for n, end in ends.items() if end in classes or NO_CLASS.fullmatch(end)]:
        told = "inside a class, called like a class or a part: rename, move or remove them"
        raise DataError(f"{place} has folders {told}: {enumerate_few(odd)}; {LAYOUT}")
    if (count := len(classes)) < 2:
        raise DataError(f"{place} has {count} class folders: at least 2 are needed; {LAYOUT}")
    of_test = [name[5:] for name in folders if name.startswith("test/") and name.count("/") == 1]
    if unknown := [name for name in of_test if name not in classes]:
        raise DataError(f"{place}/test has {', '.join(unknown)}, which is no class")
    parts = {"train": choose_images(place, members, classes)}
    if "test" in tops:
        parts["test"] = choose_images(place, members, [f"test/{name}" for name in classes])
    if "unlabelled" in tops:
        parts["unlabelled"] = choose_images(place, members, ["unlabelled"])
        parts["unlabelled"].labels[:] = -1
    loose = set(filter(is_image, members)).difference(*(part.names for part in parts.values()))
    told = f"images outside the class folders left out ({len(loose)}): "
    notes = [told + enumerate_few(sorted(loose))] if loose else []
    if below := {name.rpartition("/")[0] for name in parts["train"].names} - set(classes):
        notes.append(f"folders within a class taken for it: {enumerate_few(sorted(below))}")
    under = [{n.split("/")[1] for n in below if n.startswith(f"{c}/")} for c in classes]
    if len(same := sorted(set.intersection(*under))) > 1:
        notes.append(f"every class folder holds {', '.join(same)}: are these the classes?")
    return Raw(classes, parts, notes)


def _read_table(place: Path, members: dict[str, Opener]) -> Raw:
    path, images = place / "labels.csv", list(filter(is_image, members))
    table = _parse_table(path)
    spelt = {unicodedata.normalize("NFC", name): name for name in members}  # macOS takes ä apart
    slashes = table["file"].str.normalize("NFC").str.replace("\\", "/").str.removeprefix("./")
    found = slashes.map(spelt).fillna(table["file"])
    table["file"] = table["file"].where(table["file"].isin([*members]), found)
    table = table.sort_values("file")
    named, labelled = table["file"][table["file"] != ""], table[table["label"] != ""]
    of_test = sorted(filter(OF_TEST.fullmatch, {*images} - {*labelled["file"]}))
    others = sorted({*images} - {*labelled["file"], *of_test})
    rowless = sorted(set(others) - set(named))
    grouped = labelled if any(labelled["group"]) else labelled[:0]
    near = {name.rpartition(".")[0].casefold(): f" (there is {name})" for name in images}
    wrong = {
        "names files more than once": named[named.duplicated()].unique(),
        "names files that are not there": [
            name + near.get(re.sub(r"\.\w+$", "", name).casefold(), "")
            for name in named
            if name not in members
        ],
        "has labels for images in a folder of test images (leave them empty, or rename it)": [
            name for name in labelled["file"] if OF_TEST.fullmatch(name)
        ],
        "names files that are no images": [name for name in named if not is_image(name)],
        "gives labels without a file": labelled[labelled["file"] == ""]["label"],
        "needs a row (without a label, if unlabelled) for images outside unlabelled/": [
            name for name in rowless if "/" in name and not name.startswith("unlabelled/")
        ],
        "gives no group to labelled images": grouped[grouped["group"] == ""]["file"],
        "has groups alike but for case, spaces, invisible letters, zeros or a dot": find_twins(
            sorted(set(table["group"])), str.casefold
        ),
        "needs labelled images of a second group for classes": [
            name for name, of in grouped.groupby("label")["group"] if 1 == of.nunique() < len(of)
        ],
    }
    for what, of in wrong.items():
        if len(of):
            raise DataError(f"{path} {what} ({len(of)}): {enumerate_few([*of])}; mend the table")
    if len(classes := sorted(set(labelled["label"]))) < 2:
        raise DataError(f"{path} has {len(classes)} classes: at least 2 are needed")
    groups = dict(zip(table["file"], table["group"], strict=True)) if len(grouped) else {}
    labels = [*map(classes.index, labelled["label"])]
    parts = {"train": _take(members, [*labelled["file"]], labels, groups)}
    if others:
        parts["unlabelled"] = _take(members, others, [-1] * len(others), groups)
    n_read = 2 + bool(len(grouped))
    extra = [f"column {c!r} of labels.csv left out" for c in list(table)[n_read:] if any(table[c])]
    folders = labelled["file"].map(lambda name: Path(name).parent.name)
    elsewhere = folders.isin(classes) & (folders != labelled["label"])
    told = {
        "images in a folder of test images left out": of_test,
        "images without a row taken for unlabelled": [n for n in rowless if "/" not in n],
        "labels that are not that of the folder": [*labelled["file"][elsewhere]],
    }
    extra += [f"{what} ({len(of)}): {enumerate_few(of)}" for what, of in told.items() if of]
    return Raw(classes, parts, extra)


def _parse_table(path: Path) -> pd.DataFrame:
    """Read a label table: columns file, label, group, then others; "" for what is not given."""
    try:
        text = path.read_text("utf-8-sig")
        mark = max(",;\t", key=text.partition("\n")[0].count)  # Excel writes ; in half of Europe
        with warnings.catch_warnings(action="error"):  # of fields beyond the columns
            how = {"keep_default_na": False, "index_col": False, "skipinitialspace": True}
            table = pd.read_csv(io.StringIO(text), sep=mark, dtype=str, **how)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path} is not UTF-8 in line {line}: save it as CSV UTF-8") from None
    except (ValueError, Warning) as error:
        quotes = f"; values that hold {mark!r} need quotes" * (
            "field" in str(error) or "length" in str(error)
        )
        told = f"cannot be read as a CSV: {str(error).strip()}{quotes}; it needs file,label[,group]"
        raise DataError(f"{path} {told}") from None
    columns = [re.sub(r"^(file|label|group)\.\d+$", r"\1", n.strip().lower()) for n in table]
    table.columns = columns  # pandas calls a second label label.1
    if not {"file", "label"} <= set(columns) or len(set(columns)) < len(columns):
        raise DataError(f"{path} has the columns {','.join(columns)}: it needs file,label[,group]")
    names = dict.fromkeys(["file", "label", "group", *columns])
    table = table.reindex(columns=[*names], fill_value="").fillna("")
    table = table.apply(lambda column: column.str.strip())
    return table.assign(**{of: table[of].str.normalize("NFC") for of in ("label", "group")})


class Halving(NamedTuple):
    """How a data set without an official test set gets one: drawn by `seed`, or as recorded."""

    seed: int = 0
    test_split: str = "random"  # or "patient" (malaria) or "group" (of a label table)
    test_rows: Sequence[int] | None = None  # recorded places among all images in order

    def __str__(self) -> str:
        """Describe it for notes; equal texts mean equal halves."""
        if self.test_rows is None:
            return f"drawn by {self.test_split} with seed {self.seed}"
        return f"as recorded ({hashlib.sha256(str(list(self.test_rows)).encode()).hexdigest()[:8]})"


def draw_test(raw: Raw, share: float, halving: Halving) -> tuple[Raw, list[int]]:
    """Draw a test set from `train` where there is none, and note it; returns its places too.

    At random `share` of the images is for test, by patient a half, by group a third. Raises
    `DataError` where groups are too few, or the record is of other images.
    """
    if "test" in raw.parts:
        return raw, []
    images, own = raw.parts["train"], share < 1 / 2
    if own and len(images.groups):
        halving = halving._replace(test_split="group")
    is_test = _choose_test(images, share, halving)
    halves = {"train": images.select(~is_test), "test": images.select(is_test)}
    said = f"test set: {'a third of the labelled images,' if own else 'a half'} {halving}"
    if len(images.groups) and halving.test_split != "group":
        shared = np.intersect1d(halves["train"].groups, halves["test"].groups)
        n_groups = len(np.unique(images.groups))
        said += f"; {len(shared)} of {n_groups} patients are on both sides"
    others = raw.parts["unlabelled"].groups if "unlabelled" in raw.parts else NOTHING
    if of_test := np.isin(others, halves["test"].groups).sum():
        said += f"; {of_test} unlabelled images are of groups in the test set"
    rows = np.flatnonzero(is_test).tolist()
    return Raw(raw.class_names, raw.parts | halves, [*raw.notes, said]), rows


def _choose_test(images: Part, share: float, halving: Halving) -> np.ndarray:
    labels, (seed, test_split, rows) = images.labels, halving
    if rows is not None:
        is_test = np.isin(np.arange(len(labels)), rows)
        if is_test.sum() != len(rows) or is_test.all() or not is_test.any():
            told = f"{len(labels):,} images: {len(rows):,} places from {min(rows, default=0)} on"
            raise DataError(f"the recorded test set is not one of these {told}")
        return is_test
    if test_split == "random":
        return hold_out(labels, share, seed)
    draw = {"patient": halve_patients, "group": hold_out_groups}[test_split]
    return draw(images.groups, labels, seed)


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose `share` of all images at random for test, at least one of each class: bool (N,)."""
    count = max(round(share * len(labels)), len(np.unique(labels)))
    return np.isin(np.arange(len(labels)), draw_stratified(labels, count, seed))


def hold_out_groups(groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Choose about a third for test, stratified, no group on both: bool (N,), or `DataError`."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow, and rarely needed

    folds, n_classes = StratifiedGroupKFold(3, shuffle=True, random_state=seed), len(set(labels))
    if len(set(groups)) >= 3 and np.bincount(labels).max() >= 3:
        with warnings.catch_warnings(action="ignore"):  # of a class with two images, which may do
            thirds = list(folds.split(labels, labels, groups))
        whole = [t for t in thirds if all(len(set(labels[side])) == n_classes for side in t)]
        if whole:
            _, test = min(whole, key=lambda sides: abs(3 * len(sides[1]) - len(labels)))
            return np.isin(np.arange(len(labels)), test)
    told = "label images of more groups, at least 3 with each class"
    raise DataError(f"no third of the groups has images of every class and leaves some: {told}")


def draw_stratified(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draw `count` images at random, each class by its share, but at least one image of each.

    `count` is at least the number of classes. Returns sorted indices, int64 (count,).
    """
    rng = np.random.default_rng([seed, count])
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * (count / len(labels))
    quotas = np.maximum(np.floor(shares), 1).astype(int)
    while quotas.sum() < count:
        quotas[np.argmax(shares - quotas)] += 1
    while quotas.sum() > count:
        quotas[np.argmax(np.where(quotas > 1, quotas - shares, -np.inf))] -= 1
    drawn = [
        rng.choice(np.flatnonzero(labels == c), quota, replace=False)
        for c, quota in zip(classes, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def halve_patients(patients: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Halve images so that no patient is on both sides and the classes are nearly even: bool (N,).

    Patients are taken in random order; each joins the side that it makes more even.
    """
    rng = np.random.default_rng(seed)
    excess = np.zeros(labels.max() + 1)  # how many more train than test images a class has
    is_test = np.zeros(len(labels), bool)
    for patient in rng.permutation(np.unique(patients)):
        of_patient = patients == patient
        counts = np.bincount(labels[of_patient], minlength=len(excess))
        to_test = np.abs(excess - counts).sum() < np.abs(excess + counts).sum()
        excess += -counts if to_test else counts
        is_test |= of_patient & to_test
    return is_test
