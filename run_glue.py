"""Fine-tune a BERT on a GLUE task, or on classification or regression data of your own, so that it can be pruned.

python run_glue.py [config.yaml] [--flag value ...]
"""

import sys

from cram_hf.runner import main
from cram_hf.tasks.glue import Glue

if __name__ == "__main__":
    sys.exit(main(Glue()))
