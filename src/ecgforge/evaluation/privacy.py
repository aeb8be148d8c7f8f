"""The privacy audit of a generator: does what it made, or the model itself, give its training records away?

Three questions, each answered beside a yardstick.

- Is a synthetic record nearer to a training record than real records of other patients are?
- Can training records be told from others by how near the released records come to them?
- Can they be told by how well the model denoises them?

The folds of a data set may differ a little in themselves, for instance in how carefully they were read. Then none of
these finds chance level, though nothing was memorised. So the first two are also asked of real records of a training
fold, in the place of the synthetic ones and looked for among the other folds: what a generator scores that knows the
distribution and no record. The third is also asked of a filter that knows the mean spectrum only.
"""

from dataclasses import dataclass
from functools import partial
from importlib import metadata

import numpy as np
from jaxtyping import Float

from ecgforge.checkpoints.native import Model
from ecgforge.classify import CROP_S, Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import CheckpointError, ConfigError, DataError
from ecgforge.evaluation.denoising import attack_levels, denoising_errors, filter_errors, require_denoisable
from ecgforge.evaluation.neighbours import MembershipInference, membership_inference
from ecgforge.evaluation.releases import ChosenRecords, Progress, ViewFindings, choose_records, judge_releases
from ecgforge.evaluation.waveforms import SHORTEST_S
from ecgforge.models import CLASSIFIERS

ALL_LEVELS = "all"


@dataclass(frozen=True)
class PrivacySettings:
    """What is compared with what.

    Attributes:
        train_folds: Folds the generator was trained on.
        test_folds: Folds of other patients, which it has not seen.
        records: At most so many synthetic, training and held-out records are examined, drawn at random. The nearest
            training record is always looked for among all of them.
        seed: Of the draws.

    Raises:
        ConfigError: a fold on both sides, or fewer than 2 records.
    """

    train_folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    test_folds: tuple[int, ...] = (9,)
    records: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        both = sorted(set(self.train_folds) & set(self.test_folds))
        if both:
            raise ConfigError(f"expected folds either to train or to test, got {' '.join(map(str, both))} as both")
        if self.records < 2:
            raise ConfigError(f"expected 2 or more records to examine, got {self.records}")


@dataclass(frozen=True)
class ModelAttack:
    """Membership inference from how well records are denoised.

    Attributes:
        noise: Ratio sigma / alpha of the level in the network's units (mV, or each lead's deviation), in words; "all"
            for the mean logarithm over the levels.
        error: From the model's error.
        relative: From the model's error over the filter's, which takes out how hard a record is for anyone.
        control: From the filter's error alone, which knows no record.
    """

    noise: str
    error: MembershipInference
    relative: MembershipInference
    control: MembershipInference


@dataclass(frozen=True)
class PrivacyAudit:
    """Everything the report tells.

    Attributes:
        settings: What was compared with what.
        real: Data set of the real records.
        synthetic: Model or data set the synthetic records come from.
        classifier: Whose features were compared, "" for none.
        model: The model that was attacked and what it was trained on, "" for none.
        training_records: Records the nearest one was looked for among.
        members: Training records examined.
        held_out: Held-out records examined.
        views: Distances, by idea of what makes two ECGs alike.
        model_attacks: By noise level, then over all of them; empty without a diffusion model.
        notes: What a reader must know.
        created_by: Program and version.
    """

    settings: PrivacySettings
    real: str
    synthetic: str
    classifier: str
    model: str
    training_records: int
    members: int
    held_out: int
    views: tuple[ViewFindings, ...]
    model_attacks: tuple[ModelAttack, ...]
    notes: tuple[str, ...]
    created_by: str = f"ecgforge {metadata.version('ecgforge')}"


def audit_privacy(
    real: EcgStore,
    synthetic: EcgStore,
    *,
    settings: PrivacySettings = PrivacySettings(),
    classifier: Classifier | None = None,
    model: Model | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> PrivacyAudit:
    """Audit a generator by its synthetic records, and by the model itself if given.

    Args:
        real: The data set the generator was trained on, with folds.
        synthetic: What it generated.
        settings: Folds, numbers, seed.
        classifier: Its features are the first view; None leaves the plain waveforms.
        model: The generator; None leaves the attack on it out.
        device: Where the model runs.
        progress: Called with (what is done, done, total).

    Raises:
        DataError: the stores do not fit each other, the classifier or the model, or have too few records; before
            anything is measured.
        CheckpointError: the model does not generate.
    """
    _require_fit(real, synthetic, classifier, model)
    chosen = choose_records(
        real,
        synthetic,
        train_folds=settings.train_folds,
        test_folds=settings.test_folds,
        count=settings.records,
        seed=settings.seed,
    )
    views = judge_releases(real, synthetic, chosen, classifier=classifier, progress=progress)
    attacks: tuple[ModelAttack, ...] = ()
    if model is not None and model.config.schedule is not None:
        attacks = _attack_model(model, real, chosen, seed=settings.seed, device=device, progress=progress)
    return PrivacyAudit(
        settings=settings,
        real=real.manifest.full_source,
        synthetic=synthetic.manifest.full_source,
        classifier=classifier.config.name if classifier else "",
        model=_describe(model) if model else "",
        training_records=len(chosen.training),
        members=len(chosen.members),
        held_out=len(chosen.held_out),
        views=views,
        model_attacks=attacks,
        notes=tuple(_notes(synthetic, settings, model)),
    )


def _require_fit(real: EcgStore, synthetic: EcgStore, classifier: Classifier | None, model: Model | None) -> None:
    if not synthetic.manifest.synthetic:
        raise DataError(
            f"expected a store of synthetic records, {synthetic.path} says its records were measured; "
            "make one with `ecgforge copy`"
        )
    if synthetic.rate != real.rate:
        raise DataError(
            f"expected stores of one sampling rate, {real.path} has {real.rate:g} Hz and {synthetic.path} "
            f"{synthetic.rate:g} Hz; build the real one at {synthetic.rate:g} Hz"
        )
    seconds = min(real.samples, synthetic.samples) / real.rate
    shortest = SHORTEST_S if classifier is None else max(SHORTEST_S, CROP_S)
    if seconds < shortest:
        raise DataError(f"expected records of {shortest:g} s or more, got {seconds:g} s")
    if classifier is not None and classifier.config.rate != real.rate:
        raise DataError(
            f"expected stores at {classifier.config.rate:g} Hz, the rate of the classifier {classifier.config.name}, "
            f"{real.path} has {real.rate:g} Hz; train a classifier at that rate or build the stores at the other"
        )
    if model is None:
        return
    if model.config.network.kind in CLASSIFIERS:
        raise CheckpointError(f"expected a model that generates, got the classifier {model.config.name}")
    if model.config.schedule is not None:
        require_denoisable(model.config, real)


def _describe(model: Model) -> str:
    config = model.config
    known = f", trained on {config.trained_on}" if config.trained_on else ""
    return f"{config.name} {config.weights_sha256[:12]}".strip() + known


def _notes(synthetic: EcgStore, settings: PrivacySettings, model: Model | None) -> list[str]:
    notes = []
    if model is not None and model.config.schedule is None:
        notes.append(
            f"The model {model.config.name} makes a record in one call: it has no denoising error, and was not "
            "attacked itself."
        )
    if len(settings.train_folds) == 1:
        notes.append("With one training fold there is no other one to stand in for an honest generator.")
    folds = set(synthetic.index["fold"].dropna().astype(int))
    if folds & set(settings.train_folds) and not folds & set(settings.test_folds):
        notes.append(
            "The synthetic records are twins of training records only. They share the originals' statements (and "
            "age, sex and heart rate, where the model knows them), so the attack on the samples also finds what "
            "was asked for, not only what was memorised. Copy training and test folds alike to tell the two apart."
        )
    return notes


def _attack_model(
    model: Model, real: EcgStore, chosen: ChosenRecords, *, seed: int, device: str, progress: Progress | None
) -> tuple[ModelAttack, ...]:
    levels = attack_levels(model.config)
    rows = np.concatenate([chosen.training[chosen.members], chosen.held_out])
    errors = denoising_errors(
        model,
        real,
        rows,
        levels=levels,
        seed=seed,
        device=device,
        progress=partial(progress, "denoising") if progress else None,
    )
    # Logarithms: a level's unit does not matter to the mean over levels, and a ratio becomes a difference.
    own = np.log(np.maximum(errors, np.finfo(np.float64).tiny))
    blind = np.log(filter_errors(model.config, real, rows, levels=levels))
    names = [f"{level.sigma / level.alpha:.2g}" for level in levels]
    return tuple(
        _attack(name, own[:, columns].mean(axis=1), blind[:, columns].mean(axis=1), members=len(chosen.members))
        for name, columns in [*((name, [k]) for k, name in enumerate(names)), (ALL_LEVELS, list(range(len(levels))))]
    )


def _attack(name: str, own: Float[np.ndarray, " N"], blind: Float[np.ndarray, " N"], *, members: int) -> ModelAttack:
    def infer(score: Float[np.ndarray, " N"]) -> MembershipInference:
        return membership_inference(score[:members], score[members:])

    return ModelAttack(noise=name, error=infer(-own), relative=infer(blind - own), control=infer(-blind))
