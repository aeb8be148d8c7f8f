"""A privacy audit as files: results.json for programs, report.md and a picture for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ecgforge.data.store import EcgStore
from ecgforge.ecg_paper import draw_sheet, save_figure
from ecgforge.evaluation.markdown import markdown_table
from ecgforge.evaluation.neighbours import NEAR, QUANTILES, MembershipInference, chance_too_near
from ecgforge.evaluation.privacy import PrivacyAudit
from ecgforge.evaluation.waveforms import LARGEST_SHIFT_S
from ecgforge.formats.atomic import write_whole

PICTURE = "nearest.png"

_DPI = 130.0
_SHOWN = (0.0, 0.01, 0.05, 0.25, 0.5)  # quantiles: the near end is what matters


def write_privacy_report(
    audit: PrivacyAudit, real: EcgStore, synthetic: EcgStore, folder: Path, *, command: str = ""
) -> tuple[Path, ...]:
    """Write results.json, nearest.png and report.md into a folder.

    Args:
        audit: What to tell.
        real: The store of the real records.
        synthetic: The store of the synthetic records.
        folder: Made where it does not exist.
        command: What was typed, shown in the report.

    Returns:
        The files, the report last.

    Raises:
        DataError: a file cannot be written.
    """
    results = json.dumps(asdict(audit), indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "results.json", results.encode())
    save_figure(draw_nearest(audit, real, synthetic), folder / PICTURE, title="SYNTHETIC ECG, nearest real", dpi=_DPI)
    write_whole(folder / "report.md", report_markdown(audit, command=command).encode())
    return tuple(folder / name for name in ("results.json", PICTURE, "report.md"))


def draw_nearest(audit: PrivacyAudit, real: EcgStore, synthetic: EcgStore) -> Figure:
    """The nearest pairs of every view: each synthetic record on the left, its nearest training record on the right."""
    records, titles = [], []
    for view in audit.views:
        for pair in view.pairs:
            records += [synthetic.record(pair.synthetic_row), real.record(pair.training_row)]
            titles += [
                f"SYNTHETIC {pair.synthetic}",
                f"nearest training record: {pair.training} · {view.view} {pair.distance:.3f}",
            ]
    return draw_sheet(records, titles=titles)


def report_markdown(audit: PrivacyAudit, *, command: str = "") -> str:
    """The audit in words and tables."""
    lines = ["# Privacy audit", "", f"Made by {audit.created_by}.", ""]
    if command:
        lines += ["```sh", command, "```", ""]
    lines += _data(audit)
    lines += [line for note in audit.notes for line in (f"Note: {note}", "")]
    lines += [*_distances(audit), *_sample_attack(audit), *_model_attack(audit), *_pairs(audit)]
    return "\n".join(lines)


def _data(audit: PrivacyAudit) -> list[str]:
    settings = audit.settings
    rows = [
        ("training records", audit.real, _list(settings.train_folds), f"{audit.training_records}"),
        ("of these examined (members)", "", "", f"{audit.members}"),
        ("held-out records", audit.real, _list(settings.test_folds), f"{audit.held_out}"),
        ("synthetic records", audit.synthetic, "", f"{audit.views[0].synthetic.records}"),
    ]
    if audit.classifier:
        rows.append(("classifier", audit.classifier, "", ""))
    if audit.model:
        rows.append(("model", audit.model, "", ""))
    return ["## Data", "", *markdown_table(("", "source", "folds", "records"), rows), ""]


def _distances(audit: PrivacyAudit) -> list[str]:
    text = (
        "Distance of each record to its nearest training record. *Features*: Euclidean, between the classifier's "
        "features over their standard deviation in training and the root of their number. *Waveforms*: 1 - r, the best "
        "mean correlation of leads II and V2 (0.5 to 12 Hz) over shifts up to "
        f"{LARGEST_SHIFT_S:g} s; 0 for a copy, however scaled. *Too near* is the share below the 1 % quantile of "
        f"held-out real records: {chance_too_near(audit.held_out):.1%} where nothing is copied"
        f"; chance alone moves it by {_chance(audit):.1%}. Real records of a training fold, looked for among the "
        "other training folds, show what a generator scores that knows the distribution and no record."
    )
    rows: list[Sequence[str]] = []
    for view in audit.views:
        first = view.synthetic
        rows.append((view.view, "held-out real records", f"{audit.held_out}", *_shown(first.held_out_quantiles), ""))
        for release in filter(None, (first, view.control)):
            rows.append(
                (
                    view.view,
                    release.name,
                    f"{release.records}",
                    *_shown(release.quantiles),
                    f"{release.too_near:.2%}",
                )
            )
    quantiles = ("nearest", *(f"{share:.0%}" for share in _SHOWN[1:]))
    header = ("view", "records", "number", *quantiles, "too near")
    return ["## Nearest training record", "", text, "", *markdown_table(header, rows), ""]


def _sample_attack(audit: PrivacyAudit) -> list[str]:
    text = (
        "Who has the released records guesses that a real record was in training if one of them comes near it. "
        "An AUROC of 0.5 is chance, and so is the share of members that stands in brackets; compare with the real "
        "records of a training fold in the place of the synthetic ones."
    )
    rows = [
        (view.view, release.name, *_inference(release.attack))
        for view in audit.views
        for release in filter(None, (view.synthetic, view.control))
    ]
    header = ("view", "released", "AUROC (95 % interval)", "members found at 1 % false alarms")
    return ["## Attack on the samples", "", text, "", *markdown_table(header, rows), ""]


def _model_attack(audit: PrivacyAudit) -> list[str]:
    if not audit.model_attacks:
        return []
    text = (
        "Who has the model guesses that a record was in training if the model denoises it well. *Relative* takes out "
        "how hard the record is for a filter that knows the mean spectrum only; *filter* is what that filter alone "
        "gives: where it is not at 0.5, the folds differ in themselves. Noise is sigma / alpha in the network's units: "
        "mV, or each lead's standard deviation."
    )
    scores = ("error", "relative", "filter")
    rows = [
        (attack.noise, score, *_inference(inference))
        for attack in audit.model_attacks
        for score, inference in zip(scores, (attack.error, attack.relative, attack.control), strict=True)
    ]
    header = ("noise", "score", "AUROC (95 % interval)", "members found at 1 % false alarms")
    return ["## Attack on the model", "", text, "", *markdown_table(header, rows), ""]


def _pairs(audit: PrivacyAudit) -> list[str]:
    rows = [
        (view.view, pair.synthetic, pair.training, f"{pair.distance:.3f}")
        for view in audit.views
        for pair in view.pairs
    ]
    return [
        "## Nearest pairs",
        "",
        *markdown_table(("view", "synthetic", "training record", "distance"), rows),
        "",
        f"![Synthetic records beside their nearest training records]({PICTURE})",
        "",
        "The picture shows real records: keep it as you keep the data set.",
        "",
    ]


def _chance(audit: PrivacyAudit) -> float:
    """Half width of the 95 % interval of a share of 1 %, its limit being estimated as well."""
    synthetic = audit.views[0].synthetic.records
    return float(1.96 * np.sqrt(NEAR * (1 - NEAR) * (1 / synthetic + 1 / audit.held_out)))


def _shown(quantiles: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{quantiles[QUANTILES.index(share)]:.3f}" for share in _SHOWN)


def _inference(inference: MembershipInference) -> tuple[str, str]:
    auroc = inference.auroc
    return (
        f"{auroc.estimate:.3f} ({auroc.low:.3f} to {auroc.high:.3f})",
        f"{inference.sensitivity_at_1_percent:.1%} (chance {inference.chance_sensitivity:.1%})",
    )


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
