"""Options that several commands share: their choices, their help and what the library takes for them."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ecgforge.errors import ConfigError

if TYPE_CHECKING:
    from ecgforge.sampling import SamplerName
    from ecgforge.training.settings import ClassifierTraining


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
GUIDANCE_HELP = (
    "Above 1: more typical of the statements, less varied, two calls for one; 1 for none. By default what suits the "
    "model: 2 within 0.2:15 for PatchS4, none for the papers' models."
)
INTERVAL_HELP = "Noise over signal where guidance acts, e.g. `0.3:5`; with --guidance, by default everywhere."

FIGURE_DPI = 150.0


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


def named_stores(given: Sequence[str]) -> dict[str, Path]:
    """Several `NAME=STORE`; the names stand in tables and in names of folders.

    Raises:
        ConfigError: one is of another form, its name cannot be that of a folder, or two have the same.
    """
    stores: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ConfigError(f"expected --synthetic NAME=STORE, such as SSSD-ECG=stores/twin, got {text!r}")
        if name == "real" or name.startswith(".") or set(name) & set("/\\:"):
            raise ConfigError(f"expected a name other than 'real' and without / or a dot in front, got {name!r}")
        if name in stores:
            raise ConfigError(f"expected a name of its own for each store, got {name!r} twice")
        stores[name] = Path(path)
    return stores


def whole_numbers(text: str) -> tuple[int, ...]:
    """`1,2,3` as numbers.

    Raises:
        ConfigError: the text is none.
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ConfigError(f"expected whole numbers such as 1,2,3, got {text!r}") from None


def classifier_recipe(name: str, settings: Sequence[str]) -> "ClassifierTraining":
    """The preset of a classifier with settings of one's own.

    Raises:
        ConfigError: there is no such preset or setting, or it is not a classifier's.
    """
    from ecgforge.config import resolve
    from ecgforge.training.presets import preset
    from ecgforge.training.settings import ClassifierTraining

    recipe = resolve(preset(name), overrides=settings)
    if not isinstance(recipe, ClassifierTraining):
        raise ConfigError(f"expected the preset of a classifier as --classifier, got {name}")
    return recipe


def require_writable(folder: Path) -> None:
    """Make a folder for results before anything is computed.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"expected a folder that can be written as --out, got {folder}: {error.strerror}") from error
