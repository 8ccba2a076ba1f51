"""The closed list of reasons: conditions, events, metric labels, logs and reports print these same words.

Three kinds of nothing are three different words: `NoData`, `NoChangeNeeded` and one of the holds.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why something was done, held or refused. The docstring of a member is its page in docs/reference/reasons.md."""

    # --- a plan was made -------------------------------------------------------------------------
    FORECAST_PEAK = "ForecastPeak"  # replicas follow the forecast peak
    LEAST_ENERGY = "LeastEnergy"  # the clock, or the degrees, with the least joules that meet the SLO
    CLASSES_APART = "ClassesApart"  # advice: request classes in pools of their own cost less than together
    PHASES_APART = "PhasesApart"  # advice: prefill and decode in pools of their own cost less than together
    NO_CHANGE_NEEDED = "NoChangeNeeded"  # the plan in force is still the best one
    REQUESTS_WAITING = "RequestsWaiting"  # an alarm: requests wait, so full clock and more replicas
    AT_MINIMUM = "AtMinimum"  # bounds.minReplicas holds the plan up
    AT_MAXIMUM = "AtMaximum"  # bounds.maxReplicas or maxGPUs holds the plan down
    ADVISE_ONLY = "AdviseOnly"  # the knob is Advise: planned, published, not written
    KNOB_OFF = "KnobOff"  # the knob is Off: not planned
    # --- held ------------------------------------------------------------------------------------
    NO_DATA = "NoData"  # nothing came back for this series
    STALE_DATA = "StaleData"  # the newest sample is too old to act on
    NO_TRAFFIC = "NoTraffic"  # the series are there and say that nobody asked for anything
    LABEL_MISMATCH = "LabelMismatch"  # Ready pods of ours are missing from the metrics, by name
    SOURCE_DOWN = "SourceDown"  # Prometheus is unreachable, slow or answers nonsense
    TARIFF_MISSING = "TariffMissing"  # spec.objective asks for prices or carbon intensities that nobody gave
    PROFILE_MISSING = "ProfileMissing"  # no ServingProfile for this model, GPU and tp: full clock
    TENSOR_PARALLEL_UNPROFILED = "TensorParallelUnprofiled"  # a degree of the bounds has no profile: it is left out
    PROFILE_OUT_OF_RANGE = "ProfileOutOfRange"  # the load is outside what the profile was fitted to
    SLO_INFEASIBLE = "SLOInfeasible"  # no clock and no replica count within bounds meets the SLO
    COOLING_DOWN = "CoolingDown"  # a knob moved lately; its dwell is not over
    WAITING_FOR_AGREEMENT = "WaitingForAgreement"  # lower only after agreeing ticks
    STARTING = "Starting"  # pods of the last plan are not Ready yet
    PAUSED = "Paused"  # spec.paused
    HELD_BY_FLOOR = "HeldByFloor"  # promise P4: never below min(minReplicas, what was ready)
    # --- power -----------------------------------------------------------------------------------
    POWER_LIMITED = "PowerLimited"  # a domain or the policy's own budget holds the plan down
    BELOW_THRESHOLDS = "BelowThresholds"  # a domain draws less than its low threshold
    ABOVE_LOW_THRESHOLD = "AboveLowThreshold"
    ABOVE_HIGH_THRESHOLD = "AboveHighThreshold"
    ABOVE_BRAKE_THRESHOLD = "AboveBrakeThreshold"
    RELEASED_AFTER_DWELL = "ReleasedAfterDwell"
    TELEMETRY_LOST = "TelemetryLost"  # agents silent: counted at their maximum
    ADMISSION_FAILED = "AdmissionFailed"  # the safe sum does not fit the budget
    DISARMED = "Disarmed"
    ACTUATION_UNCONFIRMED = "ActuationUnconfirmed"  # GPUs do not show the caps that they were sent
    BRAKE_INSUFFICIENT = "BrakeInsufficient"  # Brake has not brought the draw below the budget: others must act
    BUDGET_REDUCED = "BudgetReduced"  # a timed reduction, or a lost feed, holds the budget down
    FEED_LOST = "FeedLost"  # a redundant feed died: half the budget
    METER_DISAGREES = "MeterDisagrees"  # meter and agents are more than a tenth apart, or the meter says the impossible
    RELEASE_BLOCKED = "ReleaseBlocked"  # deleted, but without caps the nodes could draw more than the budget
    GRANTED = "Granted"  # watt grants of a ledger: in force, or a node joined it or left it
    INVALID_TREE = "InvalidTree"  # a circle of parents, a parent that is not there, a node in two racks
    # --- objects ---------------------------------------------------------------------------------
    FOUND = "Found"
    TARGET_NOT_FOUND = "TargetNotFound"
    TARGET_TAKEN = "TargetTaken"  # another policy acts on this target
    CONTROLLER_CONFLICT = "ControllerConflict"  # an HPA or ScaledObject owns replicas
    INVALID_SPEC = "InvalidSpec"
    INVALID_TEMPLATE = "InvalidTemplate"
    TENSOR_PARALLEL_FIXED = "TensorParallelFixed"  # the template does not take our tp
    INSUFFICIENT_GPUS = "InsufficientGPUs"
    QUOTA_EXCEEDED = "QuotaExceeded"
    API_REJECTED = "APIRejected"
    API_DENIED = "APIDenied"
    FEASIBLE = "Feasible"  # some configuration within the bounds meets the SLO
    DRIFTED = "Drifted"  # what is measured has left what was learned, and the plan allows for it
    COVERED = "Covered"  # a profile covers this model, GPU and tp
    APPLIED = "Applied"
    PENDING = "Pending"
    MET = "Met"
    AT_RISK = "AtRisk"
    VIOLATED = "Violated"
    UNKNOWN = "Unknown"
    HIGH_NOT_ADMITTED = "HighNotAdmitted"  # priority High asked for where no domain admits the namespace
