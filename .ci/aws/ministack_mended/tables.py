"""Mends of tables as templates make them."""

import copy
from collections.abc import Callable
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


@mend("partiql-streams")
def partiql_streams() -> None:
    """What a PartiQL statement writes goes into the table's stream, as what other writes do.

    MiniStack tells the stream of no statement, so that whoever follows it misses all rows that were written in batches.
    Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html.
    """

    def told(run: Callable[..., Any], target: Callable[[dict[str, Any], dict[str, Any]], tuple[Any, Any]]) -> Any:
        def execute(table: dict[str, Any], parsed: dict[str, Any], *rest: Any) -> Any:
            partition, sort = target(table, parsed)
            before = copy.deepcopy(table["items"].get(partition, {}).get(sort))
            answer = run(table, parsed, *rest)
            after = table["items"].get(partition, {}).get(sort)
            if answer[0] == 200 and after != before:
                name = "REMOVE" if after is None else "INSERT" if before is None else "MODIFY"
                dynamodb._emit_stream_event(parsed["table"], name, before, copy.deepcopy(after))
            return answer

        return execute

    def inserted(table: dict[str, Any], parsed: dict[str, Any]) -> tuple[Any, Any]:
        item = parsed.get("item", {})
        item = item["M"] if isinstance(item, dict) and set(item) == {"M"} else item
        key = dynamodb._extract_key_val
        sort = key(item.get(table["sk_name"])) if table["sk_name"] else "__no_sort__"
        return key(item.get(table["pk_name"])), sort

    def named(table: dict[str, Any], parsed: dict[str, Any]) -> tuple[Any, Any]:
        partition, sort, _condition, _error = dynamodb._partiql_key_target(table, parsed)
        return partition, sort

    dynamodb._partiql_insert = told(dynamodb._partiql_insert, inserted)
    dynamodb._partiql_update = told(dynamodb._partiql_update, named)
    dynamodb._partiql_delete = told(dynamodb._partiql_delete, named)
