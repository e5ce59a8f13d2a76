"""Mends of CloudWatch: which data an alarm looks at, and when; and the queues' metrics."""

import logging
import operator
import threading
import time
from collections.abc import Callable
from typing import Any

from ministack.core.responses import (
    AccountRegionScopedDict,
    set_request_account_id,
    set_request_region,
)
from ministack.services import cloudwatch, sqs

from .registry import mend, replace

logger = logging.getLogger("mended.alarms")

# Where AWS takes a minute: a test should not have to wait that long.
_SECONDS_BETWEEN_LOOKS = 2.0

_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}

# Held while an alarm changes its state, so that threads that see the same change tell of it once.
_state_lock = threading.Lock()


@mend("alarm-evaluation")
def alarm_evaluation() -> None:
    """An alarm looks at the metric with its own dimensions, period by period.

    MiniStack mixes the data of all metrics of the same name, whatever their dimensions, takes all evaluation periods
    as one, and ignores TreatMissingData and DatapointsToAlarm. In CloudWatch a metric is its name, namespace and
    dimensions, and an alarm counts the breaching among the last EvaluationPeriods periods. Periods end here at the
    moment of the look; anomaly detection is left as it was.
    Source: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html and
    alarms-and-missing-data.html.
    """

    def by_period(evaluate: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
        def evaluated(alarm: dict[str, Any]) -> None:
            if alarm.get("ComparisonOperator") not in _BREACHES or not alarm.get("MetricName"):
                evaluate(alarm)
                return
            with _state_lock:
                verdicts = _verdicts(alarm)
                new, old = _state(alarm, verdicts), alarm["StateValue"]
                if new == old:
                    return
                reason = (
                    f"Threshold Crossed: {verdicts.count(True)} of the last {len(verdicts)} datapoints breached "
                    f"{alarm['ComparisonOperator']} {alarm['Threshold']}, {verdicts.count(None)} were missing"
                )
                alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
            cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
            cloudwatch._dispatch_alarm_actions(alarm, old, new, reason)
            cloudwatch._evaluate_parent_alarms(alarm)

        return evaluated

    replace(cloudwatch, "_evaluate_alarm", by_period)


def _verdicts(alarm: dict[str, Any]) -> list[bool | None]:
    """Whether each of the last evaluation periods breached; None where it has no data."""
    dimensions = cloudwatch._dims_from_list(alarm.get("Dimensions") or [])
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    points = list(cloudwatch._metrics.get(key) or [])
    statistic = alarm.get("ExtendedStatistic") or alarm.get("Statistic", "Average")
    breaches = _BREACHES[alarm["ComparisonOperator"]]
    now, period = time.time(), alarm.get("Period", 60)
    verdicts: list[bool | None] = []
    for index in range(alarm.get("EvaluationPeriods", 1)):
        end = now - index * period
        own = [point for point in points if end - period < point["Timestamp"] <= end]
        stats = cloudwatch._calc_stats(own)
        value = cloudwatch._stat_value(stats, statistic, own) if stats else None
        verdicts.append(None if value is None else breaches(value, alarm["Threshold"]))
    return verdicts


def _state(alarm: dict[str, Any], verdicts: list[bool | None]) -> str:
    missing = alarm.get("TreatMissingData") or "missing"
    filler = {"breaching": True, "notBreaching": False}.get(missing)
    known = [filler if verdict is None else verdict for verdict in verdicts]
    if known.count(True) >= (alarm.get("DatapointsToAlarm") or len(known)):
        return "ALARM"
    if all(verdict is None for verdict in known):
        return alarm["StateValue"] if missing == "ignore" else "INSUFFICIENT_DATA"
    return "OK"


@mend("alarm-clock")
def alarm_clock() -> None:
    """Alarms are evaluated as time goes by.

    MiniStack evaluates alarms only when an alarm or a metric is put through the API: what Lambda records raises none,
    and one whose metric falls silent keeps its state for ever. CloudWatch evaluates every alarm every minute, whoever
    published the data, so that it also goes back to OK, or to ALARM where missing data is breaching. Here it is every
    other second.
    Source: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html.
    """

    _every_look(cloudwatch._alarms, cloudwatch._evaluate_all_alarms)


@mend("queue-metrics")
def queue_metrics() -> None:
    """Queues publish how many messages wait, and how long the oldest has.

    MiniStack publishes nothing under AWS/SQS. SQS publishes ApproximateNumberOfMessagesVisible and
    ApproximateAgeOfOldestMessage, among others, every minute for every active queue. Here it is every other second.
    Source: docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html.
    """

    def look() -> None:
        now = time.time()
        for queue in list(sqs._queues.values()):
            messages = list(queue["messages"])
            dimensions = {"QueueName": queue["name"]}
            visible = sum(1 for message in messages if message["visible_at"] <= now)
            age = max((now - message["sent_at"] for message in messages), default=0.0)
            cloudwatch.record_metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", visible, "Count", dimensions)
            cloudwatch.record_metric("AWS/SQS", "ApproximateAgeOfOldestMessage", age, "Seconds", dimensions)

    _every_look(sqs._queues, look)


def _every_look(store: AccountRegionScopedDict, look: Callable[[], None]) -> None:
    """Runs `look` every so often for each account and region that has something in the store, as long as the process
    lives.
    """

    def run() -> None:
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for account, region in {key[:2] for key in list(store._data)}:
                set_request_account_id(account)
                set_request_region(region)
                try:
                    look()
                except Exception:
                    # Something was removed meanwhile; the next look is soon.
                    logger.exception("a look failed")

    threading.Thread(target=run, daemon=True).start()
