"""Study: how good is a generator after so many viewed samples?

Source: arXiv 2407.11108, the experiments on convergence; its budgets are counted in viewed samples.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.curves import Curve, CurvePoint
from ecgforge.evaluation.protocols import rows_tested, truth_of
from ecgforge.evaluation.studies import PATHOLOGY_MEASURES, Study
from ecgforge.scores import macro_auroc
from ecgforge.training.loop import train
from ecgforge.training.records import label_vocabulary, select_data
from ecgforge.training.settings import ClassifierTraining, TrainingConfig, WassersteinTraining


def study_convergence(study: Study, *, config: TrainingConfig, budgets: Sequence[int]) -> Curve:
    """Train synthetic, test real: of one generator after several numbers of viewed samples.

    The generator is trained once, to the largest budget, and kept on the way. It holds its learning rate and takes the
    windows of its last stage throughout, so that what is kept at a budget is what a training of that budget gives.
    Every kept model copies the training and validation folds; classifiers learn from that copy and are chosen on it.

    A generator of several statements is judged by macro AUROC. One of a single statement is judged by AUROC, and by
    G-mean and F1 at the threshold with the best G-mean on the copy's validation folds.

    Args:
        study: Records, recipe, seeds. The classifiers learn the generator's statements, whatever the recipe says.
            Seeds and larger budgets can be added to a finished study.
        config: Of the generator; how many steps it has does not matter.
        budgets: Viewed samples, rounded down to whole steps; a GAN's critic views `critic_steps` batches a step.

    Returns:
        The curve. Its spread is that of the classifiers; of the generator there is one.

    Raises:
        ConfigError: a budget is below one step, or the configuration is that of a classifier.
        DataError: the records do not fit a configuration, no model was kept at a budget, or the folder holds copies
            made otherwise.
        CheckpointError: the folder holds another generator or other classifiers.
    """
    long_run = training_to(budgets, config)
    seen = set(config.data.folds) & set(study.protocol.test_folds)
    if seen:
        raise ConfigError(
            f"expected a generator that has not seen the test folds, got {sorted(seen)} among those it learns from; "
            "choose other --test-folds, or fewer data.folds for the generator"
        )
    recipe = learning_the_same(study.protocol.classifier, config)
    study = replace(study, protocol=replace(study.protocol, classifier=recipe))
    labels = label_vocabulary(recipe.data).labels
    if len(labels) == 1:
        study.require_scorable(labels[0])
    rows_tested(study.real, study.protocol)
    for settings in (long_run, recipe):  # what does not fit is told before anything is trained
        select_data(study.real, settings)
    run = study.folder / "generator"
    _require_kept(run, long_run)
    train(long_run, study.real, run, device=study.device, report=study.told("generator"))
    points = []
    for step in long_run.keep_models_at:
        viewed = step * viewed_per_step(config)
        twin = _twin_after(step, viewed, study, run)
        for seed, classifier in study.classifiers(twin, f"viewed-{viewed:08d}", f"after {viewed:,} viewed samples"):
            if len(labels) == 1:
                values: tuple[float, ...] = study.score(classifier, labels[0], chosen_on=twin)
            else:
                values = (_macro_on_real(classifier, study),)
            points.append(CurvePoint(viewed, seed, values))
    measures = PATHOLOGY_MEASURES if len(labels) == 1 else ("macro AUROC",)
    return Curve("viewed samples", measures, tuple(points), note=_note(config, labels))


def _require_kept(run: Path, config: TrainingConfig) -> None:
    """Check that a generator trained before kept its model wherever that is asked for.

    Raises:
        DataError: it is past a budget and kept none there.
    """
    kept = {int(folder.name) for folder in (run / "kept").glob("[0-9]*")}
    missing = [step for step in config.keep_models_at if step < max(kept, default=0) and step not in kept]
    if missing:
        budgets = ", ".join(f"{step * viewed_per_step(config):,}" for step in missing)
        raise DataError(
            f"expected models kept after {budgets} viewed samples in {run / 'kept'}, it was trained for other budgets; "
            "take those and larger ones, or give another --out"
        )


def _note(config: TrainingConfig, labels: tuple[str, ...]) -> str:
    judged = labels[0] if len(labels) == 1 else f"{len(labels)} statements"
    return f"{config.name}, train synthetic, test real, {judged}"


def viewed_per_step(config: TrainingConfig) -> int:
    """Samples that a training views in one step."""
    return config.batch_size * (config.critic_steps if isinstance(config, WassersteinTraining) else 1)


def training_to(budgets: Sequence[int], config: TrainingConfig) -> TrainingConfig:
    """The training to the largest budget that keeps a model at each, of one stage and without a final decay.

    Raises:
        ConfigError: a budget is below one step, or the configuration is that of a classifier.
    """
    if isinstance(config, ClassifierTraining):
        raise ConfigError(f"expected the configuration of a generator, got the classifier {config.name}")
    a_step = viewed_per_step(config)
    steps = sorted({budget // a_step for budget in budgets})
    if not steps or steps[0] < 1:
        raise ConfigError(f"expected budgets of {a_step} viewed samples (one step) or more, got {list(budgets)}")
    stage = replace(config.stages[-1], steps=steps[-1])
    return replace(config, stages=(stage,), decay_from=1.0, keep_models_at=tuple(steps))


def learning_the_same(recipe: ClassifierTraining, config: TrainingConfig) -> ClassifierTraining:
    """The recipe for the generator's statements: from its copies nothing else can be learned."""
    data = replace(recipe.data, label_set=config.data.label_set, statements=config.data.statements)
    return replace(recipe, data=data, network=replace(recipe.network, labels=len(label_vocabulary(data))))


def _twin_after(step: int, viewed: int, study: Study, run: Path) -> EcgStore:
    recipe = study.protocol.classifier
    return study.copy(
        study.real,
        f"twins/viewed-{viewed:08d}",
        f"copy after {viewed:,} viewed samples",
        model=run / "kept" / f"{step:07d}",
        folds=(*recipe.data.folds, *recipe.validation_folds),
    )


def _macro_on_real(classifier: Classifier, study: Study) -> float:
    rows = rows_tested(study.real, study.protocol)
    truth, score = truth_of(study.real, rows, classifier), classifier.predict(study.real, rows)
    return macro_auroc(truth, score, vocabulary=classifier.config.vocabulary).macro
