"""Mends of AWS::CloudFormation::Stack. MiniStack deploys and deletes nested stacks by code of their own, which lacks
much of what it does for a stack at the top.
"""

import asyncio
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ministack.core.responses import get_region
from ministack.services import cloudformation
from ministack.services.cloudformation import engine, handlers, provisioners, stacks

from .registry import mend, replace

Deployed = tuple[str, dict[str, Any]]
Deploy = Callable[..., Deployed]

# The parameters of the nested stack that is being deployed in this context; None outside of one.
_nested_parameters: ContextVar[list[dict[str, str]] | None] = ContextVar("nested_parameters", default=None)

# Stacks of which nothing is left, and which therefore import nothing any more.
_EMPTY = {"DELETE_COMPLETE", "ROLLBACK_COMPLETE"}


def _record(stack_id: str) -> dict[str, Any]:
    return cloudformation._stacks[provisioners._nested_stack_lookup_name(stack_id)]


def _importers(export: str, exporter: str) -> list[str]:
    """The stacks, other than the exporter, that import an export."""
    return [
        name
        for name, stack in cloudformation._stacks.items()
        if stack["StackId"] != exporter
        and stack.get("StackStatus") not in _EMPTY
        and export in handlers._imported_export_names(stack, name)
    ]


@mend("nested-transforms")
def nested_transforms() -> None:
    """The transforms of nested templates are applied.

    MiniStack applies AWS::Serverless and AWS::LanguageExtensions to the template at the top alone, and refuses
    AWS::Serverless::Function in a nested one. CloudFormation applies a nested template's own transforms, with the
    nested stack's parameters; the parent needs CAPABILITY_AUTO_EXPAND for it.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html, Capabilities.
    """

    def with_parameters(deploy: Deploy) -> Deploy:
        def deployed(logical_id: str, props: dict[str, Any], parent: str, **rest: Any) -> Deployed:
            given = props.get("Parameters") or {}
            parameters = [{"Key": key, "Value": "" if value is None else str(value)} for key, value in given.items()]
            token = _nested_parameters.set(parameters)
            try:
                return deploy(logical_id, props, parent, **rest)
            finally:
                _nested_parameters.reset(token)

        return deployed

    def with_transforms(parse: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
        def parsed(body: str) -> dict[str, Any]:
            template = parse(body)
            parameters = _nested_parameters.get()
            if parameters is None:
                return template
            transformed = engine._apply_transforms(template, parameters)
            # MiniStack hands a failure on inside of the template.
            if failure := getattr(transformed, "error", None):
                raise ValueError(failure)
            return transformed

        return parsed

    replace(provisioners, "_cfn_nested_stack_deploy", with_parameters)
    replace(engine, "_parse_template", with_transforms)


@mend("nested-exports")
def nested_exports() -> None:
    """The exports of nested stacks exist, and are guarded.

    MiniStack drops `Export` from a nested stack's outputs, so that nothing can import them. In CloudFormation an export
    belongs to account and region, whichever stack makes it; its name is unique there, and it can be neither changed nor
    removed while a stack imports it.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-exports.html.
    """

    def with_exports(deploy: Deploy) -> Deploy:
        def deployed(*args: Any, **rest: Any) -> Deployed:
            stack_id, attributes = deploy(*args, **rest)
            stack = _record(stack_id)
            outputs, exports = stacks._resolve_stack_outputs(
                stack["_template"].get("Outputs") or {},
                stack["_conditions"],
                stack["_resources"],
                stack["_resolved_params"],
                stack["_template"].get("Mappings") or {},
                stack["StackName"],
                stack_id,
            )
            try:
                _publish(stack_id, exports)
            except ValueError as refusal:
                stack["StackStatus"] = stack["StackStatus"].replace("_COMPLETE", "_FAILED")
                stack["StackStatusReason"] = str(refusal)
                raise
            stack["Outputs"] = outputs
            return stack_id, attributes

        return deployed

    replace(provisioners, "_cfn_nested_stack_deploy", with_exports)


def _publish(stack_id: str, exports: dict[str, dict[str, str]]) -> None:
    """Makes these a stack's exports, in place of those that it had, or refuses as CloudFormation does."""
    had = {name: export for name, export in cloudformation._exports.items() if export["StackId"] == stack_id}
    for name in exports:
        holder = cloudformation._exports.get(name)
        if holder and holder["StackId"] != stack_id:
            raise ValueError(f"Export with name {name} is already exported by stack {holder['StackId']}.")
    for name, export in had.items():
        if name in exports and exports[name]["Value"] == export["Value"]:
            continue
        if users := _importers(name, stack_id):
            verb = "updated" if name in exports else "deleted"
            raise ValueError(f"Export {name} cannot be {verb} as it is in use by {', '.join(users)}")
    for name in had:
        cloudformation._exports.pop(name, None)
    cloudformation._exports.update(exports)


@mend("nested-attributes")
def nested_attributes() -> None:
    """Fn::GetAtt still works after an update of a nested stack.

    When a nested stack is updated, MiniStack forgets the attributes of its resources that did not change, so that
    whatever reads them fails. In CloudFormation Fn::GetAtt returns a resource's attribute, whichever update last
    touched it.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-getatt.html.
    """

    def with_attributes(update: Callable[..., Deployed]) -> Callable[..., Deployed]:
        def updated(
            resource_type: str,
            physical_id: str,
            old: dict[str, Any],
            new: dict[str, Any],
            stack: str,
            logical_id: str | None = None,
            attributes: dict[str, Any] | None = None,
        ) -> Deployed:
            if attributes is None:
                resources = (cloudformation._stacks.get(stack) or {}).get("_resources") or {}
                attributes = (resources.get(logical_id) or {}).get("Attributes")
            return update(resource_type, physical_id, old, new, stack, logical_id, attributes)

        return updated

    replace(provisioners, "_update_resource", with_attributes)


@mend("nested-deletion")
def nested_deletion() -> None:
    """A nested stack is deleted by the rules of any other.

    MiniStack deletes every resource of a nested stack, whatever its DeletionPolicy says, deletes it although its
    exports are imported, and reports success where a resource could not be deleted. CloudFormation keeps what is to
    be retained, deletes no stack whose exports are in use, and a nested stack that is not deleted fails the deletion
    of its parent.
    Source: aws-attribute-deletionpolicy.html and using-cfn-stack-exports.html in
    docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide.
    """

    def delete(physical_id: str, props: dict[str, Any]) -> None:
        name = provisioners._nested_stack_lookup_name(physical_id)
        stack = cloudformation._stacks.get(name)
        if stack is None or stack.get("StackStatus") == "DELETE_COMPLETE":
            return
        exports = [output["ExportName"] for output in stack.get("Outputs", []) if output.get("ExportName")]
        for export in exports:
            if users := _importers(export, stack["StackId"]):
                raise ValueError(f"Export {export} cannot be deleted as it is in use by {', '.join(users)}")
        # Nested stacks are always handled on a thread of their own, which has no event loop yet.
        asyncio.run(stacks._delete_stack_async(name, stack["StackId"]))
        if stack["StackStatus"] != "DELETE_COMPLETE":
            raise ValueError(
                f"Embedded stack {stack['StackId']} was not successfully deleted: {stack['StackStatusReason']}"
            )

    provisioners._RESOURCE_HANDLERS["AWS::CloudFormation::Stack"]["delete"] = delete


@mend("nested-rollback")
def nested_rollback() -> None:
    """What a nested stack made before it failed to be created is removed.

    MiniStack leaves the resources of a nested stack that could not be created where they are: the next try finds their
    names taken. In CloudFormation the roll-back of the parent takes the nested stack with it.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-nested-stacks.html.
    """

    def with_rollback(deploy: Deploy) -> Deploy:
        def deployed(logical_id: str, props: dict[str, Any], parent: str, **rest: Any) -> Deployed:
            known = set(cloudformation._stacks)
            try:
                return deploy(logical_id, props, parent, **rest)
            except Exception:
                if rest.get("previous_physical_id") is None:
                    for name in set(cloudformation._stacks) - known:
                        stack = cloudformation._stacks[name]
                        if stack.get("_parent_stack_name") == parent and stack["StackStatus"] == "CREATE_FAILED":
                            provisioners._delete_resource(
                                "AWS::CloudFormation::Stack", stack["StackId"], props, parent, logical_id
                            )
                raise

        return deployed

    replace(provisioners, "_cfn_nested_stack_deploy", with_rollback)


@mend("nested-template-urls")
def nested_template_urls() -> None:
    """`sam delete` can read where nested templates lie.

    sam writes the address of S3 that it used into the template, here MiniStack's own, and then refuses to delete the
    stack, because it recognises only addresses that begin with https://s3. GetTemplate therefore names S3 as AWS
    does; MiniStack finds the template by bucket and key, whatever the host.
    Source: samcli/lib/utils/s3.py of sam 1.167.0.
    """
    answer = handlers._ACTION_HANDLERS["GetTemplate"]

    def answered(params: dict[str, Any]) -> Any:
        status, headers, body = answer(params)
        here = os.environ["AWS_ENDPOINT_URL"].encode()
        return status, headers, body.replace(here, f"https://s3.{get_region()}.amazonaws.com".encode())

    handlers._ACTION_HANDLERS["GetTemplate"] = answered
