"""Proof of every mend of MiniStack: with it AWS's behaviour is there, and without it this MiniStack still lacks it.

    pytest .ci/aws/canaries.py

When a newer MiniStack is right by itself, the mend's canary fails and says which mend to delete. Each behaviour is
asked for from the outside, through the AWS API. `NotAsOnAws` is raised where the behaviour is missing and nowhere
else, so that a canary cannot mistake a broken test for a missing behaviour.
"""

import base64
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from samcli.lib.utils.s3 import parse_s3_url

from emulator import ACCOUNT, REGION, Emulator, NotInTime, wait_for

HERE = Path(__file__).resolve().parent

ROLE = f"arn:aws:iam::{ACCOUNT}:role/canary"

Behaviour = Callable[[Emulator], None]
BEHAVIOURS: dict[str, Behaviour] = {}


class NotAsOnAws(Exception):
    """MiniStack behaved in a way that AWS does not."""


def behaviour(mend: str) -> Callable[[Behaviour], Behaviour]:
    """Registers the behaviour that a mend brings about."""

    def register(check: Behaviour) -> Behaviour:
        BEHAVIOURS[mend] = check
        return check

    return register


def patience(emulator: Emulator) -> float:
    """How many seconds to wait for what the emulator does in its own time: few, where that is expected in vain."""
    return 5.0 if emulator.without else 30.0


def expect(as_on_aws: bool, otherwise: str) -> None:
    if not as_on_aws:
        raise NotAsOnAws(otherwise)


@pytest.fixture(scope="session")
def mended() -> Iterator[Emulator]:
    with Emulator(retry_seconds=0.2) as emulator:
        yield emulator


def mends() -> list[str]:
    listed = subprocess.run(
        [sys.executable, "-m", "ministack_mended", "--list"], capture_output=True, text=True, check=True, cwd=HERE
    )
    return [line.split()[0] for line in listed.stdout.splitlines()]


def test_every_mend_has_a_canary() -> None:
    assert sorted(mends()) == sorted(BEHAVIOURS)


@pytest.mark.parametrize("mend", BEHAVIOURS)
def test_mended_ministack_behaves_as_aws(mended: Emulator, mend: str) -> None:
    BEHAVIOURS[mend](mended)


@pytest.mark.parametrize("mend", BEHAVIOURS)
def test_ministack_still_needs_the_mend(mend: str) -> None:
    with Emulator(without=[mend], retry_seconds=0.2) as emulator:
        try:
            BEHAVIOURS[mend](emulator)
        except NotAsOnAws:
            return
    pytest.fail(f"MiniStack {importlib.metadata.version('ministack')} no longer needs the mend {mend}: delete it")


def test_an_unknown_version_is_refused_by_name(tmp_path: Any) -> None:
    pretend = "import importlib.metadata as m; m.version = lambda name: '9.9.9'; import runpy; "
    pretend += "runpy.run_module('ministack_mended', run_name='__main__')"
    refused = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False, cwd=HERE)
    assert refused.returncode == 1
    assert "MiniStack 9.9.9 is installed, but the mends were written for 1.5.33" in refused.stderr


def test_without_its_own_address_it_does_not_start() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL"}
    command = [sys.executable, "-m", "ministack_mended"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, env=environment)
    assert refused.returncode == 1
    assert "set AWS_ENDPOINT_URL" in refused.stderr


def test_a_failing_scheduled_function_is_tried_again_then_buried_and_tells_the_topic(mended: Emulator) -> None:
    sns, cloudwatch = mended.client("sns"), mended.client("cloudwatch")
    told = make_queue(mended, "chain-told")
    topic = sns.create_topic(Name="chain")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn_of(told), Attributes={"RawMessageDelivery": "true"})
    cloudwatch.put_metric_alarm(
        AlarmName="chain-errors",
        Namespace="AWS/Lambda",
        MetricName="Errors",
        Dimensions=[{"Name": "FunctionName", "Value": "chain"}],
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="notBreaching",
        AlarmActions=[topic],
    )
    buried = make_queue(mended, "chain-buried")
    function = make_function(mended, "chain", FAILS, dead_letters=buried)
    schedule_once(mended, "chain", function, {"case": "chain"})

    letter = receive(mended, buried)

    assert json.loads(letter["Body"]) == {"case": "chain"}
    assert metric_sum(mended, "AWS/Lambda", "Errors", {"FunctionName": "chain"}) == 3
    alarm = json.loads(receive(mended, told)["Body"])
    assert (alarm["AlarmName"], alarm["NewStateValue"]) == ("chain-errors", "ALARM")


# Nested stacks


@behaviour("nested-transforms")
def nested_templates_are_transformed(emulator: Emulator) -> None:
    child = {
        "Transform": ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"],
        "Parameters": {"WhenRemoved": {"Type": "String"}},
        "Resources": {
            "Kept": {"Type": "AWS::SQS::Queue", "DeletionPolicy": {"Ref": "WhenRemoved"}},
            "Function": {
                "Type": "AWS::Serverless::Function",
                "Properties": {
                    "FunctionName": "transformed",
                    "InlineCode": FINE,
                    "Handler": "index.handler",
                    "Runtime": "python3.12",
                    "Role": ROLE,
                },
            },
        },
    }
    parent = {"Child": nested(emulator, "transformed", child, {"WhenRemoved": "Delete"})}
    status = deploy(emulator, "transformed", parent)
    expect(status == "CREATE_COMPLETE", f"the nested SAM template ended in {status}")
    emulator.client("lambda").get_function(FunctionName="transformed")


@behaviour("nested-exports")
def exports_of_nested_stacks_are_imported_and_go_with_them(emulator: Emulator) -> None:
    exporter = {
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "exported"}}},
        "Outputs": {"Queue": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}, "Export": {"Name": "exports-queue"}}},
    }
    importer = {"Resources": {"Name": parameter("imported", {"Fn::ImportValue": "exports-queue"})}}
    parent = {
        "Exporter": nested(emulator, "exporter", exporter),
        "Importer": nested(emulator, "importer", importer) | {"DependsOn": "Exporter"},
    }
    status = deploy(emulator, "exports", parent)
    expect(status == "CREATE_COMPLETE", f"a stack with an import between nested stacks ended in {status}")
    imported = emulator.client("ssm").get_parameter(Name="imported")["Parameter"]["Value"]
    assert imported == f"arn:aws:sqs:{REGION}:{ACCOUNT}:exported"

    status = remove(emulator, "exports")
    expect(status == "DELETE_COMPLETE", f"its deletion ended in {status}")
    exports = [export["Name"] for export in emulator.client("cloudformation").list_exports()["Exports"]]
    expect("exports-queue" not in exports, "the export outlived its stack")


@behaviour("nested-attributes")
def attributes_survive_an_update_of_a_nested_stack(emulator: Emulator) -> None:
    child = {
        "Parameters": {"Value": {"Type": "String"}},
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "kept"}},
            "Changes": parameter("changes", {"Ref": "Value"}),
        },
        "Outputs": {"Queue": {"Value": {"Fn::GetAtt": ["Queue", "Arn"]}}},
    }
    parent = {"Child": nested(emulator, "attributes", child, {"Value": "first"})}
    assert deploy(emulator, "attributes", parent) == "CREATE_COMPLETE"

    parent = {"Child": nested(emulator, "attributes", child, {"Value": "second"})}
    status = deploy(emulator, "attributes", parent, update=True)
    expect(status == "UPDATE_COMPLETE", f"the update of a nested stack ended in {status}")
    assert emulator.client("ssm").get_parameter(Name="changes")["Parameter"]["Value"] == "second"


@behaviour("nested-deletion")
def a_nested_stack_keeps_what_is_retained_and_stays_while_it_is_used(emulator: Emulator) -> None:
    child = {
        "Resources": {
            "Queue": {
                "Type": "AWS::SQS::Queue",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {"QueueName": "retained"},
            }
        },
        "Outputs": {"Queue": {"Value": {"Ref": "Queue"}, "Export": {"Name": "deletion-queue"}}},
    }
    assert deploy(emulator, "deletion", {"Child": nested(emulator, "deletion", child)}) == "CREATE_COMPLETE"
    user = {"Name": parameter("uses-export", {"Fn::ImportValue": "deletion-queue"})}
    assert deploy(emulator, "deletion-user", user) == "CREATE_COMPLETE"

    status = remove(emulator, "deletion")
    expect(status == "DELETE_FAILED", f"the deletion of a nested stack whose export is in use ended in {status}")

    assert remove(emulator, "deletion-user") == "DELETE_COMPLETE"
    assert remove(emulator, "deletion") == "DELETE_COMPLETE"
    queues = emulator.client("sqs").list_queues(QueueNamePrefix="retained").get("QueueUrls", [])
    expect(len(queues) == 1, "a retained queue was deleted with its nested stack")


@behaviour("nested-rollback")
def a_nested_stack_that_fails_leaves_nothing(emulator: Emulator) -> None:
    child = {
        "Resources": {
            "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "rolled-back"}},
            "Fails": {
                "Type": "AWS::Lambda::EventInvokeConfig",
                "DependsOn": "Queue",
                "Properties": {"FunctionName": "there-is-none", "Qualifier": "$LATEST"},
            },
        }
    }
    assert deploy(emulator, "rollback", {"Child": nested(emulator, "rollback", child)}) == "ROLLBACK_COMPLETE"
    queues = emulator.client("sqs").list_queues(QueueNamePrefix="rolled-back").get("QueueUrls", [])
    expect(not queues, "the queue of a nested stack that failed is still there")


@behaviour("nested-template-urls")
def sam_finds_nested_templates_again(emulator: Emulator) -> None:
    child = {"Resources": {"Name": parameter("found-again", "anything")}}
    assert deploy(emulator, "urls", {"Child": nested(emulator, "urls", child)}) == "CREATE_COMPLETE"
    answer = emulator.client("cloudformation").get_template(StackName="urls", TemplateStage="Original")
    url = answer["TemplateBody"]["Resources"]["Child"]["Properties"]["TemplateURL"]
    try:
        place = parse_s3_url(url)
    except ValueError as refusal:
        raise NotAsOnAws(str(refusal)) from None
    assert place == {"Bucket": "templates", "Key": "urls.json"}


# Functions in templates


def function_stack(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "Function": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": "configured",
                "Code": {"ZipFile": FINE},
                "Handler": "index.handler",
                "Runtime": "python3.12",
                "Role": ROLE,
            }
            | properties,
        }
    }


@behaviour("function-dead-letter-config")
def a_functions_dead_letter_queue_is_set_and_unset(emulator: Emulator) -> None:
    functions = emulator.client("lambda")
    queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:anything"
    configured = function_stack({"DeadLetterConfig": {"TargetArn": queue}})
    assert deploy(emulator, "dead-letter-config", configured) == "CREATE_COMPLETE"
    found = functions.get_function_configuration(FunctionName="configured").get("DeadLetterConfig")
    expect(found == {"TargetArn": queue}, f"DeadLetterConfig is {found}")

    assert deploy(emulator, "dead-letter-config", function_stack({}), update=True) == "UPDATE_COMPLETE"
    found = functions.get_function_configuration(FunctionName="configured").get("DeadLetterConfig")
    expect(not found, f"DeadLetterConfig is still {found}")
    assert remove(emulator, "dead-letter-config") == "DELETE_COMPLETE"


@behaviour("function-reserved-concurrency")
def a_functions_concurrency_is_reserved_and_released(emulator: Emulator) -> None:
    functions = emulator.client("lambda")
    configured = function_stack({"ReservedConcurrentExecutions": 3})
    assert deploy(emulator, "concurrency", configured) == "CREATE_COMPLETE"
    found = functions.get_function_concurrency(FunctionName="configured").get("ReservedConcurrentExecutions")
    expect(found == 3, f"ReservedConcurrentExecutions is {found}")

    assert deploy(emulator, "concurrency", function_stack({}), update=True) == "UPDATE_COMPLETE"
    found = functions.get_function_concurrency(FunctionName="configured").get("ReservedConcurrentExecutions")
    expect(found is None, f"ReservedConcurrentExecutions is still {found}")
    assert remove(emulator, "concurrency") == "DELETE_COMPLETE"


# Tables in templates


@behaviour("table-time-to-live")
def a_tables_time_to_live_is_set_and_unset(emulator: Emulator) -> None:
    dynamodb = emulator.client("dynamodb")
    properties = {
        "TableName": "expires",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    }
    for enabled, status in ((True, "ENABLED"), (False, "DISABLED")):
        specification = {"TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": enabled}}
        table = {"Table": {"Type": "AWS::DynamoDB::Table", "Properties": properties | specification}}
        ended = deploy(emulator, "time-to-live", table, update=not enabled)
        assert ended == ("CREATE_COMPLETE" if enabled else "UPDATE_COMPLETE")
        found = dynamodb.describe_time_to_live(TableName="expires")["TimeToLiveDescription"]
        expect(found["TimeToLiveStatus"] == status, f"the time to live of a table is {found}, not {status}")
    assert remove(emulator, "time-to-live") == "DELETE_COMPLETE"


@behaviour("partiql-streams")
def a_tables_stream_tells_what_statements_write(emulator: Emulator) -> None:
    dynamodb, streams = emulator.client("dynamodb"), emulator.client("dynamodbstreams")
    dynamodb.create_table(
        TableName="told",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    for statement in (
        "INSERT INTO \"told\" VALUE {'id': '1', 'colour': 'red'}",
        "UPDATE \"told\" SET \"colour\" = 'blue' WHERE \"id\" = '1'",
        "DELETE FROM \"told\" WHERE \"id\" = '1'",
    ):
        answer = dynamodb.batch_execute_statement(Statements=[{"Statement": statement}])
        assert "Error" not in answer["Responses"][0], answer
    arn = dynamodb.describe_table(TableName="told")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    dynamodb.delete_table(TableName="told")
    names = [record["eventName"] for record in records]
    expect(names == ["INSERT", "MODIFY", "REMOVE"], f"a stream tells of {names} where statements wrote")


# Queries in templates


@behaviour("named-queries")
def a_query_is_saved_changed_and_removed(emulator: Emulator) -> None:
    athena = emulator.client("athena")

    def saved() -> list[str]:
        ids = athena.list_named_queries(WorkGroup="primary")["NamedQueryIds"]
        found = athena.batch_get_named_query(NamedQueryIds=ids)["NamedQueries"] if ids else []
        return [query["QueryString"] for query in found if query["Name"] == "canary"]

    for question in ("SELECT 1", "SELECT 2"):
        properties = {"Name": "canary", "Database": "default", "WorkGroup": "primary", "QueryString": question}
        query = {"Query": {"Type": "AWS::Athena::NamedQuery", "Properties": properties}}
        try:
            status = deploy(emulator, "saved", query, update=question != "SELECT 1")
        except ClientError as refusal:
            raise NotAsOnAws(str(refusal)) from None
        assert status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), status
        assert saved() == [question]
    assert remove(emulator, "saved") == "DELETE_COMPLETE"
    assert saved() == []


# Views


@behaviour("views")
def a_view_is_asked_by_its_name(emulator: Emulator) -> None:
    s3, glue = emulator.client("s3"), emulator.client("glue")
    s3.create_bucket(Bucket="viewed")
    s3.put_object(Bucket="viewed", Key="numbers/some.csv", Body=b"1\n2\n3\n")
    glue.create_database(DatabaseInput={"Name": "viewed"})
    columns = [{"Name": "number", "Type": "int"}]
    storage = {
        "Columns": columns,
        "Location": "s3://viewed/numbers/",
        "InputFormat": "org.apache.hadoop.mapred.TextInputFormat",
        "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.serde2.OpenCSVSerde"},
    }
    numbers = {"Name": "numbers", "TableType": "EXTERNAL_TABLE", "StorageDescriptor": storage}
    select = {"originalSql": "SELECT number FROM numbers WHERE number > 1", "catalog": "awsdatacatalog", "schema": "viewed"}
    view = {
        "Name": "larger",
        "TableType": "VIRTUAL_VIEW",
        "StorageDescriptor": {"Columns": columns},
        "ViewOriginalText": f"/* Presto View: {base64.b64encode(json.dumps(select).encode()).decode()} */",
    }
    for table in (numbers, view):
        glue.create_table(DatabaseName="viewed", TableInput=table)

    athena = emulator.client("athena")
    asked = athena.start_query_execution(
        QueryString="SELECT sum(larger.number) FROM larger",
        QueryExecutionContext={"Database": "viewed"},
        ResultConfiguration={"OutputLocation": "s3://viewed/answers/"},
    )["QueryExecutionId"]

    def ended() -> dict[str, Any] | None:
        status = athena.get_query_execution(QueryExecutionId=asked)["QueryExecution"]["Status"]
        return status if status["State"] in ("SUCCEEDED", "FAILED") else None

    status = wait_for("the end of a query", ended)
    expect(status["State"] == "SUCCEEDED", f"a query of a view ended with: {status.get('StateChangeReason')}")
    rows = athena.get_query_results(QueryExecutionId=asked)["ResultSet"]["Rows"]
    assert rows[1]["Data"][0]["VarCharValue"] == "5"


# Buckets in templates


@behaviour("full-buckets")
def a_bucket_goes_with_its_stack_once_it_is_empty(emulator: Emulator) -> None:
    s3 = emulator.client("s3")
    properties = {"BucketName": "filled", "VersioningConfiguration": {"Status": "Enabled"}}
    assert deploy(emulator, "filled", {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": properties}}) == "CREATE_COMPLETE"
    s3.put_object(Bucket="filled", Key="something", Body=b"something")
    status = remove(emulator, "filled")
    expect(status == "DELETE_FAILED", f"the deletion of a bucket that holds something ended in {status}")
    s3.delete_object(Bucket="filled", Key="something")
    assert remove(emulator, "filled") == "DELETE_FAILED", "its older version is still there"
    found = s3.list_object_versions(Bucket="filled")
    for version in found["Versions"] + found["DeleteMarkers"]:
        s3.delete_object(Bucket="filled", Key="something", VersionId=version["VersionId"])
    assert remove(emulator, "filled") == "DELETE_COMPLETE"


# Invocations


@behaviour("scheduled-invocations")
def a_failed_scheduled_invocation_is_buried(emulator: Emulator) -> None:
    buried = make_queue(emulator, "scheduled-buried")
    function = make_function(emulator, "scheduled", FAILS, dead_letters=buried, retries=1)
    events = emulator.client("events")
    events.put_rule(Name="scheduled", EventPattern=json.dumps({"source": ["canary"]}))
    events.put_targets(Rule="scheduled", Targets=[{"Id": "function", "Arn": function}])
    events.put_events(Entries=[{"Source": "canary", "DetailType": "canary", "Detail": "{}"}])
    wait_for("the rule's first invocation", lambda: invocations_logged(emulator, "scheduled") >= 1)
    try:
        receive(emulator, buried, patience(emulator))
    except NotInTime:
        raise NotAsOnAws("the failed invocation left no dead letter") from None
    expect(invocations_logged(emulator, "scheduled") == 2, "the failed invocation was not tried again")


@behaviour("throttled-events")
def a_throttled_event_waits_for_its_turn(emulator: Emulator) -> None:
    buried = make_queue(emulator, "throttled-buried")
    make_function(emulator, "throttled", WAITS, dead_letters=buried, retries=0)
    functions = emulator.client("lambda")
    functions.put_function_concurrency(FunctionName="throttled", ReservedConcurrentExecutions=1)
    begun, go_on = emulator.folder / "begun", emulator.folder / "go-on"
    event = json.dumps({"begun": str(begun), "go_on": str(go_on)})
    functions.invoke(FunctionName="throttled", InvocationType="Event", Payload=event)
    wait_for("the first invocation", begun.exists)
    functions.invoke(FunctionName="throttled", InvocationType="Event", Payload=event)
    dimensions = {"FunctionName": "throttled"}
    wait_for("a throttled try", lambda: metric_sum(emulator, "AWS/Lambda", "Throttles", dimensions) > 0)
    go_on.touch()

    def ended() -> bool:
        return invocations_logged(emulator, "throttled") + waiting(emulator, buried) == 2

    wait_for("the end of both invocations", ended)
    expect(waiting(emulator, buried) == 0, "the throttled event was buried although it had not been tried")


@behaviour("function-dead-letters")
def a_functions_dead_letter_is_the_event(emulator: Emulator) -> None:
    buried = make_queue(emulator, "letters-buried")
    make_function(emulator, "letters", FAILS, dead_letters=buried, retries=0)
    emulator.client("lambda").invoke(FunctionName="letters", InvocationType="Event", Payload=b'{"the": "event"}')
    letter = receive(emulator, buried)
    expect(json.loads(letter["Body"]) == {"the": "event"}, f"the dead letter is {letter['Body']}")
    attributes = letter.get("MessageAttributes", {})
    expect(sorted(attributes) == ["ErrorCode", "ErrorMessage", "RequestID"], f"its attributes are {attributes}")
    assert attributes["ErrorCode"] == {"DataType": "Number", "StringValue": "200"}
    assert attributes["ErrorMessage"]["StringValue"] == "told to fail"


@behaviour("invocation-metrics")
def an_asynchronous_failure_is_an_error_of_the_function(emulator: Emulator) -> None:
    buried = make_queue(emulator, "metrics-buried")
    make_function(emulator, "metrics", FAILS, dead_letters=buried, retries=1)
    emulator.client("lambda").invoke(FunctionName="metrics", InvocationType="Event", Payload=b"{}")
    receive(emulator, buried)
    dimensions = {"FunctionName": "metrics"}
    found = [
        metric_sum(emulator, "AWS/Lambda", metric, dimensions) for metric in ("Invocations", "Errors", "Throttles")
    ]
    expect(found == [2, 2, 0], f"invocations, errors and throttles of two failed tries are {found}")

    functions = emulator.client("lambda")
    functions.put_function_concurrency(FunctionName="metrics", ReservedConcurrentExecutions=0)
    with pytest.raises(functions.exceptions.TooManyRequestsException):
        functions.invoke(FunctionName="metrics", Payload=b"{}")
    found = [
        metric_sum(emulator, "AWS/Lambda", metric, dimensions) for metric in ("Invocations", "Errors", "Throttles")
    ]
    expect(found[2] > 0 and found[:2] == [2, 2], f"after a throttled one as well they are {found}")


@behaviour("embedded-metrics")
def embedded_metrics_are_recorded(emulator: Emulator) -> None:
    make_function(emulator, "embedded", EMBEDS_METRICS)
    emulator.client("lambda").invoke(FunctionName="embedded", Payload=b"{}")
    found = metric_sum(emulator, "Canary", "Rows", {"function": "embedded"})
    expect(found == 10, f"the sum of the embedded metric is {found}")


# Alarms


def make_alarm(emulator: Emulator, name: str, **properties: Any) -> None:
    defaults = {
        "AlarmName": name,
        "Namespace": "Canary",
        "MetricName": name,
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    }
    emulator.client("cloudwatch").put_metric_alarm(**(defaults | properties))


def state_of(emulator: Emulator, alarm: str) -> str:
    alarms = emulator.client("cloudwatch").describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
    return str(alarms[0]["StateValue"])


def put_metric(emulator: Emulator, name: str, age_seconds: float = 0.0, **dimensions: str) -> None:
    datum = {
        "MetricName": name,
        "Value": 1,
        "Timestamp": datetime.now(UTC) - timedelta(seconds=age_seconds),
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
    }
    emulator.client("cloudwatch").put_metric_data(Namespace="Canary", MetricData=[datum])


@behaviour("alarm-evaluation")
def an_alarm_minds_its_own_dimensions_and_periods(emulator: Emulator) -> None:
    make_alarm(emulator, "own", Dimensions=[{"Name": "function", "Value": "mine"}])
    make_alarm(emulator, "both-periods", EvaluationPeriods=2)
    put_metric(emulator, "own", function="another")
    put_metric(emulator, "both-periods")
    for alarm in ("own", "both-periods"):
        expect(state_of(emulator, alarm) == "OK", f"the alarm {alarm} is {state_of(emulator, alarm)}")

    put_metric(emulator, "own", function="mine")
    put_metric(emulator, "both-periods", age_seconds=80)
    for alarm in ("own", "both-periods"):
        expect(state_of(emulator, alarm) == "ALARM", f"the alarm {alarm} is {state_of(emulator, alarm)}")


@behaviour("alarm-clock")
def an_alarm_is_raised_by_what_lambda_records_and_passes_with_time(emulator: Emulator) -> None:
    function = [{"Name": "FunctionName", "Value": "alarming"}]
    make_alarm(emulator, "raised", Namespace="AWS/Lambda", MetricName="Errors", Dimensions=function)
    make_alarm(emulator, "passes")
    put_metric(emulator, "passes", age_seconds=57)
    make_function(emulator, "alarming", FAILS)
    emulator.client("lambda").invoke(FunctionName="alarming", Payload=b"{}")
    for alarm, state in (("raised", "ALARM"), ("passes", "OK")):
        try:
            wait_for(alarm, lambda alarm=alarm, state=state: state_of(emulator, alarm) == state, patience(emulator))
        except NotInTime:
            raise NotAsOnAws(f"the alarm {alarm} is {state_of(emulator, alarm)}") from None


@behaviour("queue-metrics")
def a_queue_tells_how_much_waits(emulator: Emulator) -> None:
    queue = make_queue(emulator, "measured")
    emulator.client("sqs").send_message(QueueUrl=queue, MessageBody="waits")

    def measured() -> bool:
        return metric_sum(emulator, "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": "measured"}) > 0

    try:
        wait_for("the queue's metric", measured, patience(emulator))
    except NotInTime:
        raise NotAsOnAws("the queue published nothing") from None


# Functions, and what is asked of the emulator

FINE = "def handler(event, context):\n    return event\n"
FAILS = "def handler(event, context):\n    raise ValueError('told to fail')\n"
WAITS = """
import os, time
def handler(event, context):
    open(event["begun"], "w").close()
    while not os.path.exists(event["go_on"]):
        time.sleep(0.05)
"""
EMBEDS_METRICS = """
import json
def handler(event, context):
    directive = {"Namespace": "Canary", "Dimensions": [["function"]], "Metrics": [{"Name": "Rows", "Unit": "Count"}]}
    metrics = {"Timestamp": 1, "CloudWatchMetrics": [directive]}
    print(json.dumps({"_aws": metrics, "function": "embedded", "Rows": [3, 7]}))
    print('{"_aws": "not quite"}')
"""


def make_function(
    emulator: Emulator, name: str, code: str, dead_letters: str | None = None, retries: int | None = None
) -> str:
    """Makes a function, and returns its ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("index.py", code)
    functions = emulator.client("lambda")
    made = functions.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="index.handler",
        Role=ROLE,
        Timeout=10,
        Code={"ZipFile": archive.getvalue()},
        **({"DeadLetterConfig": {"TargetArn": arn_of(dead_letters)}} if dead_letters else {}),
    )
    functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    if retries is not None:
        functions.put_function_event_invoke_config(FunctionName=name, Qualifier="$LATEST", MaximumRetryAttempts=retries)
    return str(made["FunctionArn"])


def schedule_once(emulator: Emulator, name: str, function: str, event: dict[str, Any]) -> None:
    """Has EventBridge Scheduler start a function as soon as it can."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    emulator.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=f"at({past:%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": function, "RoleArn": ROLE, "Input": json.dumps(event)},
    )


def make_queue(emulator: Emulator, name: str) -> str:
    return str(emulator.client("sqs").create_queue(QueueName=name)["QueueUrl"])


def arn_of(queue_url: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue_url.rsplit('/', 1)[-1]}"


def receive(emulator: Emulator, queue: str, seconds: float = 30.0) -> dict[str, Any]:
    """The next message of a queue, which it leaves; NotInTime if there is none."""
    sqs = emulator.client("sqs")

    def look() -> list[dict[str, Any]]:
        return list(sqs.receive_message(QueueUrl=queue, MessageAttributeNames=["All"]).get("Messages", []))

    message = wait_for(f"a message in {queue}", look, seconds)[0]
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return message


def waiting(emulator: Emulator, queue: str) -> int:
    name = "ApproximateNumberOfMessages"
    attributes = emulator.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"]
    return int(attributes[name])


def invocations_logged(emulator: Emulator, function: str) -> int:
    """How many invocations of a function have ended, as its log says."""
    logs = emulator.client("logs")
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
    except logs.exceptions.ResourceNotFoundException:
        return 0
    return sum(1 for event in events if event["message"].startswith("REPORT "))


def metric_sum(emulator: Emulator, namespace: str, metric: str, dimensions: dict[str, str]) -> float:
    now = datetime.now(UTC)
    answer = emulator.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        StartTime=now - timedelta(minutes=10),
        EndTime=now + timedelta(minutes=1),
        Period=60,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def parameter(name: str, value: Any) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Name": name, "Type": "String", "Value": value}}


def nested(
    emulator: Emulator, name: str, template: dict[str, Any], parameters: dict[str, str] | None = None
) -> dict[str, Any]:
    """A nested stack, its template put where CloudFormation can read it."""
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key=f"{name}.json", Body=json.dumps(template).encode())
    properties: dict[str, Any] = {"TemplateURL": f"{emulator.endpoint}/templates/{name}.json"}
    if parameters:
        properties["Parameters"] = parameters
    return {"Type": "AWS::CloudFormation::Stack", "Properties": properties}


def deploy(emulator: Emulator, stack: str, resources: dict[str, Any], update: bool = False) -> str:
    """Creates or updates a stack, and returns how that ended."""
    cloudformation = emulator.client("cloudformation")
    order = cloudformation.update_stack if update else cloudformation.create_stack
    made = order(
        StackName=stack,
        TemplateBody=json.dumps({"Resources": resources}),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    return end_of(emulator, made["StackId"])


def remove(emulator: Emulator, stack: str) -> str:
    cloudformation = emulator.client("cloudformation")
    stack_id = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack)
    return end_of(emulator, stack_id)


def end_of(emulator: Emulator, stack_id: str) -> str:
    cloudformation = emulator.client("cloudformation")

    def status() -> str | None:
        found = str(cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"])
        return None if found.endswith("IN_PROGRESS") else found

    return wait_for(f"the end of what {stack_id} does", status)
