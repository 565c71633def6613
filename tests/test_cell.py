import re

import pytest
import yaml

from semisiam.cell import Cell, SettingsError, Study


def write(path, **study):
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spilt": 3}, "unknown setting 'spilt': did you mean 'split'?"),
        ({"epochs": "3"}, "epochs = '3': input should be a valid integer"),
        ({"epochs": 0}, "epochs = 0: input should be greater than or equal to 1"),
        ({"mode": "semy"}, "mode = 'semy': input should be 'supervised', 'semi' or 'frozen'"),
        (
            {"backbone": "inception_v3", "image_size": 74},
            "image_size = 74 is too small for backbone 'inception_v3': it needs at least 75 px",
        ),
        ({"image_size": 31}, "image_size = 31 is too small for backbone 'small_cnn'"),
        ({"test_split": "patient"}, "test_split = 'patient' needs dataset = 'malaria'"),
        ({"backbone": "pixels"}, "backbone = 'pixels' needs mode = 'frozen'"),
        ({"weights": "imagenet"}, "backbone 'small_cnn' was never trained on it"),
        ({"weights": "mine"}, "weights = 'mine': none, imagenet or a file ending in .h5"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"seed": 2**32}, "seed = 4294967296: input should be less than 4294967296"),
        ({"lambda_u": float("inf")}, "lambda_u = inf"),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_what_is_allowed(settings, message):
    with pytest.raises(SettingsError) as error:
        Cell.check(settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_each_of_two_mistakes_has_its_line():
    with pytest.raises(SettingsError, match=r"batch_size = 1.*\n.*unknown setting 'epoch'"):
        Cell.check({"batch_size": 1, "epoch": 2})


DECLARED = "epochs: int = 3  # passes\nmode: str = 'semi'"


def run_cells(*sources, **before):
    """Run cells as a kernel does, beside variables that were there before."""
    namespace = {"In": []} | before
    for source in sources:
        namespace["In"].append(source)
        exec(source, namespace)
    return Cell.from_notebook(namespace)


def test_parameters_are_those_of_the_parameters_cell_whatever_else_there_is():
    """As pi of an IPython start-up file, or what the first run of the notebook left."""
    assert run_cells(DECLARED, "n_labelled = 5", pi=3.14, split=4) == Cell(epochs=3)
    assert run_cells(DECLARED, "x = 1", DECLARED.replace("3", "7")) == Cell(epochs=7)
    assert run_cells(DECLARED + "\nsplit: int") == Cell(epochs=3)


def test_injected_parameters_count_and_a_misspelt_one_is_an_error():
    assert run_cells(DECLARED, "# Parameters\nepochs = 8\nsplit = 2") == Cell(epochs=8, split=2)
    with pytest.raises(SettingsError, match="unknown setting 'epoch_s'"):
        run_cells(DECLARED, "# Parameters\nepoch_s = 8")
    with pytest.raises(SettingsError, match="unknown setting 'epoch_s'"):
        run_cells(DECLARED + "\nepoch_s = 8")


def test_a_line_copied_to_a_later_cell_leaves_the_others():
    sources = ["epochs: int = 3\nsplit: int = 0\nseed: int = 0\nbatch_size = 64\nlambda_u = 1.0"]
    sources += ["# Parameters\nepochs = 8", "split: int = 4"]
    found = {"In": sources}
    for source in [*sources, "epohcs: int = 5\nsplit: int = 4", "split: int = 2"]:
        exec(source, found)
    assert Cell.from_notebook(found) == Cell(epochs=8, split=2)
    with pytest.raises(SettingsError, match="did you mean 'epochs'"):
        Cell.from_notebook(found | {"In": [*sources, "epohcs: int = 5\nsplit: int = 4"]})
    found["In"] = [*sources, "epohcs: int = 5\nsplit: int = 4", "split: int = 2"]  # mended
    assert Cell.from_notebook(found) == Cell(epochs=8, split=2)


def test_without_a_parameters_cell():
    with pytest.raises(SettingsError, match="run the parameters cell first"):
        run_cells("x = 3", epochs=4)


def test_a_kernel_that_keeps_no_history():
    """As nbval's."""
    namespace = {"In": [""]}
    exec(DECLARED.replace("3", "9"), namespace)
    assert Cell.from_notebook(namespace) == Cell(epochs=9)


def test_an_older_cell_is_read_and_has_its_hash(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("epochs: 7\ntensorboard: false\n")
    assert Cell.read(path) == Cell(epochs=7)
    assert Cell().hash == "69ee127e51acee6e"
    of_pixels = {"mode": "frozen", "backbone": "pixels"}
    assert Cell(**of_pixels).hash == "895c092fd64128c1"
    assert Cell(mode="frozen").hash != "96ac065a9fdcaa1f"  # of when its features were not scaled
    assert Cell(mode="frozen", weights="own.h5").hash != Cell(mode="frozen").hash
    path.write_text("- 1\n")
    with pytest.raises(SettingsError, match=r"params\.yaml"):
        Cell.read(path)


def test_name_and_hash():
    cell = Cell(
        dataset="fashion_mnist", backbone="mobilenet_v2", label_fraction=0.01, attack="pixel"
    )
    assert cell.name == "fashion_mnist-mobilenet_v2-1pct-pixel-semi-s0"
    moved = cell.model_copy(update={"output_dir": "elsewhere", "data_dir": "there"})
    assert moved.hash == cell.hash
    assert cell.model_copy(update={"epochs": 4}).hash != cell.hash


def test_a_study_is_every_combination_and_rules_change_those_that_match(tmp_path):
    study = Study.load(
        write(
            tmp_path / "s.yaml",
            base={"epochs": 30},
            axes={"mode": ["supervised", "semi"], "split": [0, 1], "bn_momentum": [0.9, None]},
            rules=[{"when": {"mode": "supervised"}, "set": {"epochs": 100}}],
        )
    )
    cells = study.cells()
    assert len(cells) == 8
    assert {cell.mode: cell.epochs for cell in cells.values()} == {"supervised": 100, "semi": 30}
    assert "digits-small_cnn-5pct-clean-semi-s1-bn_momentum_0.9" in cells


def test_a_rule_knows_defaults():
    rules = [{"when": {"mode": "semi"}, "set": {"epochs": 50}}]
    (cell,) = Study.check({"name": "s", "axes": {"split": [0]}, "rules": rules}).cells().values()
    assert (cell.mode, cell.epochs) == ("semi", 50)


def test_variants_are_named_settings_beside_the_axes(tmp_path):
    study = Study.load(
        write(
            tmp_path / "s.yaml",
            base={"mode": "supervised"},
            axes={"split": [0, 1]},
            variants={"plain": {}, "equal-updates": {"equal_updates": True}},
        )
    )
    cells = study.cells()
    name = "digits-small_cnn-5pct-clean-supervised-s"
    expected = {f"{name}{s}-{v}" for s in (0, 1) for v in ("plain", "equal-updates")}
    assert set(cells) == expected
    assert cells[f"{name}1-equal-updates"].equal_updates
    assert not cells[f"{name}1-plain"].equal_updates


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"equal_updates": True}, "equal_updates = True needs mode = 'supervised', not 'semi'"),
        (
            {"attack": "pixel", "attack_unlabelled": True, "pretext_images": "labelled"},
            "attack_unlabelled = True needs pretext_images = 'unlabelled', not 'labelled'",
        ),
        (
            {"mode": "supervised", "pretext_images": "labelled"},
            "pretext_images = 'labelled' needs mode = 'semi', not 'supervised'",
        ),
        ({"mode": "supervised", "pretext": "jigsaw"}, "pretext = 'jigsaw' needs mode = 'semi'"),
        ({"mode": "supervised", "lambda_u": 0.5}, "lambda_u = 0.5 needs mode = 'semi', not"),
        ({"pretext": "none", "lambda_u": 0.5}, "lambda_u = 0.5 needs pretext = 'rotation' or"),
        ({"pretext": "none", "rotations": "all"}, "rotations = 'all' needs pretext ="),
        (
            {"attack": "pixel", "attack_unlabelled": True, "unlabelled_classes": "fewer"},
            "attack_unlabelled = True needs unlabelled_classes = 'same', not 'fewer'",
        ),
        ({"attack_pixels": 2}, "attack_pixels = 2 needs attack = 'pixel' or 'random', not 'none'"),
        (
            {"mode": "supervised", "rotations": "all"},
            "rotations = 'all' needs mode = 'semi', not 'supervised'",
        ),
        (
            {"attack": "pixel", "attack_draw": 1, "splits_file": "a.json"},
            "attack_draw = 1 needs splits_file = '', not 'a.json'",
        ),
        ({"mode": "frozen", "bn_momentum": 0.5}, "bn_momentum = 0.5 needs mode = 'supervised' or"),
        (
            {"mode": "frozen", "backbone": "pixels", "weights": "imagenet"},
            "weights = 'imagenet' needs backbone = 'mobilenet_v2' or",
        ),
        ({"jpeg_quality": 20}, "jpeg_quality = 20 needs defence = 'jpeg', not 'none'"),
        ({"pretext": "barlow_twins", "rotations": "all"}, "rotations = 'all' needs pretext ="),
        ({"splits_file": "s.json", "attack": "random"}, "splits_file = 's.json' needs attack ="),
        (
            {"jit": True, "deterministic": False, "pretext": "consistency"},
            "jit = True needs pretext = 'none' or 'rotation' or 'rotation_flip' or 'jigsaw'",
        ),
        ({"pretext": "jigsaw", "image_size": 33}, "image_size = 33 is odd"),
    ],
)
def test_a_setting_without_effect_is_refused(settings, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        Cell.check(settings)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({}, "has no cell"),
        ({"axes": {"split": []}}, "axes.split"),
        ({"axes": {"split": [1, 1]}}, "has the cell digits-small_cnn-5pct-clean-semi-s1 twice"),
        ({"axes": {"spilt": [1]}}, "did you mean 'split'?"),
        ({"base": {"epochs": 1}, "axis": {}}, "did you mean 'axes'?"),
        ({"base": {"epochs": -1}}, "epochs = -1"),
        ({"base": {"epochs": 1}, "rules": [{"when": {"mod": "semi"}, "set": {}}]}, "'mode'"),
        (
            {"base": {"epochs": 1}, "rules": [{"when": {"mode": "supervized"}, "set": {}}]},
            "a rule matches no cell: when {'mode': 'supervized'}",
        ),
        ({"base": {"output_dir": "x"}}, "output_dir is set by the grid"),
        ({"variants": {"a/b": {}}}, "variant 'a/b': letters"),
        ({"variants": {"A": {}, "a": {"epochs": 2}}}, "has the cell digits-small_cnn-5pct-clean"),
        ({"variants": {"a": {"epoch": 1}}}, "did you mean 'epochs'?"),
        (
            {
                "variants": {"a": {"epochs": 5}, "b": {"epochs": 6}},
                "rules": [{"when": {"mode": "semi"}, "set": {"epochs": 9}}],
            },
            "variants a and b are the same in every cell",
        ),
    ],
)
def test_a_bad_study_is_refused_with_its_file(tmp_path, study, message):
    path = write(tmp_path / "s.yaml", **study)
    with pytest.raises(SettingsError) as error:
        Study.load(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_variants_may_be_the_same_in_some_cells(tmp_path):
    tasks = {"one": {}, "other": {"pretext": "jigsaw"}}
    rule = {"when": {"mode": "supervised"}, "set": {"pretext": "rotation"}}
    axes = {"mode": ["supervised", "semi"]}
    study = Study.load(write(tmp_path / "s.yaml", axes=axes, variants=tasks, rules=[rule]))
    assert len(study.cells()) == 4


def test_a_power_of_ten_is_a_number(tmp_path):
    (tmp_path / "s.yaml").write_text("axes: {learning_rate: [1e-3, 1.5E-4, -0.5e+1]}")
    with pytest.raises(SettingsError, match=r"learning_rate = -5\.0"):
        Study.load(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text("axes: {learning_rate: [1e-3, 1.5E-4]}")
    cells = Study.load(tmp_path / "s.yaml").cells().values()
    assert [cell.learning_rate for cell in cells] == [0.001, 0.00015]


def test_merged_keys_are_not_given_twice(tmp_path):
    text = "variants: {a: &a {epochs: 1}, b: &b {<<: *a, epochs: 2}}\nbase: {<<: *b, split: 1}"
    (tmp_path / "some.yaml").write_text(text)
    study = Study.load(tmp_path / "some.yaml")
    assert study.base == {"epochs": 2, "split": 1}
    assert [cell.epochs for cell in study.cells().values()] == [1, 2]


def test_a_study_that_is_no_yaml_mapping(tmp_path):
    no_values = ("a: !!bool maybe", "a: !!int [3]", "a: !!timestamp x")
    no_yaml = ("- a\n", "a: [", "!!python/object/apply:os.getcwd []", "1: 2\n", "name: other\n")
    for text in no_yaml + no_values:
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(SettingsError, match=r"s\.yaml"):
            Study.load(tmp_path / "s.yaml")
    with pytest.raises(SettingsError, match="cannot read the study"):
        Study.load(tmp_path / "none.yaml")


def test_an_older_cells_parameters_may_be_given_again():
    source = "epochs: int = 3\nseed: int = 0"
    injected = "# Parameters\nepochs = 2\nmemory_growth = True"
    namespace = {"In": [source, injected], "epochs": 2, "seed": 0, "memory_growth": True}
    assert Cell.from_notebook(namespace).epochs == 2
