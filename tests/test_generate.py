"""Sampling: record i of a seed is one record, however it is made; output is a lawful, marked 12-lead record."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import TINY_NETWORK

from ecgforge.checkpoints.native import Model, ModelConfig, build_network, save_model
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError, ConfigError, LabelError
from ecgforge.facts import Facts
from ecgforge.generate import DEFAULT_MODEL, Generator
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS, lead_law_residual
from ecgforge.models.sssd import SssdEcg
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.parallel import sample_jobs
from ecgforge.sampling import FLOW_GUIDANCE, FLOW_GUIDANCE_INTERVAL, Job, SamplingOptions, jobs_of

QUICK = SamplingOptions(steps=4)
SETS = ("NORM,SR", "IMI:0.5,SR")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with random weights: nothing like an ECG, but everything else is real."""
    torch.manual_seed(3)
    network = SssdEcg(TINY_NETWORK)
    torch.nn.init.normal_(network.output.weight, std=0.3)
    torch.nn.init.normal_(network.statements.weight, std=3.0)
    config = ModelConfig(
        name="tiny",
        network=TINY_NETWORK,
        schedule=LinearSchedule(),
        label_set="all",
        labels=vocabulary("all").labels,
        leads=MODEL_LEADS,
        rate=100.0,
    )
    folder = tmp_path_factory.mktemp("model")
    save_model(config, network.state_dict(), folder)
    return folder


@pytest.fixture(scope="module")
def generator(model_folder: Path) -> Generator:
    return Generator.load(model_folder)


def signals(records: list) -> np.ndarray:
    return np.stack([record.signal for record in records])


@pytest.mark.parametrize("sampler", ["dpmpp", "ddim", "ddpm"])
def test_batch_size_does_not_change_a_record(generator: Generator, sampler: str) -> None:
    made = [
        signals(generator.sample(SETS, n=4, seed=11, options=SamplingOptions(sampler, 4, batch_size)))
        for batch_size in (1, 3, 8)
    ]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], made[2])


def test_order_and_subset_do_not_change_a_record(generator: Generator) -> None:
    jobs = [Job(index, {"AFIB": 1.0}) for index in range(5)]
    whole = signals(list(generator.sample_each(jobs, seed=2, options=QUICK)))
    reverse = signals(list(generator.sample_each(jobs[::-1], seed=2, options=QUICK)))
    alone = signals(list(generator.sample_each(jobs[3:4], seed=2, options=QUICK)))
    assert np.array_equal(whole, reverse[::-1])
    assert np.array_equal(whole[3:4], alone)


def test_processes_and_threads_do_not_change_a_record(generator: Generator, model_folder: Path) -> None:
    alone = signals(generator.sample(SETS, n=2, seed=4, options=QUICK))
    options = SamplingOptions(steps=4, batch_size=1)
    spread = sample_jobs(jobs_of(SETS, n=2), seed=4, options=options, model=model_folder, processes=2)
    assert np.array_equal(alone, signals(list(spread)))
    before = torch.get_num_threads()
    torch.set_num_threads(3 - min(before, 2))
    try:
        assert np.array_equal(alone, signals(generator.sample(SETS, n=2, seed=4, options=QUICK)))
    finally:
        torch.set_num_threads(before)


def test_seed_index_and_statements_all_matter(generator: Generator) -> None:
    base = generator.sample("NORM,SR", n=2, seed=0, options=QUICK)
    assert not np.array_equal(base[0].signal, base[1].signal)
    other_seed = generator.sample("NORM,SR", seed=1, options=QUICK)[0]
    other_grade = generator.sample("NORM:0.5,SR", seed=0, options=QUICK)[0]
    assert not np.array_equal(base[0].signal, other_seed.signal)
    assert not np.array_equal(base[0].signal, other_grade.signal)


def test_records_are_lawful_twelve_leads_and_say_what_they_are(generator: Generator) -> None:
    records = generator.sample(SETS, n=2, seed=9, options=QUICK)
    assert [dict(record.statements) for record in records] == [{"NORM": 1.0, "SR": 1.0}] * 2 + [
        {"IMI": 0.5, "SR": 1.0}
    ] * 2
    for index, record in enumerate(records):
        assert record.leads == STANDARD_LEADS
        assert record.signal.shape == (12, TINY_NETWORK.length)
        assert float(lead_law_residual(record.signal)) < 1e-5
        assert record.provenance.synthetic
        assert (record.provenance.seed, record.provenance.index) == (9, index)
        assert "tiny" in record.provenance.source


def test_progress_counts_every_network_call(generator: Generator) -> None:
    calls: list[tuple[int, int]] = []
    options = SamplingOptions(steps=4, batch_size=2)
    generator.sample("SR", n=3, options=options, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 12), (4, 12), (6, 12), (8, 12), (9, 12), (10, 12), (11, 12), (12, 12)]


def test_progress_counts_the_one_call_of_a_gan() -> None:
    network = WaveGanConfig(width=10)
    config = ModelConfig("gan", network, None, "all", vocabulary("all").labels, MODEL_LEADS, 100.0)
    generator = Generator(Model(config, build_network(network)))
    calls: list[tuple[int, int]] = []
    options = SamplingOptions(batch_size=2)
    generator.sample("SR", n=3, options=options, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(2, 3), (3, 3)]


def test_bfloat16_products_make_nearly_the_same_record(generator: Generator) -> None:
    exact = signals(generator.sample(SETS, seed=5, options=QUICK))
    rounded = signals(generator.sample(SETS, seed=5, options=replace(QUICK, precision="bfloat16")))
    assert 1e-5 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.02
    again = signals(generator.sample(SETS, seed=5, options=replace(QUICK, precision="bfloat16", batch_size=1)))
    assert np.array_equal(rounded, again)
    assert np.array_equal(exact, signals(generator.sample(SETS, seed=5, options=QUICK)))


def test_wrong_wishes_are_refused_before_sampling(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="did you mean AFIB"):
        generator.sample("AFIBB")
    with pytest.raises(ConfigError, match="1 to 200 sampling steps"):
        generator.sample("AFIB", options=SamplingOptions(steps=201))
    with pytest.raises(ConfigError, match="guidance weight with a guidance interval: tiny is not guided"):
        generator.sample("AFIB", options=SamplingOptions(guidance_interval=(0.3, 5.0)))
    with pytest.raises(ConfigError, match="1 or more records"):
        generator.sample("AFIB", n=0)
    with pytest.raises(ConfigError, match="batch size of 1 or more"):
        SamplingOptions(batch_size=0)
    with pytest.raises(ConfigError, match="1 or more sampling steps"):
        SamplingOptions(steps=0)
    with pytest.raises(LabelError, match=r"at most 1, got \{'AFIB': 1\.5\}"):
        generator.sample({"AFIB": 1.5})
    for statements in ({}, {"sr": 1, "SR": 0.5}):
        with pytest.raises(LabelError, match="one or more statements, each once"):
            generator.sample(statements)
    for wrong in ({"guidance": math.nan}, {"guidance": math.inf}, {"guidance": -1.0}):
        with pytest.raises(ConfigError, match="guidance weight of 0 or more"):
            SamplingOptions(**wrong)
    for duration in (math.nan, math.inf, -1.0):
        with pytest.raises(ConfigError, match="duration in seconds"):
            SamplingOptions(duration=duration)
    with pytest.raises(ConfigError, match="guidance interval of noise over signal"):
        SamplingOptions(guidance_interval=(2.0, 1.0))
    with pytest.raises(ConfigError, match="the device 'toaster'"):
        Generator(Model(config=generator.config, network=SssdEcg(TINY_NETWORK)), device="toaster")
    with pytest.raises(ConfigError, match="seed from 0"):
        generator.sample("AFIB", seed=-1, options=QUICK)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Generator.load(tmp_path)


def test_statements_outside_the_models_label_set_are_refused(generator: Generator) -> None:
    labels = vocabulary("rhythm")
    config = ModelConfig(**{**generator.config.__dict__, "label_set": "rhythm", "labels": labels.labels})
    with pytest.raises(LabelError, match=r"'rhythm' \(12 labels.*got NORM"):
        Generator(Model(config=config, network=SssdEcg(TINY_NETWORK))).sample("NORM,SR")


def test_default_weights_make_an_ecg() -> None:
    """The weights in the package load, pass their checksum, and give beats at a rate a heart can have."""
    assert (DEFAULT_MODEL / "README.md").is_file()
    record = Generator.load().sample("NORM,SR", seed=0)[0]
    assert record.signal.shape == (12, 1000)
    assert float(lead_law_residual(record.signal)) < 1e-5
    lead = record.lead("II")
    assert 0.3 < float(np.ptp(lead)) < 5.0  # mV
    slope = np.abs(np.diff(lead))
    # QRS complexes are rare and steep: the steepest hundredth of a lead stands far above its median.
    assert float(np.quantile(slope, 0.99)) > 6 * float(np.median(slope))


def test_facts_are_refused_by_a_model_that_knows_none(generator: Generator) -> None:
    with pytest.raises(ConfigError, match="cannot be asked for sex, heart_rate: this model knows statements only"):
        generator.sample("AFIB", facts=Facts(sex="male", heart_rate=70), options=QUICK)


def test_open_statements_and_guidance_in_an_interval(tiny_patch_model: Path) -> None:
    patches = Generator.load(tiny_patch_model)
    job = Job(0, {"AFIB": 1.0})
    told = patches.condition(job, others="unknown")
    assert told[vocabulary("all").labels.index("AFIB")] == 1
    assert np.isnan(told[: len(vocabulary("all"))]).sum() == len(vocabulary("all")) - 1
    options = SamplingOptions(steps=6)
    default, suited, plain, open_others, guided, nowhere, everywhere = (
        signals(patches.sample("AFIB", options=replace(options, **changed)))
        for changed in (
            {},
            {"guidance": FLOW_GUIDANCE, "guidance_interval": FLOW_GUIDANCE_INTERVAL},
            {"guidance": 1.0},
            {"guidance": 1.0, "others": "unknown"},
            {"guidance": 2.0},
            {"guidance": 2.0, "guidance_interval": (1e6, 1e7)},
            {"guidance": 2.0, "guidance_interval": (0.0, 1e7)},
        )
    )
    assert (plain != open_others).any() and (plain != guided).any()
    assert np.array_equal(plain, nowhere) and np.array_equal(guided, everywhere)
    calls = [patches.plan(asked).calls for asked in (SamplingOptions(), SamplingOptions(guidance=1), options)]
    assert calls == [10, 7, 9]  # of 7 levels as of 6 (100, 33, 8.9, 1.75, 0.21, 0.01) three lie in the interval
    assert np.array_equal(default, suited) and (default != plain).any() and (default != guided).any()


@pytest.mark.parametrize("native", ["1", "0"], ids=["native", "plain"])
def test_bfloat16_products_of_patches(tiny_patch_model: Path, monkeypatch: pytest.MonkeyPatch, native: str) -> None:
    monkeypatch.setenv("ECGFORGE_NATIVE", native)
    patches = Generator.load(tiny_patch_model)
    exact, rounded = (
        signals(patches.sample(SETS, seed=5, options=replace(QUICK, precision=precision)))
        for precision in ("float32", "bfloat16")
    )
    assert 1e-5 < np.linalg.norm(rounded - exact) / np.linalg.norm(exact) < 0.05
