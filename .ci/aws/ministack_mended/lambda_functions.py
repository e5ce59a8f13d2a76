"""Mends of AWS::Lambda::Function: properties that MiniStack's CloudFormation drops without a word."""

from collections.abc import Callable
from typing import Any

from ministack.services import lambda_svc
from ministack.services.cloudformation import provisioners

from .registry import mend

# A function's record in MiniStack, and the properties that its template gives.
Keep = Callable[[dict[str, Any], dict[str, Any]], None]


def _after_every_deployment(keep: Keep) -> None:
    """Has `keep` put properties into the record of a function whenever CloudFormation creates or updates one."""
    handler = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create, update = handler["create"], handler["update"]

    def created(logical_id: str, props: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        result = create(logical_id, props, stack)
        keep(lambda_svc._functions[result[0]], props)
        return result

    def updated(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        result = update(physical_id, old, new, stack, logical_id)
        keep(lambda_svc._functions[result[0]], new)
        return result

    handler["create"], handler["update"] = created, updated


@mend("function-dead-letter-config")
def function_dead_letter_config() -> None:
    """DeadLetterConfig of a function in a template is kept.

    MiniStack drops it. Lambda sends to its target the asynchronous events that could not be processed.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-lambda-function.html.
    """

    def keep(function: dict[str, Any], props: dict[str, Any]) -> None:
        if props.get("DeadLetterConfig"):
            function["config"]["DeadLetterConfig"] = props["DeadLetterConfig"]
        else:
            function["config"].pop("DeadLetterConfig", None)

    _after_every_deployment(keep)


@mend("function-reserved-concurrency")
def function_reserved_concurrency() -> None:
    """ReservedConcurrentExecutions of a function in a template is kept.

    MiniStack drops it, although it enforces what the Lambda API sets. In CloudFormation it reserves that many
    simultaneous executions for the function, and allows no more.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-lambda-function.html.
    """

    def keep(function: dict[str, Any], props: dict[str, Any]) -> None:
        reserved = props.get("ReservedConcurrentExecutions")
        function["concurrency"] = None if reserved is None else int(reserved)

    _after_every_deployment(keep)
