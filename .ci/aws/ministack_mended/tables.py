"""Mends of tables as templates make them."""

from typing import Any

from ministack.services import dynamodb
from ministack.services.cloudformation import provisioners

from .registry import mend


@mend("table-time-to-live")
def table_time_to_live() -> None:
    """TimeToLiveSpecification of a table in a template is kept.

    MiniStack drops it, although it expires items as the DynamoDB API says. In CloudFormation it switches a table's time
    to live on and off.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-dynamodb-table.html.
    """
    handler = provisioners._RESOURCE_HANDLERS["AWS::DynamoDB::Table"]
    create, update = handler["create"], handler["update"]

    def keep(table: str, props: dict[str, Any]) -> None:
        if specification := props.get("TimeToLiveSpecification"):
            enabled = str(specification.get("Enabled")).lower() == "true"
            specification = {"AttributeName": specification.get("AttributeName"), "Enabled": enabled}
            dynamodb._update_ttl({"TableName": table, "TimeToLiveSpecification": specification})
        else:
            dynamodb._ttl_settings.pop(table, None)

    def created(logical_id: str, props: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        result: tuple[str, dict[str, Any]] = create(logical_id, props, stack)
        keep(result[0], props)
        return result

    def updated(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        result: tuple[str, dict[str, Any]] = update(physical_id, old, new, stack, logical_id)
        keep(result[0], new)
        return result

    handler["create"], handler["update"] = created, updated
