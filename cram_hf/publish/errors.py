"""What went wrong between here and the Hub, in one line that says what to type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants

# HTTPError: huggingface_hub takes it from httpx or httpx2, depending on its version.
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

ANSWERS = {
    401: "there is no valid access token; run `hf auth login`, or set HF_TOKEN to a token that may write",
    403: "this token may not write there; take a name under your own account, or a token with the right to write",
    404: "the Hub finds no such repository or revision, or hides it from this token; check the name",
    409: "it was changed meanwhile",
    412: "it was changed meanwhile",
    413: "the Hub finds a file too large",
}


class PushError(OSError):
    """A push that the Hub did not take. Everything on disk is as it was."""


@contextmanager
def told(repo_id: str, retry: str) -> Iterator[None]:
    """Turns what huggingface_hub raises inside the block into a `PushError` of one line; Ctrl-C gets such a line too.

    Args:
        repo_id (`str`): where it was going.
        retry (`str`): the command that tries again, without a token.
    """
    try:
        yield
    except PushError:
        raise
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        raise PushError(
            f"{repo_id}: not pushed: {explain(error)}. Nothing on disk has changed. To try again: {retry}"
        ) from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(
            f"{repo_id}: stopped before the Hub confirmed it. Nothing on disk has changed. To try again: {retry}"
        ) from stop


def explain(error: BaseException) -> str:
    """Returns one line about `error` without a final stop: what happened and, where that is known, what helps."""
    if isinstance(error, HfHubHTTPError):
        return _answer(error)
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):  # "Error while uploading 'FILE' …"
        return f"{_line(error)}: {explain(error.__cause__)}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, HTTPError):
        return f"no connection to {constants.ENDPOINT}, or it broke ({_line(error) or type(error).__name__})"
    return _line(error) or type(error).__name__


def _answer(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        return f"the Hub asks for fewer requests (429); wait {f'{wait} seconds' if wait else 'a few minutes'}"
    if status >= 500:
        return f"the Hub has a problem of its own ({status}); wait a little"
    said = " ".join((error.server_message or "").split()).rstrip(".")
    if status in ANSWERS:
        return f"{ANSWERS[status]} ({status}{': ' + said if said else ''})"
    return f"the Hub answers {status}{': ' + said if said else ''}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
