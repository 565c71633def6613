"""What several tests share: a cache of their own, and the command line as its users see it."""

import pytest

import semisiam  # noqa: F401, it must set TensorFlow's environment first


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_user(tmp_path_factory):
    """Keep what is fetched and prepared out of the user's cache."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SEMISIAM_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
