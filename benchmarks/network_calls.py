"""How many network calls does a record need? Likeness and usefulness of records made in few and in many calls.

    python benchmarks/network_calls.py STORE CLASSIFIER OUT [--model MODEL] [--records N] [--teach STEPS]
        [--seeds N] [--processes P] WAY [WAY ...]

A way is SAMPLER:STEPS, SAMPLER:STEPS:GUIDANCE or SAMPLER:STEPS:GUIDANCE:LOW-HIGH, e.g. dpmpp:20, dpmpp:12:1.5 or
dpmpp:12:2:0.2-15, where guidance acts at noise over signal from 0.2 to 15. In each way the same N
records of the training folds 1-6 (drawn at random, the same for all ways) are copied: same statements, and the facts
the model knows. Prints, for each: network calls and seconds a record, how far the heart rate is from the one asked
for, and fidelity to fold 8 in the features of CLASSIFIER (trained without fold 8); the N originals stand beside as what
a perfect generator would reach. "Shown" is how well CLASSIFIER finds the statements asked for, macro AUROC; the
originals are among what it learned from, so theirs is too high. With --teach a classifier learns from each set for
STEPS steps, is chosen on the real fold 7 and scored on the real fold 8: macro AUROC; of --seeds classifiers the
mean, the smallest and the largest. Fold 9 is not looked at.

Sets and classifiers are kept in OUT, so that more ways can be added to a table.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from measuring import print_table
from tqdm import tqdm

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.evaluation.augmentation import with_first
from ecgforge.evaluation.fidelity import measure_fidelity
from ecgforge.evaluation.protocols import train_classifier, truth_of
from ecgforge.facts import Facts
from ecgforge.generate import Generator
from ecgforge.parallel import sample_jobs
from ecgforge.r_peaks import measure_facts, measure_heart_rate
from ecgforge.record import EcgRecord
from ecgforge.sampling import Job, SamplingOptions
from ecgforge.scores import macro_auroc
from ecgforge.training.presets import preset
from ecgforge.training.settings import ClassifierTraining, DataConfig, Stage

LEARNED, CHOSEN_ON, TESTED_ON = (1, 2, 3, 4, 5, 6), 7, 8
ORIGINALS = "originals"


def options_of(way: str) -> SamplingOptions:
    """The way as sampling options."""
    sampler, steps, *rest = way.split(":")
    guidance, interval = [*rest, "", ""][:2]
    low, _, high = interval.partition("-")
    return SamplingOptions(
        sampler=sampler,
        steps=int(steps),
        guidance=float(guidance or 1),
        guidance_interval=(float(low), float(high)) if interval else None,
    )


def keep(records: Iterable[EcgRecord], like: EcgStore, folder: Path, *, fold: int, synthetic: bool) -> EcgStore:
    """Records as one fold of a store; kept once it is there."""
    if not folder.exists():
        with StoreWriter(
            folder, rate=like.rate, samples=like.samples, source=folder.name, synthetic=synthetic
        ) as writer:
            for number, record in enumerate(records):
                named = replace(record, record_id=f"{folder.name}-{number}")
                writer.add(replace(named, provenance=replace(record.provenance, fold=fold)))
    return EcgStore.open(folder)


def teach(store: EcgStore, folder: Path, steps: int, *, seed: int) -> Classifier:
    """A classifier that learned from the set."""
    recipe = preset("xresnet1d50-benchmark")
    if not isinstance(recipe, ClassifierTraining):
        raise TypeError("expected a classifier's preset")
    short = replace(
        recipe,
        data=DataConfig(folds=(1,), leads=recipe.data.leads),
        validation_folds=(CHOSEN_ON,),
        stages=(Stage(steps=steps, samples=250),),
        warmup_steps=steps // 4,
        validate_every=max(1, steps // 5),
    )
    return train_classifier(store, folder, recipe=short, seed=seed)


def score(classifier: Classifier, store: EcgStore, rows: np.ndarray) -> float:
    """Macro AUROC."""
    truth, scores = truth_of(store, rows, classifier), classifier.predict(store, rows)
    return macro_auroc(truth, scores, vocabulary=classifier.config.vocabulary).macro


def teach_and_score(lessons: EcgStore, real: EcgStore, folder: Path, *, steps: int, seeds: int) -> str:
    """Macro AUROC on the tested fold of classifiers that learned from the set."""
    rows = real.rows(folds=[TESTED_ON])
    taught = [score(teach(lessons, folder / str(seed), steps, seed=seed), real, rows) for seed in range(seeds)]
    return f"{np.mean(taught):.3f} ({min(taught):.3f} to {max(taught):.3f})"


class Comparison:
    """The same records copied in several ways, and what is measured of each."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.out, self.model, self.processes = arguments.out, arguments.model, arguments.processes
        self.steps, self.seeds = arguments.teach, arguments.seeds
        self.real, self.judge = EcgStore.open(arguments.store), Classifier.load(arguments.classifier)
        self.generator = Generator.load(arguments.model)
        self.rows = np.random.default_rng(0).permutation(self.real.rows(folds=LEARNED))[: arguments.records]
        self.originals = [self.real.record(int(row)) for row in self.rows]
        self.facts = [measure_facts(record) if self.generator.facts else Facts() for record in self.originals]
        self._goal = self.judge.features(self.real, self.real.rows(folds=[TESTED_ON]))
        chosen_on = (self.real.record(int(row)) for row in self.real.rows(folds=[CHOSEN_ON]))
        self._choosing = keep(chosen_on, self.real, self.out / "chosen-on", fold=CHOSEN_ON, synthetic=False)

    @property
    def header(self) -> list[str]:
        """Names of the cells of a row."""
        near = ["Frechet", "precision", "recall", "density", "coverage", "shown"]
        return [
            "way",
            "calls",
            "s a record",
            "heart rate off: median, 90 %",
            *near,
            *(["taught AUROC"] if self.steps else []),
        ]

    def row_of_originals(self) -> list[str]:
        """What a perfect copy would measure."""
        store = keep(self.originals, self.real, self.out / ORIGINALS, fold=1, synthetic=False)
        return [ORIGINALS, "", "", *self._measure(store)]

    def row(self, way: str) -> list[str]:
        """Copies of the records made in this way, and what they measure."""
        options, folder = replace(options_of(way), batch_size=4), self.out / way.replace(":", "-")
        statements = [dict(record.statements) for record in self.originals]
        jobs = [Job(int(row), y, facts) for row, y, facts in zip(self.rows, statements, self.facts, strict=True)]
        made = sample_jobs(jobs, options=options, model=self.model, processes=self.processes)
        started, fresh = time.monotonic(), not folder.exists()
        store = keep(tqdm(made, total=len(jobs), desc=way, leave=False), self.real, folder, fold=1, synthetic=True)
        taken = f"{(time.monotonic() - started) / len(jobs):.2f}" if fresh else "kept"
        return [way, str(self.generator.plan(options).calls), taken, *self._measure(store)]

    def _measure(self, store: EcgStore) -> list[str]:
        rows = np.arange(len(self.rows))
        near = measure_fidelity(self._goal, self.judge.features(store, rows))
        measures = (near.frechet, near.precision, near.recall, near.density, near.coverage)
        shown = score(self.judge, store, rows)
        cells = [self._heart_rate_off(store), *(f"{value:.2f}" for value in measures), f"{shown:.3f}"]
        if self.steps:
            lessons = with_first(self._choosing, store, len(rows))
            folder = self.out / f"{store.path.name}-classifiers"
            cells.append(teach_and_score(lessons, self.real, folder, steps=self.steps, seeds=self.seeds))
        return cells

    def _heart_rate_off(self, store: EcgStore) -> str:
        rates = [measure_heart_rate(store.record(row)) for row in range(len(self.rows))]
        asked = [facts.heart_rate for facts in self.facts]
        off = [abs(rate - goal) for rate, goal in zip(rates, asked, strict=True) if rate and goal]
        return f"{np.median(off):.1f}, {np.percentile(off, 90):.1f}" if off else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("ways", nargs="+")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--teach", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    comparison = Comparison(arguments)
    table = [comparison.row_of_originals(), *(comparison.row(way) for way in arguments.ways)]
    print(f"Network calls: {len(comparison.rows)} records of {comparison.generator.config.name}.\n")
    print_table(comparison.header, table)


if __name__ == "__main__":
    main()
