"""Packages that only some formats need."""

import importlib
from typing import Any

from ecgforge.errors import MissingExtraError


def require_package(name: str, *, extra: str) -> Any:
    """The module `name`, which ecgforge's optional dependencies `extra` install.

    Raises:
        MissingExtraError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise MissingExtraError(
            f"expected the package {name.partition('.')[0]} for {extra} files, which is not installed; "
            f"install it with: pip install 'ecgforge[{extra}]'"
        ) from problem
