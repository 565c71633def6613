# %% [markdown]
# # Few labels, many images
#
# Next: [01_data](01_data.ipynb)
#
# **You have a few labelled images and many without labels. Can the second kind help?**
#
# You will see
# 1. the idea, first as a story, then on an image of 4×4 pixels,
# 2. what a paper reports about it, and what happened when it was run again,
# 3. what is known by now, and what is not.
#
# The paper is [Cavallari & Ponti (SIBGRAPI
# 2021)](https://doi.org/10.1109/SIBGRAPI54419.2021.00038), *Semi-supervised siamese network using
# self-supervision under scarce annotation improves class separability and robustness to attack*.
# Sections, tables and figures are numbered as there.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from semisiam import ROOT
from semisiam.cell import NOT_RESULTS, Cell
from semisiam.data import datasets
from semisiam.evidence import figures, paper, results, statistics
from semisiam.method import attack as attacks
from semisiam.method import pretext, splits

# %% [markdown]
# ## Parameters
#
# The images are [scikit-learn's
# digits](https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html), here
# at their own 8×8 pixels, so that you can see a single pixel.

# %% tags=["parameters"]
dataset: str = "digits"  # digits; once fetched also fashion_mnist or stl10
label_fraction: float = 0.05  # labelled images as a share of the unlabelled ones
split: int = 0  # which random labelled set (0-4 in the paper)
seed: int = 0  # seed of the labelled set and of the attack's places

# %%
cell = Cell.from_notebook(globals())

# %% [markdown]
# ## The idea, as a story
#
# A microscope photographs 13,779 blood cells. Only an expert can say which hold malaria parasites,
# and she has time for 137. **Labels cost work, images do not.** Here, with digits:

# %%
data = datasets.load(cell.dataset, 8, seed=cell.seed)
n_labelled = splits.count_labelled(cell.label_fraction, len(data.unlabelled))

# %% tags=["nbval-check-output"]
print(f"{n_labelled} labelled images of {len(data.class_names)} classes")
print(f"{len(data.unlabelled)} images without labels, {len(data.test)} for the test")

# %% [markdown]
# Can the other images teach something too? Turn one of them. The angle is then known and costs
# nothing. But to guess it, you must know how such images look upright
# ([Gidaris et al., 2018](https://arxiv.org/abs/1803.07728)).


# %%
def pick_typical(images, labels, c):
    """Return the image of class c that is nearest to the class's mean, (1, S, S, 3)."""
    members = images[labels == c].astype(float)
    distance = ((members - members.mean(axis=0)) ** 2).sum(axis=(1, 2, 3))
    return images[labels == c][[distance.argmin()]]


# %%
n_classes = len(data.class_names)
typical = [pick_typical(data.train, data.train_labels, c) for c in range(n_classes)]
two, five, seven = (typical[c % n_classes] for c in (2, 5, 7))
turns, angles = np.arange(4), ["0°", "90°", "180°", "270°"]

# %% alt="One digit, turned by 0, 90, 180 and 270 degrees, with the angle above each picture."
fig, ax = plt.subplots(figsize=(5, 1.6))
figures.examples(ax, pretext.transform(np.repeat(seven, 4, axis=0), turns), angles, columns=4)
ax.set_title("the rotation task: by which angle was the image turned?")
plt.show()

# %% [markdown]
# So the paper trains one network on two questions at once: the *class* of the few labelled images,
# and the *angle* of the many others.
#
# ### The second half of the story: an attack
#
# Somebody tampers with the labelled images: each class gets one white pixel, always at the same
# place. The test images have no such pixel. A network that learnt only to look at that pixel knows
# nothing then. Does the second question, the angle, prevent this?

# %% alt="Two sevens with a white pixel at the same place and a five with one at another place."
shown_classes = np.array([7, 7, 5]) % n_classes
places = attacks.choose_places(n_classes, 8, seed=cell.seed)
other_seven = data.train[data.train_labels == shown_classes[0]][:1]
attacked = attacks.attack(np.concatenate([seven, other_seven, five]), shown_classes, places)

fig, ax = plt.subplots(figsize=(4, 1.7))
figures.examples(ax, attacked, [data.class_names[c] for c in shown_classes], columns=3)
for panel, c in zip(ax.child_axes, shown_classes, strict=True):
    figures.ring(panel, *places[c], radius=0.9)
ax.set_title("rings mark the attacked pixels")
plt.show()

# %% [markdown]
# The first two images are of one class, so their white pixels agree. The third is of another class.
# [02_pixel_attack](02_pixel_attack.ipynb) asks which learners this misleads.
#
# ## The whole method in one picture
#
# Labelled images follow the blue arrows, unlabelled ones the orange arrows. Both pass through the
# *same* network, the encoder. Networks that share their weights like this are called *siamese*. On
# top of the encoder, each question has a small output layer of its own, a *head*.


# %%
def place_images(ax, images, titles, x, y, width):
    """Put images side by side into a drawing, centred on (x, y), in the units of ax."""
    each = width / len(images)
    for number, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = x - width / 2 + each * (number + 0.04)
        box = [left, y - 0.46 * each, 0.92 * each, 0.92 * each]
        panel = ax.inset_axes(box, transform=ax.transData)
        panel.imshow(image, interpolation="nearest")
        panel.set_title(title, fontsize=8, loc="center", pad=2)
        panel.set_axis_off()


# %% alt="Labelled and unlabelled images enter one encoder, whose two heads feed one loss."
fig, ax = plt.subplots(figsize=(9.5, 4.2))
figures.method(ax)
place_images(ax, attacked, [data.class_names[c] for c in shown_classes], -1.7, 3.0, 2.8)
for panel, c in zip(ax.child_axes, shown_classes, strict=True):
    figures.ring(panel, *places[c], radius=0.9)
turned = pretext.transform(np.concatenate([two, five, seven]), np.array([0, 1, 2]))
place_images(ax, turned, angles[:3], -1.7, 0.9, 2.8)
ax.set_xlim(-3.2, 9.6)
ax.set_title("the siamese network (Figures 1 and 2 of the paper, rebuilt with digits)")
plt.show()

# %% [markdown]
# Without the orange part, an ordinary classifier is left: the *supervised* baseline. With it, the
# network is *semi*-supervised. How much more accurate is the second? That is the **gain**.
#
# After training, both heads are dropped. A linear
# [SVM](https://scikit-learn.org/stable/modules/svm.html) learns the classes anew, from the
# encoder's 128 outputs for the labelled images. Its accuracy on test images is the number to
# compare.

# %% [markdown]
# ## The same in numbers
#
# A dark 4×4 image of class 1 has a stroke along its upper edge. The attack's place for class 1 is
# row 2, column 3. Where will the 255 be?

# %% tags=["nbval-check-output"]
image = np.zeros((1, 4, 4, 1), np.uint8)
image[0, 0] = 90
marked = attacks.attack(image, labels=np.array([1]), places=np.array([[0, 0], [2, 3]]))
print(marked[0, :, :, 0])

# %% [markdown]
# An unlabelled image is turned instead, and the number of quarter turns becomes its label. Follow
# the stroke: upper edge, left, lower, right.

# %% tags=["nbval-check-output"]
for k in range(4):
    print("label", k, "rows", pretext.transform(image, np.array([k]))[0, :, :, 0].tolist())

# %% [markdown]
# Each answer is scored by its [cross-entropy](https://keras.io/api/losses/probabilistic_losses/),
# minus the logarithm of the probability given to the right answer. Let $\ell_l$ be its mean for the
# classes of the labelled images $D_l$, and $\ell_u$ its mean for the angles of the unlabelled
# images $D_u$. Training lowers their sum, with weights $\lambda_l$ and $\lambda_u$, equation (1):
#
# $$\mathcal{L}_{SS} = \lambda_l \cdot \ell_l(D_l) + \lambda_u \cdot \ell_u(D_u)$$
#
# A network that knows nothing gives ten classes a tenth each, and four angles a quarter each. With
# both weights at 1, as in the paper, its loss is

# %% tags=["nbval-check-output"]
loss_l, loss_u = -np.log(1 / 10), -np.log(1 / 4)
print(f"{cell.lambda_l} x {loss_l:.2f} + {cell.lambda_u} x {loss_u:.2f}")
print(f"= {cell.lambda_l * loss_l + cell.lambda_u * loss_u:.2f}")

# %% [markdown]
# ## What the paper reports
#
# Three data sets, three *backbones* ([MobileNetV2](https://arxiv.org/abs/1801.04381),
# [InceptionV3](https://arxiv.org/abs/1512.00567), [ResNet50V2](https://arxiv.org/abs/1603.05027)),
# 1 % and 5 % labelled, with and without attack: 36 gains, each a mean over five random labelled
# sets (Tables I to VI). In the output, `none` means without attack and `pixel` with it.

# %%
printed = statistics.weigh_deltas().set_index([*paper.ROW, "attack"])
printed = printed.rename(columns={"delta": "mean"})
baseline = paper.read_printed("accuracy").query("mode == 'supervised'")
at_chance = baseline.set_index(printed.index.names)["std"] == 0
printed["at chance"] = at_chance

# %% tags=["nbval-check-output"]
backbone = printed.index.get_level_values("backbone")
attack_of = printed.index.get_level_values("attack")
print("mean gain, points:", printed["mean"].groupby(attack_of).mean().round(1).to_dict())
others = printed[backbone != "mobilenet_v2"]["mean"]
print("without MobileNetV2:", others.groupby("attack").mean().round(1).to_dict())

# %% [markdown]
# The gains are large. But leave out one backbone of three: less than half of the gain without
# attack remains, and none of that under attack. What is special about MobileNetV2?

# %% tags=["nbval-check-output"]
stuck = baseline[baseline["std"] == 0]
print(stuck.groupby(["backbone", "dataset", "percent"])["mean"].agg(["min", "max"]).to_string())
print(f"{len(stuck)} baselines have exactly this accuracy, five times out of five")

# %% [markdown]
# Guessing gives 10 % on ten classes and 50 % on two: *chance*. A bad network would only come near
# that, not five times to the same digit. Does something hide what these networks learnt?

# %% [markdown]
# ### The suspect
#
# [Batch normalisation](https://arxiv.org/abs/1502.03167) keeps running averages of what it saw in
# training, and uses them in the test. MobileNetV2's averages are slow: after 1,000 updates (steps
# of training), they still are 37 % initial values. [04](04_batch_normalisation.ipynb) shows it by
# hand.
#
# So every network here is read twice: **as trained**, with its running averages, and
# **re-estimated**, with averages computed anew on the labelled images. The weights stay the same.

# %% [markdown]
# ## What came out here
#
# Three words say how firm a result is. *Shown*: enough labelled sets agree (at least three), or it
# is arithmetic. *Suggestive*: it was run, but is less firm. *Untested*: it was not run, or the
# network did not learn the rotation task.
#
# Finished runs are kept in `outputs/published`, with all their settings. We take those that differ
# from the paper in scale alone.

# %%
free = {"dataset", "image_size", "unlabelled_limit", "test_limit", "label_fraction", "split"}
free |= {"attack", "mode", "backbone", "bn_momentum", "epochs", "seed"} | NOT_RESULTS
fixed = {name: f.default for name, f in Cell.model_fields.items() if name not in free}

studies = {}
for file in sorted((ROOT / "outputs" / "published").glob("*/cells.json")):
    cells = results.collect(file.parent)
    as_paper = (cells[list(fixed)] == pd.Series(fixed)).all(axis=1)
    as_paper &= cells["attack"].isin(paper.ATTACKS) & cells["mode"].isin(paper.MODES)
    studies[file.parent.name] = cells[as_paper]

# %% [markdown]
# Which of them are at the paper's scale? Those with its image size, unlabelled images and epochs,
# and with the backbone's own batch normalisation.

# %%
scales = {"stl10": (96, 100_000, 50), "fashion_mnist": (96, 60_000, 30)}
scales |= {"malaria": (128, 13_779, 100)}  # size (px), unlabelled images, epochs of semi


def is_full_scale(run):
    size, n_unlabelled, epochs_of_semi = scales.get(run.dataset, (0, 0, 0))
    wanted = (size, n_unlabelled, epochs_of_semi if run.mode == "semi" else 100, None)
    return (run.image_size, run.n_unlabelled, run.epochs, run.bn_momentum) == wanted


# %% [markdown]
# ### The baselines again
#
# The supervised baselines at the paper's scale, read both ways. Predict: will MobileNetV2's rise
# when its averages are re-estimated?


# %%
def average(cells, measure):
    """Mean SVM accuracy (%) by data set, backbone and attack of supervised full-scale cells."""
    kept = [run.mode == "supervised" and is_full_scale(run) for run in cells.itertuples()]
    return results.summarise(cells[kept], measure) if any(kept) else pd.DataFrame()


readings = {}
for measure, reading in results.MEASURES.items():
    table = pd.concat([average(cells, measure) for cells in studies.values()])
    table = table.sort_values("n", kind="stable")
    readings[reading] = results.in_order(table[~table.index.duplicated(keep="last")])

# %%
trained, again = readings["as trained"], readings["re-estimated"]
names = results.NAMES | {"pixel": "attacked", "none": "clean"}
rows = [
    f"{names[d]} {p:g} %, {names[b]}, {names[a]} ({n})" for (d, p, b, _, a), n in again["n"].items()
]
semi = paper.read_printed("accuracy").query("mode == 'semi'").set_index([*paper.ROW, "attack"])
siamese = semi["mean"].reindex(again.index.droplevel("mode"))

# %% alt="Re-estimated, MobileNetV2's baseline leaves chance and comes near the siamese network."
fig, ax = plt.subplots(figsize=(7.5, 1.2 + 0.3 * len(rows)))
blue, red = figures.COLOURS["supervised"], figures.COLOURS["semi"]
ax.plot(again["published_mean"], rows, "D", color=blue, ms=8, alpha=0.4, label="baseline, paper")
ax.plot(again["mean"], rows, "o", color=blue, mfc="white", ms=9, label="baseline, re-estimated")
ax.plot(trained["mean"], rows, "o", color=blue, ms=4, label="baseline, as trained")
ax.plot(siamese, rows, "D", color=red, ms=8, alpha=0.4, label="siamese, paper")
ax.invert_yaxis()
ax.set(xlim=(0, 100), xlabel="SVM test accuracy (%)", ylabel="setting (labelled sets)")
ax.set_title("baselines, run again at the paper's scale")
fig.legend(loc="outside upper right", ncols=2)
plt.show()

# %% [markdown]
# Diamonds are the paper's, circles ours. As trained, MobileNetV2 stands at chance, as printed.
# Re-estimated, the *same weights* make up most of the distance to the siamese network, which had
# seen 60,000 images more.
#
# Under attack, the other two differ from the paper: InceptionV3 lies far below it, ResNet50V2 above
# it. That is one labelled set and one draw of the pixels' places, so it is *suggestive* at most.

# %% tags=["nbval-check-output"]
key = ("fashion_mnist", 1.0, "mobilenet_v2")
for kind, a in {"clean": "none", "attacked": "pixel"}.items():
    left = siamese[(*key, a)] - again.loc[(*key, "supervised", a), "mean"]
    gain = printed.loc[(*key, a), "mean"]
    print(f"{kind}: published gain {gain:+.1f}, over the re-estimated baseline {left:+.1f}")

# %% [markdown]
# *Shown* (n = 5 labelled sets): most of the paper's two largest gains needs no unlabelled image.
#
# ### All gains: published and run again
#
# Ours are re-estimated, on the same labelled sets in both modes.

# %%
reruns = []
for cells in studies.values():
    try:
        gains = statistics.compare_modes(cells, "accuracy_recalibrated")
    except results.MixtureError:
        continue  # varies more than the paper does
    at_scale = pd.Series([is_full_scale(run) for run in cells.itertuples()], cells.index)
    full = at_scale.groupby([cells[name] for name in gains.index.names]).all().reindex(gains.index)
    reruns.append(gains.assign(full=full, shown=full & (gains["n"] >= paper.SPLITS)))

rerun = pd.concat(reruns).sort_values(["full", "n"], kind="stable")
rerun = rerun[~rerun.index.duplicated(keep="last")]
rerun = rerun[rerun.index.isin(printed.index)]


# %%
def draw_gains(ax, gains, colour, shift, *, line="-", **look):
    """Draw gains with their 95 % intervals, one row a (backbone, percent)."""
    at = [order.index(key) + shift for key in gains.index.droplevel(["dataset", "attack"])]
    reach = np.abs(gains[["low", "high"]].T - gains["mean"]).to_numpy(float)
    bars = ax.errorbar(gains["mean"], at, xerr=np.nan_to_num(reach), color=colour, ls="", **look)
    bars.lines[2][0].set_linestyle(line)


order = [(p, b) for b in baseline["backbone"].unique() for p in (1, 5)]

# %%
shown = rerun["shown"].astype(bool)
chance = printed["at chance"]
series = [
    (printed[~chance], "published", "-", {"fmt": "D", "ms": 5}),
    (printed[chance], "published, baseline at chance", "-", {"fmt": "x", "ms": 7}),
    (rerun[~shown], "run here: suggestive", ":", {"fmt": "o", "mfc": "white"}),
    (rerun[shown], "run here: shown", "-", {"fmt": "o", "ms": 9, "mfc": "white"}),
]


# %%
def draw_panel(ax, where, colour):
    """Draw the gains of one data set and attack, as a forest plot."""
    for table, label, line, look in series:
        is_paper = label.startswith("published")
        here = table.query("dataset == @where[0] and attack == @where[1]")
        shade, shift = (figures.COLOURS["published"], -0.15) if is_paper else (colour, 0.15)
        draw_gains(ax, here, shade, shift, line=line, label=label, **look)
    ax.axvline(0, color="0.6", linewidth=1)
    ax.set_yticks(range(6), [f"{names[b]}, {p} %" for p, b in order])
    ax.set(xlim=(-45, 85), ylim=(5.6, -0.6), xlabel="gain (points, 95 % interval)")


# %% alt="Forest plot of 36 published gains; the largest are those over baselines at chance."
fig, axes = plt.subplots(2, 3, figsize=(10, 5.6), sharex=True, sharey=True)
for row, (a, kind) in zip(axes, {"none": "clean", "pixel": "attacked"}.items(), strict=True):
    for ax, d in zip(row, baseline["dataset"].unique(), strict=True):
        draw_panel(ax, (d, a), figures.COLOURS[kind])
        ax.set_title(f"{names[d]}, {kind}")
fig.legend(*figures.label_once(axes[0, 1]), loc="outside upper left", ncols=4)
for ax in axes.flat:
    ax.label_outer()
plt.show()

# %% [markdown]
# Grey is the paper's. The largest gains are MobileNetV2's; a cross says that its baseline stood at
# exact chance. The other two backbones gain more than 12 points only on malaria at 1 %.
#
# Circles are ours, green without attack and pink with it. A large circle would be *shown* at the
# paper's scale, on five labelled sets; there is none so far. Small and dotted is *suggestive* for
# that scale: 32 px and 18 to 100 labels, or fewer sets. No circle: *untested*.

# %% [markdown]
# If an interval contains 0, we cannot call the result a gain. Most dotted intervals do. They do not
# refute the paper either, as their scale is far smaller ([07_results](07_results.ipynb)).

# %% [markdown]
# ## What is known, and what is not
#
# | statement | strength |
# |---|---|
# | MobileNetV2 learns from 600 labels; its averages hide it | shown, Fashion-MNIST, 5 sets |
# | Most of its published gains there needs no unlabelled image | shown, the same |
# | InceptionV3 and ResNet50V2 repeat the paper's clean baselines there | suggestive, 1 set each |
# | On malaria, too, the averages hide part of what baselines learnt | suggestive, a subset |
# | What the attack costs | suggestive: one draw of the pixels' places |
# | That *predicting rotations* helps, at the paper's scale | untested |

# %% [markdown]
# ## Words and symbols
#
# One name each, in notebooks, code and files. Look them up here when you need them.
#
# | in the paper | here | meaning |
# |---|---|---|
# | $D_l$, $N_l$ | `labelled` | images with labels; their number |
# | $D_u$, $N_u$ | `unlabelled` | images without labels; their number |
# | | `mode` | `supervised` (class head alone) or `semi` (both heads) |
# | rotation task | `pretext` | a task whose labels cost nothing |
# | 1-pixel attack | `attack` | a change to $D_l$ alone that marks each class |
# | backbone | `backbone` | a known convolutional network, trained from scratch |
# | base_network | `encoder` | backbone, then 4096 and 128 units; gives the `embedding` |
# | $\ell_l$, $\ell_u$ | `loss_labelled`, `loss_unlabelled` | cross-entropy of classes, of angles |
# | $\lambda_l$, $\lambda_u$ | `lambda_l`, `lambda_u` | their weights in equation (1) |
# | split | `split` | number of the random labelled set, 0 to 4 |
# | | `cell` | one run with its settings, such as `digits-small_cnn-5pct-clean-semi-s0` |
# | | `study` | many cells: base settings, and axes along which they vary |
# | Δ | gain | accuracy of `semi` minus that of `supervised` (points) |

# %% [markdown]
# ## The notebooks
#
# | notebook | its question |
# |---|---|
# | [01_data](01_data.ipynb) | What does the method get to see, and how few labels? |
# | [02_pixel_attack](02_pixel_attack.ipynb) | How can one pixel spoil what a network learns? |
# | [03_siamese_model](03_siamese_model.ipynb) | How does one network learn from both at once? |
# | [04_batch_normalisation](04_batch_normalisation.ipynb) | Why did the baseline stand at chance? |
# | [05_training](05_training.ipynb) | Which images meet in a step, how often, to what effect? |
# | [06_svm_evaluation](06_svm_evaluation.ipynb) | Do flat boundaries separate the classes? |
# | [07_results](07_results.ipynb) | What do the printed tables and recorded runs say? |
# | [08_audit](08_audit.ipynb) | What do the published gains rest on? |
# | [09_own_images](09_own_images.ipynb) | Do unlabelled images help on images of your own? |
# | [master](master.ipynb) | One cell from data to accuracy; a study runs it once per cell |

# %% [markdown]
# ## Summary
#
# - One encoder learns classes from few labelled images, and angles from many others.
# - The attack marks each class of the labelled images by one pixel. Test images have no mark, so
#   what a network learnt from marks is worth nothing there.
# - Most of the paper's largest gain is over a baseline that had learnt, but was read wrongly.
# - Whether the rotation task helps at the paper's scale is untested.

# %% [markdown]
# ## Exercises
#
# Predict first, then run. Solutions are in the hidden cells; click to unfold them.
#
# **1.** With `label_fraction = 0.01`, how many digits are labelled? Is there one for each class?

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
few = splits.count_labelled(0.01, len(data.unlabelled))
of_each = np.bincount(
    data.train_labels[splits.draw_labelled(data.train_labels, few, split=0, seed=0)]
)
print(few, "labelled images; of each class:", of_each.tolist())

# %% [markdown]
# **2.** In which data set are MobileNetV2's gains smallest? Look at its baselines before you guess.
# Then group `printed` by data set.

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
print(printed.query("backbone == 'mobilenet_v2'")["mean"].groupby("dataset").mean().round(1))

# %% [markdown]
# **3. Write it.** What would you have had anyway? Fit a
# [linear SVM](https://scikit-learn.org/stable/modules/generated/sklearn.svm.SVC.html) to the raw
# pixels of the labelled digits, without any network. How good is it on the test images?

# %% jupyter={"source_hidden": true} tags=["solution", "nbval-check-output"]
from sklearn.svm import SVC

chosen = splits.draw_labelled(data.train_labels, n_labelled, split=cell.split, seed=cell.seed)
pixels, test_pixels = (x.reshape(len(x), -1) / 255 for x in (data.train[chosen], data.test))
svm = SVC(kernel="linear", C=1.0).fit(pixels, data.train_labels[chosen])
print(f"raw pixels, {n_labelled} labels: {svm.score(test_pixels, data.test_labels):.1%}")

# %% [markdown]
# Next: [01_data](01_data.ipynb). To run a small study yourself, `make demo` in a shell; to run one
# cell, open [master](master.ipynb).
