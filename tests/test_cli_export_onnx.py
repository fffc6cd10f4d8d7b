"""`cram-hf export-onnx` writes one checked file, or says why not and writes nothing."""

from __future__ import annotations

import json

import pytest
import torch
from bench_fixtures import make_subject, needs_onnx, small_model
from cli_fixtures import saved

from cram_hf.bench import example
from cram_hf.bench.inputs import Logits, padded
from cram_hf.cli import main

pytestmark = needs_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(small_model(), tmp_path_factory.mktemp("onnx") / "model")


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    """Written once, since the exporter takes seconds."""
    path = tmp_path_factory.mktemp("out") / "new" / "pruned.onnx"
    assert main(["export-onnx", folder, "--to", "topk:0.9", "--out", str(path)]) == 0
    return path


def refused(capsys, *words: str) -> str:
    assert main(["export-onnx", *words]) == 2
    out, told = capsys.readouterr()
    assert out == ""
    return told


def test_the_file_gives_the_pruned_models_logits_at_any_shape(file):
    import onnxruntime

    model = make_subject("topk:0.9", file.parent).model
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch, length in ((1, 1), (2, 8), (5, 32)):
        inputs = padded(model, example(model, batch, length, seed=9))
        found = session.run(["start_logits", "end_logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
        for own, other in zip(found, Logits(model)(**inputs), strict=True):
            torch.testing.assert_close(torch.from_numpy(own), other, atol=1e-4, rtol=1e-4)


def test_it_is_one_file_whose_axes_have_names(file):
    import onnx

    graph = onnx.load(file).graph
    assert [tensor.name for tensor in graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    for tensor in [*graph.input, *graph.output]:
        assert [axis.dim_param for axis in tensor.type.tensor_type.shape.dim] == ["batch", "sequence"]
    assert [path.name for path in file.parent.iterdir()] == ["pruned.onnx"]


def test_the_result_states_opset_sparsity_and_differences(folder, tmp_path, monkeypatch, capsys):
    def written(model, path, opset):
        path.write_bytes(b"x" * 1000)
        return 17

    monkeypatch.setattr("cram_hf.cli.export_onnx.export_onnx", written)
    monkeypatch.setattr("cram_hf.cli.export_onnx._difference", lambda *_: 2e-7)
    words = ["export-onnx", folder, "--to", "topk:0.75", "--opset", "17", "--out"]
    assert main([*words, str(tmp_path / "a.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["spec"], result["opset"], result["sparsity"], result["bytes"]) == ("topk:0.75", 17, 0.75, 1000)
    assert result["checked"] == [
        {"batch_size": 1, "seq_length": 7, "max_difference": 2e-7},
        {"batch_size": 3, "seq_length": 24, "max_difference": 2e-7},
    ]
    assert main([*words, str(tmp_path / "b.onnx")]) == 0
    told = capsys.readouterr().out
    assert "b.onnx: 0.001 MB, fp32, opset 17, 75.0 % of the compressible weights are zero." in told
    assert "differ by at most 2.0e-07 on batches of 1 x 7 and 3 x 24 tokens" in told


def test_a_file_that_computes_something_else_is_not_kept(file, folder, tmp_path, monkeypatch, capsys):
    def dense_instead_of_pruned(model, path, opset):
        path.write_bytes(file.read_bytes())
        return 18

    monkeypatch.setattr("cram_hf.cli.export_onnx.export_onnx", dense_instead_of_pruned)
    told = refused(capsys, folder, "--out", str(tmp_path / "a.onnx"))
    assert "the exported model differs by" in told
    assert "on a batch of 1 x 7 tokens" in told
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_onnx_runtime_refuses_is_told_and_not_kept(folder, tmp_path, monkeypatch, capsys):
    def written(model, path, opset):
        path.write_bytes(b"no graph")
        return opset

    monkeypatch.setattr("cram_hf.cli.export_onnx.export_onnx", written)
    told = refused(capsys, folder, "--opset", "17", "--out", str(tmp_path / "a.onnx"))
    told = told[told.index("error: ") :]  # after the progress bar of loading
    assert told.startswith("error: ONNX Runtime cannot run the exported model: ")
    assert told.endswith(" Nothing was written. Try another --opset.\n")
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_ctrl_c_leave_nothing(folder, tmp_path, monkeypatch, capsys):
    def failing(error):
        def write(model, path, opset):
            path.write_bytes(b"half")
            raise error

        return write

    for error, code in ((OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr("cram_hf.cli.export_onnx.export_onnx", failing(error))
        assert main(["export-onnx", folder, "--out", str(tmp_path / "a.onnx")]) == code
        assert list(tmp_path.iterdir()) == []
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x.pt"], "--out x.pt: the name of the file must end in .onnx."),
        (["--out", "x.onnx", "--to", "nm:2:6"], "input dimension is a multiple of 6"),
        (["--out", "x.onnx", "--to", "tokp:0.5"], "Did you mean 'topk'?"),
        (["--out", "x.onnx", "--opst", "18"], "unknown flag --opst (did you mean --opset?)"),
    ],
)
def test_flags_that_do_not_fit_are_told(words, said, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, folder, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_left_alone(file, folder, capsys):
    before = file.read_bytes()
    assert "exists and is not overwritten" in refused(capsys, folder, "--out", str(file))
    assert file.read_bytes() == before


def test_a_missing_extra_is_told_with_what_to_type(folder, monkeypatch, capsys):
    monkeypatch.setattr("cram_hf.cli.export_onnx.find_spec", lambda name: None)
    told = refused(capsys, folder, "--out", "x.onnx")
    assert 'needs onnx, onnxscript, onnxruntime, not installed: pip install "cram-hf[onnx]"' in told


@pytest.mark.slow
def test_the_opset_is_the_one_asked_for_or_none(folder, tmp_path, capsys):
    import onnx

    assert main(["export-onnx", folder, "--opset", "18", "--out", str(tmp_path / "a.onnx")]) == 0
    assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == 18
    capsys.readouterr()
    told = refused(capsys, folder, "--opset", "9", "--out", str(tmp_path / "b.onnx"))
    assert "--opset 9: the exporter cannot write it" in told
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
