"""The one-shot methods against other implementations, layer by layer on one trained model and the same inputs.

    pip install --no-deps -r benchmarks/peers/requirements.txt
    python benchmarks/peers/compare.py --model runs/minilm_adamw --data train-v1.1.json --out results/peers.json

Texts are cut to one length, so that there is no padding, which the peers would count. All layers get the inputs of the
dense model. Where a method is deterministic the masks are compared, elsewhere the squared output error of each layer
relative to its output. A peer that cannot be imported is written down as not run, with the reason.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from cram_hf import NM, TopK, compressible_weights
from cram_hf.cli.models import load_checkpoint
from cram_hf.oneshot import batches, read_calibration, refit, sparsegpt, wanda_mask
from cram_hf.oneshot.layerwise import _gram, input_sums
from cram_hf.oneshot.walk import Batch, Walk
from cram_hf.provenance import command_line, environment
from cram_hf.results import write_json
from cram_hf.table import aligned

SPARSITIES = (0.5, 0.8)
DAMPING = 0.01


class Layers:
    """The dense weights of a model's layers with the sums x x^T of their inputs, a 1 appended to each x."""

    def __init__(self, model: PreTrainedModel, texts: list[Batch]) -> None:
        self.model, self.texts = model, texts
        weights = compressible_weights(model)
        self.dense = {name: weight.detach().clone() for name, weight in weights.items()}
        self.grams: dict[str, Tensor] = {}
        walk = Walk(model, weights, texts)
        for _ in range(len(walk)):
            inside = {name: self.layer(model, name) for name in weights if name.startswith(f"{walk.name}.")}
            self.grams |= input_sums(walk, inside, _gram)
            walk.advance()

    @staticmethod
    def layer(model: nn.Module, name: str) -> nn.Linear:
        return model.get_submodule(name.removesuffix(".weight"))

    def gram(self, name: str) -> Tensor:
        return self.grams[name][:-1, :-1]

    def error(self, name: str, weight: Tensor) -> float:
        """Squared change of the layer's output, relative to the output without bias."""
        dense, gram = self.dense[name].double(), self.gram(name)
        change = weight.double() - dense
        return float((change @ gram * change).sum() / (dense @ gram * dense).sum())

    def each(self, prune: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        return {name: prune(name, weight.clone()) for name, weight in self.dense.items()}


def masks_row(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Any]:
    """How many entries of the masks differ, of how many; how many weights each keeps; whether only ties differ."""
    pairs = [(ours[name] != 0, theirs[name] != 0) for name in ours]
    kept = [torch.cat([weight.abs().flatten() for weight in side.values()]).sort().values for side in (ours, theirs)]
    return {
        "ties_only": torch.equal(*kept),
        "weights": sum(a.numel() for a, _ in pairs),
        "differ": sum(int((a != b).count_nonzero()) for a, b in pairs),
        "kept_ours": sum(int(a.count_nonzero()) for a, _ in pairs),
        "kept_theirs": sum(int(b.count_nonzero()) for _, b in pairs),
    }


def errors_row(layers: Layers, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Any]:
    """Mean error of the layers on both sides, and in how many layers ours is at most a thousandth above theirs."""
    a = [layers.error(name, weight) for name, weight in ours.items()]
    b = [layers.error(name, weight) for name, weight in theirs.items()]
    return {
        **masks_row(ours, theirs),
        "error_ours": sum(a) / len(a),
        "error_theirs": sum(b) / len(b),
        "layers": len(a),
        "layers_not_worse": sum(x <= y * 1.001 for x, y in zip(a, b, strict=True)),
    }


def our_sparsegpt(layers: Layers, pattern: float | NM, damping: float = DAMPING) -> dict[str, Tensor]:
    def prune(name: str, weight: Tensor) -> Tensor:
        wanted = pattern if isinstance(pattern, NM) else int(weight.numel() * pattern)
        return sparsegpt(weight, layers.gram(name), wanted, damping=damping).float()

    return layers.each(prune)


def our_wanda(layers: Layers, pattern: float | NM) -> dict[str, Tensor]:
    def prune(name: str, weight: Tensor) -> Tensor:
        wanted = pattern if isinstance(pattern, NM) else int(weight.numel() * pattern)
        return weight * wanda_mask(weight, layers.gram(name).diagonal(), wanted)

    return layers.each(prune)


def torch_prune(layers: Layers) -> dict[str, Any]:
    from torch.nn.utils import prune

    rows = {}
    for sparsity in SPARSITIES:
        model = copy.deepcopy(layers.model)
        for name, weight in layers.dense.items():
            prune.l1_unstructured(layers.layer(model, name), "weight", amount=int(weight.numel() * sparsity))
        found = {name: layers.layer(model, name).weight.detach() for name in layers.dense}
        rows[f"magnitude, each layer, {sparsity:.0%}"] = masks_row(TopK(sparsity, "layer")(layers.dense), found)
        model = copy.deepcopy(layers.model)
        total = sum(weight.numel() for weight in layers.dense.values())
        where = [(layers.layer(model, name), "weight") for name in layers.dense]
        prune.global_unstructured(where, prune.L1Unstructured, amount=int(total * sparsity))
        found = {name: layers.layer(model, name).weight.detach() for name in layers.dense}
        rows[f"magnitude, global, {sparsity:.0%}"] = masks_row(TopK(sparsity)(layers.dense), found)
    return rows


def model_optimizer(layers: Layers) -> dict[str, Any]:
    import modelopt.torch.sparsity as mts

    def found(mode: str, config: dict[str, Any]) -> dict[str, Tensor]:
        model = copy.deepcopy(layers.model)
        mts.sparsify(model, mode, config)
        return {name: layers.layer(model, name).weight.detach() for name in layers.dense}

    def feed(model: nn.Module) -> None:
        for batch in layers.texts:
            model(**batch)

    magnitude = found("sparse_magnitude", {"verbose": False})
    config = {"forward_loop": feed, "hessian_damp": DAMPING, "device": "cpu", "verbose": False}
    return {
        "magnitude, 2:4": masks_row(NM(2, 4)(layers.dense), magnitude),
        "SparseGPT, 2:4": errors_row(layers, our_sparsegpt(layers, NM(2, 4)), found("sparsegpt", config)),
    }


def llm_compressor(layers: Layers) -> dict[str, Any]:
    from llmcompressor.modifiers.pruning.sparsegpt import sgpt_sparsify
    from llmcompressor.modifiers.pruning.wanda import wanda_sparsify

    def gpt(sparsity: float, n: int, m: int) -> dict[str, Tensor]:
        def prune(name: str, weight: Tensor) -> Tensor:
            layer = layers.layer(layers.model, name)
            sums = {layer: layers.gram(name).float().clone()}
            return sgpt_sparsify.sparsify_weight(layer, sums, sparsity, n, m, 128, DAMPING, False)[1].detach()

        return layers.each(prune)

    def wanda(sparsity: float, n: int, m: int) -> dict[str, Tensor]:
        def prune(name: str, weight: Tensor) -> Tensor:
            layer = layers.layer(layers.model, name)
            return wanda_sparsify.sparsify_weight(
                layer, {layer: layers.gram(name).diagonal().float()}, sparsity, n, m
            ).detach()

        return layers.each(prune)

    rows = {}
    for label, ours, theirs in [
        *((f"{sparsity:.0%}", sparsity, (sparsity, 0, 0)) for sparsity in SPARSITIES),
        ("2:4", NM(2, 4), (0.5, 2, 4)),
    ]:
        rows[f"Wanda, {label}"] = masks_row(our_wanda(layers, ours), wanda(*theirs))
        rows[f"SparseGPT, {label}"] = errors_row(layers, our_sparsegpt(layers, ours), gpt(*theirs))
        fitted = layers.each(lambda name, weight, ours=ours: fit(layers, name, weight, ours))
        rows[f"SparseGPT + refit (ours), {label}"] = errors_row(layers, fitted, gpt(*theirs))
    return rows


def fit(layers: Layers, name: str, weight: Tensor, pattern: float | NM) -> Tensor:
    wanted = pattern if isinstance(pattern, NM) else int(weight.numel() * pattern)
    mask = sparsegpt(weight, layers.gram(name), wanted, damping=DAMPING) != 0
    return refit(weight, None, mask, layers.grams[name], damping=DAMPING)[0].float()


def torch_ao(layers: Layers) -> dict[str, Any]:
    from torchao.sparsity import WandaSparsifier

    model = copy.deepcopy(layers.model)
    sparsifier = WandaSparsifier(semi_structured_block_size=4)
    sparsifier.prepare(model, config=[{"tensor_fqn": name} for name in layers.dense])
    for batch in layers.texts:
        model(**batch)
    sparsifier.step()
    sparsifier.squash_mask()
    found = {name: layers.layer(model, name).weight.detach() for name in layers.dense}
    squared = layers.each(lambda name, w: w * wanda_mask(w, layers.gram(name).diagonal() ** 2, NM(2, 4)))
    return {
        "Wanda, 2:4": masks_row(our_wanda(layers, NM(2, 4)), found),
        "Wanda with the squared norm, as torchao has it, 2:4": masks_row(squared, found),
    }


PEERS = {
    "torch.nn.utils.prune": ("torch", torch_prune),
    "NVIDIA ModelOpt": ("nvidia-modelopt", model_optimizer),
    "llm-compressor": ("llmcompressor", llm_compressor),
    "torchao": ("torchao", torch_ao),
}


def compare(layers: Layers) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for peer, (package, run) in PEERS.items():
        try:
            version = metadata.version(package)
            with torch.no_grad():
                found[peer] = {"version": version, "rows": run(layers)}
        except Exception as error:  # whatever a peer raises is its result
            found[peer] = {"not run": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        sys.stderr.write(f"{peer}: {json.dumps(found[peer])}\n")
    return found


def text(document: dict[str, Any]) -> str:
    lines = []
    for peer, found in document["peers"].items():
        for what, row in found.get("rows", {}).items():
            errors = [f"{row['error_ours']:.5f}", f"{row['error_theirs']:.5f}"] if "error_ours" in row else ["", ""]
            better = f"{row['layers_not_worse']} of {row['layers']}" if "layers" in row else ""
            ties = ", of equal magnitude" if row["differ"] and row["ties_only"] else ""
            share = f"{row['differ']:,} ({row['differ'] / row['weights']:.4%}){ties}"
            lines.append([f"{peer} {found['version']}", what, share, *errors, better])
        if "not run" in found:
            lines.append([peer, f"not run: {found['not run']}", "", "", "", ""])
    header = ["peer", "method", "mask entries that differ", "error, ours", "error, theirs", "layers not worse"]
    return aligned(header, lines)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--length", type=int, default=128, help="tokens of each text; shorter texts are left out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    model, _ = load_checkpoint(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    made = batches(read_calibration(options.data)[:2000], tokenizer, max_length=options.length, batch_size=1)
    whole = [batch for batch in made if int(batch["attention_mask"].sum()) == options.length][: options.texts]
    stacked = [
        {name: torch.cat([batch[name] for batch in whole[i : i + 16]]) for name in whole[0]}
        for i in range(0, len(whole), 16)
    ]
    document = {
        "benchmark": "peers",
        "command": command_line([sys.argv[0], *argv]),
        "tokens": len(whole) * options.length,
        "damping": DAMPING,
        "peers": compare(Layers(model, stacked)),
        **environment(threads=torch.get_num_threads()),
    }
    sys.stdout.write(text(document) + "\n")
    if options.out:
        write_json(options.out, document)


if __name__ == "__main__":
    main(sys.argv[1:])
