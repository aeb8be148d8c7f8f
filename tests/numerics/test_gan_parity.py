"""The GAN baselines against arrays made with the originals: generators in both modes, running statistics, critic."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecgforge.models.critic import Critic, CriticConfig
from ecgforge.models.pulse2pulse import Pulse2Pulse, Pulse2PulseConfig
from ecgforge.models.wavegan import WaveGan, WaveGanConfig

Arrays = dict[str, np.ndarray]
Parity = Callable[[str], Arrays]

TOLERANCE = 1e-4  # 1e-6 to 1e-5 is found
GENERATOR_WIDTH, CRITIC_WIDTH = 10, 4  # of the reference arrays
RECORDS_KEPT = 4

_UP_NUMBERS = "23567"  # the original numbers its five upsampling blocks so
_UNUSED = re.compile(r"ppfilter1\.|.*Conv1dTrans\.|bn_deconv1\.")  # in the checkpoint, not in the computation
_UP_NAME = {WaveGan: "blocks", Pulse2Pulse: "up"}

each_generator = pytest.mark.parametrize(
    "archive, kind", [("wavegan_star", WaveGan), ("pulse2pulse", Pulse2Pulse)], ids=["wavegan", "pulse2pulse"]
)


def generator_key(key: str, up: str) -> str:
    """Our name of a weight of the original."""
    key = key.replace("fc1.", "input.").replace(".conv1d.", ".").replace(".bn.", ".norm.").replace(".embed.", ".")
    for number, name in enumerate(_UP_NUMBERS):
        key = re.sub(rf"^deconv_{name}\.", f"{up}.{number}.conv.", key)
        key = re.sub(rf"^bn_deconv{name}\.", f"{up}.{number}.norm.", key)
    for number in range(5):
        key = re.sub(rf"^conv_{number + 1}\.", f"down.{number}.conv.", key)
        key = re.sub(rf"^bn_conv{number + 1}\.", f"down.{number}.norm.", key)
    return key


def critic_key(key: str) -> str:
    return re.sub(r"conv(\d)\.", lambda found: f"convs.{int(found[1]) - 1}.", key).replace("fc1.", "output.")


def weights_of(arrays: Arrays, part: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(part): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith(part) and not _UNUSED.match(key.removeprefix(part))
    }


def load_generator(arrays: Arrays, kind: type[WaveGan] | type[Pulse2Pulse]) -> nn.Module:
    config = kind.config_class(width=GENERATOR_WIDTH)
    network = kind(config)  # type: ignore[arg-type]
    weights = weights_of(arrays, "generator/")
    network.load_state_dict({generator_key(key, _UP_NAME[kind]): value for key, value in weights.items()})
    return network


def inputs(arrays: Arrays) -> tuple[Tensor, Tensor, Tensor]:
    noise, condition = torch.from_numpy(arrays["noise"]), torch.from_numpy(arrays["condition"])
    return noise, torch.zeros(len(noise)), condition


def distance(ours: Tensor, theirs: np.ndarray) -> float:
    difference = ours.detach().double().numpy() - theirs
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs))


@each_generator
def test_training_mode_uses_the_statistics_of_the_batch(parity: Parity, archive: str, kind: type[WaveGan]) -> None:
    arrays = parity(archive)
    output = load_generator(arrays, kind).train()(*inputs(arrays))
    assert distance(output[:RECORDS_KEPT], arrays["output_train"]) < TOLERANCE


@each_generator
def test_evaluation_mode_uses_the_running_statistics(parity: Parity, archive: str, kind: type[WaveGan]) -> None:
    arrays = parity(archive)
    few = [value[:RECORDS_KEPT] for value in inputs(arrays)]
    output = load_generator(arrays, kind).eval()(*few)
    assert distance(output, arrays["output_eval"]) < TOLERANCE
    assert distance(output, arrays["output_train"]) > 0.1


@each_generator
def test_running_statistics_after_one_pass(parity: Parity, archive: str, kind: type[WaveGan]) -> None:
    arrays = parity(archive)
    network = load_generator(arrays, kind)
    published = {key: value.clone() for key, value in network.named_buffers()}
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.reset_running_stats()
    network.train()(*inputs(arrays))
    assert len(published) >= 3 * 5  # mean, variance and count of five norms or more
    for key, value in network.named_buffers():
        np.testing.assert_allclose(value, published[key], rtol=1e-4, atol=1e-6, err_msg=key)


@each_generator
def test_critic_score(parity: Parity, archive: str, kind: type[WaveGan]) -> None:
    arrays = parity(archive)
    critic = Critic(CriticConfig(width=CRITIC_WIDTH))
    critic.load_state_dict({critic_key(key): value for key, value in weights_of(arrays, "critic/").items()})
    noise, level, condition = inputs(arrays)
    score = critic(load_generator(arrays, kind).eval()(noise, level, condition), condition)
    assert distance(score, arrays["critic_score"][:, 0]) < TOLERANCE


def test_the_published_sizes() -> None:
    """The facts' channel counts, by the networks' own shapes."""
    wavegan, pulse2pulse = WaveGan(WaveGanConfig()), Pulse2Pulse(Pulse2PulseConfig())
    assert wavegan.input.weight.shape == (250, 1000)
    assert [block.conv.out_channels for block in wavegan.blocks] == [150, 50, 25, 10, 8]
    assert [block.conv.out_channels for block in pulse2pulse.down] == [10, 25, 50, 150, 250]
    assert [block.conv.in_channels for block in pulse2pulse.up] == [500, 300, 100, 50, 10]
    assert [block.conv.out_channels for block in pulse2pulse.up] == [150, 50, 25, 10, 8]
    assert CriticConfig().lengths == (499, 249, 124, 61, 15, 4)
