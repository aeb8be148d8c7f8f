"""What falls out of one denoiser: missing leads, gaps in time, and variants of an ECG that exists.

All three sample from the model given samples that are known: exactly (`complete`, `inpaint`), or up to a noise that is
then taken away again (`vary`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.known import Known, condition_on
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError, DataError
from ecgforge.facts import Facts
from ecgforge.generate import Generator
from ecgforge.labels import parse_statements
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS, complete_twelve
from ecgforge.models.s4 import kernels_kept
from ecgforge.r_peaks import bridge_gaps, find_r_peaks, mark_known_beats
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.rng import Purpose, record_stream
from ecgforge.sampling import Job, SamplingOptions, most_steps

Progress = Callable[[int, int], None]

_VARYING_STEPS = 20
_FINEST = 200  # levels that the start of a variant is looked for on


def complete(
    generator: Generator,
    record: EcgRecord,
    *,
    statements: str | None = None,
    n: int = 1,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Progress | None = None,
) -> list[EcgRecord]:
    """Twelve leads from those a record has; samples that are NaN are filled as well.

    What is given stays as it is. What is made is drawn from the model given all of it, so that several completions of
    one record show what its leads leave open. Beats are found in what is given; those that a gap hides in all leads are
    put at the intervals around it.

    Args:
        generator: A diffusion model; its rate is the record's.
        record: Any leads (at least one), as long as the model's records or longer.
        statements: What holds of the record; None takes its own, and nothing known where it has none.
        n: Completions.
        seed: Completion i is drawn from stream i.
        options: Steps, guidance; None as sampler takes unipc, which needs the fewest calls, None as guidance none. A
            step costs about three calls of the network.
        progress: Called with (steps done, steps in all).

    Returns:
        12-lead records in standard order, mV, marked as synthetic.

    Raises:
        DataError: another rate, too short, nothing given or nothing missing.
        ConfigError: the model is none of diffusion, or must be told statements, or n is below 1.
        LabelError: a statement does not exist, or the model does not know it.
    """
    _require_fitting(generator, record)
    given = np.full((len(STANDARD_LEADS), record.signal.shape[1]), np.nan, dtype=np.float32)
    given[[STANDARD_LEADS.index(lead) for lead in record.leads]] = record.signal
    there = np.isfinite(given)
    if there.all() or not there.any():
        raise DataError(
            "expected a record with something given and something missing (a lead, or samples that are NaN); "
            "`ecgforge generate` makes whole records, `ecgforge vary` variants of one that has it all"
        )
    twelve_from_units = _twelve_from_units(generator)
    known = Known(
        torch.from_numpy(twelve_from_units).to(generator.device),
        torch.from_numpy(np.nan_to_num(given)[None]).to(generator.device),
        torch.from_numpy(there).to(generator.device),
    )
    shape = (len(generator.config.leads), given.shape[1])
    options = replace(options, sampler=options.sampler or "unipc")

    def one(denoise: Denoiser, noise: Callable[[], Tensor], tell: Progress) -> Tensor:
        start = noise()
        plan = generator.plan(options)
        sampler = SAMPLERS[plan.sampler]
        return sampler(condition_on(denoise, known), start, plan.levels, noise=noise, progress=tell)

    made = _draw(
        generator,
        record,
        one,
        shape=shape,
        statements=statements,
        n=n,
        seed=seed,
        options=options,
        progress=progress,
        beats=_beats(generator, record),
    )
    return [
        _record(generator, record, np.where(there, given, signal), job, seed=seed, how="completed")
        for job, signal in made
    ]


def inpaint(
    generator: Generator,
    record: EcgRecord,
    *,
    gaps: Sequence[tuple[float, float]],
    statements: str | None = None,
    n: int = 1,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Progress | None = None,
) -> list[EcgRecord]:
    """Replace stretches of time, in all leads, by what the model makes of the rest.

    Args:
        generator, record, statements, n, seed, options, progress: as complete.
        gaps: Beginning and end of each stretch, seconds from the start of the record.

    Raises:
        DataError: a gap is shorter than a sample or outside the record, and as complete.
        ConfigError, LabelError: as complete.
    """
    signal = record.signal.copy()
    for begin, end in gaps:
        if not 0 <= begin < end <= record.duration:
            raise DataError(f"expected gaps within the {record.duration:g} s of the record, got {begin:g} to {end:g} s")
        first, behind = round(begin * record.rate), round(end * record.rate)
        if first == behind:
            raise DataError(f"expected gaps of a sample ({1 / record.rate:g} s) or more, got {begin:g} to {end:g} s")
        signal[:, first:behind] = np.nan
    return complete(
        generator,
        replace(record, signal=signal),
        statements=statements,
        n=n,
        seed=seed,
        options=options,
        progress=progress,
    )


def vary(
    generator: Generator,
    record: EcgRecord,
    *,
    distance: float,
    statements: str | None = None,
    n: int = 1,
    seed: int = 0,
    options: SamplingOptions = SamplingOptions(),
    progress: Progress | None = None,
) -> list[EcgRecord]:
    """Variants of a record: as much noise is added as makes them differ by about `distance`, and taken away again.

    Small distances keep rhythm and shape and change details; from about 1 on little of the shape is left. A model that
    knows beats is told where they are: rhythm and heart rate stay the record's own at every distance. The distance
    comes from the model's own estimate of what the noise hides, so it is met as well as the model is good.

    Source: SDEdit, Meng et al. 2022 (arXiv 2108.01073), with the noise level found by the distance it leads to.

    Args:
        generator, statements, n, seed, options, progress: as complete; None as sampler takes dpmpp-sde. One that adds
            no noise on its way (dpmpp, ddim, unipc) stays nearer than asked.
        record: All leads of the model, finite.
        distance: Root mean square of the change, as a share of that of the record; above 0, at most sqrt(2), where
            nothing but the beats' places is left.

    Raises:
        DataError: another rate, too short, a lead missing, or samples that are not finite.
        ConfigError: the distance is out of range, and as complete.
        LabelError: as complete.
    """
    _require_fitting(generator, record)
    if not 0 < distance <= 2**0.5:
        raise ConfigError(f"expected a distance above 0 and at most 1.41, where nothing is left, got {distance:g}")
    units = generator.units_mv.cpu().numpy()
    clean_mv = _whole_leads(generator, record)
    clean = torch.from_numpy((clean_mv / units)[None].astype(np.float32)).to(generator.device)
    options = replace(options, sampler=options.sampler or "dpmpp-sde")
    fine = generator.plan(replace(options, steps=min(_FINEST, most_steps(generator.config.schedule)))).levels

    def one(denoise: Denoiser, noise: Callable[[], Tensor], tell: Progress) -> Tensor:
        start = noise()
        below = _levels_to(denoise, clean, start, fine, distance, generator.units_mv)
        levels = _thinned(below, options.steps or _VARYING_STEPS)
        sampler = SAMPLERS[generator.plan(options).sampler]
        return sampler(denoise, _noisy(clean, start, levels[0]), levels, noise=noise, progress=tell)

    made = _draw(
        generator,
        record,
        one,
        shape=clean.shape[1:],
        statements=statements,
        n=n,
        seed=seed,
        options=options,
        progress=progress,
        beats=_beats(generator, record),
    )
    return [_record(generator, record, signal, job, seed=seed, how="varied") for job, signal in made]


def _noisy(clean: Tensor, eps: Tensor, level: NoiseLevel) -> Tensor:
    return level.alpha * clean + level.sigma * eps


def _levels_to(
    denoise: Denoiser, clean: Tensor, eps: Tensor, levels: Sequence[NoiseLevel], distance: float, units_mv: Tensor
) -> Sequence[NoiseLevel]:
    """The levels from where on sampling leads about `distance` away from the clean signal.

    A sample of x_0 given x lies twice as far (in the square) from the true one as the mean of x_0 given x does, if the
    sampler draws from that distribution. The distance grows with the noise, so that halving finds the level in a few
    calls.
    """

    def reached(level: NoiseLevel) -> float:
        error = (denoise(_noisy(clean, eps, level), level) - clean) * units_mv
        return float((2 * error.square().mean() / (clean * units_mv).square().mean()).sqrt())

    low, high = 0, len(levels) - 1  # the answer lies between; noise falls with the index
    while low < high:
        middle = (low + high) // 2
        if reached(levels[middle]) > distance:
            low = middle + 1
        else:
            high = middle
    return levels[low:]


def _thinned(levels: Sequence[NoiseLevel], count: int) -> Sequence[NoiseLevel]:
    """At most `count` of the levels, evenly spread, first and last among them."""
    places = np.linspace(0, len(levels) - 1, min(count, len(levels))).round().astype(int)
    return [levels[place] for place in places]


def _whole_leads(generator: Generator, record: EcgRecord) -> Float[np.ndarray, "C L"]:
    """The model's leads of a record that has them all, mV."""
    missing = [lead for lead in generator.config.leads if lead not in record.leads]
    if missing:
        raise DataError(
            f"expected all leads of the model, {', '.join(missing)} missing; `ecgforge complete` makes them"
        )
    leads = record.in_leads(generator.config.leads)
    if not np.isfinite(leads).all():
        raise DataError("expected a record without missing samples; `complete` fills them")
    return leads


def _draw(
    generator: Generator,
    record: EcgRecord,
    one: Callable[[Denoiser, Callable[[], Tensor], Progress], Tensor],
    *,
    shape: Sequence[int],
    statements: str | None,
    n: int,
    seed: int,
    options: SamplingOptions,
    progress: Progress | None,
    beats: Float[np.ndarray, " L"] | None = None,
) -> list[tuple[Job, Float[np.ndarray, "12 L"]]]:
    """n signals in standard leads, mV, each from its own stream."""
    if n < 1:
        raise ConfigError(f"expected 1 or more records, got {n}")
    if options.guidance is None:  # what is given of the record says what it shows; guidance would say it again
        options = replace(options, guidance=1.0)
    condition, wanted = _condition(generator, record, statements, seed=seed, options=options)
    told = None if beats is None else torch.from_numpy(beats[None]).to(generator.device)
    made = []
    for index in range(n):
        # Not the stream of generation, whose draws may have made the very record that is completed or varied.
        stream = record_stream(seed, index, purpose=Purpose.COMPLETION)

        def noise(stream: np.random.Generator = stream) -> Tensor:
            return torch.from_numpy(stream.standard_normal((1, *shape), dtype=np.float32)).to(generator.device)

        def tell(done: int, total: int, index: int = index) -> None:
            if progress:
                progress(index * total + done, n * total)

        with torch.no_grad(), kernels_kept(generator.network), torch.nn.utils.parametrize.cached():
            denoise = generator.denoiser(condition, beats=told, options=options, differentiable=True)
            x = one(denoise, noise, tell)
        signal = (x[0] * generator.units_mv).cpu().numpy()
        made.append((Job(index, wanted), complete_twelve(signal, generator.config.leads)))
    return made


def _condition(
    generator: Generator, record: EcgRecord, statements: str | None, *, seed: int, options: SamplingOptions
) -> tuple[Tensor, dict[str, float]]:
    """What the network is told: the statements, or that they are unknown; age and sex, where it knows them."""
    if options.duration is not None:
        raise ConfigError("expected no duration: what is made is as long as the record that is given")
    labels = generator.config.vocabulary
    own = {code: grade for code, grade in record.statements.items() if labels.label_of(code)}
    wanted = own if statements is None else parse_statements(statements)
    if not wanted and not generator.knows_unknown:
        raise ConfigError(f"expected statements: {generator.config.name} must be told what holds; give --statements")
    facts = Facts(age=record.patient.age, sex=record.patient.sex).only(generator.facts)
    options = options if wanted else replace(options, others="unknown")
    (told,) = generator.check([Job(0, wanted, facts)], seed=seed, options=options)
    return torch.from_numpy(told[None]).to(generator.device), wanted


def _beats(generator: Generator, record: EcgRecord) -> Float[np.ndarray, " L"] | None:
    """The record's beats as the network is told; those hidden by a gap in all leads are put where they are due.

    They are found in the leads that are there throughout, or else in all leads with straight lines across the gaps.
    """
    if not generator.knows_beats:
        return None
    there = np.isfinite(record.signal)
    whole = there.all(axis=1)
    given = whole if whole.any() else there.any(axis=1)
    learned = whole & np.isin(record.leads, MODEL_LEADS)
    if learned.sum() == len(MODEL_LEADS):  # as in training, where limb leads that follow from others do not count
        given = learned
    place = np.arange(record.signal.shape[1])
    pairs = zip(record.signal[given], there[given], strict=True)
    rows = [np.interp(place, place[known], row[known]) for row, known in pairs]
    leads = tuple(lead for lead, taken in zip(record.leads, given, strict=True) if taken)
    peaks = find_r_peaks(replace(record, signal=np.array(rows, dtype=np.float32), leads=leads), leads=leads)
    return mark_known_beats(bridge_gaps(peaks, ~there[given].any(axis=0)), len(place))


def _twelve_from_units(generator: Generator) -> Float[np.ndarray, "12 C"]:
    """The standard leads in mV from the network's channels in their units."""
    channels = np.eye(len(generator.config.leads), dtype=np.float32)
    twelve = complete_twelve(channels, generator.config.leads)
    return twelve * generator.units_mv.cpu().numpy()[:, 0]


def _require_fitting(generator: Generator, record: EcgRecord) -> None:
    config = generator.config
    if config.schedule is None:
        raise ConfigError(f"expected a diffusion model, got {config.name}, a {config.network.kind}")
    if record.rate != config.rate:
        raise DataError(f"expected a record at the model's {config.rate:g} Hz, got {record.rate:g} Hz; resample it")
    if record.signal.shape[1] < generator.length:
        raise DataError(
            f"expected a record of {generator.length / config.rate:g} s or more, which is what {config.name} was "
            f"trained on, got {record.duration:g} s"
        )
    repeated = sorted({lead for lead in record.leads if record.leads.count(lead) > 1})
    if repeated:
        raise DataError(f"expected each lead once, got {', '.join(repeated)} more than once")


def _record(
    generator: Generator, origin: EcgRecord, signal: Float[np.ndarray, "12 L"], job: Job, *, seed: int, how: str
) -> EcgRecord:
    of = origin.record_id or "a record"
    return EcgRecord(
        signal=signal,
        rate=origin.rate,
        record_id=f"{how}-{origin.record_id or 'record'}-{seed}-{job.index:05d}",
        statements=dict(job.statements),
        patient=Patient(age=origin.patient.age, sex=origin.patient.sex),
        provenance=Provenance(
            synthetic=True,
            source=f"{of} {how} by ecgforge model {generator.config.name} {generator.config.weights_sha256[:12]}",
            seed=seed,
            index=job.index,
        ),
    )
