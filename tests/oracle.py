"""Compare the searched mark with two other implementations of the one-pixel shortcut.

`oracle.py [STL10_FOLDER]` writes `outputs/published/oracle.csv`, for the page beside it. The
others are no dependencies: `perturb` of the authors (github.com/cychomatica/One-Pixel-Shotcut, MIT;
it needs PyTorch and tqdm) and the Adversarial Robustness Toolbox (its branch dev_1.21.0 has the
attack, no release does) have to be on PYTHONPATH. Nothing of them is in this project.
"""

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
from art.attacks.poisoning.one_pixel_shortcut_attack import OnePixelShortcutAttack
from perturb import pixel_search

from semisiam import ROOT
from semisiam.data import datasets
from semisiam.method import attack, splits

SETS = [("fashion_mnist", 0.05, {"unlabelled_limit": 2000})]  # the sets of `audit_controls`


def mark_by_us(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark images, uint8 (N, S, S, 3), as `attack: searched` does."""
    return attack.attack(images, labels, *attack.search_places(images, labels, seed=0))


def mark_by_authors(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark images as Wu et al. do: the largest mean over standard deviation."""
    change = pixel_search(SimpleNamespace(data=images, targets=labels))
    return np.round(images + 255 * change).astype(np.uint8)


def mark_by_art(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mark images as the toolbox does: the largest mean minus variance."""
    marked, _ = OnePixelShortcutAttack().poison((images / 255).astype(np.float32), labels)
    return np.round(255 * marked).astype(np.uint8)


MARKS = {"ours": mark_by_us, "authors": mark_by_authors, "ART": mark_by_art}


def find_mark(before: np.ndarray, after: np.ndarray) -> dict[str, int]:
    """Find the one pixel that differs between two stacks of images: place and colour, if any."""
    changed = np.argwhere((before != after).any(axis=(0, -1)))
    if not len(changed):
        return {}
    ((row, column),) = changed
    colour = dict(zip(("red", "green", "blue"), after[0, row, column].tolist(), strict=True))
    return {"row": int(row), "column": int(column)} | colour


def main(stl10: str = "") -> None:
    """Search the marks of three labelled sets of each data set, class by class."""
    warnings.simplefilter("ignore")  # the authors divide by 0 where a place never differs
    sets = SETS + ([("stl10", 0.05, {"data_dir": stl10})] if stl10 else [])
    rows = []
    for name, share, settings in sets:
        data = datasets.load(name, 32, **settings)
        count = splits.count_labelled(share, len(data.unlabelled))
        for split in range(3):
            chosen = splits.draw_labelled(data.train_labels, count, split=split, seed=0)
            images, labels = np.array(data.train[chosen]), data.train_labels[chosen]
            for source, mark in MARKS.items():
                marked = mark(images, labels)
                for c, of_class in enumerate(data.class_names):
                    found = find_mark(images[labels == c], marked[labels == c])
                    about = {"dataset": name, "n_labelled": count, "split": split}
                    rows.append(about | {"source": source, "class": of_class} | found)
    path = ROOT / "outputs" / "published" / "oracle.csv"
    pd.DataFrame(rows).convert_dtypes().to_csv(path, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
