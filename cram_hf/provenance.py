"""Where a result came from: command, versions, commit and machine; no tokens, no paths but those the user typed."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from cram_hf.results import TOKEN, is_token_name

PACKAGES = {"cram_hf": "cram-hf", "torch": "torch", "transformers": "transformers", "datasets": "datasets"}


def environment(*, threads: int, gpu: str | None = None) -> dict[str, Any]:
    """Returns the `Results` fields `created`, `versions`, `commit`, `dirty` and `machine` for this process, now.

    Args:
        threads (`int`): threads the numerics use, e.g. `torch.get_num_threads()`.
        gpu (`str`, *optional*): name of the GPU that was used, e.g. `torch.cuda.get_device_name()`.
    """
    commit, dirty = _commit()
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {name: version for name in PACKAGES if (version := _version(name))} | {"python": _python()},
        "commit": commit,
        "dirty": dirty,
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
            "threads": threads,
            "gpu": gpu,
            "platform": platform.system() or "unknown",
        },
    }


def command_line(argv: Sequence[str]) -> str:
    """Returns the command that `argv` (as `sys.argv`) came from, quoted so that a shell reads it back the same.

    Access tokens are dropped with their flag (`--hub_token X`, `--hub_token=X`), as is what looks like one.
    The script is named without its folder where that folder is absolute, as it is under `python -m`.
    """
    kept: list[str] = []
    after_token_flag = False
    script = Path(argv[0])
    for word in [script.name if script.is_absolute() else argv[0], *argv[1:]]:
        name, equals, _ = word.partition("=")
        is_value, after_token_flag = after_token_flag and not word.startswith("--"), False
        if is_value or TOKEN.search(word):
            continue
        if word.startswith("--") and is_token_name(name):
            after_token_flag = not equals
            continue
        kept.append(word)
    return shlex.join(kept if kept[0] == "cram-hf" else ["python", *kept])


def _version(name: str) -> str | None:
    try:
        return metadata.version(PACKAGES[name])
    except metadata.PackageNotFoundError:
        return None


def _python() -> str:
    return platform.python_version()


def _cpu() -> str:
    """Returns the processor's model name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, [*names, platform.processor(), platform.machine()]), "unknown")


def _commit() -> tuple[str | None, bool]:
    """Returns the commit of this package's checkout and whether tracked files differ; `(None, False)` outside one."""
    home = Path(__file__).resolve().parents[1]
    top = _git(home, "rev-parse", "--show-toplevel")
    commit = _git(home, "rev-parse", "--short=12", "HEAD")
    # A package installed in some other project's environment must not be credited with that project's commit.
    if top is None or commit is None or Path(top).resolve() != home:
        return None, False
    return commit, bool(_git(home, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
