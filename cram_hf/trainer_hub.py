"""How `CrAMTrainer` goes to the Hub: our card, the model's files alone, private unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from .card import card, with_metadata
from .card_bare import bare_card, head_of
from .history import results_of
from .publish import make_repo, publish, told
from .results import write_whole


def is_private(trainer: Any, private: bool | None) -> bool:
    """Whether a new repository is private: it is, unless `private` or else `hub_private_repo` is `False`."""
    return (trainer.args.hub_private_repo if private is None else private) is not False


def repo_name(trainer: Any) -> str:
    """The name on the Hub, as Trainer chooses it: `hub_model_id`, or the folder's."""
    args = trainer.args
    return trainer.hub_model_id or args.hub_model_id or Path(args.output_dir).absolute().name


def make_trainers_repo(trainer: Any, token: str | None, private: bool | None) -> None:
    """Makes the repository, or raises `PushError` before anything was trained."""
    if not trainer.is_world_process_zero():
        return
    name = repo_name(trainer)
    with told(name, retry="the same command"):
        api = HfApi(token=token or trainer.args.hub_token)
        trainer.hub_model_id = make_repo(api, name, is_private(trainer, private))
    trainer.push_in_progress = None


def push_trainer(
    trainer: Any,
    commit_message: str | None = "End of training",
    blocking: bool = True,
    token: str | None = None,
    revision: str | None = None,
    private: bool | None = None,
    **card_arguments: Any,
) -> Any:
    """Writes the card, uploads the saved folder and returns the `Published`, or its `Future` if not `blocking`.

    The arguments are those of `Trainer.push_to_hub`. A process that is not the main one returns `None`.

    Raises:
        PushError: the Hub did not take it. The model is saved; the message has the command to try again.
    """
    if not trainer.is_world_process_zero():
        return None
    args = trainer.args
    trainer.create_model_card(**card_arguments)
    trainer._finish_current_push()  # of a checkpoint, with another hub_strategy than "end"
    flags: dict[str, Any] = {
        "private": is_private(trainer, private),
        "revision": revision or args.hub_revision,
        "replace": True,
        "message": commit_message,
        "token": token or args.hub_token,
    }
    if blocking:
        return publish(args.output_dir, repo_name(trainer), **flags)
    return HfApi().run_as_future(publish, args.output_dir, repo_name(trainer), **flags)


def write_card(
    trainer: Any,
    language: str | None = None,
    license: str | None = None,
    tags: str | list[str] | None = None,
    model_name: str | None = None,
    finetuned_from: str | None = None,
    tasks: str | list[str] | None = None,
    dataset_tags: str | list[str] | None = None,
    dataset: str | list[str] | None = None,
    dataset_args: str | list[str] | None = None,
) -> None:
    """Writes `README.md` into the output folder; a card of a run of the scripts is kept and gets the metadata.

    The arguments are those of `Trainer.create_model_card`. `dataset_tags` are names on the Hub. `model_name`, `tasks`,
    `dataset` and `dataset_args` change nothing: the card says what the model itself and its evaluation tell.
    """
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    datasets = [dataset_tags] if isinstance(dataset_tags, str) else dataset_tags or []
    if (folder / "results.json").exists() and (folder / "README.md").exists():
        text = (folder / "README.md").read_text(encoding="utf-8")
    else:
        text = _card(trainer, folder, finetuned_from or trainer.model.config.name_or_path, datasets)
    words = [tags] if isinstance(tags, str) else tags
    given = {"license": license, "language": language, "tags": words, "datasets": datasets}
    write_whole(folder / "README.md", with_metadata(text, given).encode())


def _card(trainer: Any, folder: Path, base_model: str, datasets: list[str]) -> str:
    architecture = (trainer.model.config.architectures or [type(trainer.model).__name__])[0]
    auto_class, task = head_of(architecture)
    results = results_of(trainer, task) if task else None
    if results is None or task is None:
        trained_for = trainer.args.compressors
        return bare_card(folder, architecture=architecture, base_model=base_model, trained_for=trained_for)
    dataset = datasets[0] if datasets else None
    return card(results, base_model=base_model, dataset=dataset, auto_class=auto_class, pipeline_tag=task)
