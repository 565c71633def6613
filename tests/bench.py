"""Measure what users feel: `bench.py [--tiny] [--only NAME ...] [--record]`; see `make bench`.

Each measurement runs in a process of its own, the things that it compares in turns. One table goes
to the terminal; all numbers, and growth.png, to `outputs/bench/` (`--record`: what was
measured now also to `outputs/published/`, from where speed.md shows it). `--tiny` shows that it
runs.
"""

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
CPU = Path("/proc/cpuinfo")  # where bfloat16 is not its own, a step with it takes ten times as long
HAS_BFLOAT16 = CPU.exists() and "bf16" in CPU.read_text()
STEPS = {  # by name: backbone, image size (px), steps an epoch, what else to compare with
    "mobilenet_v2": ("mobilenet_v2", 96, 20, "keras"),
    "inception_v3": ("inception_v3", 96, 8, "none"),
    "resnet50_v2": ("resnet50_v2", 96, 5, "mixed_bfloat16" if HAS_BFLOAT16 else "none"),
    "mobilenet_v2, 32 px": ("mobilenet_v2", 32, 60, "keras"),
}
PEERS = {"mobilenet_v2": 6, "inception_v3": 3}  # backbone: steps a turn; torchvision has no V2
OURS = {  # name: precision, and whether Adam and batch normalisation are ours
    "ours": ("float32", True),
    "ours, mixed_bfloat16": ("mixed_bfloat16", True),
    "Keras's own": ("float32", False),
}
TORCH = {  # name: what torch_ways makes of it
    "PyTorch": {},
    "PyTorch, channels-last": {"channels_last": True},
    "PyTorch, channels-last, compiled": {"channels_last": True, "compiled": True},
    "PyTorch, channels-last, bfloat16": {"channels_last": True, "bfloat16": True},
}
TORCHVISION = {  # where torchvision has the same backbone: name of its top, width below, options
    "mobilenet_v2": ("classifier", 1280, {}),
    "inception_v3": ("fc", 2048, {"aux_logits": False, "init_weights": False, "dropout": 0.0}),
}
PEAK_SIZE = 2048  # a side of the matrices whose product is the peak
NOISE_CELLS = "split=0 backbone=mobilenet_v2 label_fraction=0.05 attack=none"
NOISE_THREADS = ("1 thread", "2 threads")
BANDWIDTH_SIZE = 2**26  # float32 numbers in an array: 256 MiB


def spread(values, digits=3):
    """Give least, median and largest of repeated measurements, to some significant digits."""
    numbers = {"min": np.min(values), "median": np.median(values), "max": np.max(values)}
    return {name: float(f"{value:.{digits}g}") for name, value in numbers.items()}


def random_images(n, size):
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


def map_random(path, n, size):
    """Write n random images, a thousand of them over and over, and map the file."""
    some = random_images(min(n, 1000), size)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (n, size, size, 3))
    for start in range(0, n, len(some)):
        images[start : start + len(some)] = some[: n - start]
    images.flush()


def warm(path):
    """Read a file once, so that what follows finds it in the system's file cache."""
    with Path(path).open("rb") as file:
        while file.read(2**24):
            pass


def resident_mib():
    """Memory of this process that is not a mapped file's."""
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) / 2**20


# In the children: TensorFlow is imported there, and each prints one JSON ------------------------


def build(cell, *, own=True):
    """Build a cell's network with 10 classes; with Keras's own Adam and normalisation if not."""
    import keras

    from semisiam.method import model, training

    encoder, network = training.start_network(cell, 10)
    if not own:
        for norm in model.batch_norms(encoder):
            del norm.call
        heads = ("y_lab", "y_rot")
        network.compile(
            optimizer=keras.optimizers.Adam(cell.learning_rate),
            loss=dict.fromkeys(heads, "sparse_categorical_crossentropy"),
            metrics={head: ["accuracy"] for head in heads},
        )
    return network, encoder


def make_batch(cell):
    images, labels = random_images(cell.batch_size, cell.image_size), np.arange(cell.batch_size)
    x = {"labelled": images, "unlabelled": images[::-1]}
    return x, {"y_lab": labels % 10, "y_rot": labels % 4}


def time_calls(call, turns):
    """Seconds of each of some calls."""
    times = [time.perf_counter()]
    for _ in range(turns):
        call()
        times.append(time.perf_counter())
    return np.diff(times)


def fit_resident(network, cell, steps):
    """Train one epoch on a batch that is there already: seconds."""
    import keras
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(make_batch(cell)).batch(cell.batch_size).cache()
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: times.append(time.perf_counter()),
        on_epoch_end=lambda *_: times.append(time.perf_counter()),
    )
    options = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0, "callbacks": [clock]}
    network.fit(data.repeat(), **options)
    return times[1] - times[0]


def fit_real(network, cell, steps):
    """Train one epoch as users do: seconds."""
    from semisiam.method import training

    labelled = random_images(2 * cell.batch_size, cell.image_size)
    unlabelled = random_images(steps * cell.batch_size, cell.image_size)
    history = training.train(cell, network, labelled, np.arange(len(labelled)) % 10, unlabelled)
    return history["seconds"].iloc[0]


def matrix_peak():
    """GFLOP/s of a large product of float32 matrices, on all threads: the best of five."""
    import tensorflow as tf

    a = tf.random.stateless_normal((PEAK_SIZE, PEAK_SIZE), seed=(0, 0))
    seconds = time_calls(lambda: tf.linalg.matmul(a, a).numpy(), 5)
    return 2 * PEAK_SIZE**3 / min(seconds) / 1e9


def memory_bandwidth():
    """GB/s of `a += b` on arrays far larger than any cache, on all threads: the best of five.

    Counted: `a` and `b` read, `a` written. A sum in place moves nothing else: no line is fetched
    only to be written over, no page is new.
    """
    import tensorflow as tf

    a, b = tf.Variable(tf.zeros(BANDWIDTH_SIZE)), tf.ones(BANDWIDTH_SIZE)
    return 3 * 4 * BANDWIDTH_SIZE / min(time_calls(lambda: a.assign_add(b), 5)) / 1e9


def time_transform(cell, turns=20):
    """Seconds that a step takes to turn its unlabelled images, the median of some turns."""
    import tensorflow as tf

    from semisiam.method import model

    x, y = make_batch(cell)
    images, labels = tf.constant(x["unlabelled"]), tf.constant(y["y_rot"])
    change = tf.function(model.transform)
    change(images, labels)
    return float(np.median(time_calls(lambda: change(images, labels), turns)))


def count_flops(encoder):
    """Floating-point operations of convolutions and dense layers, one image, forward."""
    total = 0
    for layer in encoder.layers:
        if hasattr(layer, "layers"):
            total += count_flops(layer)
        elif getattr(layer, "kernel", None) is not None:
            places = np.prod(layer.output.shape[1:-1], dtype=int)
            total += 2 * int(np.prod(layer.kernel.shape)) * int(places)
    return total


def count_bytes(encoder, n_images):
    """Bytes that a step on so many images must move at the least, in float32.

    Outputs of convolutions, dense layers and batch normalisations: written and read once forward,
    read once backward; their gradients written and read once. Weights: read once forward and once
    backward; their gradients written and read once; by Adam, weight and both moments read and
    written. Not counted, as another layer's loop or the cache can hold it: activations, sums,
    padding, pooling, images, and a tensor's second reader.
    """
    return 4 * (5 * n_images * count_outputs(encoder) + 10 * count_trainable(encoder))


def count_outputs(encoder):
    """Numbers that layers with weights put out for one image."""
    parts = [
        count_outputs(layer) if hasattr(layer, "layers") else int(np.prod(layer.output.shape[1:]))
        for layer in encoder.layers
        if layer.weights
    ]
    return sum(parts)


def count_trainable(encoder):
    return sum(int(np.prod(weight.shape)) for weight in encoder.trainable_weights)


def profile(run):
    """Shares of operations' time in `run`, by type, the largest first (TensorFlow's profiler)."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    seconds = {}
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for event in itertools.chain.from_iterable(line.events for line in plane.lines):
            name, _, kind = names[event.metadata_id].rpartition(":")
            if name and kind.isidentifier() and "::" not in names[event.metadata_id]:
                seconds[kind] = seconds.get(kind, 0) + event.duration_ps
    total = sum(seconds.values()) or 1
    first = sorted(seconds, key=seconds.get, reverse=True)[:8]
    return {kind: round(seconds[kind] / total, 3) for kind in first}


def step(backbone, size, steps, turns, other):
    """Compare real epochs with a resident batch, and our step with another in turns.

    `other` is `keras` (its own Adam and normalisation), a precision, or `none`.
    """
    from semisiam.cell import Cell

    shared = {"backbone": backbone, "image_size": size, "epochs": 1}
    cell = Cell(**shared)
    network, _ = build(cell)
    images = 2 * cell.batch_size * steps
    fit_resident(network, cell, 1)
    found = {"real": [], "resident": [], "other": []}
    if other != "none":
        other_cell = Cell(**shared, precision="float32" if other == "keras" else other)
        other_network, _ = build(other_cell, own=other != "keras")
        fit_resident(other_network, cell, 1)
    for _ in range(turns):
        found["resident"].append(images / fit_resident(network, cell, steps))
        found["real"].append(images / fit_real(network, cell, steps))
        if other != "none":
            found["other"].append(images / fit_resident(other_network, cell, steps))
    fed = np.divide(found["real"], found["resident"])
    step_seconds = 2 * cell.batch_size / np.array(found["resident"])
    result = {
        "images_per_second": spread(found["real"]),
        "real_over_resident": spread(fed),
        "share_of_transform": spread(time_transform(cell) / step_seconds),
        "time_by_operation": profile(lambda: fit_resident(network, cell, 1)),
    }
    if other != "none":
        result[f"over_{other}"] = spread(np.divide(found["resident"], found["other"]))
    return result


def roofline(backbone, size, steps, turns):
    """Compare a step with what its operations and its bytes take at this machine's best."""
    from semisiam.cell import Cell

    cell = Cell(backbone=backbone, image_size=size, epochs=1)
    network, encoder = build(cell)
    images = 2 * cell.batch_size
    gflop = 3 * images * count_flops(encoder) / 1e9  # forward, and twice that backward
    gbytes = count_bytes(encoder, images) / 1e9
    fit_resident(network, cell, 1)
    found = {"peak_gflops": [], "bandwidth": [], "step_seconds": []}
    for _ in range(turns):
        found["peak_gflops"].append(matrix_peak())
        found["bandwidth"].append(memory_bandwidth())
        found["step_seconds"].append(fit_resident(network, cell, steps) / steps)
    operations, moves = (
        gflop / np.array(found["peak_gflops"]),
        gbytes / np.array(found["bandwidth"]),
    )
    shares = {"operations": operations, "bytes": moves, "both": operations + moves}
    shares = {what: spread(seconds / found["step_seconds"]) for what, seconds in shares.items()}
    return {
        "gflop": round(gflop, 2),
        "gbytes": round(gbytes, 2),
        "operation_seconds": spread(operations),
        "byte_seconds": spread(moves),
        "share_of_step": shares,
    } | {name: spread(values) for name, values in found.items()}


def our_ways(backbone, size):
    """Our ways to do the step, by name: each a function from a number of steps to seconds."""
    from semisiam.cell import Cell

    ways = {}
    for name, (precision, own) in OURS.items():
        if "bfloat16" in precision and not HAS_BFLOAT16:
            continue
        cell = Cell(backbone=backbone, image_size=size, epochs=1, precision=precision)
        network, _ = build(cell, own=own)
        ways[name] = partial(fit_resident, network, cell)
    return ways


def torch_ways(backbone, size):
    """PyTorch's ways, as `our_ways`; none without PyTorch or for a backbone it does not have."""
    if not has_torch() or backbone not in TORCHVISION:  # `small_cnn`, where it is tried
        return {}
    ways = {name: way for name, way in TORCH.items() if HAS_BFLOAT16 or "bfloat16" not in way}
    return {name: make_torch_step(backbone, size, **way) for name, way in ways.items()}


def has_torch():
    return importlib.util.find_spec("torchvision") is not None


def build_torch(backbone):
    """Build torchvision's backbone under the dense layers of our encoder, and both heads."""
    import torchvision
    from torch import nn

    top, width, options = TORCHVISION[backbone]
    encoder = torchvision.models.get_model(backbone, **options)
    dense = nn.Linear(width, 4096), nn.ReLU(), nn.Linear(4096, 128), nn.ReLU()
    setattr(encoder, top, nn.Sequential(*dense))
    return encoder, nn.ModuleList([nn.Linear(128, 10), nn.Linear(128, 4)])


def make_torch_step(backbone, size, *, channels_last=False, compiled=False, bfloat16=False):
    """Make a function that does some steps on a batch that is there, and gives their seconds.

    As ours: one encoder called twice, both losses, Adam (PyTorch's fused one). Its unlabelled
    images need no turning, which takes us under a hundredth of the step.
    """
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    encoder, heads = build_torch(backbone)
    network = torch.nn.ModuleList([encoder, heads]).to(memory_format=layout)
    adam = torch.optim.Adam(network.parameters(), fused=True)
    images = torch.from_numpy(random_images(64, size)).permute(0, 3, 1, 2)
    images, labels = images.contiguous(memory_format=layout), torch.arange(64)
    if compiled:
        encoder.compile()

    def step():
        adam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            embedded = [encoder(images / 127.5 - 1) for _ in heads]
            scores = [head(x).float() for head, x in zip(heads, embedded, strict=True)]
        losses = [torch.nn.functional.cross_entropy(y, labels % y.shape[1]) for y in scores]
        sum(losses).backward()
        adam.step()

    return lambda steps: time_calls(step, steps).sum()


def serve(ways, backbone, size, steps):
    """Time the way that each line of the standard input names: images/s, a line each."""
    ways = globals()[ways](backbone, size)
    for way in ways.values():
        way(1)
    print(json.dumps(list(ways)), flush=True)
    for line in sys.stdin:
        print(2 * 64 * steps / ways[line.rstrip()](steps), flush=True)


def give_speed(batches, seconds, cpu):
    images = batches * 2 * 64
    return {"images_per_second": images / seconds, "images_per_cpu_second": images / cpu}


def pipeline(path, batches):
    """Prepare batches of 64 + 64 from a memory-mapped array, and do nothing with them."""
    from semisiam.cell import Cell
    from semisiam.method import training

    warm(path)
    images = np.load(path, mmap_mode="r")
    cell = Cell(backbone="mobilenet_v2", image_size=images.shape[1])
    training.start_network(Cell(), 10)  # as before training, so memory is kept as it is there
    labelled = np.array(images[:1000])
    before = resident_mib()
    data = training.make_batches(cell, labelled, np.arange(1000) % 10, images, itertools.count())
    iterator = iter(data)
    memory = []
    for _ in range(5):
        next(iterator)
    started, cpu = time.perf_counter(), time.process_time()
    for number in range(batches):
        next(iterator)
        if number % 50 == 0:
            memory.append(resident_mib() - before)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return give_speed(batches, seconds, cpu) | {"memory_mib": max(memory)}


def plain_pipeline(path, batches):
    """Do the same in plain NumPy, image by image, into float32."""
    warm(path)
    images = np.load(path, mmap_mode="r")
    labelled, labels = np.array(images[:1000]), np.arange(1000) % 10
    rng = np.random.default_rng(0)

    def generate():
        order, turns = rng.permutation(len(images)), rng.integers(0, 4, len(images))
        for start in range(0, len(order), 64):
            rows, k = order[start : start + 64], turns[start : start + 64]
            turned = [np.rot90(images[i], n) for i, n in zip(rows, k, strict=True)]
            yield (
                np.stack(turned).astype(np.float32),
                labelled[rows % 1000].astype(np.float32),
                labels[rows % 1000],
                k,
            )

    endless = itertools.chain.from_iterable(generate() for _ in itertools.count())
    next(endless)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(endless)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return give_speed(batches, seconds, cpu)


def first(kind, backbone, size, folder):
    """Time from the start of this process to the end of the first step, and to the imports' end.

    `notebook` runs master's own cells up to there, `keras` compiles and fits the same model.
    """
    started = psutil.Process().create_time()
    result = {}

    def stop(*_, **__):
        result.update(seconds=time.time() - started, cpu=time.process_time())
        print(json.dumps(result), flush=True)
        os._exit(0)

    settings = {"backbone": backbone, "image_size": size, "epochs": 1}
    if kind == "keras":
        import keras

        from semisiam.cell import Cell

        network, _ = build(Cell(**settings), own=False)
        x, y = make_batch(Cell(**settings))
        end = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
        network.fit(x, y, verbose=0, callbacks=[end])
    from semisiam.method import training

    training.keras.callbacks.LearningRateScheduler.on_train_batch_end = stop
    cells = (ROOT / "notebooks" / "master.py").read_text().split("\n# %%")
    given = (f"{name} = {value!r}" for name, value in (settings | {"output_dir": folder}).items())
    injected = "\n".join(["# Parameters", *given])  # as papermill does
    namespace = {"__name__": "__main__", "In": []}
    for text in cells[1:]:
        title, _, code = text.partition("\n")
        for source in [code, injected] if "parameters" in title else [code]:
            namespace["In"].append(source)
            exec(source, namespace)
        if "import" in code and "imported" not in result:
            result["imported"] = time.time() - started
    raise AssertionError("the master never trained")


def evaluate(n_labelled, n_test, turns):
    """Seconds of each part of the evaluation on random embeddings of ten classes."""
    from semisiam.method import evaluation

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(10, 128))

    def draw(n):
        labels = np.arange(n) % 10
        return np.maximum(centres[labels] + rng.normal(size=(n, 128)), 0).astype("float32"), labels

    found = {"measures": [], "tsne": [], "total": []}
    for _ in range(turns):
        (labelled, labels), (test, test_labels) = draw(n_labelled), draw(n_test)
        times = [time.perf_counter()]
        evaluation.score_embeddings(labelled, labelled, labels, test, test_labels)
        times.append(time.perf_counter())
        evaluation.project(test, seed=0)
        times.append(time.perf_counter())
        for stage, seconds in zip(found, [*np.diff(times), times[-1] - times[0]], strict=True):
            found[stage].append(seconds)
    return {stage: spread(seconds) for stage, seconds in found.items()}


def embed(backbone, size, n_images, turns):
    """Images per second of the encoder in inference mode."""
    from semisiam.cell import Cell
    from semisiam.method import model

    _, encoder = build(Cell(backbone=backbone, image_size=size))
    images = random_images(n_images, size)
    model.embed(encoder, images[:256])
    return spread(n_images / time_calls(lambda: model.embed(encoder, images), turns))


def growth(counts, sizes, n_labelled, folder):
    """Seconds and memory of an epoch of small_cnn against N_u, image size and N_l."""
    from semisiam.cell import Cell
    from semisiam.method import training

    rows = []
    networks = {}

    def epoch(what, n_u=1000, size=32, n_l=100):
        cell = Cell(image_size=size, epochs=1)
        path = Path(folder) / f"{n_u}-{size}.npy"
        if not path.exists():
            map_random(path, n_u, size)
        unlabelled = np.load(path, mmap_mode="r")
        labelled = random_images(n_l, size)
        if size not in networks:
            networks[size], _ = build(cell)
            fit_real(networks[size], cell, 2)
        y = np.arange(n_l) % 10
        history = training.train(cell, networks[size], labelled, y, unlabelled)
        row = {"against": what, "n_unlabelled": n_u, "image_size": size, "n_labelled": n_l}
        seconds = float(f"{history['seconds'].iloc[0]:.3g}")
        rows.append(row | {"seconds": seconds, "memory_mib": round(resident_mib())})

    for n_u in counts:
        epoch("n_unlabelled", n_u=n_u)
    for n_l in n_labelled:
        epoch("n_labelled", n_u=max(n_labelled), n_l=n_l)
    for size in sizes:
        epoch("image_size", size=size)
    return rows


# In the parent ---------------------------------------------------------------------------------


def child(name, *args):
    """Run one of the functions above in a process of its own, and return what it found."""
    run = subprocess.run(command(name, args), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.strip().splitlines()[-1])


def command(name, args):
    return [sys.executable, __file__, "--child", name, json.dumps(args)]


@contextmanager
def serving(*args):
    """Keep a process of `serve`: its ways by name, each a function that gives images/s."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command("serve", args), **pipes) as process:

        def ask(way):
            print(way, file=process.stdin, flush=True)
            return float(process.stdout.readline())

        yield {way: partial(ask, way) for way in json.loads(process.stdout.readline())}
        process.communicate()  # the end of its input ends it


def bench_steps(tiny):
    if tiny:
        return {"small_cnn": child("step", "small_cnn", 32, 2, 2, "none")}
    return {
        name: child("step", backbone, size, steps, 3, other)
        for name, (backbone, size, steps, other) in STEPS.items()
    }


def bench_peers(tiny):
    """Images/s of the step, ours and others', in turns; and each over ours of the same turn."""
    if not has_torch():
        print("no PyTorch and torchvision here: only ours and Keras's own", file=sys.stderr)
    size, peers = (32, {"small_cnn": 1}) if tiny else (96, PEERS)
    found = {}
    for backbone, steps in peers.items():
        shared = backbone, size, steps
        with serving("our_ways", *shared) as ours, serving("torch_ways", *shared) as theirs:
            turns = [{way: ask() for way, ask in (ours | theirs).items()} for _ in range(3)]
        found[backbone] = {
            way: {
                "images_per_second": spread([turn[way] for turn in turns]),
                "over_ours": spread([turn[way] / turn["ours"] for turn in turns]),
            }
            for way in turns[0]
        }
    return found


def bench_roofline(tiny):
    if tiny:
        return {"small_cnn": child("roofline", "small_cnn", 32, 2, 2)}
    return {
        name: child("roofline", backbone, size, steps // 2, 3)
        for name, (backbone, size, steps, _) in STEPS.items()
    }


def bench_pipeline(tiny):
    n, batches, turns = (1000, 10, 1) if tiny else (100_000, 300, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "images.npy")
        map_random(path, n, 96)
        turns = [
            (child("pipeline", path, batches), child("plain_pipeline", path, batches))
            for _ in range(turns)
        ]
    speeds = {}
    for name in ("images_per_second", "images_per_cpu_second"):
        ours, plain = ([turn[i][name] for turn in turns] for i in (0, 1))
        speeds |= {name: spread(ours), f"plain_{name}": spread(plain)}
        speeds[f"{name}_ratio"] = spread(np.divide(ours, plain))
    return speeds | {"memory_mib": spread([ours["memory_mib"] for ours, _ in turns])}


def bench_first(tiny):
    backbone, size, turns = ("small_cnn", 32, 1) if tiny else ("mobilenet_v2", 96, 3)
    from semisiam.data import datasets

    datasets.load("digits", size)  # prepared once, as by earlier cells
    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            [child("first", kind, backbone, size, folder) for kind in ("notebook", "keras")]
            for _ in range(turns)
        ]
    result = {"imports": spread([ours["imported"] for ours, _ in pairs])}
    for name in ("seconds", "cpu"):
        ours, keras = ([pair[i][name] for pair in pairs] for i in (0, 1))
        result |= {name: spread(ours), f"keras_{name}": spread(keras)}
        result[f"{name}_ratio"] = spread(np.divide(ours, keras))
    return result


def bench_workers(tiny):
    """A study of short cells by one worker and by two; what a cell takes beyond its own stages."""
    study = "base: {epochs: 20}\naxes: {split: [0, 1, 2, 3]}\n"
    if tiny:
        return {}
    seconds, beyond = {1: [], 2: []}, []
    for workers in (1, 2, 1, 2):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bench.yaml"
            path.write_text(study)
            command = [sys.executable, "-m", "semisiam", "grid", path, "--outputs", folder]
            started = time.perf_counter()
            subprocess.run(
                [*command, "--workers", str(workers)], check=True, stderr=subprocess.DEVNULL
            )
            seconds[workers].append(time.perf_counter() - started)
            if workers == 1:
                cells = [file.parent for file in Path(folder).glob("bench/*/done.json")]
                useful = sum(map(count_useful_seconds, cells))
                beyond.append((seconds[1][-1] - useful) / len(cells))
    return {
        "one_worker_seconds": spread(seconds[1]),
        "two_workers_seconds": spread(seconds[2]),
        "speedup": spread(np.divide(seconds[1], seconds[2])),
        "seconds_a_cell_beyond": spread(beyond),
    }


def count_useful_seconds(folder):
    """Seconds of a finished cell in which it imported, trained or evaluated."""
    cells = json.loads((folder / "cell.ipynb").read_text())["cells"]
    imports = next(cell for cell in cells if "import matplotlib" in "".join(cell["source"]))
    seconds = json.loads((folder / "metrics.json").read_text())["seconds"]
    others = seconds["total"] - seconds["data"] - seconds["model"]
    return imports["metadata"]["papermill"]["duration"] + others


def bench_noise(tiny):
    """The same two cells by one and by two threads: what their test accuracies move by (%)."""
    if tiny:
        return {}
    study, found = ROOT / "params" / "studies" / "fashion_small.yaml", {}
    for threads in NOISE_THREADS:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "semisiam", "grid", study, "--outputs", folder]
            command += ["--only", NOISE_CELLS, "--workers", "1", "--threads", threads[0]]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            for file in Path(folder).glob("*/*/metrics.json"):
                metrics = json.loads(file.read_text())
                mode = "supervised" if "supervised" in metrics["name"] else "semi"
                for reading in ("accuracy", "accuracy_recalibrated"):
                    value = round(100 * metrics[reading], 1)
                    found.setdefault(f"{mode} {reading}", {})[threads] = value
    return found


def bench_evaluation(tiny):
    if tiny:
        return {"seconds": child("evaluate", 60, 200, 1)}
    speed = child("embed", "mobilenet_v2", 96, 1024, 3)
    return {"seconds": child("evaluate", 600, 10_000, 2), "embedded_images_per_second": speed}


def bench_growth(tiny):
    few = [[128, 256], [32], [16, 32]]
    many = [[1000, 10_000, 100_000], [32, 64, 96, 128], [100, 1000, 10_000]]
    with tempfile.TemporaryDirectory() as folder:
        return child("growth", *(few if tiny else many), folder)


def draw_growth(rows, path):
    """Plot seconds and memory of an epoch against N_u, image size and N_l."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    import semisiam.evidence.figures  # noqa: F401, for its style

    fig, axes = plt.subplots(2, 3, figsize=(9, 4.5), sharex="col")
    titles = {
        "n_unlabelled": "unlabelled images\n(32 px, 100 labelled)",
        "image_size": "image size (px)\n(1,000 unlabelled, 100 labelled)",
        "n_labelled": "labelled images\n(32 px, 10,000 unlabelled)",
    }
    for column, (what, title) in zip(axes.T, titles.items(), strict=True):
        of = [row for row in rows if row["against"] == what]
        for ax, name in zip(column, ("seconds", "memory_mib"), strict=True):
            ax.plot([row[what] for row in of], [row[name] for row in of], "o-", color="0.2")
        column[0].set_ylim(0, 1.25 * max(row["seconds"] for row in of))
        column[1].set(xlabel=title, ylim=(0, 1.25 * max(row["memory_mib"] for row in of)))
    axes[0, 0].set(xscale="log", yscale="log", ylim=(0.1, 100))
    axes[0, 2].set_xscale("log")
    axes[0, 0].set_ylabel("seconds an epoch")
    axes[1, 0].set_ylabel("memory (MiB)")
    fig.savefig(path, dpi=100)


BENCHES = {
    "step": bench_steps,
    "roofline": bench_roofline,
    "peers": bench_peers,
    "pipeline": bench_pipeline,
    "first_step": bench_first,
    "workers": bench_workers,
    "evaluation": bench_evaluation,
    "growth": bench_growth,
    "noise": bench_noise,
}


STEP_ROWS = [  # what, its place in bench.json with * for a column, the target
    ("a real epoch over one resident batch: images/s", "step.*.real_over_resident", "≥ 0.97"),
    ("turning the unlabelled images: share of the step", "step.*.share_of_transform", "< 0.02"),
    ("our step over Keras's own: images/s", "step.*.over_keras", ""),
    ("float32 over bfloat16 (below 1: bfloat16 wins): images/s", "step.*.over_mixed_bfloat16", ""),
    ("images/s of a real epoch", "step.*.images_per_second", ""),
]
OTHER_ROWS = [
    ("start to first step over plain Keras: seconds", "first_step.seconds_ratio", "≤ 0.65"),
    ("the same in processor time", "first_step.cpu_ratio", ""),
    ("input pipeline: images/s", "pipeline.images_per_second", "≥ 60,000"),
    ("input pipeline over plain NumPy: images/s", "pipeline.images_per_second_ratio", "≥ 4"),
    ("the same, images per second of processor time", "pipeline.images_per_cpu_second_ratio", ""),
    ("input pipeline: memory (MiB)", "pipeline.memory_mib", "< 600"),
    ("two one-thread workers over one of two threads", "workers.speedup", "≥ 1.15"),
    ("a cell beyond its own imports and stages (s)", "workers.seconds_a_cell_beyond", "≤ 3"),
    ("evaluation without embedding (s)", "evaluation.seconds.total", ""),
]
ROOFLINE_ROWS = [
    ("operations of a step (GFLOP)", "roofline.*.gflop"),
    ("the matrix peak (GFLOP/s)", "roofline.*.peak_gflops"),
    ("bytes of a step, at the least (GB)", "roofline.*.gbytes"),
    ("the memory's bandwidth (GB/s)", "roofline.*.bandwidth"),
    ("operations at the peak (s)", "roofline.*.operation_seconds"),
    ("bytes at the bandwidth (s)", "roofline.*.byte_seconds"),
    ("the step as measured (s)", "roofline.*.step_seconds"),
    ("operations: share of the step", "roofline.*.share_of_step.operations"),
    ("bytes: share of the step", "roofline.*.share_of_step.bytes"),
    ("one after the other: share of the step", "roofline.*.share_of_step.both"),
]
PEER_ROWS = [(way, f"peers.*.{way}.images_per_second") for way in (*OURS, *TORCH)]
RATIO_ROWS = [(f"{way}, over ours", f"peers.*.{way}.over_ours") for way in [*OURS, *TORCH][1:]]
NOISE_ROWS = [
    (f"{mode}, {reading}", f"noise.{mode} {name}.*")
    for mode in ("supervised", "semi")
    for reading, name in (("as trained", "accuracy"), ("re-estimated", "accuracy_recalibrated"))
]
TABLES = {  # by the name of their place in speed.md: rows and columns of each
    "bench": [(STEP_ROWS, STEPS), (OTHER_ROWS, [""])],
    "roofline": [(ROOFLINE_ROWS, STEPS)],
    "peers": [(PEER_ROWS, PEERS), (RATIO_ROWS, PEERS)],
    "noise": [(NOISE_ROWS, NOISE_THREADS)],
}


def make_tables(found, name):
    """Write recorded numbers as speed.md shows them."""
    numbers = dict(flatten({key: found[key] for key in BENCHES if key in found}))
    return "\n\n".join(make_table(numbers, *table) for table in TABLES[name])


def make_table(numbers, rows, columns):
    """Write rows that hold a number, a column for each of `columns`, and the targets if any."""
    head = ["", *columns, "target"][: len(columns) + len(rows[0]) - 1]
    lines = [head, ["---"] * len(head)]
    for what, place, *target in rows:
        cells = [str(numbers.get(place.replace("*", column), "")) for column in columns]
        if any(cells):
            lines.append([what, *cells, *target])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def flatten(value, path=()):
    """Yield (dotted name, `median (min to max)` or the value) of nested numbers."""
    if isinstance(value, dict) and "median" in value:
        median, least, largest = (f"{value[name]:,.9g}" for name in ("median", "min", "max"))
        yield ".".join(path), f"{median} ({least} to {largest})"
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from flatten(part, (*path, key))
    elif isinstance(value, list):
        for row in value:
            yield ".".join((*path, row["against"])), json.dumps(row)
    else:
        yield ".".join(path), value


def record(found, names, folder):
    """Put what was measured now beside what was recorded before."""
    from semisiam.run.folder import write_json

    published = ROOT / "outputs" / "published"
    recorded = json.loads((published / "bench.json").read_text())
    for name in names:
        recorded[name] = found[name]
        recorded["machine"][name] = found["machine"][name]
    write_json(published / "bench.json", recorded)
    if "growth" in names:
        shutil.copy(folder / "growth.png", published)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", choices=BENCHES, default=list(BENCHES))
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, args = options.child
        print(json.dumps(globals()[name](*json.loads(args))))
        return
    from semisiam.run.folder import describe_machine, write_json

    folder = ROOT / "outputs" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("tiny.json" if options.tiny else "bench.json")
    found = json.loads(file.read_text()) if file.exists() else {}
    for name in options.only:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        found[name] = BENCHES[name](options.tiny)
        busy = {"load": round(os.getloadavg()[1], 1)}  # over the cores: other work disturbed this
        found.setdefault("machine", {})[name] = describe_machine() | busy
        write_json(file, found)
    if found.get("growth"):
        draw_growth(found["growth"], folder / "growth.png")
    for name, value in flatten({key: found[key] for key in BENCHES if key in found}):
        print(f"{name:65} {value}")
    if options.record:
        record(found, options.only, folder)


if __name__ == "__main__":
    main()
