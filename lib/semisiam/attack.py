"""The per-class one-pixel attack on the labelled images (paper, III-C and Figure 4)."""

import numpy as np

WHITE = 255


def choose_places(n_classes: int, image_size: int, *, seed: int) -> np.ndarray:
    """Choose one pixel place per class, all different, uniformly over the image.

    Returns:
        int64 (n_classes, 2), the row and column (px) of each class's pixel. The same for every
        split of a seed: the paper chooses the places once, "arbitrarily" (III-C).

    Raises:
        ValueError: the image has fewer pixels than there are classes.
    """
    if n_classes > image_size**2:
        raise ValueError(f"{n_classes} classes need as many pixels: {image_size}² is too few")
    rng = np.random.default_rng([seed, 0x9153])  # a stream of its own
    flat = rng.choice(image_size**2, n_classes, replace=False)
    return np.stack(np.unravel_index(flat, (image_size, image_size)), axis=1).astype(np.int64)


def attack(
    images: np.ndarray, labels: np.ndarray, places: np.ndarray, value: int = WHITE
) -> np.ndarray:
    """Set each image's pixel at its class's place to `value`, in all channels.

    Runs after resizing, so that the mark stays one pixel.

    Args:
        images: uint8 (N, H, W, C); not changed.
        labels: int (N,), the classes.
        places: int (n_classes, 2), row and column per class, from `choose_places`.
        value: 0-255.

    Returns:
        A changed copy, uint8 (N, H, W, C).
    """
    attacked = images.copy()
    rows, columns = places[labels].T
    attacked[np.arange(len(images)), rows, columns] = value
    return attacked
