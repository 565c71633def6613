"""The pretext task: predict by which of four angles an image was rotated (paper, III)."""

import numpy as np

N_ROTATIONS = 4  # 0°, 90°, 180°, 270°, counter-clockwise


def rotate(images: np.ndarray, quarter_turns: np.ndarray) -> np.ndarray:
    """Rotate each image by its own number of quarter turns.

    Args:
        images: (N, S, S, C), square, any dtype; not changed.
        quarter_turns: int (N,), 0-3; also the pretext labels.

    Returns:
        The rotated images, same shape and dtype.
    """
    rotated = np.empty_like(images)
    for k in range(N_ROTATIONS):
        chosen = quarter_turns == k
        rotated[chosen] = np.rot90(images[chosen], k, axes=(1, 2))
    return rotated


def rotate_all(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotate every image in all four ways (Gidaris et al., ICLR 2018).

    Returns:
        (4N, S, S, C): all images by 0°, then all by 90°, ...; and the pretext labels, int64 (4N,).
    """
    quarter_turns = np.repeat(np.arange(N_ROTATIONS), len(images))
    return rotate(np.concatenate([images] * N_ROTATIONS), quarter_turns), quarter_turns


def draw_rotations(n_images: int, *, seed: list[int], epoch: int) -> np.ndarray:
    """Draw one rotation per image for an epoch, each of the four equally often.

    Drawn from (seed, epoch) alone, so that a resumed run sees what an undisturbed one would.

    Returns:
        int64 (n_images,), quarter turns 0-3; counts differ by at most one.
    """
    rng = np.random.default_rng([*seed, epoch, 0x207])  # a stream of its own
    return rng.permutation(np.arange(n_images) % N_ROTATIONS)
