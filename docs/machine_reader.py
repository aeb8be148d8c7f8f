"""Let a classifier fill in the form of a reading kit.

    python docs/machine_reader.py REAL SYNTHETIC CLASSIFIER KIT ANSWERS

REAL and SYNTHETIC are the stores the kit's records are from, CLASSIFIER was chosen on fold 8 of REAL, KIT is the folder
beside KIT-key.json. The key is opened to find the signals of the sheets and for nothing else. What the reader knows is
from fold 8 of both stores:

- a sheet shows its statements if every one of them is as probable as where the classifier separates real records with
  and without it best (Youden's index);
- it is synthetic if a logistic regression on the classifier's features, learned on real and synthetic records, says so.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.evaluation.protocols import truth_of
from ecgforge.evaluation.reading_form import Form, Word
from ecgforge.evaluation.reading_kit import Key
from ecgforge.labels import parse_statements

LEARNED = 8


def best_thresholds(classifier: Classifier, store: EcgStore) -> dict[str, float]:
    """For each statement the probability where sensitivity + specificity is largest."""
    rows = store.rows(folds=[LEARNED])
    truth, scores = truth_of(store, rows, classifier), classifier.predict(store, rows)
    thresholds = {}
    for column, code in enumerate(classifier.config.vocabulary.labels):
        if truth[:, column].any():
            false_rate, true_rate, found = roc_curve(truth[:, column], scores[:, column])
            thresholds[code] = float(found[np.argmax(true_rate - false_rate)])
    return thresholds


def learn_origin(classifier: Classifier, real: EcgStore, synthetic: EcgStore) -> LogisticRegression:
    """Tells synthetic records (1) from real ones (0) by their features."""
    parts = [classifier.features(store, store.rows(folds=[LEARNED])) for store in (real, synthetic)]
    origin = np.repeat([0, 1], [len(part) for part in parts])
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(np.concatenate(parts), origin)


def main() -> None:
    real, synthetic = EcgStore.open(sys.argv[1]), EcgStore.open(sys.argv[2])
    classifier, kit, answers = Classifier.load(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5])
    key = Key.read(kit.with_name(kit.name + "-key.json"))
    thresholds, origin = best_thresholds(classifier, real), learn_origin(classifier, real, synthetic)
    labels = classifier.config.vocabulary.labels
    rows_of = {store: list(store.index["record_id"].astype(str)) for store in (real, synthetic)}

    def word(yes: bool) -> Word:
        return "yes" if yes else "no"

    filled = []
    for trial, row in zip(key.trials, key.form().rows, strict=True):
        store = synthetic if trial.synthetic else real
        at = [rows_of[store].index(trial.record_id)]
        probability = dict(zip(labels, classifier.predict(store, at)[0], strict=True))
        shown = all(probability[code] >= thresholds[code] for code in parse_statements(trial.statements))
        made = bool(origin.predict(classifier.features(store, at))[0])
        filled.append(replace(row, shows_statements=word(shown), is_synthetic=word(made)))
    answers.write_bytes(Form(key.kit, tuple(filled)).to_csv())
    print(f"{len(filled)} sheets read: {answers}")


if __name__ == "__main__":
    main()
