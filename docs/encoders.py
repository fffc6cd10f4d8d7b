"""Writes the table of docs/encoders.md: what is compressed in each model, found by running the selection on it.

python docs/encoders.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from cram_hf import compressible_weights

DOCUMENT = Path(__file__).parent / "encoders.md"
BEGIN, END = "<!-- table: python docs/encoders.py -->\n", "<!-- end of table -->"
COLUMNS = (
    "| model | class | matrices | weights | of the model | in each block |\n| --- | --- | ---: | ---: | ---: | --- |\n"
)
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
ROBERTA: dict[str, Any] = {"type_vocab_size": 1, "max_position_embeddings": 514}
DEBERTA: dict[str, Any] = {"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm"}
DEBERTA |= {"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
DEBERTA |= {"type_vocab_size": 0, "max_relative_positions": -1}

# The models as they lie on the Hub: name, class, what differs from the defaults of its configuration.
MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("BERT-base", "BertForQuestionAnswering", {}),
    ("BERT-base", "BertForSequenceClassification", {}),
    ("BERT-base", "BertForTokenClassification", {}),
    ("BERT-base", "BertForMultipleChoice", {}),
    ("BERT-base", "BertForNextSentencePrediction", {}),
    ("BERT-base", "BertForMaskedLM", {}),
    ("RoBERTa-base", "RobertaForQuestionAnswering", ROBERTA | {"vocab_size": 50265}),
    ("XLM-R-base", "XLMRobertaForTokenClassification", ROBERTA | {"vocab_size": 250002}),
    ("DistilBERT", "DistilBertForSequenceClassification", {}),
    ("ELECTRA-small", "ElectraForSequenceClassification", {}),
    ("ELECTRA-base", "ElectraForQuestionAnswering", BASE | {"embedding_size": 768}),
    ("DeBERTa-v3-base", "DebertaV2ForSequenceClassification", BASE | DEBERTA),
    ("DeBERTa-v2-xlarge", "DebertaV2ForMaskedLM", DEBERTA | {"conv_kernel_size": 3, "conv_act": "gelu"}),
    ("ALBERT-base", "AlbertForSequenceClassification", BASE),
    ("MobileBERT", "MobileBertForQuestionAnswering", {}),
    ("ModernBERT-base", "ModernBertForMaskedLM", {}),
    ("T5-small", "T5ForConditionalGeneration", {}),
    (
        "BART-base",
        "BartForConditionalGeneration",
        {"d_model": 768}
        | {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in (("layers", 6), ("ffn_dim", 3072))},
    ),
    ("Llama-2-7B", "LlamaForCausalLM", {}),
]


def build(kind: str, settings: dict[str, Any]) -> torch.nn.Module:
    """The model in its full size, without memory for its weights."""
    cls = getattr(transformers, kind)
    with torch.device("meta"):
        return cls(cls.config_class(**settings))


def layers(names: list[str]) -> str:
    """The layers of a block, those of one module together: `attention.self.query/key/value`, ..."""
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        inside = re.split(r"\.\d+\.", name.removesuffix(".weight"), maxsplit=1)[1]
        parent, _, leaf = re.sub(r"\.\d+\.", ".*.", inside).rpartition(".")
        groups.setdefault(f"{parent}." if parent else "", {})[leaf] = None
    return ", ".join(parent + "/".join(leaves) for parent, leaves in groups.items())


def table() -> str:
    lines = []
    for name, kind, settings in MODELS:
        model = build(kind, settings)
        weights = compressible_weights(model)
        chosen = sum(w.numel() for w in weights.values())
        share = chosen / sum(p.numel() for p in model.parameters())
        lines.append(f"| {name} | `{kind}` | {len(weights)} | {chosen:,} | {share:.1%} | {layers(list(weights))} |\n")
    return COLUMNS + "".join(lines)


def document() -> str:
    """docs/encoders.md with its table brought up to date."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the document is up to date")
    text = document()
    if not parser.parse_args().check:
        DOCUMENT.write_text(text, encoding="utf-8")
        return 0
    stale = text != DOCUMENT.read_text(encoding="utf-8")
    sys.stdout.write("encoders.md: not what the selection gives. Type: python docs/encoders.py\n" if stale else "")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
