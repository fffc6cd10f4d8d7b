"""`--dropout` is set where the model's configuration has the names that BERT gives it, and refused elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import AutoModelForSequenceClassification, DistilBertConfig

from cram_hf.loading import ModelArguments, load_model

CLASSIFY = SimpleNamespace(auto_class=AutoModelForSequenceClassification)


def test_a_model_that_calls_its_dropout_otherwise_is_refused_before_its_weights_are_looked_for(tmp_path):
    DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=8).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"^--model_name_or_path .*--dropout does not know how DistilBertConfig calls"
    ):
        load_model(CLASSIFY, ModelArguments(str(tmp_path), dropout=0.2), {})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 20.0])
def test_what_is_no_share_is_refused(tmp_path, dropout):
    with pytest.raises(
        ValueError, match=rf"^--dropout {dropout}: a share in \[0, 1\)\. Type e\.g\. --dropout 0\.1\.$"
    ):
        load_model(CLASSIFY, ModelArguments(str(tmp_path), dropout=dropout), {})
