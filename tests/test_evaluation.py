import numpy as np
import pytest

from semisiam.method import evaluation


def clusters(n, spread=0.1):
    """Three classes around the corners (0,0), (4,0) and (0,4)."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    corners = np.array([[0, 0], [4, 0], [0, 4]])
    return (corners[labels] + rng.normal(size=(n, 2)) * spread).astype(np.float32), labels


def test_separable_classes_are_separated_by_all():
    (train, labels), (test, test_labels) = clusters(30), clusters(60)
    scores = evaluation.score_embeddings(train, train, labels, test, test_labels)
    for name in ("accuracy", "accuracy_linear_svc", "accuracy_clean_fit"):
        assert scores[name] == 1
    assert scores["separability"]["knn_accuracy"] == 1
    assert scores["separability"]["silhouette"] > 0.9
    assert 1.9 < scores["separability"]["effective_rank"] <= 2
    assert not scores["collapsed"]


def test_the_svm_is_fitted_on_the_images_as_trained_on():
    train, labels = clusters(30)
    swapped = train[:, ::-1]  # classes 1 and 2 change places
    scores = evaluation.score_embeddings(swapped, train, labels, train, labels)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["accuracy_clean_fit"] == 1


def test_small_features_of_no_trained_network_are_told_apart():
    train, labels = clusters(30)
    small = train * np.float32(1e-13)  # as an untrained MobileNetV2 gives
    scores = evaluation.score_embeddings(small, small, labels, small, labels, scaled=True)
    for name in ("accuracy", "accuracy_linear_svc", "accuracy_clean_fit"):
        assert scores[name] == 1
    of_any_size = [evaluation.fit_svm(x, labels, scaled=True).predict(x) for x in (train, small)]
    assert (of_any_size[0] == of_any_size[1]).all()


def test_a_collapsed_embedding_is_seen():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    test = np.full((60, 8), 0.3, np.float32) + rng.normal(0, 4e-5, (60, 8)).astype(np.float32)
    test[:, 5:] = 0
    scores = evaluation.score_embeddings(test[:12], test[:12], labels[:12], test, labels)
    assert scores["collapsed"]
    assert scores["embedding_std"] == pytest.approx(4e-5 * 5 / 8, rel=0.1)
    assert scores["separability"]["dead_units"] == 3


def test_spread_and_rank_of_known_embeddings():
    assert evaluation.measure_spread(np.array([[1.0, 0.0], [3.0, 0.0]])) == pytest.approx(0.5)
    assert evaluation.measure_spread(np.zeros((3, 2))) == 0
    square = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    line = np.array([[1, 0], [-1, 0], [2, 0], [-2, 0]], np.float32)
    for embedding, rank in ((square, 2), (line, 1), (np.ones((4, 2), np.float32), 0)):
        labels = np.arange(4) % 2
        found = evaluation.measure_separability(embedding, labels, embedding, labels)
        assert found["effective_rank"] == pytest.approx(rank)


def test_fisher_ratio_by_hand():
    # class means -2 and 2, centre 0: between 4 x 4; within 4 x 1
    embedding = np.array([[-3], [-1], [1], [3]], np.float32)
    labels = np.array([0, 0, 1, 1])
    found = evaluation.measure_separability(embedding, labels, embedding, labels)
    assert found["fisher_ratio"] == pytest.approx(16 / 4)


def test_class_report_by_hand():
    report = evaluation.report_classes(
        np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0]), ("a", "b", "c")
    )
    assert report.columns.tolist() == ["class", "precision", "recall", "f1", "support"]
    assert report["precision"].tolist() == pytest.approx([2 / 4, 1 / 2, 0])
    assert report["recall"].tolist() == pytest.approx([2 / 3, 1 / 2, 0])
    assert report["f1"].tolist() == pytest.approx([4 / 7, 1 / 2, 0])
    assert report["support"].tolist() == [3, 2, 1]


def test_the_projection_repeats_with_the_seed_and_keeps_clusters_apart():
    embeddings, labels = clusters(90)
    points, index = evaluation.project(embeddings, seed=0)
    again, _ = evaluation.project(embeddings, seed=0)
    assert (points == again).all()
    assert index.tolist() == list(range(90))
    centres = np.stack([points[labels == c].mean(axis=0) for c in range(3)])
    spread = max(points[labels == c].std() for c in range(3))
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_a_large_test_set_is_drawn_from():
    _, index = evaluation.project(np.random.default_rng(0).normal(size=(1200, 4)), seed=0)
    assert len(set(index)) == 1000


@pytest.mark.parametrize("embeddings", [np.ones((9, 128), np.float32), np.eye(3, 128)])
def test_an_embedding_without_projection(embeddings):
    """t-SNE ends the process on constant embeddings."""
    points, index = evaluation.project(embeddings.astype(np.float32), seed=0)
    assert np.isnan(points).all()
    assert len(index) == len(points) == len(embeddings)


def test_the_silhouette_of_a_sample_without_the_rare_class_is_not_defined():
    rng = np.random.default_rng(0)
    test, labels = rng.normal(size=(10_000, 3)), np.zeros(10_000, np.int64)
    sampled = set(np.random.RandomState(0).permutation(10_000)[:2000])
    labels[[i for i in range(100) if i not in sampled][:2]] = 1
    found = evaluation.measure_separability(test[:6], np.arange(6) % 2, test, labels)
    assert np.isnan(found["silhouette"])


def test_measures_of_one_test_image_a_class_are_not_defined():
    rng = np.random.default_rng(0)
    labelled, labels = rng.normal(size=(6, 4)), np.arange(6) % 2
    found = evaluation.measure_separability(labelled, labels, labelled[:2], labels[:2])
    assert np.isnan(found["silhouette"])


def test_an_embedding_that_is_not_finite_is_told():
    with pytest.raises(ValueError, match="lower learning_rate"):
        evaluation.fit_svm(np.array([[np.nan], [1.0]]), np.array([0, 1]))
