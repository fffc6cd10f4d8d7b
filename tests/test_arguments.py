"""CrAMArguments has the documented defaults and tells every problem at once."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import TrainingArguments

from cram_hf import CrAMArguments


def problems(tmp_path, **changes) -> list[str]:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the callers compare the whole message
        CrAMArguments(str(tmp_path), **changes)
    return str(caught.value).splitlines()


class TestDefaults:
    def test_are_the_documented_ones(self, tmp_path):
        args = CrAMArguments(str(tmp_path))
        assert (args.compressors, args.compressor_weights, args.eval_compressors) == ([], None, [])
        assert (args.rho, args.plus, args.masked, args.perturb) == (0.005, True, True, "all")
        assert (args.normalize_grad, args.same_dropout) == (False, True)
        assert (args.compress_include, args.compress_exclude, args.keep_sparsity) == (None, None, False)

    def test_of_the_trainer_are_untouched(self, tmp_path):
        plain, ours = TrainingArguments(str(tmp_path)).to_dict(), CrAMArguments(str(tmp_path)).to_dict()
        # The first two are set so where there is no accelerator; a model is pushed once, at the end.
        ignored = {"use_cpu", "dataloader_pin_memory", "hub_strategy"}
        assert {k: ours[k] for k in plain if k not in ignored} == {k: v for k, v in plain.items() if k not in ignored}
        assert len(ours) == len(plain) + 12

    def test_are_not_shared_between_instances(self, tmp_path):
        CrAMArguments(str(tmp_path)).compressors.append("topk:0.5")
        assert CrAMArguments(str(tmp_path)).compressors == []


class TestAcceptedValues:
    def test_every_form_of_compressor_zero_rho_and_weights(self, tmp_path):
        specs = ["topk:0.7", "topk:0.7:layer", "nm:2:4", "quantize:8", "nm:2:4+quantize:8"]
        args = CrAMArguments(
            str(tmp_path), compressors=specs, eval_compressors=specs, rho=0, compressor_weights=[0, 1, 2, 0.5, 0]
        )
        assert args.compressors == args.eval_compressors == specs

    def test_survive_a_json_round_trip(self, tmp_path):
        args = CrAMArguments(str(tmp_path), compressors=["topk:0.5"], rho=0.01, perturb="compressible")
        read = json.loads(args.to_json_string())
        assert (read["compressors"], read["rho"], read["perturb"]) == (["topk:0.5"], 0.01, "compressible")

    @pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without an accelerator")
    def test_bf16_is_allowed_on_a_cpu(self, tmp_path):
        assert CrAMArguments(str(tmp_path), bf16=True).device.type == "cpu"


class TestProblems:
    @pytest.mark.parametrize("flag", ["compressors", "eval_compressors"])
    def test_a_wrong_compressor_names_the_flag(self, tmp_path, flag):
        (line,) = problems(tmp_path, **{flag: ["topk:0.5", "tokp:0.7"]})
        assert line.startswith(
            f"--{flag}: 'tokp:0.7' is no compressor. Did you mean 'topk'? Allowed are topk:SPARSITY"
        )

    @pytest.mark.parametrize("flag", ["compressors", "eval_compressors"])
    @pytest.mark.parametrize("twice", [["nm:2:4", "nm:2:4"], ["topk:0.5", "topk:.5"], ["topk:1", "topk:1.0:global"]])
    def test_a_compressor_named_twice_however_it_is_spelt(self, tmp_path, flag, twice):
        assert problems(tmp_path, **{flag: twice}) == [
            f"--{flag} {' '.join(twice)}: a compressor is named twice; name each once."
        ]

    @pytest.mark.parametrize("flag", ["compressors", "eval_compressors", "compress_include", "compress_exclude"])
    def test_a_word_in_place_of_a_list(self, tmp_path, flag):
        assert problems(tmp_path, **{flag: "topk:0.5"}) == [
            f"{flag}='topk:0.5' is one word; a list is needed. Type {flag}=['topk:0.5']."
        ]

    @pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf")])
    def test_rho_that_is_no_length(self, tmp_path, rho):
        assert problems(tmp_path, rho=rho) == [
            f"--rho {rho}: the ascent step is a finite number, 0 or more. Type e.g. --rho 0.005."
        ]

    def test_perturb_that_is_no_choice(self, tmp_path):
        assert problems(tmp_path, perturb="weights") == ["--perturb weights: allowed are all and compressible."]

    @pytest.mark.parametrize(
        "weights", [[1.0], [1.0, 2.0, 3.0], [1.0, -1.0], [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], []]
    )
    def test_compressor_weights_that_do_not_fit(self, tmp_path, weights):
        (line,) = problems(tmp_path, compressors=["topk:0.5", "nm:2:4"], compressor_weights=weights)
        given = " ".join(map(str, weights))
        assert (
            line
            == f"--compressor_weights {given}: give one number of 0 or more for each of the 2 compressors, not all 0."
        )

    def test_all_are_told_at_once_before_the_trainers_own_checks(self, tmp_path):
        lines = problems(
            tmp_path,
            compressors=["tokp:0.5", "nm:2"],
            eval_compressors=["quantize:1"],
            rho=-1,
            perturb="none",
            compressor_weights=[1.0],
            optim="no such optimizer",
        )
        starts = [
            "--compressors: 'tokp",
            "--compressors: 'nm:2'",
            "--eval_compressors: ",
            "--rho -1",
            "--perturb none",
        ]
        starts.append("--compressor_weights 1.0")
        assert len(lines) == 6
        for line, start in zip(lines, starts, strict=True):
            assert line.startswith(start)
