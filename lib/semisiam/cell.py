"""Settings: one `Cell` is one run of the master notebook, one `Study` a grid of cells."""

import ast
import hashlib
import itertools
import json
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

RESULTS_VERSION = 2  # raise when a change to the code changes what a cell computes
MIN_IMAGE_SIZE = {"small_cnn": 32, "mobilenet_v2": 32, "inception_v3": 75, "resnet50_v2": 32}
NOT_RESULTS = {"data_dir", "output_dir", "keep_model"}  # where, and what is kept
# hashed only if set: older hashes stay
ADDED = {"attack_draw", "weights", "label_noise", "unlabelled_classes", "pretext_images"}
RETIRED = {"tensorboard", "memory_growth"}  # in the params.yaml of older cells


class SettingsError(ValueError):
    """Settings that cannot be run; the message names the setting, its value and the remedy."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def check(cls, settings: dict[str, Any]) -> Self:
        """Validate settings, raising `SettingsError` with one line per mistake."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise SettingsError("\n".join(_explain(e, cls) for e in error.errors())) from None


class Cell(_Settings):
    """The settings of one run; the defaults are the smoke size that CI runs in seconds.

    Names, types, defaults and comments equal the parameters cell of `notebooks/master.py`, which
    also says what each choice means; a test holds them together. Sections are those of the paper.
    """

    # data (III-A)
    dataset: Literal["digits", "fashion_mnist", "stl10", "malaria", "folder"] = "digits"
    data_dir: str = ""  # folder of the raw files ("": the cache)
    image_size: int = Field(32, ge=8, le=1024)  # height and width after resizing (px)
    unlabelled_limit: int = Field(0, ge=0)  # use this many unlabelled images (0: all)
    test_limit: int = Field(0, ge=0)  # use this many test images (0: all)
    test_split: Literal["random", "patient"] = "random"
    unlabelled_classes: Literal["same", "fewer", "more", "other"] = "same"
    # the labelled set (III-B), the attack (III-C) and a defence
    label_fraction: float = Field(0.05, gt=0, le=1)  # labelled images as a share of N_u
    split: int = Field(0, ge=0)  # which labelled set, first weights and order (0-4 in the paper)
    splits_file: str = ""  # JSON of recorded labelled sets ("": drawn by seed)
    label_noise: float = Field(0.0, ge=0, lt=1)  # share of D_l with a wrong class
    attack: Literal["none", "pixel", "searched", "random", "patch"] = "none"
    attack_pixels: int = Field(1, ge=1)  # marked pixels an image
    attack_value: int = Field(255, ge=0, le=255)  # grey value of the mark (0-255)
    attack_draw: int = Field(0, ge=0)  # which draw of the places, apart from the seed
    attack_share: float = Field(1.0, gt=0, le=1)  # share of D_l that is attacked
    attack_unlabelled: bool = False  # attack D_u too, by its hidden classes
    defence: Literal["none", "median", "jpeg", "grey"] = "none"
    jpeg_quality: int = Field(10, ge=1, le=95)  # of the jpeg defence (1-95)
    seed: int = Field(0, ge=0, lt=2**32)  # of halves, labelled sets, places, weights, order
    # model and training (III, III-B)
    mode: Literal["supervised", "semi", "frozen"] = "semi"
    backbone: Literal["small_cnn", "mobilenet_v2", "inception_v3", "resnet50_v2", "pixels"] = (
        "small_cnn"
    )
    weights: str = "none"  # the backbone's start: none, imagenet or FILE.h5
    bn_momentum: float | None = Field(None, ge=0, lt=1)  # of batch normalisation (None: its own)
    bn_recalibrate: Literal["none", "labelled", "unlabelled"] = "none"
    pretext: Literal[
        "none", "rotation", "rotation_flip", "jigsaw", "barlow_twins", "consistency"
    ] = "rotation"
    pretext_images: Literal["unlabelled", "labelled"] = "unlabelled"
    rotations: Literal["one", "all"] = "one"
    lambda_l: float = Field(1.0, ge=0)  # weight of the class loss, equation (1)
    lambda_u: float = Field(1.0, ge=0)  # weight of the pretext loss, equation (1)
    epochs: int = Field(3, ge=1)  # passes over D_u (semi) or D_l (supervised)
    equal_updates: bool = False  # supervised: as many updates an epoch as semi would make
    batch_size: int = Field(64, ge=2)  # labelled images a step, and unlabelled ones
    learning_rate: float = Field(0.001, gt=0, le=1)  # Adam's, until the decay starts
    decay_start: float = Field(0.4, ge=0, le=1)  # share of the epochs before the decay
    decay_rate: float = Field(0.1, ge=0)  # then x exp(-decay_rate) each epoch
    # the run
    deterministic: bool = True  # same seed, same machine: same numbers
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    jit: bool = False  # compile with XLA: for GPUs, far slower on CPUs
    keep_model: bool = True  # keep model.keras (up to 130 MB a cell)
    output_dir: str = ""  # folder of the results ("": beside the notebook)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        size, smallest = self.image_size, MIN_IMAGE_SIZE.get(self.backbone, 0)
        if self.weights not in ("none", "imagenet") and not self.weights.endswith(".h5"):
            raise ValueError(f"weights = {self.weights!r}: none, imagenet or a file ending in .h5")
        if self.weights == "imagenet" and self.backbone == "small_cnn":
            raise ValueError("weights = 'imagenet': backbone 'small_cnn' was never trained on it")
        if size < smallest:
            told = f"is too small for backbone {self.backbone!r}: it needs at least {smallest} px"
            raise ValueError(f"image_size = {size} {told}")
        if self.pretext == "jigsaw" and size % 2:
            raise ValueError(f"image_size = {size} is odd: pretext = 'jigsaw' halves it")
        if self.backbone == "pixels" and self.mode != "frozen":
            raise ValueError("backbone = 'pixels' needs mode = 'frozen': pixels are not trained")
        for name, other, allowed in _NEEDS:
            value, found = getattr(self, name), getattr(self, other)
            if value != type(self).model_fields[name].default and found not in allowed:
                needed = " or ".join(map(repr, allowed))
                raise ValueError(f"{name} = {value!r} needs {other} = {needed}, not {found!r}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the `params.yaml` of a cell, also of an older one whose settings were more.

        Raises `OSError`: no such file; `SettingsError`: it cannot be understood.
        """
        try:
            settings = yaml.safe_load(path.read_text("utf-8"))
            return cls.check({k: v for k, v in settings.items() if k not in RETIRED})
        except (AttributeError, ValueError, yaml.YAMLError) as error:
            raise SettingsError(f"{path} cannot be used: {error}") from None

    @classmethod
    def from_notebook(cls, namespace: dict[str, Any]) -> Self:
        """Take the parameters from a notebook's `globals()`: those declared and those injected.

        Other variables do not count, and cells may run again. A misspelt name is an error.
        """
        names = _list_parameters(namespace.get("In", []))
        names = names or list(namespace.get("__annotations__", []))  # a kernel without a history
        if not names:
            raise SettingsError("no parameter is declared: run the parameters cell first")
        return cls.check({name: namespace[name] for name in names if name not in RETIRED})

    @property
    def data_settings(self) -> dict[str, Any]:
        """What `data.datasets.load` takes."""
        names = {"image_size", "data_dir", "unlabelled_limit", "test_limit", "test_split", "seed"}
        return {"name": self.dataset} | self.model_dump(include=names | {"unlabelled_classes"})

    @property
    def scaled(self) -> bool:
        """Whether the SVM divides features by their standard deviation: of frozen backbones."""
        return self.mode == "frozen" and self.backbone != "pixels"  # about 1e-13 if untrained

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change when a setting that changes results does."""
        same = ADDED - self.model_dump(exclude_defaults=True).keys()
        settings = self.model_dump(exclude=NOT_RESULTS | same)
        settings["results_version"] = RESULTS_VERSION + self.scaled  # that came later
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The readable name, e.g. `fashion_mnist-mobilenet_v2-1pct-pixel-semi-s0`."""
        attack = "clean" if self.attack == "none" else self.attack
        percent = f"{self.label_fraction * 100:g}pct"
        return f"{self.dataset}-{self.backbone}-{percent}-{attack}-{self.mode}-s{self.split}"


_SEMI = "attack_unlabelled", "pretext", "pretext_images", "rotations", "lambda_l", "lambda_u"
_NEEDS = [  # a setting that is not its default does something only with one of these of another
    *[(name, "mode", ["semi"]) for name in _SEMI],
    ("test_split", "dataset", ["malaria"]),
    ("attack_draw", "attack", ["pixel", "random", "patch"]),
    ("attack_draw", "splits_file", [""]),  # which holds the places
    ("splits_file", "attack", ["none", "pixel", "searched", "patch"]),  # `random` has none to hold
    ("attack_pixels", "attack", ["pixel", "random"]),
    ("attack_value", "attack", ["pixel", "random"]),
    ("attack_share", "attack", ["pixel", "searched", "random", "patch"]),
    ("attack_unlabelled", "attack", ["pixel", "searched"]),
    ("attack_unlabelled", "pretext_images", ["unlabelled"]),  # else D_u is not read
    ("attack_unlabelled", "unlabelled_classes", ["same"]),  # of others no class is known
    ("attack_unlabelled", "attack_share", [1.0]),  # D_u is marked whole
    ("jpeg_quality", "defence", ["jpeg"]),
    ("weights", "backbone", ["mobilenet_v2", "inception_v3", "resnet50_v2", "small_cnn"]),
    ("bn_momentum", "mode", ["supervised", "semi"]),
    ("rotations", "pretext", ["rotation", "rotation_flip", "jigsaw"]),
    ("lambda_u", "pretext", ["rotation", "rotation_flip", "jigsaw", "barlow_twins", "consistency"]),
    ("equal_updates", "mode", ["supervised"]),
    ("jit", "deterministic", [False]),  # Keras would leave XLA out with no more than a warning
    ("jit", "pretext", ["none", "rotation", "rotation_flip", "jigsaw"]),  # XLA cannot cut views
]
_IN_NAME = {"dataset", "backbone", "label_fraction", "attack", "mode", "split"}


def _list_parameters(sources: list[str]) -> list[str]:
    """List what the last parameters cell in IPython's `In` declares, and what came after it."""
    base: list[str] = []  # without a line that was copied from there
    declared: list[str] = []
    for source in sources:
        try:
            body = ast.parse(source).body
        except SyntaxError:  # a cell with magics
            continue
        annotated = [n.target for n in body if isinstance(n, ast.AnnAssign) and n.value]
        plain = [target for n in body if isinstance(n, ast.Assign) for target in n.targets]
        names = [n.id for n in annotated + plain if isinstance(n, ast.Name)]
        if annotated and set(names) & set(Cell.model_fields):
            copied = 2 * len(names) < len(base)  # a line of that cell
            base = base if copied else names
            declared = list(dict.fromkeys(base + names))
        elif source.startswith("# Parameters"):  # papermill's
            base = declared = list(dict.fromkeys(declared + names))
    return declared


class Rule(_Settings):
    """Settings to change in the cells of a study that match."""

    when: dict[str, Any]
    set: dict[str, Any]


class Study(_Settings):
    """A grid: the `base` settings, every combination of the `axes`, then the `rules` in order.

    A rule `{when: {mode: supervised}, set: {epochs: 100}}` changes the cells that match it.
    `variants`, for what is no grid, are one more axis: named settings, the name ends the cell's.
    """

    name: str
    description: str = ""
    base: dict[str, Any] = {}
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    variants: dict[str, dict[str, Any]] = {}
    rules: list[Rule] = []

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a study's YAML; its name is the file's. Raises `SettingsError`."""
        path = Path(path)
        try:
            settings = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        except OSError as error:
            raise SettingsError(f"cannot read the study {path}: {error.strerror}") from None
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise SettingsError(f"{path} is not valid YAML in UTF-8: {error}") from None
        if not isinstance(settings, dict) or "name" in settings:
            told = "a study is a mapping with base, axes and rules; its name is the file's"
            raise SettingsError(f"{path}: {told}")
        try:
            study = cls.check(settings | {"name": path.stem})
            study.cells()
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from None
        return study

    def cells(self) -> dict[str, Cell]:
        """All cells by name, in the order of the axes. Raises `SettingsError`."""
        if not (self.base or self.axes or self.variants):
            raise SettingsError("the study has no cell: give it base settings or axes")
        if odd := [name for name in self.variants if not re.fullmatch(r"\w+(-\w+)*", name)]:
            raise SettingsError(f"variant {odd[0]!r}: letters, digits, _ and - alone, please")
        if unknown := {key for rule in self.rules for key in rule.when} - Cell.model_fields.keys():
            raise SettingsError(_unknown(min(unknown), Cell))  # of all others `Cell` tells
        cells, of = {}, {}
        defaults = Cell().model_dump()
        unused = list(self.rules)
        for *values, variant in itertools.product(*self.axes.values(), self.variants or [""]):
            settings = self.base | dict(zip(self.axes, values, strict=True))
            settings |= self.variants.get(variant, {})
            for rule in self.rules:
                if all((defaults | settings)[key] == value for key, value in rule.when.items()):
                    settings |= rule.set
                    unused = [other for other in unused if other is not rule]
            cell = Cell.check(settings)
            if "output_dir" in settings:
                raise SettingsError("output_dir is set by the grid, one folder per cell")
            parts = [_name(axis, getattr(cell, axis)) for axis in self.axes if axis not in _IN_NAME]
            name = "-".join([cell.name, *parts, *([variant] if variant else [])])
            if name.casefold() in map(str.casefold, cells):  # one folder, for some file systems
                raise SettingsError(f"the study has the cell {name} twice (A and a count as one)")
            cells[name] = cell
            of.setdefault(variant, []).append(cell)
        for one, other in itertools.combinations(of, 2):
            if of[one] == of[other]:
                raise SettingsError(f"variants {one} and {other} are the same in every cell")
        if unused:
            raise SettingsError(f"a rule matches no cell: when {unused[0].when}")
        return cells


class _Loader(yaml.SafeLoader):
    """YAML without its traps: a key given twice, 010, read as 8, and 1:30, read as 90."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:  # before `<<` is merged
            if key.value in seen:
                told = f"{key.value} is given twice"
                raise yaml.MarkedYAMLError(None, None, told, key.start_mark)
            seen.add(key.value)
        return node

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        is_int = node.tag.endswith(":int")
        if ":" in node.value or (is_int and re.match(r"[-+]?0\d", node.value)):
            told = f"{node.value} would be read as octal or as minutes: write it in plain digits"
            raise yaml.MarkedYAMLError(None, None, told, node.start_mark)
        return super().construct_yaml_int(node) if is_int else super().construct_yaml_float(node)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
_POWER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # 1e-3, to YAML 1.1 a text
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _POWER, list("-+.0123456789"))


def _name(axis: str, value: Any) -> str:
    """Name a place on an axis for any file system: free text as a few letters and a hash."""
    text = f"{axis}_{value}"
    if not isinstance(value, str) or re.fullmatch(r"[a-z0-9_.]{1,40}", value):
        return text
    kept = re.sub(r"[^A-Za-z0-9]+", "_", text)[:40].strip("_")
    return f"{kept}_{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:6]}"


def _unknown(name: str, model: type[BaseModel]) -> str:
    near = get_close_matches(name, model.model_fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(model.model_fields)}"
    return f"unknown setting {name!r}: {hint}"


def _explain(error: dict[str, Any], model: type[BaseModel]) -> str:
    """Turn one pydantic error into: setting = value: what is allowed."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    path = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden" and len(path) == 1:
        return _unknown(path[0], model)
    return f"{'.'.join(path)} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
