"""Where a model is: the name of one that comes with the package, a folder, or an identifier of the Hugging Face hub.

Only a name that begins with `hf:` ever makes ecgforge use the network.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from ecgforge.errors import CheckpointError, MissingExtraError

HUB_PREFIX = "hf:"
_HUB_NAME = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_HUB_FILES = ("config.json", "model.safetensors", "README.md")  # a model folder and its card; nothing else is fetched
_WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class ShippedModel:
    """A model that comes with the package.

    Attributes:
        folder: Where it is.
        licence: Of its weights.
    """

    folder: Path
    licence: str


SHIPPED: Mapping[str, ShippedModel] = MappingProxyType(
    {name: ShippedModel(folder=_WEIGHTS / name, licence="CC BY 4.0") for name in ("default", "sssd-ecg-small")}
)


def locate_model(name: str | Path | None = None) -> Path:
    """The folder of a model.

    Args:
        name: A folder; the name of a shipped model, unless a folder is called so; or `hf:owner/name`, if wished with
            `@revision` (branch, tag or commit), for a model on the Hugging Face hub, which is downloaded into the
            hub's own cache unless it is there. None is the default model. A path is read as its text.

    Raises:
        CheckpointError: there is no such model, or the hub does not give it.
        MissingExtraError: a model of the hub is asked for and huggingface_hub is not installed.
    """
    if name is None:
        return SHIPPED["default"].folder
    text = name.as_posix() if isinstance(name, Path) else name
    if text.startswith(HUB_PREFIX):
        return _from_hub(text)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if text in SHIPPED:
        return SHIPPED[text].folder
    raise CheckpointError(f"expected {_expected()}, got {text!r}, which is none{_suggest(text)}")


def _expected() -> str:
    return f"a model folder, a shipped model ({', '.join(SHIPPED)}) or {HUB_PREFIX}owner/name"


def _suggest(name: str) -> str:
    if name.count("/") == 1 and _HUB_NAME.fullmatch(HUB_PREFIX + name):
        return f"; a model of the Hugging Face hub is asked for as {HUB_PREFIX}{name}"
    near = difflib.get_close_matches(name, SHIPPED, n=1)
    return f"; did you mean {near[0]}?" if near else "; `ecgforge models` lists the shipped ones"


def _from_hub(name: str) -> Path:
    parts = _HUB_NAME.fullmatch(name)
    if parts is None:
        raise CheckpointError(f"expected {HUB_PREFIX}owner/name or {HUB_PREFIX}owner/name@revision, got {name!r}")
    try:
        hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    except ImportError as problem:
        raise MissingExtraError(
            f"expected the package huggingface_hub to fetch {name}, which is not installed; "
            "install it with: pip install 'ecgforge[hub]'"
        ) from problem
    try:
        folder = hub.snapshot_download(parts["repository"], revision=parts["revision"], allow_patterns=list(_HUB_FILES))
    except errors.RepositoryNotFoundError as problem:  # the hub does not tell a private model from none
        raise CheckpointError(f"expected a model {name} on the hub, got none, or one that needs a login") from problem
    except errors.RevisionNotFoundError as problem:
        raise CheckpointError(f"expected a branch, tag or commit of {name}, got {parts['revision']}") from problem
    except (OSError, ValueError, errors.HTTPError) as problem:  # HTTPError: what goes wrong before the hub answers
        first = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise CheckpointError(f"cannot fetch {name} from the hub: {first}; try again, or give a folder") from problem
    return Path(folder)
