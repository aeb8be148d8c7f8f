"""What released records give away of the training records: those near to one, and an attack by nearness.

Two ideas of what makes two ECGs alike, here called views: the features of a classifier, and the plain waveforms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Shaped

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.evaluation.distances import nearest
from ecgforge.evaluation.neighbours import (
    MembershipInference,
    Search,
    TrainingDistances,
    measure_training_distances,
    membership_inference,
    standardise,
)
from ecgforge.evaluation.waveforms import comparable_waveforms, nearest_waveforms
from ecgforge.rng import Purpose, record_stream

Progress = Callable[[str, int, int], None]

FEATURES, WAVEFORMS = "features", "waveforms"

_MEMBERS, _HELD_OUT, _SYNTHETIC, _CONTROL = range(4)
_PAIRS = 3
_BLOCK = 512  # records read at a time


@dataclass(frozen=True)
class NearestPair:
    """A synthetic record and the training record nearest to it.

    Attributes:
        synthetic: Its id.
        training: The training record's id.
        distance: In the view's measure.
        synthetic_row: Its row in the synthetic store.
        training_row: The training record's row in the real store.
    """

    synthetic: str
    training: str
    distance: float
    synthetic_row: int
    training_row: int


@dataclass(frozen=True)
class Release:
    """What a set of released records gives away.

    Attributes:
        name: What was released.
        records: How many.
        quantiles: Of their distances to the nearest training record, at neighbours.QUANTILES.
        held_out_quantiles: The same of held-out real records.
        limit: The held-out records' 1 % quantile.
        too_near: Share of released records nearer than that; about 0.01 where nothing is copied.
        attack: How well nearness to a released record tells training records from held-out ones.
    """

    name: str
    records: int
    quantiles: tuple[float, ...]
    held_out_quantiles: tuple[float, ...]
    limit: float
    too_near: float
    attack: MembershipInference


@dataclass(frozen=True)
class ViewFindings:
    """Distances under one idea of what makes two ECGs alike.

    Attributes:
        view: "features" of a classifier, or "waveforms".
        synthetic: The synthetic records.
        control: Real records in their place; None where there is only one training fold.
        pairs: The nearest pairs, nearest first.
    """

    view: str
    synthetic: Release
    control: Release | None
    pairs: tuple[NearestPair, ...]


# ------------------------------------------------------------------------------------- which records


@dataclass(frozen=True, eq=False)
class ChosenRecords:
    """Who is compared with whom: rows of the stores, and positions among the training rows.

    Attributes:
        training: Rows of all training records.
        members: Positions of those that are examined.
        held_out: Rows.
        synthetic: Rows of the synthetic store.
        control_fold: Training fold that stands in for an honest generator; None where there is only one.
        control: Positions of its records.
        others: Positions of all training records of the other folds.
        other_members: Positions of those of them that are examined.
    """

    training: Int[np.ndarray, " T"]
    members: Int[np.ndarray, " M"]
    held_out: Int[np.ndarray, " N"]
    synthetic: Int[np.ndarray, " S"]
    control_fold: int | None
    control: Int[np.ndarray, " R"]
    others: Int[np.ndarray, " U"]
    other_members: Int[np.ndarray, " V"]


def choose_records(
    real: EcgStore,
    synthetic: EcgStore,
    *,
    train_folds: tuple[int, ...],
    test_folds: tuple[int, ...],
    count: int,
    seed: int,
) -> ChosenRecords:
    """Draw at most `count` records of each kind.

    Raises:
        DataError: the real store lacks a fold, or there are fewer than 2 records of a kind.
    """
    training, test = real.rows(folds=train_folds), real.rows(folds=test_folds)
    positions = np.arange(len(training))
    control_fold = max(train_folds) if len(train_folds) > 1 else None
    in_control = real.index["fold"].iloc[training].to_numpy(dtype=int) == control_fold
    draw = partial(_draw, count=count, seed=seed)
    chosen = ChosenRecords(
        training=training,
        members=draw(positions, purpose=_MEMBERS),
        held_out=draw(test, purpose=_HELD_OUT),
        synthetic=draw(np.arange(len(synthetic)), purpose=_SYNTHETIC),
        control_fold=control_fold,
        control=draw(positions[in_control], purpose=_CONTROL),
        others=positions[~in_control],
        other_members=draw(positions[~in_control], purpose=_MEMBERS),
    )
    counts = {"training": chosen.members, "held-out": chosen.held_out, "synthetic": chosen.synthetic}
    if control_fold is not None:
        counts[f"training (fold {control_fold})"] = chosen.control
        counts["training (other folds)"] = chosen.others
    for name, rows in counts.items():
        if len(rows) < 2:
            raise DataError(f"expected 2 or more {name} records, got {len(rows)}; choose other folds")
    return chosen


def _draw(rows: Int[np.ndarray, " N"], *, count: int, seed: int, purpose: int) -> Int[np.ndarray, " n"]:
    """At most `count` of the rows, ascending."""
    return np.sort(record_stream(seed, purpose, purpose=Purpose.RELEASE).permutation(rows)[:count])


# ------------------------------------------------------------------------- distances and the samples


@dataclass(frozen=True, eq=False)
class _View:
    """The chosen records as one search takes them: all training ones, held-out ones, synthetic ones."""

    name: str
    training: Shaped[np.ndarray, "T ..."]
    held_out: Shaped[np.ndarray, "N ..."]
    synthetic: Shaped[np.ndarray, "S ..."]
    search: Search


def _view_features(
    real: EcgStore, synthetic: EcgStore, chosen: ChosenRecords, classifier: Classifier, progress: Progress | None
) -> _View:
    def features(store: EcgStore, rows: Int[np.ndarray, " n"], name: str) -> Float[np.ndarray, "n F"]:
        return classifier.features(store, rows, progress=_part(progress, f"features of {name} records"))

    training = features(real, chosen.training, "training")
    held_out = features(real, chosen.held_out, "held-out")
    made = features(synthetic, chosen.synthetic, "synthetic")
    return _View(
        FEATURES,
        training=standardise(training, training=training, name="training"),
        held_out=standardise(held_out, training=training, name="held-out"),
        synthetic=standardise(made, training=training, name="synthetic"),
        search=nearest,
    )


def _view_waveforms(real: EcgStore, synthetic: EcgStore, chosen: ChosenRecords, progress: Progress | None) -> _View:
    samples = min(real.samples, synthetic.samples)

    def waveforms(store: EcgStore, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 2 S"]:
        blocks = [store.signals_mv(rows[i : i + _BLOCK])[:, :, :samples] for i in range(0, len(rows), _BLOCK)]
        return np.concatenate([comparable_waveforms(block, rate=store.rate) for block in blocks])

    return _View(
        WAVEFORMS,
        training=waveforms(real, chosen.training),
        held_out=waveforms(real, chosen.held_out),
        synthetic=waveforms(synthetic, chosen.synthetic),
        search=partial(nearest_waveforms, progress=_part(progress, "comparing waveforms")),
    )


def _part(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return partial(progress, what) if progress else None


def judge_releases(
    real: EcgStore,
    synthetic: EcgStore,
    chosen: ChosenRecords,
    *,
    classifier: Classifier | None,
    progress: Progress | None = None,
) -> tuple[ViewFindings, ...]:
    """Findings on the synthetic records and on their stand-ins, by view: features if there is a classifier, waveforms.

    Args:
        real: The data set the generator was trained on.
        synthetic: What it generated, at the same rate.
        chosen: Which records.
        classifier: Its features are the first view.
        progress: Called with (what is done, done, total).
    """
    views = [_view_waveforms(real, synthetic, chosen, progress)]
    if classifier is not None:
        views.insert(0, _view_features(real, synthetic, chosen, classifier, progress))
    return tuple(_judge_view(view, real, synthetic, chosen) for view in views)


def _judge_view(view: _View, real: EcgStore, synthetic: EcgStore, chosen: ChosenRecords) -> ViewFindings:
    everyone = np.arange(len(chosen.training))
    found, distances = _judge(view, view.synthetic, name="synthetic records", training=everyone, members=chosen.members)
    control = None
    if chosen.control_fold is not None:
        control, _ = _judge(
            view,
            view.training[chosen.control],
            name=f"real records of fold {chosen.control_fold}",
            training=chosen.others,
            members=chosen.other_members,
        )
    return ViewFindings(
        view.name, synthetic=found, control=control, pairs=_nearest_pairs(distances, real, synthetic, chosen)
    )


def _judge(
    view: _View,
    released: Shaped[np.ndarray, "R ..."],
    *,
    name: str,
    training: Int[np.ndarray, " U"],
    members: Int[np.ndarray, " M"],
) -> tuple[Release, TrainingDistances]:
    distances = measure_training_distances(view.training[training], released, view.held_out, search=view.search)
    to_member, _ = view.search(view.training[members], released)
    to_held_out, _ = view.search(view.held_out, released)
    release = Release(
        name=name,
        records=len(released),
        quantiles=distances.synthetic_quantiles,
        held_out_quantiles=distances.held_out_quantiles,
        limit=distances.limit,
        too_near=distances.too_near,
        attack=membership_inference(-to_member, -to_held_out),
    )
    return release, distances


def _nearest_pairs(
    distances: TrainingDistances, real: EcgStore, synthetic: EcgStore, chosen: ChosenRecords
) -> tuple[NearestPair, ...]:
    order = np.argsort(distances.synthetic, kind="stable")[:_PAIRS].tolist()
    rows = [(int(chosen.synthetic[i]), int(chosen.training[distances.nearest_training[i]])) for i in order]
    return tuple(
        NearestPair(
            synthetic=_record_id(synthetic, made),
            training=_record_id(real, original),
            distance=float(distances.synthetic[i]),
            synthetic_row=made,
            training_row=original,
        )
        for i, (made, original) in zip(order, rows, strict=True)
    )


def _record_id(store: EcgStore, row: int) -> str:
    return str(store.index["record_id"].iloc[row])
