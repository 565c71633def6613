"""Cheap defences: filters on the labelled images that may wash a mark out.

They change D_l alone, before training and before the SVM; D_u and test images stay as they are
(image shortcut squeezing, Liu et al., ICML 2023, does the same with grey and JPEG).
"""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import median_filter


def median(images: np.ndarray) -> np.ndarray:
    """Replace each pixel by the median of its 3 × 3 neighbourhood, channel by channel."""
    return median_filter(images, size=(1, 3, 3, 1), mode="nearest")


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress each image as JPEG of a quality from 1 to 95."""
    return np.stack([_compress(image, quality) for image in images])


def grey(images: np.ndarray) -> np.ndarray:
    """Replace each pixel by its luma (ITU-R 601), repeated to three channels."""
    return np.stack([np.asarray(Image.fromarray(i).convert("L").convert("RGB")) for i in images])


def defend(images: np.ndarray, defence: str, *, jpeg_quality: int) -> np.ndarray:
    """Apply `none`, `median`, `jpeg` or `grey` to images: uint8 (N, S, S, 3) to the same."""
    if defence == "jpeg":
        return jpeg(images, jpeg_quality)
    return {"none": np.asarray, "median": median, "grey": grey}[defence](images)


def _compress(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as compressed:
        return np.asarray(compressed)
