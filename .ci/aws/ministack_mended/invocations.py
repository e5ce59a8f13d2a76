"""Mends of how functions are invoked: what starts them, what becomes of an invocation that fails, what is measured."""

import json
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import new_uuid
from ministack.services import cloudwatch, eventbridge, lambda_svc, sqs

from .registry import mend, replace

logger = logging.getLogger("mended.invocations")

Result = dict[str, Any]
Execute = Callable[[dict[str, Any], Any], Result]

# How long an event may wait for the function, in seconds, while an asynchronous invocation runs in this context.
_event_age_limit: ContextVar[float | None] = ContextVar("event_age_limit", default=None)

_LARGEST_ERROR_MESSAGE = 1024


@mend("scheduled-invocations")
def scheduled_invocations() -> None:
    """Rules and schedules invoke functions asynchronously, with retries and dead letters.

    MiniStack runs a function once for an EventBridge rule or schedule, and forgets how that ended. EventBridge and
    EventBridge Scheduler hand the event to Lambda's asynchronous invocation, which tries again as EventInvokeConfig
    says and then sends the event to the dead-letter queue.
    Source: docs.aws.amazon.com/lambda/latest/dg/with-eventbridge-scheduler.html and invocation-async.html there.
    """

    def dispatch(arn: str, payload: str) -> None:
        try:
            event = json.loads(payload)
        except (json.JSONDecodeError, TypeError):
            event = {"body": payload}
        function, config, name = lambda_svc._get_func_record_for_ref(arn)
        if not function or not config:
            logger.warning("no function %s to invoke", name)
            return
        lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), event)

    replace(eventbridge, "_dispatch_to_lambda", lambda _original: dispatch)


@mend("throttled-events")
def throttled_events() -> None:
    """An asynchronous event that is throttled waits, and loses none of its tries.

    MiniStack counts a throttled try as a failed one, so that a function without retries loses the event at once. Lambda
    puts the event back and tries again, at growing intervals, for six hours or MaximumEventAgeInSeconds.
    Source: docs.aws.amazon.com/lambda/latest/dg/invocation-async.html.
    """

    def with_age_limit(invoke: Callable[[dict[str, Any], Any], None]) -> Callable[[dict[str, Any], Any], None]:
        def invoked(function: dict[str, Any], event: Any) -> None:
            config = _event_invoke_config(function)
            # The original copies this context into the thread that it starts.
            token = _event_age_limit.set(float(config.get("MaximumEventAgeInSeconds", 21600)))
            try:
                invoke(function, event)
            finally:
                _event_age_limit.reset(token)

        return invoked

    def with_patience(execute: Execute) -> Execute:
        def executed(function: dict[str, Any], event: Any) -> Result:
            age_limit = _event_age_limit.get()
            if age_limit is None:
                return execute(function, event)
            started = time.monotonic()
            delay = lambda_svc._LAMBDA_ASYNC_RETRY_BASE_SECONDS
            while True:
                result = execute(function, event)
                if not result.get("throttle") or time.monotonic() - started + delay > age_limit:
                    return result
                time.sleep(delay)
                delay = min(delay * 2, lambda_svc._LAMBDA_ASYNC_RETRY_MAX_SECONDS)

        return executed

    replace(lambda_svc, "invoke_async_with_retry", with_age_limit)
    replace(lambda_svc, "_execute_function", with_patience)


def _event_invoke_config(function: dict[str, Any]) -> dict[str, Any]:
    by_qualifier = function.get("event_invoke_configs") or {}
    return function.get("event_invoke_config") or by_qualifier.get("$LATEST") or {}


@mend("function-dead-letters")
def function_dead_letters() -> None:
    """A function's dead letter is the event itself.

    MiniStack sends the envelope that belongs to failure destinations. A dead-letter queue gets the event unchanged,
    with the message attributes RequestID, ErrorCode (an HTTP status) and ErrorMessage (cut at 1 KB). RequestID is
    here the last try's; on AWS all tries have the same.
    Source: docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
    """

    def with_request_id(dispatch: Callable[..., Result]) -> Callable[..., Result]:
        def dispatched(
            function: dict[str, Any], config: dict[str, Any], event: Any, request_id: str, *rest: Any
        ) -> Any:
            return {**dispatch(function, config, event, request_id, *rest), "request_id": request_id}

        return dispatched

    def with_plain_event(route: Callable[..., None]) -> Callable[..., None]:
        def routed(target: str, name: str, event: Any, result: Result) -> None:
            function = lambda_svc._functions.get(name) or {}
            dead_letters = (function.get("config") or {}).get("DeadLetterConfig") or {}
            queue = sqs._queue_by_arn(target)
            if dead_letters.get("TargetArn") != target or queue is None:
                route(target, name, event, result)
                return
            body = result.get("body")
            message = str(body.get("errorMessage", "")) if isinstance(body, dict) else str(body)
            attributes = {
                "RequestID": {"DataType": "String", "StringValue": result.get("request_id") or new_uuid()},
                "ErrorCode": {"DataType": "Number", "StringValue": "429" if result.get("throttle") else "200"},
                "ErrorMessage": {"DataType": "String", "StringValue": _first_bytes(message) or "Unhandled"},
            }
            sqs._act_send_message({"MessageBody": json.dumps(event), "MessageAttributes": attributes}, queue["url"])

        return routed

    replace(lambda_svc, "_execute_function_dispatch", with_request_id)
    replace(lambda_svc, "_route_async_failure", with_plain_event)


def _first_bytes(message: str) -> str:
    return message.encode()[:_LARGEST_ERROR_MESSAGE].decode(errors="ignore")


@mend("invocation-metrics")
def invocation_metrics() -> None:
    """Every invocation is measured, whatever started it.

    MiniStack records AWS/Lambda metrics where the Invoke API is called, so that an event source, a schedule or a
    retry leaves none, and an asynchronous failure is never an error. Lambda records Invocations, Errors and Duration
    for each time that the function's code runs, and Throttles where it may not run; what is throttled is no
    invocation.
    Source: docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html.
    """

    def record(name: str, metric: str, value: float, unit: str) -> None:
        cloudwatch.record_metric("AWS/Lambda", metric, value, unit, {"FunctionName": name})

    def with_metrics(dispatch: Callable[..., Result]) -> Callable[..., Result]:
        def dispatched(function: dict[str, Any], config: dict[str, Any], *rest: Any) -> Result:
            started = time.monotonic()
            result = dispatch(function, config, *rest)
            name = config["FunctionName"]
            record(name, "Invocations", 1, "Count")
            record(name, "Errors", 1 if result.get("error") else 0, "Count")
            record(name, "Throttles", 0, "Count")
            record(name, "Duration", (time.monotonic() - started) * 1000, "Milliseconds")
            return result

        return dispatched

    def with_throttles(acquire: Callable[..., tuple[str | None, str | None]]) -> Callable[..., Any]:
        def acquired(function: dict[str, Any], config: dict[str, Any]) -> tuple[str | None, str | None]:
            slot, limit = acquire(function, config)
            if slot is None:
                record(config["FunctionName"], "Throttles", 1, "Count")
            return slot, limit

        return acquired

    replace(lambda_svc, "_execute_function_dispatch", with_metrics)
    replace(lambda_svc, "_acquire_execution_slot", with_throttles)
    replace(lambda_svc, "_emit_lambda_metrics", lambda _original: lambda *_args, **_named: None)


@mend("embedded-metrics")
def embedded_metrics() -> None:
    """Metrics embedded in a function's log are recorded.

    MiniStack keeps such lines as text alone. CloudWatch Logs makes metrics of every log event in the embedded metric
    format: a JSON object whose `_aws.CloudWatchMetrics` names its members that are metrics and dimensions.
    Source:
    docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html.
    """

    def with_metrics(emit: Callable[..., None]) -> Callable[..., None]:
        def emitted(function: dict[str, Any], request_id: str, log: str, *rest: Any, **named: Any) -> None:
            emit(function, request_id, log, *rest, **named)
            for line in (log or "").splitlines():
                if '"_aws"' not in line:
                    continue
                try:
                    _record_embedded(json.loads(line))
                except (AttributeError, KeyError, TypeError, ValueError) as reason:
                    logger.warning("no embedded metrics (%s) in: %s", reason, line)

        return emitted

    replace(lambda_svc, "_emit_lambda_logs", with_metrics)


def _record_embedded(entry: dict[str, Any]) -> None:
    for directive in entry["_aws"]["CloudWatchMetrics"]:
        for dimension_names in directive.get("Dimensions") or [[]]:
            dimensions = {name: str(entry[name]) for name in dimension_names}
            for metric in directive["Metrics"]:
                values = entry[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    unit = metric.get("Unit", "None")
                    cloudwatch.record_metric(directive["Namespace"], metric["Name"], float(value), unit, dimensions)
