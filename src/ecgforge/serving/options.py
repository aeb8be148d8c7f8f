"""Options that several commands share: their choices, their help and what the library takes for them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ecgforge.errors import ConfigError

if TYPE_CHECKING:
    from ecgforge.generate import SamplerName


class SamplerChoice(StrEnum):
    """The names of diffusion.SAMPLERS."""

    DPMPP = "dpmpp"
    DPMPP_SDE = "dpmpp-sde"
    UNIPC = "unipc"
    DDIM = "ddim"
    DDPM = "ddpm"


class SexChoice(StrEnum):
    """The sexes PTB-XL records."""

    MALE = "male"
    FEMALE = "female"


class OthersChoice(StrEnum):
    """What holds of the statements that were not asked for."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


class PrecisionChoice(StrEnum):
    """Number formats of the operands of matrix products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


MODEL_HELP = (
    "Model folder, a name out of `ecgforge models`, or `hf:owner/name`; by default the weights that come with ecgforge."
)
PRECISION_HELP = (
    "Of matrix products. bfloat16 is meant for GPUs and processors with instructions for it, elsewhere it is slower; "
    "the records differ a little."
)
GUIDANCE_HELP = "Above 1: more typical of the statements, less varied, twice the calls."
INTERVAL_HELP = "Noise over signal where guidance acts, e.g. `0.3:5`; by default everywhere."


def name_of(sampler: SamplerChoice | None) -> "SamplerName | None":
    """The sampler as SamplingOptions takes it."""
    return None if sampler is None else sampler.value


def interval_of(text: str | None) -> tuple[float, float] | None:
    """Noise over signal, low and high, as SamplingOptions takes it.

    Raises:
        ConfigError: the text is not two numbers.
    """
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise ConfigError(f"expected an interval as low:high, such as 0.3:5, got {text!r}") from None


def require_writable(folder: Path) -> None:
    """Make a folder for results before anything is computed.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"expected a folder that can be written as --out, got {folder}: {error.strerror}") from error
