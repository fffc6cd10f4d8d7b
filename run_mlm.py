"""Train a BERT as a masked language model, from a checkpoint or from scratch, so that it can be pruned in one shot.

python run_mlm.py [config.yaml] [--flag value ...]
"""

import sys

from cram_hf.loading import ScratchArguments
from cram_hf.runner import main
from cram_hf.tasks.mlm import MaskedLM

if __name__ == "__main__":
    sys.exit(main(MaskedLM(), model_arguments=ScratchArguments))
