"""Fine-tune a BERT on SQuAD so that it can be pruned in one shot.

python run_squad.py [config.yaml] [--flag value ...]
"""

import sys

from cram_hf.runner import main
from cram_hf.tasks.squad import Squad

if __name__ == "__main__":
    sys.exit(main(Squad()))
