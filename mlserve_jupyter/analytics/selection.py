"""What of a call the log keeps, as the policy of its model says."""

from __future__ import annotations

import random

import msgspec

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.api.redaction import without_columns

# Not that of the module, whose seed anybody's model may set, and whose order callers may know.
_chance = random.SystemRandom().random


def as_logged(record: PredictionRecord) -> tuple[PredictionRecord, bool]:
    """Take away what is not to be logged at all; quick, for the path of a prediction.

    Returns
    -------
    tuple of PredictionRecord and bool
        What goes on to the log, and whether it is a row of it; else it is only counted.
    """
    policy = record.logged_as
    if policy is None:
        return record, True
    if policy.share < 1 and _chance() >= policy.share:
        return _only_counted(record), False
    if policy.without or not policy.keeps_inputs:
        # A body that was refused may be anything, and what was raised may quote it.
        keeps_inputs = policy.keeps_inputs and record.status == "ok"
        inputs = record.inputs if keeps_inputs else None
        return msgspec.structs.replace(record, inputs=inputs, error=None), True
    return record, True


def without_columns_left_out(row: WaitingRow) -> WaitingRow:
    """Take the columns out of a row's inputs that are not to be logged; for the writer's thread."""
    policy = row.record.logged_as
    if policy is None or not policy.without or row.record.inputs is None:
        return row
    inputs = without_columns(row.record.inputs, policy)
    return msgspec.structs.replace(row, record=msgspec.structs.replace(row.record, inputs=inputs))


def _only_counted(record: PredictionRecord) -> PredictionRecord:
    return msgspec.structs.replace(record, inputs=None, outputs=None, error=None)
