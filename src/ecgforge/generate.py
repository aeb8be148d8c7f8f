"""Generator: load a model once, sample as many records as wanted. The command line and notebooks use only this."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.checkpoints.locate import SHIPPED, locate_model
from ecgforge.checkpoints.native import Model, load_model
from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.denoiser import Denoiser, Network, eps_denoiser
from ecgforge.diffusion.flow import FlowSchedule, flow_denoiser
from ecgforge.diffusion.guidance import guide
from ecgforge.diffusion.windows import windowed
from ecgforge.errors import CheckpointError, ConfigError
from ecgforge.facts import Facts
from ecgforge.labels import Statements
from ecgforge.leads import complete_twelve
from ecgforge.models import NetworkConfig
from ecgforge.models.folded import FoldedPatchS4, FoldedSssd, fold
from ecgforge.models.patch_s4 import PatchS4, PatchS4Config
from ecgforge.models.pulse2pulse import Pulse2PulseConfig
from ecgforge.models.s4 import kernels_kept
from ecgforge.models.sssd import SssdConfig
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.r_peaks import mark_beats
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.rng import Purpose, record_stream
from ecgforge.sampling import (
    Job,
    Others,
    Precision,
    SamplingOptions,
    SamplingPlan,
    jobs_of,
    plan_sampling,
)

Progress = Callable[[int, int], None]

DEFAULT_MODEL = SHIPPED["default"].folder

_DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _share_of(progress: Progress | None, calls: int, *, start: int, size: int) -> Progress | None:
    """A batch's progress, counted in steps per record, as part of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(start * total + done * size, calls)


_GENERATING = (SssdConfig, PatchS4Config, WaveGanConfig, Pulse2PulseConfig)


def _sampling_noise(network: NetworkConfig) -> str:
    return network.sampling_noise if isinstance(network, WaveGanConfig | Pulse2PulseConfig) else "normal"


class Generator:
    """Makes synthetic ECGs for given statements.

    Record i of a seed is the same record whatever the batch size, the order or the number of processes: its
    noise comes from a stream of its own, and on a CPU the network is evaluated record by record.
    """

    def __init__(self, model: Model, *, device: str | torch.device = "cpu") -> None:
        self.config = model.config
        if not isinstance(self.config.network, _GENERATING):
            raise CheckpointError(
                f"expected a model that generates records, got {self.config.name}, a {self.config.network.kind}"
            )
        self.length = self.config.network.length
        self._folded: dict[Precision, FoldedSssd | FoldedPatchS4 | None] = {}
        self.facts = self.config.network.facts if isinstance(self.config.network, PatchS4Config) else ()
        try:
            self.device = torch.device(device)
            self._network = model.network.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:  # torch's ways to say so
            raise ConfigError(f"cannot sample on the device {device!r}: {str(error).splitlines()[0]}") from error

    @classmethod
    def load(cls, model: str | Path | None = None, *, device: str | torch.device = "cpu") -> "Generator":
        """Load a model: a folder, the name of a shipped one, or `hf:owner/name` (see checkpoints.locate).

        None loads the default weights that come with the package. Only `hf:` ever uses the network.

        Raises:
            CheckpointError: there is no usable model of this name, or it does not generate.
            MissingExtraError: a model of the hub is asked for and huggingface_hub is not installed.
            ConfigError: there is no such device.
        """
        return cls(load_model(locate_model(model)), device=device)

    def sample(
        self,
        statements: Statements | Sequence[Statements],
        *,
        n: int = 1,
        seed: int = 0,
        facts: Facts = Facts(),
        options: SamplingOptions = SamplingOptions(),
        progress: Progress | None = None,
    ) -> list[EcgRecord]:
        """Synthetic records: n for each statement set, in the order of the sets.

        Args:
            statements: "NORM,SR", "IMI:0.5,SR" or {"IMI": 0.5, "SR": 1.0}; one set or a sequence of sets.
            n: Records per set.
            seed: Record i of the result is drawn from stream i of this seed.
            facts: Age, sex and heart rate to ask for as well, if the model knows them.
            options: Sampler, steps and batch size.
            progress: Called with (steps done, steps in all).

        Returns:
            12-lead records in standard order, mV, marked as synthetic.

        Raises:
            LabelError: a statement does not exist or this model does not know it.
            ConfigError: n, seed or options are out of range, or the model cannot be asked for a fact.
        """
        return list(
            self.sample_each(jobs_of(statements, n=n, facts=facts), seed=seed, options=options, progress=progress)
        )

    def sample_each(
        self,
        jobs: Sequence[Job],
        *,
        seed: int = 0,
        options: SamplingOptions = SamplingOptions(),
        progress: Progress | None = None,
    ) -> Iterator[EcgRecord]:
        """Records for jobs, one after the other as their batches are done.

        Any subset of the jobs in any order gives the same records as the whole; made for copying data sets and for
        spreading work over processes.

        Raises:
            LabelError, ConfigError: as `sample`, when the first record is asked for and before anything is computed.
        """
        conditions = self.check(jobs, seed=seed, options=options)
        steps = self.plan(options).steps * len(jobs)
        with kernels_kept(self._network):
            for start in range(0, len(jobs), options.batch_size):
                batch = jobs[start : start + options.batch_size]
                signals = self._sample_batch(
                    batch,
                    conditions[start : start + len(batch)],
                    seed=seed,
                    options=options,
                    progress=_share_of(progress, steps, start=start, size=len(batch)),
                )
                for signal, job in zip(signals, batch, strict=True):
                    yield self._record(signal, job, seed=seed)

    def check(self, jobs: Sequence[Job], *, seed: int, options: SamplingOptions) -> list[Float[np.ndarray, " K"]]:
        """Conditions of the jobs, after everything a user could have got wrong was looked at.

        Raises:
            LabelError, ConfigError: as `sample`.
        """
        record_stream(seed, 0)
        self.plan(options)
        self._samples(options)
        if options.wants_unknown and not self.knows_unknown:
            raise ConfigError(
                f"expected a model with statement tables for unknown statements and guidance, {self.config.name} has "
                "none; take PatchS4 (--model default), train SSSD-ECG-nle with `ecgforge train sssd-ecg-nle --set "
                "unknown_share=0.2`, or leave --others and --guidance out"
            )
        return [self.condition(job, others=options.others) for job in jobs]

    def condition(self, job: Job, *, others: Others) -> Float[np.ndarray, " K"]:
        """What the network is told of a job: statements, then facts.

        Raises:
            LabelError: a statement does not exist or this model does not know it.
            ConfigError: the model cannot be asked for a fact.
        """
        strange = [fact for fact in job.facts.known if fact not in self.facts]
        if strange:
            knows = f"this model knows {', '.join(self.facts)}" if self.facts else "this model knows statements only"
            raise ConfigError(f"{self.config.name} cannot be asked for {', '.join(strange)}: {knows}; leave it out")
        statements = self.config.vocabulary.encode(job.statements, strict=True, others=others)
        return np.concatenate([statements, job.facts.encode(self.facts)])

    def plan(self, options: SamplingOptions) -> SamplingPlan:
        """What options come to for this model.

        Raises:
            ConfigError: this model cannot make that many steps.
        """
        return plan_sampling(self.config.schedule, options, model=self.config.name)

    @torch.no_grad()
    def _sample_batch(
        self,
        jobs: Sequence[Job],
        conditions: Sequence[Float[np.ndarray, " K"]],
        *,
        seed: int,
        options: SamplingOptions,
        progress: Progress | None,
    ) -> Float[np.ndarray, "B C L"]:
        streams = [record_stream(seed, job.index) for job in jobs]
        given = torch.from_numpy(np.stack(conditions)).to(self.device)
        if self.config.schedule is None:
            made = self._call_once(streams, given, options=options).cpu().numpy()
            if progress:
                progress(1, 1)
            return made
        beats = None
        if self.knows_beats:
            samples = self._samples(options)
            drawn = [self._draw_beats(*task, seed=seed, samples=samples) for task in zip(jobs, conditions, strict=True)]
            beats = torch.from_numpy(np.stack(drawn)).to(self.device)
        return self._denoise(streams, given, beats=beats, options=options, progress=progress).cpu().numpy()

    def _draw_beats(
        self, job: Job, condition: Float[np.ndarray, " K"], *, seed: int, samples: int
    ) -> Float[np.ndarray, " L"]:
        """A rhythm that the statements and facts allow, as a signal (see mark_beats)."""
        rate, rhythm = self.config.rate, cast(PatchS4, self._network).rhythm
        times = rhythm.draw_beats(
            condition,
            seconds=samples / rate,
            stream=record_stream(seed, job.index, purpose=Purpose.RHYTHM),
            heart_rate=job.facts.heart_rate,
        )
        return mark_beats((times * rate).astype(np.int64), samples)

    def _fold(self, precision: Precision) -> FoldedSssd | FoldedPatchS4 | None:
        """The network's fast form on a CPU, made at first use: what goes wrong before is told at once."""
        if precision not in self._folded:
            self._folded[precision] = fold(self._network, products=_DTYPES[precision])
        return self._folded[precision]

    @property
    def network(self) -> torch.nn.Module:
        """The network itself, in evaluation mode."""
        return self._network

    @property
    def knows_unknown(self) -> bool:
        """Whether a statement can be left open, neither present nor absent."""
        network = self.config.network
        return isinstance(network, PatchS4Config) or (isinstance(network, SssdConfig) and network.statements != "sum")

    @property
    def knows_beats(self) -> bool:
        """Whether the network is told where the beats are."""
        return isinstance(self.config.network, PatchS4Config)

    @property
    def units_mv(self) -> Float[Tensor, "C 1"]:
        """What one unit of the network's signals is in each lead, mV."""
        scales = self.config.scales_mv or (1.0,) * len(self.config.leads)
        return torch.tensor(scales, device=self.device)[:, None]

    def _samples(self, options: SamplingOptions) -> int:
        """Samples of a record."""
        if options.duration is None:
            return self.length
        samples = round(options.duration * self.config.rate)
        if self.config.schedule is None or samples < self.length:
            raise ConfigError(
                f"expected a duration of {self.length / self.config.rate:g} s or more and a diffusion model, got "
                f"{options.duration:g} s and {self.config.name}"
            )
        return samples

    def _draw(self, one: Callable[[np.random.Generator], np.ndarray], streams: Sequence[np.random.Generator]) -> Tensor:
        return torch.from_numpy(np.stack([one(stream) for stream in streams])).to(self.device)

    def _call_once(
        self, streams: Sequence[np.random.Generator], condition: Tensor, *, options: SamplingOptions
    ) -> Float[Tensor, "B C L"]:
        shape = (len(self.config.leads), self.length)
        uniform = _sampling_noise(self.config.network) == "uniform"
        noise = self._draw(
            lambda stream: (stream.uniform(-1, 1, shape) if uniform else stream.standard_normal(shape)).astype(
                np.float32
            ),
            streams,
        )
        level = torch.zeros(len(noise), device=self.device)
        return self._call_network(noise, level, condition, precision=options.precision)

    def _denoise(
        self,
        streams: Sequence[np.random.Generator],
        condition: Tensor,
        *,
        beats: Float[Tensor, "B L"] | None,
        options: SamplingOptions,
        progress: Progress | None,
    ) -> Float[Tensor, "B C L"]:
        shape = (len(self.config.leads), self._samples(options))

        def noise() -> Tensor:
            return self._draw(lambda stream: stream.standard_normal(shape, dtype=np.float32), streams)

        denoise = self.denoiser(condition, beats=beats, options=options)
        plan = self.plan(options)
        with torch.nn.utils.parametrize.cached():  # weight norm is worked out once per batch, not per call
            records = SAMPLERS[plan.sampler](denoise, noise(), plan.levels, noise=noise, progress=progress)
        return records * self.units_mv

    def denoiser(
        self,
        condition: Float[Tensor, "B K"],
        *,
        beats: Float[Tensor, "B L"] | None = None,
        options: SamplingOptions,
        differentiable: bool = False,
    ) -> Denoiser:
        """The denoiser of a diffusion model for given conditions, guided as the options say.

        Takes records of the model's length or longer, in units of `units_mv`.

        Args:
            condition: See `condition`.
            beats: Where the beats are (see mark_beats), for models that `knows_beats`; None where nothing is known.
            options: Of guidance and precision.
            differentiable: Whether gradients by x are wanted; on a CPU some networks are then slower.
        """

        def denoiser_at(start: int) -> Denoiser:
            part = None if beats is None else beats[:, start : start + self.length]
            call = partial(self._call_network, beats=part, folded=not differentiable, precision=options.precision)
            return self._guided(call, condition, options=options)

        first, windows = denoiser_at(0), windowed(denoiser_at, length=self.length, overlap=self.length // 2)
        return lambda x, level: (first if x.shape[2] == self.length else windows)(x, level)

    def _guided(self, call: Network, condition: Float[Tensor, "B K"], *, options: SamplingOptions) -> Denoiser:
        as_denoiser = flow_denoiser if isinstance(self.config.schedule, FlowSchedule) else eps_denoiser
        denoise: Denoiser = as_denoiser(call, condition)
        plan = self.plan(options)
        if plan.guidance == 1:
            return denoise
        nothing = as_denoiser(call, torch.full_like(condition, torch.nan))
        return guide(denoise, nothing, weight=plan.guidance, interval=plan.guidance_interval)

    def _call_network(
        self,
        x: Tensor,
        level: Tensor,
        condition: Tensor,
        *,
        beats: Tensor | None = None,
        folded: bool = True,
        precision: Precision,
    ) -> Tensor:
        """The network; on a CPU folded where that is possible, and record by record.

        There a record alone stays in the cache, and its rounding does not depend on its company.
        """
        told = (x, level, condition) if beats is None else (x, level, condition, beats)
        on_cpu = self.device.type == "cpu"
        if on_cpu and folded and (fast := self._fold(precision)) is not None:
            return fast(*told)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            if not on_cpu:
                return cast(Tensor, self._network(*told)).float()
            rows = [self._network(*(part[i : i + 1] for part in told)) for i in range(len(x))]
        return torch.cat(rows).float()

    def _record(self, signal: Float[np.ndarray, "C L"], job: Job, *, seed: int) -> EcgRecord:
        return EcgRecord(
            signal=complete_twelve(signal, self.config.leads),
            rate=self.config.rate,
            record_id=f"synthetic-{seed}-{job.index:05d}",
            statements=dict(job.statements),
            patient=Patient(age=job.facts.age, sex=job.facts.sex),
            provenance=Provenance(
                synthetic=True,
                source=f"ecgforge model {self.config.name} {self.config.weights_sha256[:12]}",
                seed=seed,
                index=job.index,
            ),
        )
