"""Build what README shows from `outputs/published/`: `findings.py`; see `make readme`.

Between its markers README holds the tables that this writes; the figure goes to
`outputs/published/findings.png`. A test holds both to the recorded numbers.
"""

import re

import bench
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from semisiam import ROOT
from semisiam.atomic import read_json, replacing
from semisiam.evidence import figures, results, tables
from semisiam.evidence.paper import ROW, read_printed
from semisiam.evidence.statistics import compare, compare_controls, compare_paired

PUBLISHED = ROOT / "outputs" / "published"
STUDIES = ("stl10_small", "fashion_small", "malaria_small")
README = ROOT / "README.md"
FIGURE = PUBLISHED / "findings.png"
DPI = 110


def read_studies() -> pd.DataFrame:
    """Read the cells of all reduced studies."""
    return pd.concat([results.collect(PUBLISHED / name) for name in STUDIES], ignore_index=True)


def write_baselines() -> str:
    """Write the baselines at the paper's scale, as trained and re-estimated, beside the paper's."""
    fashion = results.collect(PUBLISHED / "fashion_baseline")
    # 137 labels are the paper's 1 % there, and drawn from a pool of 2,000
    malaria = results.collect(PUBLISHED / "audit_malaria").assign(percent=1.0)
    found = [
        {measure: results.summarise(cells, measure) for measure in results.MEASURES}
        for cells in (fashion, malaria)
    ]
    siamese = read_printed("accuracy").set_index([*ROW, "mode", "attack"])["mean"]
    head = ("supervised baseline", "labelled sets", *results.MEASURES.values(), "paper")
    lines = [f"| {' | '.join([*head, 'paper, siamese'])} |", "|---|---|---|---|---|---|---|"]
    for cells, of in zip((fashion, malaria), found, strict=True):
        n_labelled = cells["n_labelled"].iloc[0]
        for key, row in of["accuracy"].iterrows():
            dataset, _, backbone, _, attack = (results.NAMES.get(part, part) for part in key)
            texts = [write_mean(of[measure].loc[key]) for measure in results.MEASURES]
            texts.append(f"{row['published_mean']:.1f} ± {row['published_std']:.1f}")
            texts.append(f"{siamese[(*key[:3], 'semi', key[4])]:.1f}")
            what = f"{dataset}, {n_labelled} labels, {backbone}, {attack.lower()}"
            n = max(of[measure].loc[key, "n"] for measure in results.MEASURES)
            lines.append(f"| {what} | {n:.0f} | {' | '.join(texts)} |")
    return "\n".join(lines)


def write_gains(cells: pd.DataFrame) -> str:
    """Write mean gains, mean costs of the attack and mean interactions, with intervals."""
    reads = " | ".join(results.MEASURES.values())
    lines = [f"| points of accuracy | {reads} | paper |", "|---|---|---|---|---|"]
    found = [compare(cells, name).xs(results.MEAN, level=(2, 3)) for name in results.MEASURES]
    names = {
        "gain": "gain by unlabelled images",
        "cost": "cost of the attack",
        "interaction": "cost to the siamese network, over the baseline's",
    }
    for what, dataset, at in found[0].index:
        rows = [table.loc[(what, dataset, at)] for table in found]
        label = f"{results.NAMES[dataset]}: {names[what]}"
        label += f", {results.NAMES[at].lower()}" if at else ""
        texts = [*map(write_interval, rows), tables.write_signed(rows[0]["published"])]
        lines.append(f"| {label} | {' | '.join(texts)} |")
    return "\n".join(lines)


def write_controls() -> str:
    """Write what the whole gain of the reduced controls is over ever fairer references."""
    controls = results.read_controls(PUBLISHED / "audit_controls")
    references = {
        "supervised": "the supervised baseline",
        "equal-updates": "a baseline with as many updates",
        "no-task": "unlabelled images without a task",
    }
    pairs = [("rotation", name) for name in references]
    found = [compare_controls(controls, pairs, read) for read in results.MEASURES.values()]
    reads = " | ".join(results.MEASURES.values())
    lines = [f"| gain of the siamese network over | {reads} |", "|---|---|---|---|"]
    for (pair, name), reference in zip(pairs, references.values(), strict=True):
        texts = [write_interval(table.loc[f"{pair} - {name}"]) for table in found]
        lines.append(f"| {reference} | {' | '.join(texts)} |")
    return "\n".join(lines)


def write_precision() -> str:
    """Write what bfloat16 costs in accuracy: a sentence."""
    cells = results.collect(PUBLISHED / "precision")
    texts = []
    for measure, read in results.MEASURES.items():
        wide = 100 * cells.pivot(index="split", columns="precision", values=measure).astype(float)
        change = compare_paired(wide["mixed_bfloat16"] - wide["float32"])
        texts.append(f"{write_interval(pd.Series(change))} points {read}")
    n = cells["split"].nunique()
    change = f"a difference of {texts[0]}, {texts[1]}"
    return f"In accuracy bfloat16 made {change}, over {n} labelled sets."


def write_mean(row: pd.Series) -> str:
    """Write mean ± std, or the one number where there is one run; collapsed ones have none."""
    if row["n"] == 0:
        return f"{row['collapsed']:.0f} of {row['collapsed']:.0f} collapsed"
    return f"{row['mean']:.1f}" + (f" ± {row['std']:.1f}" if row["n"] > 1 else "")


def write_interval(row: pd.Series) -> str:
    """Write a mean difference with its 95 % interval, which takes two labelled sets."""
    return tables.write_interval(row) if row["n"] >= 2 else "collapsed"


def draw(cells: pd.DataFrame) -> Figure:
    """Draw every gain of the reduced studies beside the published one."""
    gathered = tables.gather_gains(cells)
    size = (3 + 2.6 * len(gathered), 4)
    fig, axes = plt.subplots(
        1, len(gathered), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for ax, (dataset, sources) in zip(axes[0], gathered.items(), strict=True):
        figures.differences(ax, sources)
        ax.set_title(results.NAMES[dataset], pad=6)
        ax.set_xlabel("")
        ax.get_legend().remove()
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    text = "gain by unlabelled images (points, 95 % interval; ours at 32 px)"
    fig.supxlabel(text, fontsize="medium")
    return fig


def fill_in(text: str) -> str:
    """Put the tables between README's markers."""
    cells = read_studies()
    blocks = {
        "baselines": write_baselines(),
        "gains": write_gains(cells),
        "controls": write_controls(),
        "precision": write_precision(),
        "bench": bench.make_table(read_json(PUBLISHED / "bench.json")),
    }
    for name, block in blocks.items():
        pattern, filled = (
            rf"<!-- {name} -->.*?<!-- end -->",
            f"<!-- {name} -->\n{block}\n<!-- end -->",
        )
        text, count = re.subn(pattern, lambda _, f=filled: f, text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"README.md needs <!-- {name} --> and <!-- end --> once")
    return text


def main() -> None:
    """Write README's tables and the figure anew."""
    with replacing(README) as temporary:
        temporary.write_text(fill_in(README.read_text("utf-8")), "utf-8")
    with replacing(FIGURE) as temporary:
        draw(read_studies()).savefig(temporary, format="png", dpi=DPI)


if __name__ == "__main__":
    main()
