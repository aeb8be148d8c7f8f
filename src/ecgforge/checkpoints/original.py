"""Published SSSD-ECG and SSSD-ECG-nle checkpoints translated into our networks, and back.

The original stores `{"model_state_dict": ..., "optimizer_state_dict": ...}` pickled by torch. Only tensors are read
from it: a file that needs code to be executed is refused. The size of the network follows from the shapes.

Two kernels go by the same name. The original computes its S4 kernel by a Cauchy sum: over both conjugate halves
with its CUDA extension or pykeops (the true kernel), over one half only in its pure-PyTorch fallback. A checkpoint
must be run with the sum it was trained with, and no checkpoint says which; so the caller chooses, and the choice is
stored with the model. The code of SSSD-ECG-nle asks the CUDA extension, too, for one half only.

SSSD-ECG-nle differs in the statement embedding: a table of two rows, absent and present, per statement. It knows no
unknown statements; here they start as grade 0.5, and what was learned of them is lost on the way back.
"""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ecgforge.checkpoints.native import Model, ModelConfig, load_weights, save_model
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import CheckpointError
from ecgforge.formats.atomic import write_whole
from ecgforge.labels import LABEL_SETS, LabelVocabulary, custom_vocabulary, vocabulary
from ecgforge.leads import MODEL_LEADS, NLE_LEADS
from ecgforge.models.kernel_basis import CauchySum
from ecgforge.models.sssd import SssdConfig, SssdEcg, StatementsName

_RATE = 100.0  # Hz; the original knows no other

# Stored by the original although they follow from the other tensors: Fourier nodes and the conjugate of P.
_REDUNDANT = ("kernel.kernel.omega", "kernel.kernel.z", "kernel.kernel.Q")


@dataclass(frozen=True)
class _Key:
    """A tensor under both names, and how its shape changes from ours to theirs (a reshape unless `shared`)."""

    ours: str
    theirs: str
    to_theirs: Callable[[Tensor], Tensor] = lambda value: value
    shared: bool = False  # one row here, repeated for every feature there


def _append_axis(value: Tensor) -> Tensor:
    return value[..., None]


def _prepend_axis(value: Tensor) -> Tensor:
    return value[None]


def _normed_conv(ours: str, theirs: str) -> Iterator[_Key]:
    yield _Key(f"{ours}.conv.bias", f"{theirs}.bias")
    yield _Key(f"{ours}.conv.parametrizations.weight.original0", f"{theirs}.weight_g")
    yield _Key(f"{ours}.conv.parametrizations.weight.original1", f"{theirs}.weight_v")


def _linear(ours: str, theirs: str) -> Iterator[_Key]:
    yield _Key(f"{ours}.weight", f"{theirs}.weight")
    yield _Key(f"{ours}.bias", f"{theirs}.bias")


def _s4_layer(ours: str, theirs: str) -> Iterator[_Key]:
    kernel = f"{theirs}.s4_layer.kernel.kernel"
    yield _Key(f"{ours}.D", f"{theirs}.s4_layer.D", _prepend_axis)
    yield _Key(f"{ours}.kernel.C", f"{kernel}.C")
    yield _Key(f"{ours}.kernel.log_dt", f"{kernel}.log_dt")
    yield _Key(f"{ours}.kernel.Lambda", f"{kernel}.w", shared=True)
    yield _Key(f"{ours}.kernel.P", f"{kernel}.P", _prepend_axis, shared=True)
    yield _Key(f"{ours}.kernel.B", f"{kernel}.B", _prepend_axis, shared=True)
    yield _Key(f"{ours}.output.weight", f"{theirs}.s4_layer.output_linear.weight")
    yield _Key(f"{ours}.output.bias", f"{theirs}.s4_layer.output_linear.bias", _append_axis)
    yield from _linear(f"{ours}.norm", f"{theirs}.norm_layer")


def _statements(config: SssdConfig) -> Iterator[_Key]:
    """The statement embedding but for its tables, which have no one-to-one names."""
    if config.statements == "sum":
        yield _Key("statements.weight", "embedding.weight")
    elif config.labels > 1:
        yield _Key("statements.mix.weight", "label_embedding_conv.weight", _append_axis)
        yield _Key("statements.mix.bias", "label_embedding_conv.bias")


def _keys(config: SssdConfig) -> Iterator[_Key]:
    """Every tensor of a network but for nle's tables; omega, z and Q follow from the others and are left out."""
    yield from _normed_conv("input", "init_conv.0.conv")
    yield from _statements(config)
    yield from _linear("step_first", "residual_layer.fc_t1")
    yield from _linear("step_second", "residual_layer.fc_t2")
    for i in range(config.layers):
        ours, theirs = f"blocks.{i}", f"residual_layer.residual_blocks.{i}"
        yield from _linear(f"{ours}.step", f"{theirs}.fc_t")
        yield from _normed_conv(f"{ours}.conv", f"{theirs}.conv_layer.conv")
        yield from _s4_layer(f"{ours}.s4_first", f"{theirs}.S41")
        yield from _linear(f"{ours}.label", f"{theirs}.fc_label")
        yield from _s4_layer(f"{ours}.s4_second", f"{theirs}.S42")
        yield from _normed_conv(f"{ours}.residual", f"{theirs}.res_conv")
        yield from _normed_conv(f"{ours}.skip", f"{theirs}.skip_conv")
    yield from _normed_conv("skip_sum", "final_conv.0.conv")
    yield _Key("output.weight", "final_conv.2.conv.weight", _append_axis)
    yield _Key("output.bias", "final_conv.2.conv.bias")


# -------------------------------------------------------------------------------------- theirs -> ours


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint (`N.pkl`); nothing in the file is executed.

    Raises:
        CheckpointError: no such file, not a checkpoint, or one that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint such as 100000.pkl, found no file {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"expected a checkpoint of tensors, got {path}, which is none, is damaged, or cannot be read without "
            "executing code from it, which ecgforge never does"
        ) from error
    weights = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"expected a dict with 'model_state_dict' in {path}, got something else")
    return weights


def network_from_original(weights: Mapping[str, Tensor], *, cauchy: CauchySum) -> SssdEcg:
    """Our network with the weights of an original state dict.

    Args:
        weights: The original's state dict; weight norm in the old or the parametrised naming.
        cauchy: Which sum the checkpoint was trained with, see the head of this module.

    Raises:
        CheckpointError: not a network of SSSD-ECG or SSSD-ECG-nle, one with more inputs than statements (sex), or one
            whose A, B or P were trained per feature.
    """
    theirs = {_old_weight_norm(key): value for key, value in weights.items()}
    config = _config_from_shapes(theirs, cauchy=cauchy)
    keys = tuple(_keys(config))
    translated = {key.ours: _to_ours(key, _tensor(theirs, key.theirs)) for key in keys}
    if config.statements != "sum":
        translated |= _tables_to_ours(theirs)
    _require_nothing_else(theirs, {key.theirs for key in keys} | set(_table_keys(theirs)))
    _check_low_rank_pair(theirs)
    network = SssdEcg(config)
    load_weights(network, translated, source="the checkpoint")
    return network.eval()


def _old_weight_norm(key: str) -> str:
    return key.replace("parametrizations.weight.original0", "weight_g").replace(
        "parametrizations.weight.original1", "weight_v"
    )


def _tensor(weights: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in weights:
        raise CheckpointError(f"expected an SSSD-ECG checkpoint with the tensor {key}, which is missing")
    return weights[key]


def _to_ours(key: _Key, value: Tensor) -> Tensor:
    if key.shared:
        rows = value.reshape(-1, *value.shape[-2:])
        if not torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-4, atol=1e-4):
            raise CheckpointError(f"expected {key.theirs} equal for all features, as SSSD-ECG leaves it untrained")
        return rows[0].clone()
    if key.to_theirs is _prepend_axis:
        return value.squeeze(0)
    return value.squeeze(-1) if key.to_theirs is _append_axis else value


def _table_keys(theirs: Mapping[str, Tensor]) -> list[str]:
    """Names of the tables of SSSD-ECG-nle, one per statement; none in SSSD-ECG."""
    count = sum(bool(re.fullmatch(r"label_embedding\.\d+\.weight", key)) for key in theirs)
    return [_table_key(i) for i in range(count)]


def _table_key(statement: int) -> str:
    return f"label_embedding.{statement}.weight"


def _tables_to_ours(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows absent and present of all statements; unknown is left where it starts, see models.conditioning."""
    tables = [_tensor(theirs, key) for key in _table_keys(theirs)]
    shapes = {tuple(table.shape) for table in tables}
    if shapes != {(2, tables[0].shape[-1])}:
        raise CheckpointError(f"expected tables of two rows each, all of one width, got {sorted(shapes)}")
    absent, present = torch.stack(tables, dim=1)
    return {
        "statements.absent": absent,
        "statements.present": present,
        "statements.unknown_shift": torch.zeros_like(absent),
    }


def _require_nothing_else(theirs: Mapping[str, Tensor], translated: set[str]) -> None:
    """Refuse tensors we have no place for: without them the network would be another."""
    surplus = sorted(key for key in theirs if key not in translated and not key.endswith(_REDUNDANT))
    if surplus:
        raise CheckpointError(
            f"expected the tensors of SSSD-ECG or SSSD-ECG-nle, got also {', '.join(surplus[:3])} "
            f"({len(surplus)} in all); networks with inputs besides step and statements cannot be imported"
        )


def _check_low_rank_pair(theirs: Mapping[str, Tensor]) -> None:
    """Q must be the conjugate of P, as the original leaves it; otherwise A is not the one our kernel uses."""
    for key in theirs:
        if key.endswith("kernel.kernel.Q"):
            conjugate = theirs[key[:-1] + "P"] * torch.tensor([1.0, -1.0])
            if not torch.allclose(theirs[key], conjugate, rtol=1e-4, atol=1e-4):
                raise CheckpointError(f"expected {key} to be the conjugate of P, as SSSD-ECG leaves it untrained")


def _config_from_shapes(theirs: Mapping[str, Tensor], *, cauchy: CauchySum) -> SssdConfig:
    blocks = [re.match(r"residual_layer\.residual_blocks\.(\d+)\.", key) for key in theirs]
    layers = 1 + max((int(match[1]) for match in blocks if match), default=-1)
    kernel = "residual_layer.residual_blocks.0.S41.s4_layer.kernel.kernel"
    residual, leads, _ = _tensor(theirs, "init_conv.0.conv.weight_v").shape
    labels, label_features, statements = _statement_sizes(theirs)
    step_hidden, step_features = _tensor(theirs, "residual_layer.fc_t1.weight").shape
    angle = torch.view_as_complex(_tensor(theirs, f"{kernel}.omega").contiguous())[1].angle()
    return SssdConfig(
        leads=leads,
        length=round(2 * math.pi / abs(float(angle))),
        labels=labels,
        layers=layers,
        residual_channels=residual,
        skip_channels=len(_tensor(theirs, "final_conv.0.conv.bias")),
        step_features=step_features,
        step_hidden=step_hidden,
        step_out=len(_tensor(theirs, "residual_layer.fc_t2.bias")),
        label_features=label_features,
        statements=statements,
        state_size=2 * _tensor(theirs, f"{kernel}.C").shape[2],
        cauchy=cauchy,
    )


def _statement_sizes(theirs: Mapping[str, Tensor]) -> tuple[int, int, StatementsName]:
    """K, features and kind of the statement embedding."""
    tables = _table_keys(theirs)
    if not tables:
        labels, features = _tensor(theirs, "embedding.weight").shape
        return labels, features, "sum"
    # The released code never moves the present rows from zero; learned ones are not zero.
    as_released = all(not _tensor(theirs, key)[1:].any() for key in tables)
    return len(tables), theirs[tables[0]].shape[-1], "nle-as-released" if as_released else "nle-as-described"


# -------------------------------------------------------------------------------------- ours -> theirs


def original_from_network(network: SssdEcg) -> dict[str, Tensor]:
    """The original's state dict of one of our networks, omega, z and Q included, weight norm in the old naming.

    Raises:
        CheckpointError: the network has S4D layers, which the original does not know.
    """
    if network.config.kernel != "s4":
        raise CheckpointError(f"expected a network with S4 layers, as the original's, got {network.config.kernel!r}")
    ours = network.state_dict()
    theirs: dict[str, Tensor] = {}
    if network.config.statements != "sum":
        tables = torch.stack([ours["statements.absent"], ours["statements.present"]], dim=1)
        theirs |= {_table_key(i): table.contiguous() for i, table in enumerate(tables)}
    for key in _keys(network.config):
        value = ours[key.ours]
        if key.shared:
            features = 2 * network.config.residual_channels
            value = value.expand(features, *value.shape)
        theirs[key.theirs] = key.to_theirs(value).contiguous()
        if key.theirs.endswith("kernel.kernel.P"):
            stem = key.theirs[:-1]
            theirs[f"{stem}Q"] = theirs[key.theirs] * torch.tensor([1.0, -1.0])
            theirs[f"{stem}omega"], theirs[f"{stem}z"] = _fourier_nodes(network.config.length)
    return theirs


def _fourier_nodes(length: int) -> tuple[Tensor, Tensor]:
    """omega and z as the original stores them: powers of a float32 root of unity, real and imaginary parts last."""
    root = torch.tensor(np.exp(-2j * np.pi / length), dtype=torch.complex64)
    omega = root ** torch.arange(length // 2 + 1)
    z = 2 * (1 - omega) / (1 + omega)
    return torch.view_as_real(omega), torch.view_as_real(z)


# ---------------------------------------------------------------------------------------------- files


def import_checkpoint(
    path: Path, folder: Path, *, cauchy: CauchySum, statements: Sequence[str] = (), name: str | None = None
) -> ModelConfig:
    """Turn a published checkpoint into a model folder.

    Args:
        path: The checkpoint, e.g. 100000.pkl.
        folder: The model folder to write.
        cauchy: Which Cauchy sum it was trained with: "full" (CUDA extension, pykeops) or "half" (fallback).
        statements: Codes of the statements it was trained for, in its order. None are needed for SSSD-ECG with one of
            the label sets. SSSD-ECG-nle is trained for any statements, and no checkpoint says which.
        name: Name of the model; None for sssd-ecg or sssd-ecg-nle.

    Raises:
        CheckpointError: the file is no checkpoint of these networks, it has not 8 leads, or its statements are not
            known or of another number than those given.
        LabelError: a statement does not exist or is given twice.
    """
    network = network_from_original(read_checkpoint(path), cauchy=cauchy)
    leads = _published_leads(network.config)
    if network.config.leads != len(leads):
        raise CheckpointError(f"expected the 8 leads {' '.join(leads)}, got {network.config.leads} channels")
    labels = _vocabulary_of(network.config, statements)
    origin = "SSSD-ECG" if network.config.statements == "sum" else "SSSD-ECG-nle"
    config = ModelConfig(
        name=name or origin.lower(),
        network=network.config,
        schedule=LinearSchedule(),
        label_set=labels.name,
        labels=labels.labels,
        leads=leads,
        rate=_RATE,
        trained_on=f"imported from {path.name} of the original {origin}",
    )
    return save_model(config, network.state_dict(), folder)


def _published_leads(config: SssdConfig) -> tuple[str, ...]:
    """The order of the leads in the original's data."""
    return MODEL_LEADS if config.statements == "sum" else NLE_LEADS


def _vocabulary_of(config: SssdConfig, statements: Sequence[str]) -> LabelVocabulary:
    if not statements and config.statements == "sum":
        return _label_set_of_size(config.labels)
    if len(statements) != config.labels:
        raise CheckpointError(
            f"expected the {config.labels} statements this checkpoint was trained for, in its order, "
            f"got {' '.join(statements) or 'none'}; no checkpoint names them, so give them with --statements AFIB,..."
        )
    return custom_vocabulary(statements)


def _label_set_of_size(size: int) -> LabelVocabulary:
    """The standard label set with this many labels; no two have the same number."""
    sizes = {len(vocabulary(name)): vocabulary(name) for name in LABEL_SETS}
    if size not in sizes:
        known = ", ".join(f"{len(labels)} ({labels.name})" for labels in sizes.values())
        raise CheckpointError(
            f"expected as many statements as one of the label sets, {known}; got {size}: "
            "name them in the checkpoint's order with --statements AFIB,..."
        )
    return sizes[size]


def export_checkpoint(model: Model, path: Path) -> None:
    """Write a model as the original would have saved it (without optimiser state).

    Its leads are put into the order of the original: I, V1-V6, aVF, for SSSD-ECG-nle I, aVF, V1-V6.

    Raises:
        CheckpointError: the original has no such network, or knows no such leads.
        DataError: the file cannot be written.
    """
    if not isinstance(model.network, SssdEcg):
        raise CheckpointError(f"expected a model of SSSD-ECG or SSSD-ECG-nle, got one of {model.config.network.kind!r}")
    weights = original_from_network(model.network)
    leads = _published_leads(model.network.config)
    if set(model.config.leads) != set(leads):
        raise CheckpointError(f"expected the 8 leads {' '.join(leads)}, got {' '.join(model.config.leads)}")
    order = [model.config.leads.index(lead) for lead in leads]
    weights["init_conv.0.conv.weight_v"] = weights["init_conv.0.conv.weight_v"][:, order]
    for key in ("final_conv.2.conv.weight", "final_conv.2.conv.bias"):
        weights[key] = weights[key][order]
    content = io.BytesIO()
    torch.save({"model_state_dict": weights}, content)
    write_whole(path, content.getvalue())
