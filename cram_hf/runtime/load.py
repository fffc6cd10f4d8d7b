"""Fills a model from a packed file with its sparse layers as the compiled kernel takes them, without dense weights."""

from __future__ import annotations

import os
from collections import defaultdict

from torch import nn

from ..packed.layout import TORCH, Stored
from ..packed.read import PackedFile, opened
from .activation import join
from .choice import Choice, Wish, choose, named
from .layout import Packed, Precision, pack, pack_kept
from .linear import SparseLinear
from .report import Layer, Report


def load_accelerated(
    path: str | os.PathLike[str], model: nn.Module, dtype: Wish = "fp32", *, min_sparsity: float | None = None
) -> Report:
    """Fills a model from a packed file as `load_packed_model` does, and its sparse layers as `accelerate` does.

    The weights of the replaced layers go from the file's mask and values to the layout of `SparseLinear`; memory: one
    layer's temporaries beside what stays. To gain by it, make the model without weights, under
    `accelerate.init_empty_weights()` (the package of Hugging Face).

    **Mutated**: the model, all of it or nothing: its parameters and saved buffers become the file's tensors, on the
    CPU and in the file's dtypes; tied names share one tensor. There are no dense layers to `restore`.

    Args:
        path (`str` or `os.PathLike`): what `cram_hf.packed.save_packed` wrote.
        model (`nn.Module`): of the same architecture; its weights are not looked at. It is then for inference.
        dtype (`str`, defaults to `"fp32"`): as in `accelerate`.
        min_sparsity (`float`, *optional*): as in `accelerate`. A matrix that the file holds without a mask counts
            as one without zeros.

    Raises:
        PackedError: a `ValueError`; the file is no packed model of a known version, or damaged; the message says how.
        ValueError: names or shapes differ from the model's, an argument is not as above, a weight has no int8, or a
            part of the model that the file does not fill is not on the CPU.
        TypeError: `model` is no PyTorch model.
        OSError: the file cannot be read.
    """
    choice = choose(model, dtype, min_sparsity)
    with opened(path) as file:
        file.check_architecture(model)
        _check_rest(model, file)
        layers = _layers(model, file, choice)
        chosen = {layer.name: _home(file, f"{layer.name}.weight") for layer in layers if layer.precision}
        state = file.state([name for name in file.stored if name not in chosen.values()])
        made, sparse = dict[nn.Module, SparseLinear](), dict[str, SparseLinear]()
        for name, weight in chosen.items():
            module, bias = model.get_submodule(name), state.pop(f"{name}.bias", None)
            if module not in made:
                packed = _packed(file, weight, choice.precision)
                made[module] = SparseLinear(packed, None if bias is None else bias.float()).train(module.training)
            sparse[name] = made[module]
    model.load_state_dict(state, strict=False, assign=True)
    for name, layer in sparse.items():
        model.set_submodule(name, layer)
    join(model, made.values())
    return choice.report(layers, sum(_dense_bytes(file.stored[name]) for name in {*chosen.values()}), made.values())


def _check_rest(model: nn.Module, file: PackedFile) -> None:
    """Raises `ValueError` for what the file cannot fill: buffers elsewhere, layers that are sparse already."""
    sparse = [name for name, module in model.named_modules() if isinstance(module, SparseLinear)]
    if sparse:
        raise ValueError(f"{sparse[0]} is a sparse layer already and cannot be filled: make the model anew.")
    held = file.stored.keys() | file.tied.keys()
    away = [name for name, buffer in model.named_buffers() if buffer.device.type != "cpu" and name not in held]
    if away:
        raise ValueError(
            f"{', '.join(away[:5])} ({len(away)} in all) are not on the CPU, and the file does not hold them. "
            "Make the model on the CPU, or under accelerate.init_empty_weights(), not torch.device('meta')."
        )


def _layers(model: nn.Module, file: PackedFile, choice: Choice) -> list[Layer]:
    """What is to be done with each linear layer."""
    owners = defaultdict[object, set[nn.Module]](set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        module = model.get_submodule(name.rpartition(".")[0])
        owners[_home(file, name)].add(module)
        owners[id(parameter)].add(module)
    layers = []
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            weight = _home(file, f"{name}.weight")
            if weight not in file.stored:  # e.g. torch.nn.utils.prune keeps a weight as weight_orig and weight_mask
                shape = (module.out_features, module.in_features)
                layers.append(Layer(name, shape, 0.0, None, "its weight is not stored as such"))
                continue
            stored = file.stored[weight]
            shared = max(len(owners[weight]), len(owners[id(module.weight)])) > 1
            sparsity = 1 - stored.kept / max(1, stored.numel)  # 0 for a matrix that is stored without a mask
            layers.append(choice.layer(name, module, TORCH[stored.dtype], "cpu", shared=shared, sparsity=sparsity))
    return layers


def _packed(file: PackedFile, name: str, precision: Precision) -> Packed:
    stored = file.stored[name]
    if stored.kind == "dense":
        dense = file.state([name])[name]
        with named(name):
            return pack(dense, precision)
    there, values = file.kept(name)
    with named(name):
        return pack_kept(there.reshape(stored.shape), values, precision)


def _home(file: PackedFile, name: str) -> str:
    """The name under which the file stores a tensor, which may be that of one it is tied to."""
    return file.tied.get(name, name)


def _dense_bytes(stored: Stored) -> int:
    return stored.numel * TORCH[stored.dtype].itemsize
