"""Mends of Athena: what templates save, and views."""

import base64
import json
import re
from collections.abc import Callable
from typing import Any

from ministack.services import athena, glue
from ministack.services.cloudformation import provisioners

from .registry import mend, replace

_VIEW = re.compile(r"/\* Presto View: (\S+) \*/")


@mend("named-queries")
def named_queries() -> None:
    """A template can save queries.

    MiniStack refuses AWS::Athena::NamedQuery, although it has the API's named queries. CloudFormation makes one of each such
    resource, and makes a new one where any property changes.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-athena-namedquery.html.
    """

    def create(logical_id: str, props: dict[str, Any], stack: str) -> tuple[str, dict[str, Any]]:
        _status, _headers, body = athena._create_named_query(props)
        query = str(json.loads(body)["NamedQueryId"])
        return query, {"NamedQueryId": query}

    def delete(physical_id: str, props: dict[str, Any]) -> None:
        athena._delete_named_query({"NamedQueryId": physical_id})

    def update(
        physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, logical_id: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        created = create(logical_id or physical_id, new, stack)
        delete(physical_id, old)
        return created

    provisioners._RESOURCE_HANDLERS["AWS::Athena::NamedQuery"] = {"create": create, "update": update, "delete": delete}


@mend("views")
def views() -> None:
    """A view of Athena's can be asked.

    MiniStack keeps a table of Glue's whose type is VIRTUAL_VIEW, and finds no such table when it is asked. Athena asks the
    SELECT that stands in its ViewOriginalText, as JSON in Base64, in the schema that stands beside it.
    Source: docs.aws.amazon.com/athena/latest/ug/views.html; io.trino.plugin.hive.ViewReaderUtil of Trino.
    """

    def with_views(rewrite: Callable[..., Any]) -> Callable[..., Any]:
        async def rewritten(query: str, database: str | None, catalog: str | None = None) -> Any:
            return await rewrite(_expanded(query, database), database, catalog)

        return rewritten

    replace(athena, "_rewrite_data_paths", with_views)


def _expanded(query: str, database: str | None) -> str:
    """A query with the SELECT of each view in place of its name."""
    edits = set()
    for reference in athena._table_references(query):
        table = glue._tables.get(f"{reference.database or database or 'default'}/{reference.table}") or {}
        encoded = _VIEW.fullmatch(table.get("ViewOriginalText") or "")
        if table.get("TableType") != "VIRTUAL_VIEW" or encoded is None:
            continue
        view = json.loads(base64.b64decode(encoded[1]))
        alias = "" if reference.aliased else f' AS "{reference.table}"'
        edits.add((reference.start, reference.end, f"({_expanded(view['originalSql'], view['schema'])}){alias}"))
    for start, end, select in sorted(edits, reverse=True):
        query = query[:start] + select + query[end:]
    return query
