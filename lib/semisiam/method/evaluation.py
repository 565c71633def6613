"""How linearly separable the embedding is (paper, III-C and IV-A)."""

import warnings
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import entropy
from sklearn.exceptions import ConvergenceWarning
from sklearn.manifold import TSNE
from sklearn.metrics import precision_recall_fscore_support, silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

COLLAPSED = 1e-2  # relative spread; a healthy embedding's is near 1
TSNE_POINTS = 1000


def fit_svm(embeddings: np.ndarray, labels: np.ndarray, *, scaled: bool = False) -> SVC | Pipeline:
    """Fit the paper's linear SVM, C = 1, on embeddings of D_l alone, float32 (N_l, D).

    Features are not scaled unless `scaled` (see `Cell.scaled`). With three classes or more
    `decision_function` has one column a pair. Raises `ValueError` if one is infinite or NaN.
    """
    if not np.isfinite(embeddings).all():
        raise ValueError("training diverged, the embedding is not finite: lower learning_rate")
    svm = SVC(kernel="linear", C=1.0, decision_function_shape="ovo")
    return _scale(svm, embeddings, scaled).fit(embeddings, labels)


def _scale(classifier, embeddings, scaled):
    """Let a classifier divide by one number, the standard deviation of all values, first."""
    if not scaled:
        return classifier
    factor = 1 / (embeddings.std(dtype=np.float64) or 1)
    return make_pipeline(FunctionTransformer(partial(np.multiply, factor)), classifier)


def score_embeddings(
    labelled: np.ndarray,
    clean: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    scaled: bool = False,
) -> dict[str, Any]:
    """Score an embedding in all ways a cell records: float32 (N_l, D), and (N_t, D) of `test`.

    `labelled` is that of D_l as trained on (attacked if attacked), `clean` of the same images
    without the attack; `scaled` as in `fit_svm`. Returns
    - `accuracy` of the paper's SVM fitted on `labelled`, `accuracy_linear_svc` of the other common
      solver (one against the rest), `accuracy_clean_fit` of the SVM fitted on `clean`, in [0, 1];
    - `embedding_std` over test images, mean over dimensions; `collapsed`: is it nearly constant?
    - `separability`: see `measure_separability`.
    """
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # of unscaled ones
        one_against_rest = LinearSVC(C=1.0, random_state=0, max_iter=5000)
        one_against_rest = _scale(one_against_rest, labelled, scaled).fit(labelled, labels)
    return {
        "accuracy": float(fit_svm(labelled, labels, scaled=scaled).score(test, test_labels)),
        "accuracy_linear_svc": float(one_against_rest.score(test, test_labels)),
        "accuracy_clean_fit": float(fit_svm(clean, labels, scaled=scaled).score(test, test_labels)),
        "embedding_std": float(test.std(axis=0, dtype=np.float64).mean()),
        "collapsed": measure_spread(test) < COLLAPSED,
        "separability": measure_separability(labelled, labels, test, test_labels),
    }


def report_classes(
    labels: np.ndarray, predictions: np.ndarray, class_names: tuple[str, ...]
) -> pd.DataFrame:
    """Class-wise table as in Tables VII-X: class, precision, recall, f1 and support (test images).

    The measures are in [0, 1], and 0 where undefined.
    """
    known = range(len(class_names))
    scores = precision_recall_fscore_support(labels, predictions, labels=known, zero_division=0)
    columns = dict(zip(("precision", "recall", "f1", "support"), scores, strict=True))
    return pd.DataFrame({"class": class_names} | columns)


def project(embeddings: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Project a seeded subset of at most 1,000 embeddings to the plane by t-SNE (Figures 5-9).

    Returns float32 (M, 2) points and the int64 (M,) indices of the embeddings they stand for. Fewer
    than 4 embeddings, or constant ones, have no projection: NaN.
    """
    rng = np.random.default_rng([seed, 0x75E])
    count = min(TSNE_POINTS, len(embeddings))
    index = np.sort(rng.choice(len(embeddings), count, replace=False))
    if count < 4 or not np.ptp(embeddings[index], axis=0).any():  # t-SNE would end the process
        return np.full((count, 2), np.nan, np.float32), index
    tsne = TSNE(init="pca", perplexity=min(30.0, (count - 1) / 3), random_state=seed)
    with threadpool_limits(1):  # more threads sum in another order, and spin on a busy machine
        return tsne.fit_transform(embeddings[index]), index


def measure_separability(
    embeddings: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> dict[str, float]:
    """Measure embeddings beyond the SVM: float32 (N_l, D) of D_l, (N_t, D) of the test images.

    - `knn_accuracy` of the 5 nearest labelled neighbours, in [0, 1];
    - `silhouette` of the test classes, in [-1, 1], on at most 2,000 images; NaN where every class
      has one of these, or only one class has any;
    - `fisher_ratio`: trace of the scatter between test classes over that within (0 if that is 0);
    - `effective_rank`: exp of the entropy of the normalised singular values of the test embedding
      less its mean (after Roy & Vetterli, EUSIPCO 2007), 1 to D, or 0 for a constant embedding;
    - `dead_units`: dimensions that are 0 on every test image.
    """
    knn = KNeighborsClassifier(n_neighbors=min(5, len(embeddings))).fit(embeddings, labels)
    silhouette = float("nan")
    with suppress(ValueError):  # the images drawn are of one class, or each of its own
        silhouette = silhouette_score(test, test_labels, sample_size=2000, random_state=0)
    return {
        "knn_accuracy": float(knn.score(test, test_labels)),
        "silhouette": float(silhouette),
        "fisher_ratio": _fisher_ratio(test, test_labels),
        "effective_rank": _effective_rank(test),
        "dead_units": int((test == 0).all(axis=0).sum()),
    }


def measure_spread(embeddings: np.ndarray) -> float:
    """Standard deviation over images, mean over dimensions, relative to the mean size of a value.

    0 for a constant embedding; below `COLLAPSED` the embedding tells no two images apart.
    """
    embeddings = embeddings.astype(np.float64)
    size = np.abs(embeddings).mean()
    return float(embeddings.std(axis=0).mean() / size) if size > 0 else 0.0


def _fisher_ratio(embeddings, labels):
    embeddings = embeddings.astype(np.float64)
    means = pd.DataFrame(embeddings).groupby(labels).transform("mean").to_numpy()
    between = ((means - embeddings.mean(axis=0)) ** 2).sum()
    within = ((embeddings - means) ** 2).sum()
    return float(between / within) if within > 0 else 0.0


def _effective_rank(embeddings):
    centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    values = np.linalg.svd(centred, compute_uv=False)
    constant = values.sum() <= 1e-12 * np.abs(embeddings).sum(dtype=np.float64)
    return 0.0 if constant else float(np.exp(entropy(values)))
