"""Mends of buckets as templates make them."""

from typing import Any

from ministack.services import s3
from ministack.services.cloudformation import provisioners

from .registry import mend


@mend("full-buckets")
def full_buckets() -> None:
    """A bucket that holds something is not deleted with its stack.

    MiniStack deletes a bucket with all that is in it. CloudFormation deletes empty ones only, those without older versions
    and delete markers; of any other the deletion fails.
    Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-s3-bucket.html.
    """
    handler = provisioners._RESOURCE_HANDLERS["AWS::S3::Bucket"]
    delete = handler["delete"]

    def deleted(physical_id: str, props: dict[str, Any]) -> None:
        bucket = s3._buckets.get(physical_id) or {}
        is_versioned = any(name == physical_id and versions for (name, _), versions in s3._object_versions.items())
        if bucket.get("objects") or is_versioned:
            raise ValueError("The bucket you tried to delete is not empty. You must delete all versions in the bucket.")
        delete(physical_id, props)

    handler["delete"] = deleted
