"""That the benchmark runs; no test is timed."""

import json

import bench
import pytest


@pytest.mark.parametrize("name", ["step", "pipeline", "evaluation", "growth"])
def test_a_tiny_benchmark_runs(name, monkeypatch):
    # here, without the seconds of TensorFlow's import that a process of its own takes
    monkeypatch.setattr(bench, "child", lambda function, *args: getattr(bench, function)(*args))
    json.dumps(bench.BENCHES[name](tiny=True))


def test_flops_by_hand():
    from semisiam.method import model

    forward = 2 * (3 * 9 * 32 * 16**2 + 32 * 9 * 64 * 8**2 + 64 * 9 * 128 * 4**2)
    dense = 2 * (128 * 4096 + 4096 * 128)
    assert bench.count_flops(model.build_encoder("small_cnn", 32)) == forward + dense
