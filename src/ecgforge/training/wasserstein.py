"""Training of a generator against a critic: Wasserstein loss with gradient penalty."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from ecgforge.checkpoints.native import Model, ModelConfig, build_network
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError
from ecgforge.models.critic import Critic
from ecgforge.rng import Purpose, record_stream
from ecgforge.training.learner import describe_model, refuse_extra, require_finite
from ecgforge.training.optim import learning_rate_at
from ecgforge.training.records import TrainingData, cut_window, example_stream, examples_of, picks_of, select_data
from ecgforge.training.settings import WassersteinTraining


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of one update.

    Attributes:
        real: (B, C, L) mV.
        condition: (B, K).
        noise: (B, C, L) uniform on -1 to 1.
        mix: (B, 1, 1) share of the real record where the penalty is measured, uniform on 0 to 1.
        second_noise: (B, C, L) for the generator's own update.
        record_ids: For messages.
    """

    real: Float[Tensor, "B C L"]
    condition: Float[Tensor, "B K"]
    noise: Float[Tensor, "B C L"]
    mix: Float[Tensor, "B 1 1"]
    second_noise: Float[Tensor, "B C L"]
    record_ids: tuple[str, ...]


def batch_at(data: TrainingData, config: WassersteinTraining, number: int) -> Batch:
    """Batch number `number` of the run; example e has its own random stream."""
    examples = examples_of(config, number, rank=0, ranks=1)
    picks = picks_of(data, config, examples)
    windows, noises, mixes, second = [], [], [], []
    for signal, example in zip(data.signals_mv(picks), examples.tolist(), strict=True):
        stream = example_stream(config, example)
        windows.append(cut_window(signal, config.network.length, stream))
        noises.append(stream.uniform(-1, 1, windows[-1].shape).astype(np.float32))
        mixes.append(np.full((1, 1), stream.random(), dtype=np.float32))
        second.append(stream.uniform(-1, 1, windows[-1].shape).astype(np.float32))
    return Batch(
        real=torch.from_numpy(np.stack(windows)),
        condition=torch.from_numpy(data.condition[picks]),
        noise=torch.from_numpy(np.stack(noises)),
        mix=torch.from_numpy(np.stack(mixes)),
        second_noise=torch.from_numpy(np.stack(second)),
        record_ids=data.record_ids(picks),
    )


class WassersteinLearner:
    """WGAN-GP. Source: Gulrajani et al. 2017 (arXiv 1704.00028), algorithm 1.

    Raises:
        ConfigError: more than one device is asked for.
        DataError: the store does not fit the configuration.
    """

    score: float | None = None

    def __init__(
        self, config: WassersteinTraining, store: EcgStore, fabric: Fabric, extra: EcgStore | None = None
    ) -> None:
        refuse_extra(extra, config)
        if fabric.world_size > 1:
            # Batch statistics and the penalty's second derivative would differ from those of one device.
            raise ConfigError(f"expected 1 device for {config.name}, got {fabric.world_size}; drop --devices")
        self.config = config
        self.data = select_data(store, config)
        self._fabric = fabric
        self.generator: nn.Module = build_network(config.network)
        self.critic = Critic(config.critic)
        self._generate, self.generator_optimizer = fabric.setup(self.generator, self._adam(self.generator))
        self._judge, self.critic_optimizer = fabric.setup(self.critic, self._adam(self.critic))

    def _adam(self, network: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.Adam(network.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)

    def begin_with(self, start: Model) -> None:
        """Take the weights of a generator; the critic, which models do not hold, begins anew."""
        self.generator.load_state_dict(start.network.state_dict())

    def take_step(self, step: int) -> float:
        """`critic_steps` updates of the critic, one of the generator.

        Returns:
            The critic's estimate of the Wasserstein distance, mean over its updates; it starts near 0, rises, and
            falls as the generator learns.

        Raises:
            TrainingError: the loss is not finite; names step and records.
        """
        config = self.config
        for group in chain(self.generator_optimizer.param_groups, self.critic_optimizer.param_groups):
            group["lr"] = learning_rate_at(step, config)
        self.generator.train()
        distances = []
        for number in range(step * config.critic_steps, (step + 1) * config.critic_steps):
            batch = self._on_device(batch_at(self.data, config, number))
            distances.append(self._update_critic(batch, self._shuffle(number), step=step))
        self._update_generator(batch, self._shuffle(step, of_generator=True), step=step)
        return sum(distances) / len(distances)

    def _on_device(self, batch: Batch) -> Batch:
        device = self._fabric.device
        tensors = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, Tensor)}
        return Batch(**tensors, record_ids=batch.record_ids)

    def _shuffle(self, number: int, *, of_generator: bool = False) -> torch.Generator:
        """The random stream of phase shuffle for one update."""
        purpose = Purpose.GENERATOR_SHUFFLE if of_generator else Purpose.CRITIC_SHUFFLE
        stream = record_stream(self.config.seed, number, purpose=purpose)
        return torch.Generator().manual_seed(int(stream.integers(2**63)))

    def _update_critic(self, batch: Batch, shuffle: torch.Generator, *, step: int) -> float:
        fabric = self._fabric
        with torch.no_grad():
            fake = self._generate(batch.noise, self._level(batch), batch.condition)
        distance = self._judge(batch.real, batch.condition, shuffle=shuffle) - self._judge(
            fake, batch.condition, shuffle=shuffle
        )
        penalty = self._penalty(batch, fake, shuffle)
        losses = self.config.gradient_penalty * penalty - distance
        require_finite(losses, batch.record_ids, step=step)
        self.critic_optimizer.zero_grad()
        fabric.backward(losses.mean())
        self.critic_optimizer.step()
        return float(distance.detach().mean())

    def _penalty(self, batch: Batch, fake: Tensor, shuffle: torch.Generator) -> Float[Tensor, " B"]:
        """(|d critic / d x| - 1)^2 between real and generated records (algorithm 1, lines 6 and 7)."""
        between = (batch.mix * batch.real + (1 - batch.mix) * fake).requires_grad_()
        score = self._judge(between, batch.condition, shuffle=shuffle)
        (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square()

    def _update_generator(self, batch: Batch, shuffle: torch.Generator, *, step: int) -> None:
        fake = self._generate(batch.second_noise, self._level(batch), batch.condition)
        losses = -self._judge(fake, batch.condition, shuffle=shuffle)
        require_finite(losses, batch.record_ids, step=step)
        self.generator_optimizer.zero_grad()
        self._fabric.backward(losses.mean())
        self.generator_optimizer.step()

    def _level(self, batch: Batch) -> Float[Tensor, " B"]:
        return torch.zeros(len(batch.real), device=batch.real.device)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that is learned."""
        for part in ("generator", "critic"):
            for name, value in getattr(self, part).named_parameters():
                yield f"{part}.{name}", value

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        self.generator_optimizer.load_state_dict(state["generator_optimizer"])
        self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and weights of the generator as of now."""
        return describe_model(self.config, self.data, steps_done=steps_done), self.generator.state_dict()
