"""The per-class one-pixel attack on the labelled images (paper, III-C and Figure 4), and defences.

Two controls stand beside the paper's attack: `random` marks every image at a place of its own, so
that the mark says nothing of the class; `searched` looks for the marks that are learnt most easily.
A third one, `patch`, lays a faint pattern over each image, one a class (Yu et al., KDD 2022, vary
it by image). Defences are filters on D_l that may wash a mark out (image shortcut squeezing, Liu et
al., ICML 2023: grey and JPEG). Images are uint8 (N, S, S, 3), 0-255, and never changed in place.
"""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import median_filter

WHITE = 255
GRID = 8  # blocks a side of the patch attack's pattern
FAINT = 8  # grey values by which it changes a pixel, of 255


def choose_places(n_places: int, image_size: int, *, seed: int, draw: int = 0) -> np.ndarray:
    """Choose pixel places, all different, uniformly: int64 (n_places, 2), rows and columns (px).

    The paper chooses "arbitrarily" (III-C); here places are the same for every split of a seed.
    Another `draw` changes nothing else of a run. Raises `ValueError` if there are too few pixels.
    """
    if n_places > image_size**2:
        raise ValueError(f"{n_places} marks in {image_size}² pixels: lower attack_pixels")
    rng = np.random.default_rng([seed, 0x9153, draw])  # NumPy: a last 0 changes nothing
    flat = rng.choice(image_size**2, n_places, replace=False)
    return np.stack(np.divmod(flat, image_size), axis=1)


def search_places(images: np.ndarray, labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, ...]:
    """Search each class's place and extreme value (one-pixel shortcut, Wu et al., ICLR 2023).

    The pixel that deviates most and most evenly from the class's own images: the largest mean of
    |image - value| over 1 + its variance, at all places, for the values 0 and 255. Places differ;
    equally good ones, as in a black border, are drawn from the seed. Returns int64 (n_classes, 2),
    rows and columns (px), and uint8 (n_classes,).
    """
    rng = np.random.default_rng([seed, 0x9154])
    n_classes, size = labels.max() + 1, images.shape[1]
    places, values = np.zeros((n_classes, 2), np.int64), np.zeros(n_classes, np.uint8)
    free = np.ones(size**2, bool)
    for c in range(n_classes):
        pixels = images[labels == c].mean(axis=-1).reshape(-1, size**2)
        mean, spread = pixels.mean(axis=0), pixels.var(axis=0) + 1.0
        scores = np.where(free, np.stack([mean, WHITE - mean]) / spread, -1)
        best = np.argwhere(scores >= scores.max() - 1e-9)
        value, place = best[rng.integers(len(best))]
        values[c], places[c] = WHITE * value, np.divmod(place, size)
        free[place] = False
    return places, values


def choose_marks(
    kind: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    draw: int = 0,
    pixels: int = 1,
    value: int = WHITE,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose each class's mark: `searched` on the labelled images, or at random for any other kind.

    Returns int64 (n_classes, pixels, 2), rows and columns (px), and uint8 (n_classes,), values; for
    `patch` half of the blocks (see `add_patches`) and the strength.
    """
    if kind == "searched":
        places, values = search_places(images, labels, seed=seed)
        return places[:, None], values
    n_classes = labels.max() + 1
    if kind == "patch":
        rng = np.random.default_rng([seed, 0x9157, draw])
        blocks = np.stack([rng.permutation(GRID**2)[: GRID**2 // 2] for _ in range(n_classes)])
        return np.stack(np.divmod(blocks, GRID), axis=-1), np.full(n_classes, FAINT, np.uint8)
    places = choose_places(n_classes * pixels, images.shape[1], seed=seed, draw=draw)
    return places.reshape(n_classes, pixels, 2), np.full(n_classes, value, np.uint8)


def attack(
    images: np.ndarray, labels: np.ndarray, places: np.ndarray, value: int | np.ndarray = WHITE
) -> np.ndarray:
    """Set each image's pixels at its class's places to `value`, in all channels.

    Runs after resizing, so that the mark stays as small as it is. Takes uint8 (N, H, W, C), their
    classes, int (N,), each class's `places`, int (n_classes, P, 2) or (n_classes, 2), row and
    column (px), and `value`, 0-255, for all classes or (n_classes,). Returns a changed copy.
    """
    attacked = np.array(images)  # in memory, also of a memory-mapped array
    rows, columns = places.reshape(len(places), -1, 2)[labels].T
    values = np.broadcast_to(value, len(places))[labels]
    attacked[np.arange(len(images)), rows, columns] = values[:, None]
    return attacked


def add_patches(
    images: np.ndarray, labels: np.ndarray, places: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Lay each image's class pattern over it: faint, and told apart by a linear model.

    The image is a grid of 8 × 8 blocks; those at `places`, int (n_classes, P, 2), get brighter by
    the class's value, (n_classes,), the others darker. Returns a changed copy, uint8 (N, H, W, C).
    """
    signs = np.full((len(places), GRID, GRID), -1, np.int16)
    signs[np.arange(len(places))[:, None], places[..., 0], places[..., 1]] = 1
    block = np.arange(images.shape[1]) * GRID // images.shape[1]
    patterns = signs[:, block][:, :, block] * values[:, None, None].astype(np.int16)
    return np.clip(images + patterns[labels][..., None], 0, 255).astype(np.uint8)


def attack_at_random(
    images: np.ndarray, places: np.ndarray, values: np.ndarray, *, seed: int, draw: int = 0
) -> np.ndarray:
    """Mark each image, uint8 (N, S, S, C), at places of its own: P pixels at most, no shortcut."""
    rng = np.random.default_rng([seed, 0x9155, draw])
    own = rng.integers(images.shape[1], size=(len(images), places.shape[1], 2))
    return attack(images, np.arange(len(images)), own, values[0])


def choose_attacked(labels: np.ndarray, share: float, *, seed: int) -> np.ndarray:
    """Choose which labelled images are attacked, bool (N,): `share` of each class, rounded."""
    rng = np.random.default_rng([seed, 0x9156])
    ranks = np.empty(len(labels))
    for c, count in zip(*np.unique(labels, return_counts=True), strict=True):
        ranks[labels == c] = rng.permutation(count)
    return ranks < np.round(share * np.bincount(labels)[labels])


def defend(images: np.ndarray, defence: str, *, jpeg_quality: int) -> np.ndarray:
    """Filter images by `none`, `median` (3 × 3, channel by channel), `jpeg` (1-95) or `grey`.

    Grey is the luma (ITU-R 601), repeated to three channels.
    """
    if defence == "median":
        return median_filter(images, size=(1, 3, 3, 1), mode="nearest")
    if defence == "jpeg":
        files = [io.BytesIO() for _ in images]
        for image, file in zip(images, files, strict=True):
            Image.fromarray(image).save(file, "JPEG", quality=jpeg_quality)
        return np.stack([Image.open(file) for file in files])
    if defence == "grey":
        return np.stack([Image.fromarray(image).convert("L").convert("RGB") for image in images])
    return images
