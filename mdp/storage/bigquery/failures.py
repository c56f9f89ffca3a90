"""What BigQuery's errors mean to us: which may pass, which need a person, and how they are said.

Not here: trying again (``jobs``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from mdp.errors import ConfigError, MdpError, StorageError, StoreUnavailable, WriteConflict
from mdp.storage.bigquery.names import Datasets

# https://cloud.google.com/bigquery/docs/error-messages, 2026: the reasons that pass by themselves, and those of jobs.
_PASSING_REASONS = frozenset(
    {"rateLimitExceeded", "quotaExceeded", "backendError", "internalError", "badGateway", "timeout", "tableUnavailable"}
    | {"jobBackendError", "jobInternalError", "jobRateLimitExceeded"}
)
_PASSING_CODES = frozenset({408, 429, 500, 502, 503, 504})
_PASSING_KINDS = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    ConnectionError,
    TimeoutError,
    auth.TransportError,
    api.RetryError,
)
_NEVER_PASSING_KINDS = (requests.exceptions.SSLError, auth.RefreshError)

# Another statement changed the same rows: "Could not serialize access to table … due to concurrent update",
# "Transaction is aborted due to concurrent update against table …", "Too many DML statements outstanding against …".
_CONFLICT = re.compile(r"could not serialize|concurrent update|too many dml statements", re.IGNORECASE)

FAILURES = (api.GoogleAPICallError, api.RetryError, auth.GoogleAuthError, requests.RequestException, OSError)
"""What Google's client raises when it cannot do what was asked."""


class NotThere(StorageError):
    """What a request names is not there: a table, a dataset, or a job in this region."""


def may_pass(error: Exception) -> bool:
    """Tell whether the same request may succeed a little later."""
    if isinstance(error, _NEVER_PASSING_KINDS):
        return False
    if isinstance(error, _PASSING_KINDS):
        return True
    reason = _reason(error)
    if isinstance(error, api.Forbidden):
        return reason in _PASSING_REASONS
    return getattr(error, "code", None) in _PASSING_CODES or reason in _PASSING_REASONS


def _reason(error: Exception) -> str:
    errors = getattr(error, "errors", None) or [{}]
    first = errors[0]
    return str(first.get("reason", "")) if isinstance(first, Mapping) else ""


def explained(error: Exception, doing: str, datasets: Datasets) -> MdpError:
    """Return an error of ours for one of a request.

    Args:
        error: One of ``FAILURES``.
        doing: What the request was for, with the name of its job where it has one.
        datasets: Of the store.
    """
    said = _one_line(error)
    if may_pass(error):
        return StoreUnavailable(f"BigQuery does not answer {doing}: {said}")
    if _CONFLICT.search(said):
        return WriteConflict(f"other writers kept winning {doing}: {said}")
    here = f"{datasets.project}.{datasets.main}"
    if isinstance(error, auth.GoogleAuthError | api.Unauthorized):
        expected = (
            "credentials that Google accepts: run `gcloud auth application-default login`, or name a key file in "
            f"GOOGLE_APPLICATION_CREDENTIALS ({doing}: {said})"
        )
        return ConfigError("MDP_BIGQUERY__PROJECT", got=here, expected=expected)
    if isinstance(error, api.Forbidden):
        expected = (
            "a project in which these credentials may run jobs (roles/bigquery.jobUser) and may make and change the "
            f"tables of datasets {datasets.main}, {datasets.staging} and {datasets.snapshots} "
            f"(roles/bigquery.dataEditor) ({doing}: {said})"
        )
        return ConfigError("MDP_BIGQUERY__PROJECT", got=here, expected=expected)
    if isinstance(error, api.NotFound):
        return _not_there(said, doing, datasets)
    return StorageError(f"BigQuery refuses {doing}: {said}")


def _not_there(said: str, doing: str, datasets: Datasets) -> NotThere:
    return NotThere(
        f"BigQuery does not find what {doing} needs: {said}; look whether MDP_BIGQUERY__PROJECT, "
        f"MDP_BIGQUERY__DATASET and MDP_BIGQUERY__LOCATION ({datasets.project}.{datasets.main}, {datasets.location}) "
        "are the right ones, and whether somebody removed a table"
    )


def explained_job(result: Mapping[str, Any], doing: str, datasets: Datasets) -> StorageError:
    """Return an error of ours for a job that was run and failed.

    Args:
        result: BigQuery's ``errorResult``.
        doing: What the job was for, with its name.
        datasets: Of the store.
    """
    reason, said = str(result.get("reason", "")), str(result.get("message", ""))
    if _CONFLICT.search(said):
        return WriteConflict(f"other writers kept winning {doing}: {said}")
    if reason == "notFound":
        return _not_there(said, doing, datasets)
    if reason in _PASSING_REASONS:
        return StoreUnavailable(f"BigQuery could not do {doing}: {reason}: {said}")
    return StorageError(f"BigQuery could not do {doing}: {reason}: {said}")


def _one_line(error: Exception) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 500 else f"{words[:500]}…"
