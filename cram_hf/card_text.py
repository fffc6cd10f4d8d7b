"""The fixed sentences and code of a model card."""

from __future__ import annotations

PLACE = "path/to/this/model"  # a push writes the name on the Hub here

WITH_CRAM = (
    "with CrAM, the Compression-Aware Minimizer: every update also lowers the loss of the compressed model, so that "
    "the weights can be pruned in one shot later."
)
WITH_SAM = "with SAM, which is CrAM without a compression; a baseline."
WITHOUT_CRAM = "with a plain optimizer, without CrAM; a baseline."
DENSE = "The table says what is left of the score when they are compressed in one shot and not trained since."
NOT_SCORED = "This compression was not scored in the run."

WORDS = (
    "Sparsity is the share of weights that are zero. `topk:S` zeroes the share S of smallest magnitude among all "
    "compressible weights together, `topk:S:layer` in each layer; `nm:N:M` keeps the N largest of each M weights "
    "along the input dimension; `quantize:B` rounds to B bits a row; `a+b` is a, then b."
)

ENDING = """## Limits

- The zeros are stored: a pruned model's file is as large as the dense one's, and compresses well with any archiver.
- Dense kernels do not skip zeros: the model is not faster unless the runtime uses sparsity.
- Quantized weights are stored as the rounded floating-point values.
- Scores hold for the data named here. Nothing was measured about other data, other languages or harmful content.

## Citation

```bibtex
@inproceedings{peste2023cram,
  title     = {{CrAM}: A Compression-Aware Minimizer},
  author    = {Peste, Alexandra and Vladu, Adrian and Kurtic, Eldar and Lampert, Christoph H. and Alistarh, Dan},
  booktitle = {International Conference on Learning Representations},
  year      = {2023},
  url       = {https://arxiv.org/abs/2207.14200}
}
```"""

ANSWER = """
question, context = "Where is the ferry?", "The ferry is in the harbour."
inputs = tokenizer(question, context, truncation="only_second", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
answer = tokenizer.decode(inputs["input_ids"][0, start : end + 1])"""

PIPELINE = f"""

The lines above take the likeliest start and end; the scores come from a search over the n best spans. Up to
transformers 5.2, `pipeline("question-answering", model="{PLACE}")` works too; 5.3 removed that pipeline."""


# What transformers' pipelines do with one text; question answering left them in 5.3.
PIPELINES = {"text-classification", "token-classification", "fill-mask"}


def loading(auto_class: str, pipeline_tag: str) -> str:
    """Returns the section on loading: code for transformers alone, with an answer where the task is answering."""
    answers = pipeline_tag == "question-answering"
    code = f"""import torch
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{PLACE}")
model = {auto_class}.from_pretrained("{PLACE}")
""" + (ANSWER if answers else "")
    if pipeline_tag in PIPELINES:
        code += "\n# or all in one:\nfrom transformers import pipeline\n\n"
        code += f'run = pipeline("{pipeline_tag}", model="{PLACE}")'
    return f"## How to load\n\n```python\n{code.rstrip()}\n```" + (PIPELINE if answers else "")


def unpacking() -> str:
    """Returns the section on loading a packed model."""
    return f"""## How to load

The weights are packed (a bit mask and the values that are not zero): `from_pretrained` does not read them as they are.

```bash
hf download {PLACE} --local-dir packed
cram-hf unpack packed --out model   # an ordinary checkpoint: from_pretrained("model") loads it
```"""


def pruning(auto_class: str, spec: str, selection: str, *, already: str | None) -> str:
    """Returns the section on pruning in one shot with cram_hf, for a moment and for good.

    Args:
        auto_class: the class that loads the model.
        spec: the compression to show.
        selection: more arguments of `compressible_weights`, as code.
        already: the compression the weights hold already.
    """
    return f"""## How to prune {"further" if already else "it"}

```python
from cram_hf import compressed, compressible_weights, parse_compressor
from cram_hf.export import export
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{PLACE}")
model = {auto_class}.from_pretrained("{PLACE}")
weights = compressible_weights(model{selection})
compressor = parse_compressor("{spec}")
with compressed(weights, compressor):
    ...  # compressed inside this block, for instance to evaluate; as before afterwards
export(model, tokenizer, compressor, "path/to/a/new/folder", weights=weights)
```

From the command line, also with data and repair: `cram-hf prune {PLACE} --to {spec} --out path/to/a/new/folder`."""
