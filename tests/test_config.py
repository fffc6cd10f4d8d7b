"""A config file and flags become dataclasses; every mistake is told at once, with the nearest name."""

from __future__ import annotations

import re
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cram_hf import CrAMArguments
from cram_hf.config import Parser
from cram_hf.loading import ModelArguments
from cram_hf.report import OutputArguments
from cram_hf.tasks.squad_arguments import SquadArguments


@dataclass
class Basics:
    """Few flags of every kind."""

    steps: int = field(default=5, metadata={"help": "How many."})
    rate: float = 0.1
    word: str | None = None
    good: bool = True
    names: list[str] = field(default_factory=list)
    numbers: list[float] | None = None
    extra: dict | str | None = None


@dataclass
class Derived(Basics):
    """One flag more than its base."""

    kind: str = field(default="a", metadata={"choices": ["a", "b"]})


@dataclass
class Needed:
    """A flag without default."""

    model: str = field(metadata={"help": "Model folder, e.g. models/tiny."})


def parse(*argv: str, of: tuple[type, ...] = (Basics,)):
    return Parser(of, description="").parse(argv)


@pytest.fixture
def write(tmp_path):
    def write_config(text: str, name: str = "run.yaml") -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_config


class TestValues:
    def test_defaults_without_file_and_flags(self):
        assert parse() == (Basics(),)

    def test_each_type_from_a_file(self, write):
        path = write("steps: 7\nrate: 3e-5\nword: hello\ngood: false\nnames: [a:0.5, 7]\nnumbers:\n- 1\n- 2e-3\n")
        assert parse(path) == (Basics(7, 3e-5, "hello", False, ["a:0.5", "7"], [1.0, 0.002]),)

    def test_each_type_from_flags(self):
        argv = [
            "--steps",
            "7",
            "--rate",
            "-3e-5",
            "--word=x",
            "--good",
            "false",
            "--names",
            "a",
            "b",
            "--numbers=1",
            "--numbers",
            "2e-3",
        ]
        assert parse(*argv) == (Basics(7, -3e-5, "x", False, ["a", "b"], [1.0, 0.002]),)

    def test_a_flag_wins_over_the_file_also_for_lists_and_booleans(self, write):
        path = write("steps: 7\nrate: 0.5\nnames: [a, b]\ngood: true\n")
        (basics,) = parse(path, "--rate", "0.25", "--names", "c", "--no_good")
        assert basics == Basics(7, 0.25, None, False, ["c"])

    def test_a_repeated_list_flag_keeps_all_values_and_another_flag_the_last(self):
        (basics,) = parse("--names", "a", "--steps", "1", "--names", "b", "c", "--names=d", "--steps", "2")
        assert (basics.names, basics.steps) == (["a", "b", "c", "d"], 2)

    def test_export_may_be_repeated(self):
        (output,) = parse("--export", "topk:0.8", "--export", "nm:2:4", of=(OutputArguments,))
        assert output.export == ["topk:0.8", "nm:2:4"]

    def test_an_empty_list_is_a_value(self, write):
        path = write("names: [a, b]\n")
        assert parse(path, "--names")[0].names == []
        assert parse(write("names: []\nnumbers: []\n"))[0] == Basics(names=[], numbers=[])

    def test_null_leaves_the_default(self, write):
        assert parse(write("steps: null\nword: ~\ngood:\nnames: null\n")) == (Basics(),)

    def test_an_empty_file_leaves_every_default(self, write):
        assert parse(write("# nothing yet\n")) == (Basics(),)

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("yes", True), ("no", False)])
    def test_booleans(self, write, text, value):
        assert parse(write(f"good: {text}"))[0].good is value
        assert parse("--good", text)[0].good is value

    def test_no_is_a_word_where_a_word_is_wanted(self, write):
        path = write("eval_strategy: no\nreport_to: none\n")
        (args,) = parse(path, of=(CrAMArguments,))
        assert args.eval_strategy.value == "no"
        assert parse(write("word: off"))[0].word == "off"

    def test_a_mapping_reaches_a_flag_that_takes_json(self, write):
        (args,) = parse(write("lr_scheduler_kwargs: {num_cycles: 2}"), of=(CrAMArguments,))
        assert args.lr_scheduler_kwargs == {"num_cycles": 2}

    def test_flags_with_dashes_are_the_same_flags(self):
        (args,) = parse("--doc-stride", "7", "--doc_stride", "9", of=(SquadArguments,))
        assert args.doc_stride == 9

    def test_a_real_command_fills_all_dataclasses(self, write, tmp_path):
        path = write("model_name_or_path: tiny\nrho: 1e-2\ncompressors: [topk:0.5, nm:2:4]\ndo_train: true\n")
        of = (ModelArguments, SquadArguments, CrAMArguments, OutputArguments)
        argv = f"--rho 0.02 --max_seq_length 200 --output_dir {tmp_path}/out --label mine".split()
        model, squad, args, output = parse(path, *argv, of=of)
        assert (model.model_name_or_path, squad.max_seq_length, output.label) == ("tiny", 200, "mine")
        assert (args.rho, args.compressors, args.do_train) == (0.02, ["topk:0.5", "nm:2:4"], True)

    def test_no_other_file_is_read(self, tmp_path, monkeypatch):
        (tmp_path / "run.args").write_text("--steps 99")
        monkeypatch.setattr(sys, "argv", [str(tmp_path / "run.py")])
        assert parse("--rate", "1")[0].steps == 5


class TestMistakesInAFile:
    def test_all_unknown_keys_are_told_with_the_nearest(self, write):
        path = write("steps: 1\nstep: 2\nnams: [a]\nqqq: 3\n1: 2\n")
        with pytest.raises(ValueError, match="unknown key") as caught:
            parse(path)
        lines = str(caught.value).splitlines()
        assert lines[0] == f"{path}: unknown key 'step'. Did you mean steps?"
        assert lines[1] == f"{path}: unknown key 'nams'. Did you mean names?"
        assert re.fullmatch(rf"{re.escape(path)}: unknown key 'qqq'\. .* --help lists them all\.", lines[2])
        assert lines[3].startswith(f"{path}: unknown key 1.")
        assert len(lines) == 4

    def test_all_wrong_types_are_told_together_with_unknown_keys_and_flags(self, write):
        path = write("steps: many\nrate: fast\ngood: maybe\nkind: c\nqqqq: 1\nword: [a, b]\n")
        with pytest.raises(ValueError, match="invalid") as caught:
            parse(path, "--setps", "3", "--numbers", "x", of=(Derived, Needed))
        text = str(caught.value)
        for part in (
            f"{path}: --steps many: invalid int value: 'many'.",
            f"{path}: --rate fast: invalid float value: 'fast'.",
            f"{path}: --good maybe: Truthy value expected",
            f"{path}: --kind c: invalid choice: 'c' (choose from",
            f"{path}: unknown key 'qqqq'.",
            f"{path}: Not understood after --word: b.",
            "Unknown flag --setps. Did you mean --steps?",
            "--numbers x: invalid float value: 'x'.",
            "--model is missing: Model folder, e.g. models/tiny.",
        ):
            assert part in text
        assert len(text.splitlines()) == 9

    def test_a_key_that_is_given_twice_is_refused(self, write):
        with pytest.raises(
            ValueError, match=r"run\.yaml is no valid YAML: key given twice: rate \(line 1 and below\)"
        ):
            parse(write("rate: 1\nsteps: 2\nrate: 3\n"))

    def test_a_missing_file_is_told_with_files_near_it(self, write, tmp_path):
        write("", "cram_multi.yaml")
        with pytest.raises(
            ValueError, match=r"There is no config file .*cram_mutli\.yaml\. Near it: cram_multi\.yaml\."
        ):
            parse(str(tmp_path / "cram_mutli.yaml"))

    def test_a_missing_file_without_near_names_may_be_a_misplaced_word(self, tmp_path):
        with pytest.raises(ValueError, match=r"There is no config file rho\. Flags start with --"):
            parse("rho", "0.1")

    @pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("just words\n", "str"), ("3\n", "int")])
    def test_a_file_that_is_no_mapping_is_told_what_it_must_hold(self, write, text, kind):
        with pytest.raises(
            ValueError, match=rf"holds a {kind}; it must hold 'flag: value' lines, e\.g\. 'rho: 0\.01'"
        ):
            parse(write(text))

    def test_invalid_yaml_names_the_file_and_the_line(self, write):
        with pytest.raises(ValueError, match=r"(?s)run\.yaml is no valid YAML: .*line 2"):
            parse(write("names: [a\nsteps: 3\n"))

    def test_a_file_that_is_no_text_is_no_yaml(self, tmp_path):
        path = tmp_path / "model.yaml"
        path.write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(ValueError, match="is no valid YAML"):
            parse(str(path))

    def test_tags_that_would_run_code_are_refused(self, write):
        with pytest.raises(ValueError, match="is no valid YAML"):
            parse(write("word: !!python/object/apply:os.getcwd []\n"))

    def test_help_and_negated_flags_are_no_keys(self, write):
        for key in ("help", "no_good"):
            with pytest.raises(ValueError, match=f"unknown key '{key}'"):
                parse(write(f"{key}: true"))


class TestMistakesOnTheCommandLine:
    def test_all_unknown_flags_are_told_with_the_nearest(self):
        with pytest.raises(
            ValueError, match=r"(?s)^Unknown flag --ste\. Did you mean --steps\?\nUnknown flag --qqqq\. "
        ):
            parse("--ste", "3", "--qqqq=1")

    def test_a_missing_required_flag_is_told_with_its_help(self):
        with pytest.raises(
            ValueError, match=r"^--model_name_or_path is missing: Model folder, or name on the Hub, e\.g\. "
        ):
            parse("--dropout", "0.1", of=(ModelArguments,))

    def test_a_required_flag_may_come_from_the_file(self, write):
        assert parse(write("model: tiny"), of=(Needed,)) == (Needed("tiny"),)

    def test_a_flag_without_its_value_is_told(self):
        with pytest.raises(ValueError, match=r"^--steps: expected one argument\.$"):
            parse("--steps", "--rate", "1")

    def test_a_config_file_after_a_flag_is_told_where_it_belongs(self):
        with pytest.raises(ValueError, match=r"^Not understood after --rate: run\.yaml\. A config file comes first"):
            parse("--rate", "1", "run.yaml")

    def test_a_word_with_one_dash_is_told(self):
        with pytest.raises(ValueError, match=r"^Not understood: -x\. A config file comes first"):
            parse("-x", "--rate", "1")

    def test_flags_are_never_abbreviated(self):
        with pytest.raises(ValueError, match=r"Unknown flag --rat\. Did you mean --rate\?"):
            parse("--rat", "1")

    def test_what_the_dataclass_refuses_is_raised_as_it_is(self):
        with pytest.raises(ValueError, match="--doc_stride 500"):
            parse("--doc_stride", "500", of=(SquadArguments,))


class TestHelp:
    def test_has_a_section_for_each_dataclass_and_inherited_flags_come_last(self):
        text = Parser((Derived, Needed), description="What it does.").format_help()
        sections = re.findall(r"^(\w+):$", text, re.MULTILINE)
        assert sections == ["Derived", "Needed", "Basics"]
        assert (
            text.index("One flag more than its base.")
            < text.index("--kind")
            < text.index("--model")
            < text.index("--rate")
        )
        assert "[config.yaml] [--flag value ...]" in text
        assert "What it does." in text

    def test_of_run_squad_exits_0_and_shows_the_methods_flags_before_those_of_the_trainer(self, monkeypatch, capsys):
        script = Path(__file__).parent.parent / "run_squad.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--help"])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(script), run_name="__main__")
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: run_squad.py [config.yaml] [--flag value ...]")
        for flag in ("compressors", "rho", "plus", "masked", "perturb", "normalize_grad", "same_dropout"):
            assert text.index(f"  --{flag} ") < text.index("TrainingArguments:\n")
        for flag in ("compress_include", "compress_exclude", "eval_compressors", "export", "version_2_with_negative"):
            assert text.index(f"  --{flag} ") < text.index("TrainingArguments:\n")
        assert text.index("  --learning_rate ") > text.index("TrainingArguments:\n")
