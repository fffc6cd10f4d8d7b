"""One rank of a DDP training: python ddp_worker.py FOLDER HEAD SETTINGS_JSON, started by torchrun."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from conftest import HEADS, rows, tiny_config
from safetensors.torch import save_file
from trainer_fixtures import evaluate_masked, train

from cram_hf import TopK, compressible_weights
from cram_hf.tasks.mlm_head import predict_masked_only

if __name__ == "__main__":
    folder, head, settings = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    torch.manual_seed(0)
    model = HEADS[head](tiny_config(3 if head == "sequence_classification" else 2))
    if settings.get("keep_sparsity"):
        TopK(0.6).apply_(compressible_weights(model))
    if head == "masked_lm":
        predict_masked_only(model)  # as in run_mlm.py
    built, seen = train(folder, model, head, train_dataset=rows(head, 8), **settings)
    rank = built.args.process_index
    for update, gradient in enumerate(seen.gradients):
        tied = {pointer.data_ptr(): name for name, pointer in gradient.items()}
        save_file(
            {name: gradient[name].contiguous() for name in tied.values()}, folder / f"{rank}-{update}.safetensors"
        )
    if head == "masked_lm":
        scores = evaluate_masked(built)
        (folder / f"{rank}-scores.json").write_text(json.dumps(scores))
    if rank == 0:
        (folder / "logs.json").write_text(json.dumps([log for log in built.state.log_history if "loss" in log]))
