"""That the benchmark runs; no test is timed."""

import json
import subprocess
import sys
from pathlib import Path

import bench
import pytest


@pytest.mark.parametrize("name", ["step", "roofline", "peers", "pipeline", "evaluation", "growth"])
def test_a_tiny_benchmark_runs(name, monkeypatch):
    # here, without the seconds of TensorFlow's import that a process of its own takes
    monkeypatch.setattr(bench, "child", lambda function, *args: getattr(bench, function)(*args))
    json.dumps(bench.BENCHES[name](tiny=True))


def test_flops_by_hand():
    from semisiam.method import model

    forward = 2 * (3 * 9 * 32 * 16**2 + 32 * 9 * 64 * 8**2 + 64 * 9 * 128 * 4**2)
    dense = 2 * (128 * 4096 + 4096 * 128)
    assert bench.count_flops(model.build_encoder("small_cnn", 32)) == forward + dense


def test_bytes_by_hand():
    from semisiam.method import model

    # three convolutions and as many batch normalisations; 4096 and 128
    outputs = 2 * (32 * 16**2 + 64 * 8**2 + 128 * 4**2) + 4096 + 128
    convolutions = 3 * 9 * 32 + 32 * 9 * 64 + 64 * 9 * 128
    weights = convolutions + 2 * (32 + 64 + 128) + 128 * 4096 + 4096 + 4096 * 128 + 128
    encoder = model.build_encoder("small_cnn", 32)
    assert bench.count_bytes(encoder, 128) == 4 * (5 * 128 * outputs + 10 * weights)


@pytest.mark.skipif(not bench.has_torch(), reason="PyTorch and torchvision are not installed")
@pytest.mark.parametrize("backbone, scales", [("mobilenet_v2", 0), ("inception_v3", 17_216)])
def test_pytorch_has_as_many_weights_as_ours(backbone, scales):
    from semisiam.method import model

    # a process of its own: TensorFlow and PyTorch in one can end it
    code = f"import bench; encoder, _ = bench.build_torch({backbone!r}); "
    code += "print(sum(weight.numel() for weight in encoder.parameters()))"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=Path(bench.__file__).parent, capture_output=True, check=True)
    ours = bench.count_trainable(model.build_encoder(backbone, 96))
    assert int(run.stdout) == ours + scales  # Keras's InceptionV3 normalises without scales


def test_a_row_without_numbers_is_left_out():
    found = {"peers": {"mobilenet_v2": {"ours": {"images_per_second": bench.spread([1, 2, 3])}}}}
    lines = bench.make_tables(found, "peers").split("\n\n")[0].splitlines()
    assert lines[2:] == ["| ours | 2 (1 to 3) |  |"]
