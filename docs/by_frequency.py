"""Do synthetic records help rare statements? Classifiers of a report, by how many training records a statement has.

    python docs/by_frequency.py REAL REPORT

REAL is the store of the real records, REPORT a folder of `ecgforge evaluate --augment`. Prints, for the classifiers
that learned from real records, from synthetic ones and from both (first seed), the mean AUROC on the real fold 9 over
the statements of each frequency, and how far the latter two are from the first with the 95 % bootstrap interval; then
the statements that gain and lose most by adding synthetic records.
"""

import sys
from pathlib import Path

import numpy as np

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.evaluation.protocols import REAL, truth_of
from ecgforge.scores import bootstrap_difference, scorable, statement_auroc

LEARNED, TESTED = range(1, 8), (9,)
FREQUENCIES = ((0, 20), (20, 100), (100, 1000), (1000, 10**6))  # training records, from and below
SHOWN = 8


def main() -> None:
    real, report = EcgStore.open(Path(sys.argv[1])), Path(sys.argv[2])
    folders = sorted((report / "classifiers").glob("*-0"), key=lambda folder: (folder.name != f"{REAL}-0", folder.name))
    judges = {folder.name[:-2]: Classifier.load(folder / "model") for folder in folders}
    rows = real.rows(folds=TESTED)
    truth = truth_of(real, rows, judges[REAL])
    learned = truth_of(real, real.rows(folds=LEARNED), judges[REAL]).sum(axis=0)
    scores = {name: judge.predict(real, rows) for name, judge in judges.items()}
    areas = {name: statement_auroc(truth, score) for name, score in scores.items()}
    print("| training records | statements | " + " | ".join(judges) + " |")
    print("| --- | --- |" + " --- |" * len(judges))
    for least, below in FREQUENCIES:
        kept = (learned >= least) & (learned < below) & scorable(truth)
        cells = [f"{areas[REAL][kept].mean():.3f}"]
        for name in list(judges)[1:]:
            rng = np.random.default_rng(0)
            gain = bootstrap_difference(truth[:, kept], scores[name][:, kept], scores[REAL][:, kept], rng=rng)
            cells.append(f"{areas[name][kept].mean():.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
        span = f"{least} or more" if below == FREQUENCIES[-1][1] else f"{least} to {below - 1}"
        print(f"| {span} | {kept.sum()} | {' | '.join(cells)} |")
    both = next(name for name in judges if REAL in name and name != REAL)
    labels = np.array(judges[REAL].config.labels)
    gains = np.nan_to_num(areas[both] - areas[REAL])
    for title, order in (("gain", np.argsort(-gains)), ("lose", np.argsort(gains))):
        rows_of = [f"{labels[k]} {gains[k]:+.3f} ({learned[k]} and {truth[:, k].sum()} records)" for k in order[:SHOWN]]
        print(f"\nStatements that {title} most with {both}, training and test records: {', '.join(rows_of)}")


if __name__ == "__main__":
    main()
