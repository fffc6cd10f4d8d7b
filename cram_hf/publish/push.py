"""One commit to a repository on the Hub, through huggingface_hub."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import HFValidationError, get_token, validate_repo_id

from .errors import PushError, told
from .files import WEIGHTS, Folder, matches, read_folder


@dataclass(frozen=True)
class Published:
    """What a push did.

    Args:
        repo_id (`str`): the full name on the Hub.
        url (`str`): the repository, or the pull request.
        commit (`str`): hash of the commit; that of the last one where nothing had changed.
        private (`bool`): whether the repository is.
        files (`dict[str, int]`): bytes by name.
        removed (`list[str]`): weight files of an earlier model that were deleted.
    """

    repo_id: str
    url: str
    commit: str
    private: bool
    files: dict[str, int]
    removed: list[str]


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = True,
    revision: str | None = None,
    create_pr: bool = False,
    replace: bool = False,
    include: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    message: str | None = None,
    token: str | None = None,
) -> Published:
    """Uploads a model folder in one commit, so that the repository holds all of it or nothing of it.

    Nothing is written on this disk. The address and the token are those of huggingface_hub: `HF_ENDPOINT` and
    `HF_TOKEN` in the environment, or the login. The Hub checks the card's metadata before any file is sent.

    Args:
        folder (`str` or `os.PathLike`): folder of a run, of an export, or of `cram-hf prune` or `cram-hf pack`.
        repo_id (`str`): `name` or `owner/name`; made if it does not exist.
        private (`bool`, defaults to `True`): for a new repository. An existing one must not be public then.
        revision (`str`, *optional*): branch, made if it does not exist. Defaults to `main`.
        create_pr (`bool`, defaults to `False`): open a pull request instead of a commit to `main`.
        replace (`bool`, defaults to `False`): take the place of a model that is there already; weight files that
            the new one lacks are deleted in the same commit.
        include (`Sequence[str]`, *optional*): names or patterns of more files, e.g. `eval_predictions.json`.
        metadata (`Mapping[str, Any]`, *optional*): entries of the card's metadata to set, e.g. `license`.
        message (`str`, *optional*): of the commit.
        token (`str`, *optional*): access token, instead of that of the environment or the login.

    Raises:
        ValueError: the folder, the name or the flags cannot be used; nothing was sent.
        PushError: the Hub did not take it, or holds another model. The message has the command to try again.
    """
    check_name(repo_id)
    if create_pr and revision:
        raise ValueError(f"--create-pr goes to main, --revision {revision} to a branch: give one of them.")
    read = read_folder(folder, repo_id, include=include, metadata=metadata, token=token or get_token())
    asked = {"revision": revision, "create-pr": create_pr, "replace": replace, "include": include}
    retry = retry_command(folder, repo_id, {**asked, **(metadata or {}), "message": message, "public": not private})
    with told(repo_id, retry):
        api = HfApi(token=token)
        full = make_repo(api, repo_id, private)
        read = read_folder(folder, full, include=include, metadata=metadata)  # now that the owner is known
        if revision and revision != "main" and not revision.startswith("refs/"):
            api.create_branch(full, branch=revision, exist_ok=True)
        there = api.model_info(full, revision=revision)
        removed = _in_the_way(there, read, replace=replace or create_pr)
        operations: list[Any] = [CommitOperationAdd(name, _source(what)) for name, what in read.files.items()]
        operations += [CommitOperationDelete(name) for name in removed]
        done = api.create_commit(
            full, operations, commit_message=message or "Upload model", revision=revision, create_pr=create_pr
        )
    url = done.pr_url or f"{api.endpoint}/{full}"
    return Published(full, url, done.oid, bool(there.private), read.sizes, removed)


def make_repo(api: HfApi, repo_id: str, private: bool) -> str:
    """Makes the repository unless it exists, and returns its full name.

    Raises:
        PushError: it exists and is public, though a private one was asked for.
    """
    full = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if private and not api.model_info(full).private:
        raise PushError(
            f"{full} exists and is public, and private was asked for: give --public (private=False; in a training "
            "--hub_private_repo False) if everybody may see the model, else choose another name."
        )
    return full


def check_name(repo_id: str) -> None:
    """Raises `ValueError` for what cannot be a name on the Hub."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(f"--repo-id {repo_id}: {reason}. Give e.g. --repo-id owner/name.") from error


def retry_command(folder: str | os.PathLike[str], repo_id: str, flags: Mapping[str, Any]) -> str:
    """Returns the command that pushes again. A flag that is false or empty is left out, a token is never in it."""
    words = ["cram-hf", "push", str(folder), "--repo-id", repo_id]
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        values = [] if value is True else [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]
        words += [flag, *values] if value else []
    return shlex.join(words)


def _in_the_way(there: ModelInfo, read: Folder, *, replace: bool) -> list[str]:
    """Returns the weight files that a push would leave behind. Raises `PushError` if there are any and may not go."""
    held = sorted(file.rfilename for file in there.siblings or [] if matches(file.rfilename, WEIGHTS))
    if held and not replace:
        raise PushError(
            f"{there.id} holds a model already ({', '.join(held)}): give --replace to put this one in its place (the "
            "history keeps the old one), --create-pr to propose it, or choose another name."
        )
    return [name for name in held if name not in read.files]


def _source(what: Any) -> bytes | str:
    return what if isinstance(what, bytes) else str(what)
