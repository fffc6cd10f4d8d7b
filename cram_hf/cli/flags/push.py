"""What is typed after `cram-hf push`."""

from __future__ import annotations

import argparse

NAME = "push"


def add(parser: argparse.ArgumentParser) -> None:
    """Describes the command."""
    parser.description = (
        "Upload a model to the Hugging Face Hub in one commit: the folder of a run, of an export, of cram-hf prune or "
        "cram-hf pack. Weights, settings, tokenizer, card, results and picture go; checkpoints, optimizer states, "
        "training arguments, logs and predictions stay. The repository is private unless --public is given."
    )
    parser.epilog = "example: cram-hf push runs/squad --repo-id me/bert-squad-prunable --license apache-2.0"
    parser.add_argument("folder", metavar="DIR", help="model folder")
    parser.add_argument("--repo-id", required=True, metavar="NAME", help="name or owner/name on the Hub")
    parser.add_argument("--public", action="store_true", help="everybody may see it; for a new repository")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--revision", metavar="BRANCH", help="branch, made if it is not there (default: main)")
    where.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--replace", action="store_true", help="take the place of a model that is there already")
    parser.add_argument("--include", nargs="+", default=[], metavar="FILE", help="more files, e.g. 'eval_*.json'")
    parser.add_argument("--license", metavar="WORD", help="of the model, for its card, e.g. apache-2.0")
    parser.add_argument("--language", metavar="WORD", help="for the card, e.g. en")
    parser.add_argument("--base-model", metavar="NAME", help="for the card: what training started from, on the Hub")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="for the card: data sets on the Hub")
    parser.add_argument("--tags", nargs="+", metavar="WORD", help="for the card: tags beside its own")
    parser.add_argument("--message", metavar="TEXT", help="of the commit")
    parser.add_argument(
        "--hub_token", metavar="TOKEN", help="access token; better in HF_TOKEN or by hf auth login, it is read there"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be uploaded")
