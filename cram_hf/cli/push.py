"""`cram-hf push`: puts a trained, exported, pruned or packed model on the Hugging Face Hub."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from ..publish import publish, read_folder
from ..publish.push import check_name
from .size import megabytes

METADATA = ("license", "language", "base_model", "datasets", "tags")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Uploads the folder and returns where it is and which files went; nothing on this disk changes.

    Raises:
        ValueError: the folder, the name or the flags cannot be used.
        PushError: the Hub did not take it; the message has the command to try again.
    """
    given = {name: value for name in METADATA if (value := getattr(args, name))}
    if args.dry_run:
        check_name(args.repo_id)
        read = read_folder(args.folder, args.repo_id, include=args.include, metadata=given, token=args.hub_token)
        return {"folder": args.folder, "repo_id": args.repo_id, "dry_run": True, "files": read.sizes}
    done = publish(
        args.folder,
        args.repo_id,
        private=not args.public,
        revision=args.revision,
        create_pr=args.create_pr,
        replace=args.replace,
        include=args.include,
        metadata=given,
        message=args.message,
        token=args.hub_token,
    )
    return {"folder": args.folder, **asdict(done), "dry_run": False}


def text(result: dict[str, Any]) -> str:
    """Returns where the model is, and its files."""
    total = megabytes(sum(result["files"].values()))
    files = f"{len(result['files'])} files, {total} MB: {', '.join(result['files'])}"
    if result["dry_run"]:
        return f"{result['folder']} to {result['repo_id']}, not sent: {files}"
    seen = "private" if result["private"] else "public"
    removed = f"\nDeleted there: {', '.join(result['removed'])}" if result["removed"] else ""
    return f"{result['url']} ({seen}), commit {result['commit'][:12]}\n{files}{removed}"
