"""Puts a model folder on the Hugging Face Hub: what belongs there, in one commit (docs/publish.md)."""

from .errors import PushError, told
from .files import Folder, read_folder
from .push import Published, make_repo, publish

__all__ = ["Folder", "Published", "PushError", "make_repo", "publish", "read_folder", "told"]
