"""README shows what `outputs/published/` holds: tables to the letter, the figure to the pixel."""

import io

import findings
import matplotlib.pyplot as plt
import numpy as np

from semisiam.evidence import results, statistics


def test_the_readme_shows_the_recorded_numbers():
    text = findings.README.read_text("utf-8")
    assert findings.fill_in(text) == text, "run `make readme`"


def test_the_figure_shows_the_recorded_gains():
    drawn = io.BytesIO()
    findings.draw(findings.read_studies()).savefig(drawn, format="png", dpi=findings.DPI)
    ours, kept = plt.imread(io.BytesIO(drawn.getvalue())), plt.imread(findings.FIGURE)
    assert ours.shape == kept.shape, "run `make readme`"
    differing = (np.abs(ours - kept) > 0.1).any(axis=-1).mean()
    assert differing < 1e-4, "run `make readme`"  # a dot that moved is more


def test_printed_differences_are_averaged_over_what_was_run():
    table = statistics.compare(findings.read_studies())
    printed = table["published"].xs(results.MEAN, level=("percent", "backbone"))
    # MobileNetV2 and ResNet50V2 at 1 % and 5 %, Tables III and IV
    expected = np.mean([69.6, 2.3, 39.1, 1.6]), np.mean([59.2, 2.2, 38.3, 3.9])
    found = [printed["gain", "fashion_mnist", attack] for attack in ("none", "pixel")]
    assert np.allclose(found, expected, atol=0.05)
