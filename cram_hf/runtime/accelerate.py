"""Replaces the linear layers of a model that are faster without their zeros, and puts them back."""

from __future__ import annotations

from collections import Counter

from torch import Tensor, nn

from .activation import join, part
from .choice import Wish, choose, named
from .linear import SparseLinear
from .report import Layer, Report


def accelerate(
    model: nn.Module,
    dtype: Wish = "fp32",
    *,
    min_sparsity: float | None = None,
    keep_dense: bool = True,
) -> Report:
    """Replaces linear layers that are faster without their zeros by `SparseLinear`, and says what it did and why.

    **Mutated**: the model's modules, all of those chosen or none; its weights are not. `restore` undoes it. Layers
    with hooks, with a weight that another module shares, and subclasses of `nn.Linear` stay dense. Layers that are
    sparse already stay in their precision: call `restore` before another `dtype`. What is packed is a copy: prune,
    change or convert (`model.to`) the weights before, and for good, not within `compressed`. Activations are best in
    fp32: with all but `"fp32"` they are rounded inside the layer. Where transformers is known to call GELU next
    (in the feed-forward block of BERT, its kin and DistilBERT), the layer applies it in its last step, and the module
    of the activation stands aside.

    Args:
        model (`nn.Module`): on the CPU. It is then for inference alone.
        dtype (`str`, defaults to `"fp32"`): `"bf16"` is faster where the processor is fast at bf16 dot products (AMD
            from Zen 4 on), and its answers differ from fp32 by the rounding; `"fp16"` where it has arithmetic of fp16
            (Intel from Sapphire Rapids on), mostly with smaller differences: elsewhere fp32 is computed, and a warning
            says so. `"auto"` takes either where it is fast, and fp32 elsewhere. `"int8"` is for models that
            `topk:...+quantize:8` made: their weights stay as they are, those of others are rounded.
        min_sparsity (`float`, *optional*): share of zeros from which on a layer is replaced. By default
            that of `cram_hf/runtime/break_even.py` for the layer, and without a compiled kernel 0.9.
        keep_dense (`bool`, defaults to `True`): hold on to the dense layers. Without them the model takes less memory,
            `restore` is not possible, and a saved bf16, fp16 or int8 layer has the rounded weights.

    Raises:
        ValueError: `dtype` or `min_sparsity` is none of these, `model` itself is a linear layer, or a weight has no
            int8: it holds a NaN or an infinity, or more than 65,536 columns.
        TypeError: `model` is no PyTorch model.
    """
    choice = choose(model, dtype, min_sparsity)
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    layers, made, places = [], dict[nn.Linear, SparseLinear](), dict[str, nn.Linear]()
    dense_bytes = dict[SparseLinear, int]()
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, SparseLinear):
            packed, dense_bytes[module] = module.packed, module.weight.nbytes
            layers.append(Layer(name, packed.shape, module.sparsity, packed.precision, "was sparse already"))
        if not isinstance(module, nn.Linear):
            continue
        weight = module.weight
        shared, sparsity = owners[id(weight)] > 1, _zeros(weight)
        layers.append(choice.layer(name, module, weight.dtype, weight.device.type, shared=shared, sparsity=sparsity))
        if layers[-1].precision:
            places[name] = module
            if module not in made:
                with named(name):
                    made[module] = SparseLinear.from_linear(module, layers[-1].precision, keep_dense=keep_dense)
                dense_bytes[made[module]] = weight.nbytes
    for name, module in places.items():
        model.set_submodule(name, made[module])
    join(model, made.values())
    return choice.report(layers, sum(dense_bytes.values()), dense_bytes)


def restore(model: nn.Module) -> list[str]:
    """Puts the dense layers back that `accelerate` replaced, the very modules, and returns their names.

    Raises:
        ValueError: layers were made with `keep_dense=False` or by `load_accelerated`; nothing is changed then.
    """
    found = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, SparseLinear)
    ]
    lost = [name for name, module in found if module.original is None]
    if lost:
        raise ValueError(
            f"{len(lost)} layers have no dense weights to go back to, first {lost[0]}: they were made with "
            "keep_dense=False or by load_accelerated. Load the model anew: a packed file with "
            "cram_hf.packed.load_packed_model."
        )
    part(model)
    for name, module in found:
        assert module.original is not None
        model.set_submodule(name, module.original.train(module.training))
    return [name for name, _ in found]


def _zeros(weight: Tensor) -> float:
    if weight.is_meta or not weight.numel():
        return 0.0
    return 1 - int(weight.detach().count_nonzero()) / weight.numel()
