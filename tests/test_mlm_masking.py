"""Masks: BERT's shares in training, drawn once for evaluation, whole words where asked for, never a special token."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from squad_fixtures import tiny_tokenizer
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast, TrainerState

from cram_hf.tasks.mlm_masking import Masking, MaskingCollator, mask_once, masking_of

CLS, SEP, MASK, PAD = 2, 3, 4, 0


@pytest.fixture
def masking() -> Masking:
    return masking_of(tiny_tokenizer(), 0.15)


def text(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Rows of ordinary tokens between [CLS] and [SEP]."""
    ids = torch.randint(5, 60, (rows, length), generator=torch.Generator().manual_seed(seed))
    ids[:, 0], ids[:, -1] = CLS, SEP
    return ids


class TestDraws:
    def test_the_same_masks_as_transformers_with_the_same_seed(self, masking):
        ids = text(16, 64)
        torch.manual_seed(3)
        inputs, labels = masking(ids)
        torch.manual_seed(3)
        expected = DataCollatorForLanguageModeling(tiny_tokenizer()).torch_mask_tokens(ids.clone())
        assert torch.equal(inputs, expected[0])
        assert torch.equal(labels, expected[1])

    def test_the_shares_of_bert(self, masking):
        ids = text(400, 128)
        torch.manual_seed(0)
        inputs, labels = masking(ids)
        chosen = labels != -100
        assert torch.equal(labels[chosen], ids[chosen])
        assert torch.equal(inputs[~chosen], ids[~chosen])
        assert chosen[:, 1:-1].float().mean().item() == pytest.approx(0.15, abs=0.005)
        assert (inputs[chosen] == MASK).float().mean().item() == pytest.approx(0.8, abs=0.01)
        kept = (inputs[chosen] == ids[chosen]).float().mean().item()
        assert kept == pytest.approx(0.1 + 0.1 / masking.vocabulary, abs=0.01)

    def test_never_a_special_token(self, masking):
        ids = text(200, 16)
        ids[:, 5], ids[:, 9:11] = SEP, PAD
        labels = masking(ids)[1]
        assert not torch.isin(labels, torch.tensor([PAD, CLS, SEP, MASK])).any()

    def test_always_one_token_a_row_so_that_no_loss_is_a_mean_of_nothing(self, masking):
        ids = text(500, 4)
        labels = masking(ids)[1]
        assert ((labels != -100).sum(1) >= 1).all()
        lone = (labels[:, 1:3] != -100).float().mean(0)
        assert lone[0].item() == pytest.approx(lone[1].item(), abs=0.1)

    def test_a_row_of_special_tokens_alone_has_no_label(self, masking):
        assert (masking(torch.tensor([[CLS, SEP], [CLS, 7]]))[1].tolist()) == [[-100, -100], [-100, 7]]

    def test_leaves_its_input_alone(self, masking):
        ids = text(4, 32)
        before = ids.clone()
        masking(ids)
        assert torch.equal(ids, before)


class TestWholeWords:
    def test_all_tokens_of_a_word_or_none(self, masking):
        ids = text(300, 162)
        starts = torch.zeros_like(ids, dtype=torch.bool)
        starts[:, 1::4] = True  # forty words of four tokens
        torch.manual_seed(0)
        labels = masking(ids, starts)[1]
        words = (labels[:, 1:161] != -100).view(300, 40, 4)
        assert torch.equal(words.any(-1), words.all(-1))
        assert words.float().mean().item() == pytest.approx(0.15, abs=0.01)

    def test_each_token_of_a_word_is_replaced_on_its_own(self, masking):
        ids = text(300, 34)
        starts = torch.zeros_like(ids, dtype=torch.bool)
        starts[:, 1::4] = True
        torch.manual_seed(0)
        inputs, labels = masking(ids, starts)
        assert (inputs == MASK)[labels != -100].float().mean().item() == pytest.approx(0.8, abs=0.03)

    def test_what_is_left_of_a_cut_word_is_a_word(self, masking):
        """The row begins inside a word, and [SEP] stands inside another."""
        ids = torch.tensor([[CLS, 7, 8, SEP, 9, 10, SEP]]).repeat(200, 1)
        starts = torch.zeros_like(ids, dtype=torch.bool)
        labels = masking(ids, starts)[1] != -100
        assert torch.equal(labels[:, 1], labels[:, 2])
        assert torch.equal(labels[:, 4], labels[:, 5])
        assert not torch.equal(labels[:, 1], labels[:, 4])
        assert not labels[:, [0, 3, 6]].any()

    def test_one_token_words_are_masked_as_tokens_are(self, masking):
        ids = text(16, 64)
        torch.manual_seed(5)
        tokenwise = masking(ids)
        torch.manual_seed(5)
        assert all(map(torch.equal, masking(ids, torch.ones_like(ids, dtype=torch.bool)), tokenwise))


class TestEvaluationMasks:
    def rows(self, count: int) -> Dataset:
        return Dataset.from_dict({"input_ids": text(count, 24).tolist()})

    def mask(self, rows: Dataset, masking: Masking, **how: int) -> list[dict[str, list[int]]]:
        return rows.map(mask_once, batched=True, with_indices=True, fn_kwargs={"masking": masking}, **how).to_list()

    def test_do_not_change_with_seed_batches_processes_or_the_number_of_rows(self, masking):
        torch.manual_seed(1)
        usual = self.mask(self.rows(30), masking)
        torch.manual_seed(2)
        assert self.mask(self.rows(30), masking, batch_size=7) == usual
        assert self.mask(self.rows(30), masking, num_proc=2) == usual
        assert self.mask(self.rows(30).select(range(9)), masking) == usual[:9]

    def test_do_not_change_with_the_release(self, masking):
        """Scores that were written down are of these positions."""
        found = self.mask(self.rows(3), masking)
        positions = [[i for i, label in enumerate(row["labels"]) if label != -100] for row in found]
        assert positions == [[2, 3, 12], [4], [7, 9, 20]]

    def test_use_none_of_torchs_own_random_numbers(self, masking):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        self.mask(self.rows(3), masking)
        assert torch.equal(torch.get_rng_state(), before)


class TestCollator:
    def test_pads_what_is_masked_already_and_draws_nothing(self, masking):
        rows = [{"input_ids": [2, 4, 3], "labels": [-100, 9, -100], "length": 3}, {"input_ids": [2], "labels": [-100]}]
        before = torch.get_rng_state()
        batch = MaskingCollator(masking, pad_id=0, seed=0)(rows)
        assert {name: value.tolist() for name, value in batch.items()} == {
            "input_ids": [[2, 4, 3], [2, 0, 0]],
            "attention_mask": [[1, 1, 1], [1, 0, 0]],
            "labels": [[-100, 9, -100], [-100, -100, -100]],
        }
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(
        ("settings", "attention"),
        [
            ({"left": True}, [[1, 1, 1], [0, 0, 1]]),
            ({"width": 5}, [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]),
            ({"multiple": 4}, [[1, 1, 1, 0], [1, 0, 0, 0]]),
        ],
    )
    def test_pads_left_to_a_width_or_to_a_multiple(self, masking, settings, attention):
        rows = [{"input_ids": [2, 7, 3]}, {"input_ids": [7]}]
        assert MaskingCollator(masking, pad_id=0, seed=0, **settings)(rows)["attention_mask"].tolist() == attention

    def test_masks_follow_from_the_seed_and_the_rows_in_their_order(self, masking):
        rows = [{"input_ids": ids} for ids in text(4, 32).tolist()]
        labels = MaskingCollator(masking, pad_id=0, seed=4)(rows)["labels"]
        torch.manual_seed(9)  # torch's own numbers play no part
        before = torch.get_rng_state()
        assert torch.equal(MaskingCollator(masking, pad_id=0, seed=4)(rows)["labels"], labels)
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(MaskingCollator(masking, pad_id=0, seed=5)(rows)["labels"], labels)
        assert not torch.equal(MaskingCollator(masking, pad_id=0, seed=4)(rows[::-1])["labels"].flip(0), labels)

    def test_one_row_gets_other_masks_in_each_epoch_and_the_same_again_in_a_resumed_one(self, masking):
        collator, row = MaskingCollator(masking, pad_id=0, seed=4), [{"input_ids": text(1, 32)[0].tolist()}]
        found = []
        for epoch in (0, 1.0, 1.5, 2.0):
            collator.on_epoch_begin(None, TrainerState(epoch=epoch), None)
            found.append(tuple(collator(row)["labels"][0].tolist()))
        assert found[1] == found[2]
        assert len(set(found)) == 3

    def test_masks_whole_words_where_rows_know_them(self, masking):
        rows = [
            {"input_ids": [2, 7, 8, 9, 3], "starts_word": [True, True, False, False, True]},
            {"input_ids": [2, 7, 3]},
        ]
        rows[1]["starts_word"] = [True, True, True]
        for seed in range(20):
            labels = MaskingCollator(masking, pad_id=0, seed=seed)(rows)["labels"]
            assert labels[0].tolist() == [-100, 7, 8, 9, -100]  # the only word, so always chosen


def test_a_tokenizer_without_a_mask_token_is_refused():
    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(ValueError, match="has no mask_token, which masked language modelling needs; give"):
        masking_of(bare, 0.15)
