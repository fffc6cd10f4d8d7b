"""`cram-hf size` counts the bytes that the files would have."""

from __future__ import annotations

import copy
import json
import zlib

import pytest
import torch
from cli_fixtures import saved

from cram_hf import compressible_weights, parse_compressor
from cram_hf.cli import main
from cram_hf.packed import save_packed

SPECS = ["topk:0.8", "nm:2:4+quantize:8"]


def sized(capsys, *words: str) -> dict:
    assert main(["size", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_size_is_that_of_the_file(make_model, tmp_path, capsys):
    model = make_model("masked_lm")
    rows = sized(capsys, saved(model, tmp_path / "m"), "--spec", *SPECS)["rows"]
    assert [row["spec"] for row in rows] == ["as it is", *SPECS]
    for row in rows:
        compressed = copy.deepcopy(model)
        if row["spec"] != "as it is":
            parse_compressor(row["spec"]).apply_(compressible_weights(compressed))
        for dtype in ("fp32", "fp16", "int8"):
            path = tmp_path / f"packed-{dtype}"
            assert row["bytes"][f"packed_{dtype}"] == save_packed(compressed, path, dtype=dtype, overwrite=True)
            assert path.stat().st_size == row["bytes"][f"packed_{dtype}"]
        for dtype, kind in (("fp32", torch.float32), ("fp16", torch.float16)):
            copy.deepcopy(compressed).to(kind).save_pretrained(tmp_path / dtype)
            dense = (tmp_path / dtype / "model.safetensors").read_bytes()
            assert row["bytes"][f"safetensors_{dtype}"] == len(dense)
            assert abs(row["bytes"][f"archive_{dtype}"] - len(zlib.compress(dense, 1))) < 0.02 * len(dense)


def test_the_counts_are_told_and_archives_can_be_left_out(qa_model, tmp_path, capsys):
    told = sized(capsys, saved(qa_model, tmp_path / "m"), "--spec", "topk:0.75", "--no_archive")
    assert told["compressible_parameters"] == 4096
    assert told["parameters"] == sum(p.numel() for p in qa_model.parameters())
    assert told["archive"] is None
    assert [row["sparsity"] for row in told["rows"]] == [0, 0.75]
    assert list(told["rows"][0]["bytes"]) == [
        *("safetensors_fp32", "safetensors_fp16"),
        *("packed_fp32", "packed_fp16", "packed_int8"),
    ]


def test_weights_are_chosen_by_the_same_flags_as_in_training(qa_model, tmp_path, capsys):
    folder = saved(qa_model, tmp_path / "m")
    assert sized(capsys, folder, "--no_archive", "--compress_include", "query")["compressible_parameters"] == 512
    assert main(["size", folder, "--compress_exclude", "qeury"]) == 2
    assert "--compress_exclude 'qeury' matches no weight. Near names: query" in capsys.readouterr().err


def test_people_get_a_table_in_megabytes(qa_model, tmp_path, capsys):
    assert main(["size", saved(qa_model, tmp_path / "m"), "--spec", "topk:0.8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "| compression | sparsity (compressible) | safetensors fp32 | safetensors fp16 | archive"
    )
    assert lines[3].startswith("| topk:0.8    |                  80.0 % |            0.0")
    assert "4,096 compressible" in lines[5]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("topk:1.8", "sparsity is 1.8"),
        ("tpok:0.8", "Did you mean 'topk'?"),
        ("nm:2:5", "input dimension is a multiple of 5"),
    ],
)
def test_a_spec_that_does_not_fit_is_told(spec, said, qa_model, tmp_path, capsys):
    assert main(["size", saved(qa_model, tmp_path / "m"), "--spec", "topk:0.5", spec]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert said in told
