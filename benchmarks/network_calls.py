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
import math
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
from ecgforge.generate import Generator, Job, SamplingOptions
from ecgforge.parallel import sample_jobs
from ecgforge.r_peaks import measure_facts, measure_heart_rate
from ecgforge.record import EcgRecord
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


def count_calls(generator: Generator, options: SamplingOptions) -> int:
    """Network calls a record takes, those of guidance included."""
    low, high = options.guidance_interval or (0.0, math.inf)
    levels = generator.levels(options)
    guided = [low <= level.sigma / level.alpha <= high for level in levels]
    return len(levels) + (sum(guided) if options.guidance != 1 else 0)


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
    real, judge = EcgStore.open(arguments.store), Classifier.load(arguments.classifier)
    generator = Generator.load(arguments.model)
    rows = np.random.default_rng(0).permutation(real.rows(folds=LEARNED))[: arguments.records]
    originals = [real.record(int(row)) for row in rows]
    facts = [measure_facts(record) if generator.facts else Facts() for record in originals]
    jobs = [Job(int(row), dict(r.statements), f) for row, r, f in zip(rows, originals, facts, strict=True)]
    goal = judge.features(real, real.rows(folds=[TESTED_ON]))
    chosen_on = (real.record(int(row)) for row in real.rows(folds=[CHOSEN_ON]))
    choosing = keep(chosen_on, real, arguments.out / "chosen-on", fold=CHOSEN_ON, synthetic=False)
    table = []
    for way in [ORIGINALS, *arguments.ways]:
        folder = arguments.out / way.replace(":", "-")
        cost = ["", ""]
        if way == ORIGINALS:
            store = keep(originals, real, folder, fold=1, synthetic=False)
        else:
            options = replace(options_of(way), batch_size=4)
            made = sample_jobs(jobs, options=options, model=arguments.model, processes=arguments.processes)
            started, fresh = time.monotonic(), not folder.exists()
            bar = tqdm(made, total=len(jobs), desc=way, leave=False)
            store = keep(bar, real, folder, fold=1, synthetic=True)
            taken = f"{(time.monotonic() - started) / len(jobs):.2f}" if fresh else "kept"
            cost = [str(count_calls(generator, options)), taken]
        made_rows = np.arange(len(jobs))
        near = measure_fidelity(goal, judge.features(store, made_rows))
        rates = [measure_heart_rate(store.record(row)) for row in range(len(jobs))]
        off = [abs(rate - f.heart_rate) for rate, f in zip(rates, facts, strict=True) if rate and f.heart_rate]
        heart = f"{np.median(off):.1f}, {np.percentile(off, 90):.1f}" if off else ""
        usefulness = []
        if arguments.teach:
            lessons, folders = with_first(choosing, store, len(jobs)), arguments.out / f"{folder.name}-classifiers"
            usefulness = [teach_and_score(lessons, real, folders, steps=arguments.teach, seeds=arguments.seeds)]
        measures = (near.frechet, near.precision, near.recall, near.density, near.coverage)
        table.append(
            [
                way,
                *cost,
                heart,
                *(f"{value:.2f}" for value in measures),
                f"{score(judge, store, made_rows):.3f}",
                *usefulness,
            ]
        )
    print(f"Network calls: {len(rows)} records of {generator.config.name}.\n")
    header = ["way", "calls", "s a record", "heart rate off: median, 90 %", "Frechet", "precision", "recall"]
    print_table([*header, "density", "coverage", "shown", *(["taught AUROC"] if arguments.teach else [])], table)


if __name__ == "__main__":
    main()
