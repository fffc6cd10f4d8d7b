"""CrAM for a task that has no script here: named entities with `CrAMTrainer`, on a small generated set.

python examples/token_classification.py            a tiny BERT made from its configuration; no download
python examples/token_classification.py NAME       an encoder from the Hub or a folder instead

Against a script for `Trainer` two things differ: the names of the classes, and `compressors` among the arguments.
`eval_compressors` makes each evaluation score the pruned model too; afterwards the weights are dense again. In the set
invented names mean a person, a place or a firm by the words around them alone, so that the work is done in the
encoder's layers, which are pruned, and not in the word embeddings, which are not.
"""

import random
import sys
import tempfile

import transformers

from cram_hf import CrAMArguments, CrAMTrainer

SEED, COMPRESSORS = 0, ["topk:0.7", "topk:0.8", "topk:0.9"]
NAMES = [a + b for a in ("bal", "dor", "fen", "kel", "mar", "tor") for b in ("an", "by", "eth", "or", "um")]
CLAUSES = ["1 lives in 2", "1 works for 3", "3 opened in 2", "1 left 2 with 1", "3 hired 1", "in 2 1 met 1", "1 fell"]
CLAUSES += ["3 of 2 sued 3", "the road to 2 is closed", "shares of 3 fell", "1 was seen near 2", "1 sold 3 to 3"]


def sentences(count, seed):
    """Yields words and the tag of each: 0 a plain word, 1 a person, 2 a place, 3 a firm."""
    draw = random.Random(seed)
    for _ in range(count):
        words = " and ".join(draw.sample(CLAUSES, 2)).split()
        tags = [int(word) if word.isdigit() else 0 for word in words]
        yield [draw.choice(NAMES) if tag else word for word, tag in zip(words, tags, strict=True)], tags


def load(name):
    """Returns a tokenizer and a model with four labels."""
    head = transformers.AutoModelForTokenClassification
    if name:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, add_prefix_space=True)
        return tokenizer, head.from_pretrained(name, num_labels=4)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *NAMES]
    words += sorted({*" and ".join(CLAUSES).split()} - {*"123"})
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.BertConfig(vocab_size=len(words), num_labels=4, **sizes)
    return transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)}), head.from_config(config)


def score(prediction):
    """Share of the names whose tag is right, in percent."""
    right = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"names": 100 * float(right[prediction.label_ids > 0].mean())}


def fit(name, compressors):
    """Trains from the same start and returns the scores: dense, then pruned in one shot by each of COMPRESSORS."""
    transformers.set_seed(SEED)
    tokenizer, model = load(name)
    features = []
    for words, tags in sentences(2300, SEED):
        row = tokenizer(words, is_split_into_words=True)
        features.append({**row, "labels": [-100 if i is None else tags[i] for i in row.word_ids()]})
    settings = {"learning_rate": 5e-5 if name else 3e-3, "num_train_epochs": 3, "per_device_train_batch_size": 32}
    settings |= {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as folder:
        args = CrAMArguments(folder, compressors=compressors, eval_compressors=COMPRESSORS, rho=0.01, **settings)
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
        trainer = CrAMTrainer(model, args, collator, features[300:], features[:300], compute_metrics=score)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        metrics = trainer.evaluate()
    return [metrics[f"eval_{key}names"] for key in ("", *(f"{spec.replace(':', '_')}_" for spec in COMPRESSORS))]


if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else None
    print("names right, %" + "".join(f"{word:>10}" for word in ("dense", *COMPRESSORS)))
    for label, compressors in (("AdamW", []), ("CrAM+-Multi", COMPRESSORS)):
        print(f"{label:14}" + "".join(f"{value:10.1f}" for value in fit(model, compressors)))
