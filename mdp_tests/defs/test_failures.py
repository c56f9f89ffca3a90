"""Which errors make Dagster try a step again."""

from __future__ import annotations

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from mdp.defs.failures import StepRetries, as_failure
from mdp.errors import StorageError, WriteConflict

AWAY = OperationalError("INSERT INTO event_logs", {}, ConnectionError("server closed the connection unexpectedly"))


@pytest.mark.parametrize("error", [WriteConflict("another writer"), AWAY], ids=["store", "storage of Dagster"])
def test_a_step_whose_storage_was_away_is_tried_again(error):
    with pytest.raises(dg.RetryRequested) as raised, as_failure(StepRetries(attempts=2, delay_s=7)):
        raise error
    assert (raised.value.max_retries, raised.value.seconds_to_wait) == (2, 7)


def test_what_no_retry_can_help_fails_the_step():
    with pytest.raises(dg.Failure), as_failure(StepRetries()):
        raise StorageError("too young a schema")


@pytest.mark.parametrize(("error", "raised"), [(WriteConflict("another writer"), dg.Failure), (AWAY, OperationalError)])
def test_where_nothing_is_to_be_tried_again_nothing_is(error, raised):
    with pytest.raises(raised), as_failure():
        raise error
