"""Two DDP ranks (gloo, on the CPU) make the update of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import HEADS, rows, tiny_config
from safetensors.torch import load_file
from trainer_fixtures import distance, evaluate_masked, train

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
TESTS = Path(__file__).parent


def launch(folder: Path, head: str, **settings: Any) -> None:
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    settings |= {"use_cpu": True, "ddp_backend": "gloo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(TESTS / "ddp_worker.py"), str(folder), head, json.dumps(settings)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("head", [pytest.param(h, marks=() if h == "masked_lm" else pytest.mark.slow) for h in HEADS])
@pytest.mark.parametrize("plus", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_two_ranks_by_two_micro_batches_give_the_gradient_of_one_process(tmp_path, head, plus):
    settings = {"compressors": ["topk:0.5", "topk:0.8", "nm:2:4"], "plus": plus, "max_steps": 2, "learning_rate": 0.0}
    launch(tmp_path / "two", head, per_device_train_batch_size=2, gradient_accumulation_steps=2, **settings)
    torch.manual_seed(0)
    model = HEADS[head](tiny_config(3 if head == "sequence_classification" else 2))
    built, one = train(
        tmp_path / "one", model, head, train_dataset=rows(head, 8), per_device_train_batch_size=8, **settings
    )
    for update, gradient in enumerate(one.gradients):
        ranks = [load_file(tmp_path / "two" / f"{rank}-{update}.safetensors") for rank in (0, 1)]
        assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
        assert distance(gradient, ranks[0]) < 1e-5
    if head == "masked_lm":  # whose ranks compute the masked positions alone
        for rank in (0, 1):
            scores = json.loads((tmp_path / "two" / f"{rank}-scores.json").read_text())
            assert scores == pytest.approx(evaluate_masked(built), rel=1e-5)
    logs = json.loads((tmp_path / "two" / "logs.json").read_text())
    for ours, theirs in zip([log for log in built.state.log_history if "loss" in log], logs, strict=True):
        drawn = {key: value for key, value in ours.items() if key.startswith("drawn_")}
        assert drawn == {key: value for key, value in theirs.items() if key.startswith("drawn_")}
        assert ours["relative_step"] == pytest.approx(theirs["relative_step"], rel=1e-4)
