"""The stacks and zips that would go to AWS, deployed as a whole to somebody else's AWS, driven, and looked at from outside.

The tests are one story, and run in its order: deployed, first run, lake, second run with a message that cannot be done, redrive,
another trigger, failure and alarm, update, removal. `.ci/aws-test` prepares what they need and runs them.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from emulator import ACCOUNT, REGION, Emulator, wait_for
from vendor import Vendor

CHECKOUT = Path(__file__).resolve().parents[2]
CASCADE = Path(os.environ["CASCADE"])
ARCHITECTURE = os.environ["ARCHITECTURE"]
ENVIRONMENT = "dev"
KEY = "a-key-that-nobody-may-read"

# The contract's section 1, and the order in which it names them.
BRANCHES = (
    "Scranton Akron Buffalo Rochester Syracuse Utica Binghamton Albany Nashua Pittsfield Stamford Yonkers".split()
) + ["New York"]
FUNCTIONS = ["branch-collector", "salesperson-collector", "sale-collector"]
QUEUES = ["employee-queue", "sale-queue"]
LAKE = "lake"
DEAD_LETTER_QUEUES = [
    f"{queue}-dead-letter-queue"
    for queue in (
        "employee-workload",
        "sale-workload",
        "branch-function",
        "employee-function",
        "sale-function",
        "lake-function",
        "lake-records",
    )
]
TABLES = {"branch": ["branch_id"], "salesperson": ["employee_id", "branch_id"], "sale": ["sale_id", "employee_id"]}
STATE_TABLE = "sync-dev"
# What the lake calls them, and the tables that they come from.
VIEWS = {"branches": "branch", "salespersons": "salesperson", "sales": "sale"}
BUCKET = f"cascade-lake-dev-{ACCOUNT}"

# Of a quota of 150 requests a minute, 80 % are for this environment: fewer than a run needs, so that all instances of all
# functions have to share them.
QUOTA = {"ApiRequestsPerMinute": 150, "ApiQuotaShare": 80}
SHARED = 120

# A poll comes within a minute, lasts up to 50 seconds, and a machine may be slow.
A_POLL = 60.0
SOME_POLLS = 420.0
# How long an instance that cannot reach the state table waits before it keeps a pace, in seconds: docs/QUOTA.md.
SILENCE = 123.0


class Deployed:
    """The deployed pipeline, and what is around it."""

    def __init__(self, emulator: Emulator, vendor: Vendor) -> None:
        self.emulator = emulator
        self.vendor = vendor
        self.cloudformation = emulator.client("cloudformation")
        self.functions = emulator.client("lambda")
        self.sqs = emulator.client("sqs")
        self.dynamodb = emulator.client("dynamodb")

    def deploy(self, environment: str = ENVIRONMENT, **parameters: object) -> None:
        settings = {"Environment": environment, "Architecture": ARCHITECTURE, **parameters}
        run = subprocess.run(
            ["sam", "deploy", "--config-env", "prod" if environment == "prod" else "dev", "--parameter-overrides"]
            + [f"{name}={value}" for name, value in settings.items()],
            cwd=CHECKOUT,
            env=self.emulator.environment() | {"SAM_CLI_TELEMETRY": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr

    def remove(self, environment: str = ENVIRONMENT) -> None:
        stack = self.stack(environment)["StackId"]
        self.cloudformation.delete_stack(StackName=stack)

        def gone() -> bool:
            status = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
            assert not status.endswith("FAILED"), self.reasons(stack)
            return bool(status == "DELETE_COMPLETE")

        wait_for(f"the end of {stack}", gone, 120)

    def reasons(self, stack: str) -> list[str]:
        events = self.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        return [
            f"{event['LogicalResourceId']} {event['ResourceStatus']}: {event['ResourceStatusReason']}"
            for event in events
            if event.get("ResourceStatusReason")
        ]

    def stack(self, environment: str = ENVIRONMENT) -> dict[str, Any]:
        stacks = self.cloudformation.describe_stacks(StackName=f"cascade-{environment}")["Stacks"]
        return dict(stacks[0])

    def invoke(self, function: str, event: object) -> Any:
        answer = self.functions.invoke(FunctionName=f"{function}-{ENVIRONMENT}", Payload=json.dumps(event).encode())
        payload = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, payload
        return payload

    def queue(self, name: str) -> str:
        return str(self.sqs.get_queue_url(QueueName=f"{name}-{ENVIRONMENT}")["QueueUrl"])

    def waiting(self, queue: str) -> int:
        """Messages there, in work and delayed ones among them."""
        counts = self.sqs.get_queue_attributes(QueueUrl=self.queue(queue), AttributeNames=["All"])["Attributes"]
        return sum(int(count) for name, count in counts.items() if name.startswith("ApproximateNumberOfMessages"))

    def rows(self, table: str, environment: str = ENVIRONMENT) -> dict[tuple[str, ...], dict[str, Any]]:
        """Every row, by its key."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=f"{table}-{environment}", ConsistentRead=True)
        read = TypeDeserializer().deserialize
        rows = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
        return {tuple(row[key] for key in TABLES[table]): row for row in rows}

    def all_rows(self) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
        return {table: self.rows(table) for table in TABLES}

    def start_run(self, scheduled_for: str) -> Any:
        """What the hourly schedule does."""
        event = json.loads((CHECKOUT / "events" / "branches-scheduler.json").read_text())
        return self.invoke("branch-collector", event | {"time": scheduled_for})

    def wait_for_quiet(self, also: str = "") -> None:
        """Until the schedules' polls have worked through both queues."""

        def quiet() -> bool:
            # Sale messages are sent before their employee message is deleted: in this order none is overlooked.
            return all(self.waiting(queue) == 0 for queue in QUEUES)

        wait_for(f"the end of all messages{also}", quiet, SOME_POLLS)

    def letters(self, queue: str) -> list[dict[str, Any]]:
        """The dead letters of a queue, which stay there."""
        url = self.queue(f"{queue}-dead-letter-queue")
        received = self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
        )
        return list(received.get("Messages", []))

    def cascade(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(CASCADE), *arguments, "--aws", "--environment", ENVIRONMENT],
            env=self.emulator.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def script(self, *arguments: str) -> str:
        run = subprocess.run(
            [str(CHECKOUT / ".ci" / arguments[0]), *arguments[1:]],
            env=self.emulator.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def buckets(self, environment: str) -> list[str]:
        buckets = self.emulator.client("s3").list_buckets()["Buckets"]
        return [bucket["Name"] for bucket in buckets if bucket["Name"].startswith(f"cascade-lake-{environment}-")]

    def listen(self, topic: str) -> None:
        """Has a queue of the topic's name receive what is published to it."""
        self.sqs.create_queue(QueueName=topic)
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{topic}"
        topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic}"
        self.emulator.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)

    def heard(self, topic: str) -> list[dict[str, Any]]:
        """What was published to a topic since it was last asked, as SNS hands it on."""
        url = self.sqs.get_queue_url(QueueName=topic)["QueueUrl"]
        heard = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            for message in messages:
                heard.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return heard

    def set_schedule(self, function: str, state: str) -> None:
        scheduler = self.emulator.client("scheduler")
        schedule = scheduler.get_schedule(Name=f"{function}-schedule-{ENVIRONMENT}")
        kept = {name: schedule[name] for name in ("Name", "ScheduleExpression", "Target", "FlexibleTimeWindow")}
        scheduler.update_schedule(**kept, State=state)

    def alarm(self, name: str) -> str:
        alarms = self.emulator.client("cloudwatch").describe_alarms(AlarmNames=[f"{name}-{ENVIRONMENT}"])
        return str(alarms["MetricAlarms"][0]["StateValue"])

    def metric(self, function: str, name: str) -> float:
        """The sum of a metric of ours within the last hour."""
        now = datetime.now(UTC)
        answer = self.emulator.client("cloudwatch").get_metric_statistics(
            Namespace="Cascade",
            MetricName=name,
            Dimensions=[
                {"Name": "function", "Value": f"{function}-{ENVIRONMENT}"},
                {"Name": "environment", "Value": ENVIRONMENT},
            ],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )
        assert answer["Datapoints"], f"{function} publishes no {name}"
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    def ask(self, question: str) -> list[list[str | None]]:
        """What Athena answers, without the names of the columns."""
        athena = self.emulator.client("athena")
        asked = athena.start_query_execution(
            QueryString=question, WorkGroup="cascade-dev", QueryExecutionContext={"Database": "cascade_dev"}
        )["QueryExecutionId"]

        def ended() -> Any:
            status = athena.get_query_execution(QueryExecutionId=asked)["QueryExecution"]["Status"]
            return status if status["State"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

        status = wait_for(f"an answer to {question}", ended, 60)
        assert status["State"] == "SUCCEEDED", (question, status.get("StateChangeReason"))
        pages = athena.get_paginator("get_query_results").paginate(QueryExecutionId=asked)
        rows = [row["Data"] for page in pages for row in page["ResultSet"]["Rows"]]
        return [[value.get("VarCharValue") for value in row] for row in rows[1:]]

    def count(self, view: str) -> int:
        [[rows]] = self.ask(f"SELECT count(*) FROM {view}")
        return int(rows or 0)

    def mappings(self) -> dict[str, dict[str, Any]]:
        """How the lake's function follows the streams, by the name of each table."""
        found = self.functions.list_event_source_mappings(FunctionName=f"{LAKE}-dev")["EventSourceMappings"]
        return {mapping["EventSourceArn"].split("/")[1]: mapping for mapping in found}

    def log_lines(self, function: str) -> list[str]:
        pages = self.emulator.client("logs").get_paginator("filter_log_events")
        group = f"/aws/lambda/{function}-{ENVIRONMENT}"
        return [event["message"].strip() for page in pages.paginate(logGroupName=group) for event in page["events"]]


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    with Vendor(CASCADE, quota=6000) as vendor, Emulator() as emulator:
        yield Deployed(emulator, vendor)


@pytest.fixture(scope="module")
def secret(deployed: Deployed) -> str:
    secrets = deployed.emulator.client("secretsmanager")
    return str(secrets.create_secret(Name="vendor-key", SecretString=KEY)["ARN"])


def parameters(deployed: Deployed, secret: str) -> dict[str, object]:
    return {
        "ApiBaseUrl": deployed.vendor.url,
        "ApiKeySecretArn": secret,
        "AlarmEmail": "someone@example.com",
        "LoggingLevel": "DEBUG",
    } | QUOTA


def test_the_root_template_deploys_with_all_that_it_nests(deployed: Deployed, secret: str) -> None:
    started = time.monotonic()
    deployed.deploy(**parameters(deployed, secret))
    print(f"\ndeployed in {time.monotonic() - started:.1f} s")

    statuses = {stack["StackName"]: stack["StackStatus"] for stack in deployed.cloudformation.describe_stacks()["Stacks"]}
    ours = {name: status for name, status in statuses.items() if name.startswith("cascade-dev")}
    assert len(ours) == 12, ours
    assert set(ours.values()) == {"CREATE_COMPLETE"}, ours

    exports = {export["Name"]: export["Value"] for export in deployed.cloudformation.list_exports()["Exports"]}
    # The emulator calls itself by several names.
    assert urlsplit(exports["dev-EmployeeQueue"]).path == urlsplit(deployed.queue("employee-queue")).path
    assert urlsplit(exports["dev-SaleQueue"]).path == urlsplit(deployed.queue("sale-queue")).path
    for function in ("BranchCollector", "SalespersonCollector", "SaleCollector", "Lake", "Scheduler"):
        assert ":role/" in exports[f"dev-Role{function}"]
    assert [exports[f"dev-{table}Table"] for table in ("Branch", "Salesperson", "Sale")] == [
        f"{table}-dev" for table in TABLES
    ]
    assert exports["dev-StateTable"] == STATE_TABLE
    assert exports["dev-LakeBucket"] == BUCKET
    assert (exports["dev-CatalogDatabase"], exports["dev-WorkGroup"]) == ("cascade_dev", "cascade-dev")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in deployed.stack()["Outputs"]}
    assert (outputs["Lake"], outputs["WorkGroup"]) == (f"s3://{BUCKET}", "cascade-dev")


def test_queues_tables_and_functions_are_as_the_contract_says(deployed: Deployed) -> None:
    for name in ("employee", "sale"):
        work = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue(f"{name}-queue"), AttributeNames=["All"])
        assert work["Attributes"]["VisibilityTimeout"] == "900"
        redrive = json.loads(work["Attributes"]["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"].endswith(f":{name}-workload-dead-letter-queue-dev")
        assert int(redrive["maxReceiveCount"]) == 10
    for queue in DEAD_LETTER_QUEUES:
        attributes = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue(queue), AttributeNames=["All"])
        assert attributes["Attributes"]["MessageRetentionPeriod"] == str(14 * 24 * 3600), queue

    for table, keys in TABLES.items():
        described = deployed.dynamodb.describe_table(TableName=f"{table}-dev")["Table"]
        assert [key["AttributeName"] for key in described["KeySchema"]] == keys
        assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert described["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    described = deployed.dynamodb.describe_table(TableName=STATE_TABLE)["Table"]
    assert [key["AttributeName"] for key in described["KeySchema"]] == ["id"]
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert described["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    expiry = deployed.dynamodb.describe_time_to_live(TableName=STATE_TABLE)["TimeToLiveDescription"]
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}

    concurrency = {"branch-collector": 1, "salesperson-collector": 5, "sale-collector": 3}
    dead_letters = {"branch-collector": "branch", "salesperson-collector": "employee", "sale-collector": "sale"}
    for function in FUNCTIONS:
        got = deployed.functions.get_function(FunctionName=f"{function}-dev")
        settings = got["Configuration"]
        assert (settings["MemorySize"], settings["Timeout"], settings["Runtime"]) == (128, 900, "provided.al2023")
        assert got["Concurrency"]["ReservedConcurrentExecutions"] == concurrency[function]
        assert settings["DeadLetterConfig"]["TargetArn"].endswith(
            f":{dead_letters[function]}-function-dead-letter-queue-dev"
        )
        assert settings["LoggingConfig"]["LogFormat"] == "JSON"
        variables = settings["Environment"]["Variables"]
        assert variables["STATE_DB"] == STATE_TABLE
        assert (variables["API_REQUESTS_PER_MINUTE"], variables["API_QUOTA_SHARE"]) == ("150", "80")
        assert variables["API_REQUESTS_PER_SECOND"] == "", "empty is absent"
        assert variables["COLLECTOR_INSTANCES"] == str(sum(concurrency.values()))
        assert variables["REPORT_TOPIC_ARN"] == f"arn:aws:sns:{REGION}:{ACCOUNT}:report-topic-dev"
        assert (variables["DELETIONS"], variables["DELETIONS_MAX_PERCENT"]) == ("branches,employees", "30")
        assert KEY not in json.dumps(got, default=str)
        retries = deployed.functions.get_function_event_invoke_config(
            FunctionName=f"{function}-dev", Qualifier="$LATEST"
        )
        assert retries["MaximumRetryAttempts"] == (2 if function == "branch-collector" else 0)
        schedule = deployed.emulator.client("scheduler").get_schedule(Name=f"{function}-schedule-dev")
        assert schedule["State"] == "ENABLED"
        assert schedule["ScheduleExpression"] == ("rate(1 hour)" if function == "branch-collector" else "rate(1 minute)")


def test_the_lake_follows_the_streams_of_all_tables(deployed: Deployed) -> None:
    got = deployed.functions.get_function(FunctionName="lake-dev")
    settings = got["Configuration"]
    assert (settings["MemorySize"], settings["Timeout"], settings["Runtime"]) == (512, 900, "provided.al2023")
    assert got["Concurrency"]["ReservedConcurrentExecutions"] == 8
    assert settings["DeadLetterConfig"]["TargetArn"].endswith(":lake-function-dead-letter-queue-dev")
    assert settings["Environment"]["Variables"] == {
        "LOGGING_LEVEL": "DEBUG",
        "APP_ENV": "dev",
        "LAKE_URL": f"s3://{BUCKET}",
        "BRANCH_DB": "branch-dev",
        "SALESPERSON_DB": "salesperson-dev",
        "SALE_DB": "sale-dev",
        "STATE_DB": STATE_TABLE,
    }
    schedule = deployed.emulator.client("scheduler").get_schedule(Name="lake-schedule-dev")
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "rate(1 hour)")
    assert json.loads(schedule["Target"]["Input"]) == {"compact": {}}

    mappings = deployed.mappings()
    assert sorted(mappings) == ["branch-dev", "sale-dev", "salesperson-dev", "sync-dev"]
    for table, mapping in mappings.items():
        stream = deployed.dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        assert (mapping["EventSourceArn"], mapping["State"]) == (stream, "Enabled")
        assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (1000, 60)
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert (mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (100, 43200)
        assert mapping["BisectBatchOnFunctionError"] is True
        assert mapping["StartingPosition"] == "TRIM_HORIZON"
        assert mapping["DestinationConfig"]["OnFailure"]["Destination"].endswith(":lake-records-dead-letter-queue-dev")
        assert ("FilterCriteria" in mapping) == (table == STATE_TABLE)


def test_the_lakes_bucket_is_nobody_elses(deployed: Deployed) -> None:
    """Encryption, ownership and lifecycle of a bucket are dropped by this emulator: checkov looks at them in the template."""
    s3 = deployed.emulator.client("s3")
    blocked = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert len(blocked) == 4 and all(blocked.values()), blocked
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    (statement,) = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Resource"] == [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]


def test_topics_are_reached_by_tls_alone(deployed: Deployed) -> None:
    sns = deployed.emulator.client("sns")
    for topic in ("alarm-topic-dev", "report-topic-dev"):
        attributes = sns.get_topic_attributes(TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:{topic}")["Attributes"]
        # Of its key nothing can be told here: MiniStack's CloudFormation drops it.
        denied = [one for one in json.loads(attributes["Policy"])["Statement"] if one["Effect"] == "Deny"]
        assert [one["Condition"] for one in denied] == [{"Bool": {"aws:SecureTransport": "false"}}], topic


def test_queues_are_encrypted_and_reached_by_tls_alone(deployed: Deployed) -> None:
    for queue in QUEUES + DEAD_LETTER_QUEUES:
        got = deployed.sqs.get_queue_attributes(QueueUrl=deployed.queue(queue), AttributeNames=["All"])["Attributes"]
        assert got["SqsManagedSseEnabled"] == "true", queue
        (statement,) = json.loads(got["Policy"])["Statement"]
        assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "sqs:*"), queue
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, queue


def test_every_alarm_says_what_to_do_and_tells_when_it_is_over(deployed: Deployed) -> None:
    alarms = deployed.emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len(alarms) == 36, [alarm["AlarmName"] for alarm in alarms]
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarm-topic-dev"
    for alarm in alarms:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic], alarm["AlarmName"]
        assert re.search(r"cascade |log|called by hand|dashboard", alarm["AlarmDescription"]), alarm["AlarmName"]


def test_each_functions_zip_is_small_and_starts_fast(deployed: Deployed) -> None:
    """The sizes are held to; starts and memory are this machine's, and printed."""
    print()
    for function in [*FUNCTIONS, LAKE]:
        name = f"{function}-dev"
        size = deployed.functions.get_function(FunctionName=name)["Configuration"]["CodeSize"]
        assert 0 < size < 10_000_000, f"{name}: {size} bytes"
        # `null` would be a run; no records are none.
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            assert deployed.invoke(function, {"Records": []}) == {"batchItemFailures": []}
            seconds.append(time.monotonic() - started)
        print(
            f"{name}: zip {size / 1e6:.2f} MB, first call {seconds[0] * 1000:.0f} ms, second {seconds[1] * 1000:.0f} ms"
        )


def test_a_run_finished_by_the_schedules_alone_leaves_exactly_the_vendors_data(deployed: Deployed) -> None:
    deployed.listen("report-topic-dev")
    started, seen = time.monotonic(), len(deployed.vendor.paths)
    answer = deployed.start_run("2026-11-21T01:00:00Z")
    assert (answer["run_id"], answer["inserted"], answer["enqueued"]) == ("2026-11-21T01:00:00Z", 13, 13)
    deployed.wait_for_quiet()
    print(f"\na first run of {len(deployed.rows('sale'))} sales: {time.monotonic() - started:.0f} s")
    for function in FUNCTIONS:
        memory = deployed.emulator.peak_memory(f"{function}-dev")
        print(f"{function}-dev: peak memory {memory / 1e6:.1f} MB")

    rows = deployed.all_rows()
    expect_the_vendors_data(deployed.vendor, rows)
    assert [deployed.waiting(queue) for queue in DEAD_LETTER_QUEUES] == [0] * 7
    assert deployed.vendor.authorizations == {f"Bearer {KEY}"}

    # One quota for all instances of all functions. Two of the 60 seconds are for requests that were on their way for longer
    # than those after them.
    requests, busiest = len(deployed.vendor.paths) - seen, deployed.vendor.busiest(58.0, since=seen)
    print(f"{requests} requests, {busiest} in the busiest minute, {SHARED} allowed")
    assert busiest <= SHARED < requests
    assert deployed.dynamodb.scan(TableName=STATE_TABLE)["Items"] != []
    for function in FUNCTIONS:
        assert deployed.metric(function, "StateFailures") == 0, function


def expect_the_vendors_data(vendor: Vendor, rows: dict[str, dict[tuple[str, ...], dict[str, Any]]]) -> None:
    """Each of the vendor's records is a row, attribute by attribute, and there is no other row."""
    expected = {table: set[tuple[str, ...]]() for table in TABLES}

    def expect(table: str, prefix: str, key: tuple[str, ...], record: dict[str, Any], added: dict[str, Any]) -> None:
        expected[table].add(key)
        row = dict(rows[table][key])
        for name, value in zip(TABLES[table], key, strict=True):
            assert row.pop(name) == value
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row.pop("last_modified"))
        for name, value in added.items():
            assert row.pop(name) == value, (table, key, name)
        for name, value in record.items():
            if name == "id":
                continue
            # A reserved word stands under the entity's prefix; which those are is tested with the collectors.
            stored = name if name in row else f"{prefix}_{name}"
            assert row.pop(stored, "missing") == value, (table, key, name)
        assert not row, (table, key, row)

    for branch_name in BRANCHES:
        for branch in vendor.says("/branches", branch=branch_name):
            branch_id = str(branch["id"])
            expect("branch", "branch", (branch_id,), branch, {})
            employees = vendor.says("/employees", branchID=branch_id)["employees"]
            for employee in employees:
                if employee["occupation"].lower() != "salesperson":
                    continue
                employee_id = str(employee["id"])
                expect("salesperson", "employee", (employee_id, branch_id), without_key(employee, branch_id), {})
                for sale in vendor.says("/sales", employeeID=employee_id)["sales"]:
                    added = {} if "branch_id" in sale else {"branch_id": branch_id}
                    expect("sale", "sale", (str(sale["id"]), employee_id), without_key(sale, employee_id), added)
    for table, keys in expected.items():
        assert keys == set(rows[table]), table
        assert keys, table
    assert "branch_location" in next(iter(rows["branch"].values()))
    assert "employee_name" in next(iter(rows["salesperson"].values()))


def without_key(record: dict[str, Any], key: str) -> dict[str, Any]:
    """A record without the attribute that only repeats the row's key."""
    return {
        name: value for name, value in record.items() if name not in ("branch_id", "employee_id") or str(value) != key
    }


def test_what_was_written_reaches_the_lake_and_answers_sql(deployed: Deployed) -> None:
    tables = {view: deployed.rows(table) for view, table in VIEWS.items()}
    started = time.monotonic()
    for view, rows in tables.items():
        wait_for(f"all {view} in the lake", lambda view=view, rows=rows: deployed.count(view) == len(rows), 120)
    print(f"\nthe rest of the way into the lake: {time.monotonic() - started:.0f} s")

    sales = tables["sales"].values()
    [[amount, products, branches]] = deployed.ask(
        "SELECT sum(amount), count(DISTINCT product), count(DISTINCT branch_id) FROM sales"
    )
    assert Decimal(amount or 0) == sum(sale["amount"] for sale in sales if isinstance(sale.get("amount"), Decimal))
    assert int(products or 0) == len({sale["product"] for sale in sales if isinstance(sale.get("product"), str)})
    assert int(branches or 0) == len({sale["branch_id"] for sale in sales})
    [[matched]] = deployed.ask("SELECT count(*) FROM sales JOIN branches ON branches.branch_id = sales.branch_id")
    assert int(matched or 0) == len(sales)

    objects = deployed.emulator.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="changes/")
    files = [(one["Key"], one["Size"]) for page in objects for one in page.get("Contents", [])]
    print(f"{len(files)} files, {sum(size for _, size in files) / 1e6:.2f} MB")
    assert all(re.fullmatch(r"changes/[a-z]+/date=\d{4}-\d\d-\d\d/[^/]+\.parquet", key) for key, _ in files), files
    assert {key.split("/")[1] for key, _ in files} == {"branches", "salespersons", "sales", "runs"}


def test_a_run_is_complete_in_the_lake_and_its_report_was_published(deployed: Deployed) -> None:
    def runs() -> Any:
        return deployed.ask("SELECT branches_expected, sales_inserted, api_calls FROM runs WHERE complete")

    [[branches, sales, calls]] = wait_for("the run in the lake", runs, 120)
    assert int(branches or 0) == len(BRANCHES)
    assert int(sales or 0) == len(deployed.rows("sale"))
    assert int(calls or 0) >= len(BRANCHES)
    reports = [json.loads(message["Message"]) for message in deployed.heard("report-topic-dev")]
    assert [(report["run_id"], report["state"]) for report in reports] == [("2026-11-21T01:00:00Z", "complete")]
    fresh = deployed.ask("SELECT branch_id, complete_up_to FROM freshness")
    assert sorted(branch for branch, _ in fresh) == sorted(key for (key,) in deployed.rows("branch"))
    assert {str(up_to)[:19] for _, up_to in fresh} == {"2026-11-21 01:00:00"}


def test_compaction_changes_no_answer(deployed: Deployed) -> None:
    before = {view: deployed.ask(f"SELECT * FROM {view} ORDER BY 1, 2") for view in VIEWS}
    assert deployed.invoke(LAKE, {"compact": {}})["statusCode"] == 200
    assert {view: deployed.ask(f"SELECT * FROM {view} ORDER BY 1, 2") for view in VIEWS} == before


def test_what_was_put_aside_is_read_from_its_stream_again(deployed: Deployed) -> None:
    """As if the branches' records had been put aside, as Lambda does after the last try: they are lost, and a message says which."""
    s3, streams = deployed.emulator.client("s3"), deployed.emulator.client("dynamodbstreams")
    for one in s3.list_objects_v2(Bucket=BUCKET, Prefix="changes/branches/")["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=one["Key"])
    assert deployed.count("branches") == 0

    arn = deployed.dynamodb.describe_table(TableName="branch-dev")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    part = {
        "shardId": shard["ShardId"],
        "startSequenceNumber": records[0]["dynamodb"]["SequenceNumber"],
        "endSequenceNumber": records[-1]["dynamodb"]["SequenceNumber"],
        "approximateArrivalOfFirstRecord": "2026-11-21T01:00:00Z",
        "batchSize": len(records),
        "streamArn": arn,
    }
    queue = deployed.queue("lake-records-dead-letter-queue")
    deployed.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"DDBStreamBatchInfo": part}))

    looked = deployed.script("lake-again", "dev")
    assert looked.startswith(f"branch-dev: {len(records)} records, from 2026-11-21T01:00:00Z\n"), looked
    assert deployed.waiting("lake-records-dead-letter-queue") == 1, "looking changes nothing"
    done = deployed.script("lake-again", "dev", "--yes")
    assert done.endswith(f": {len(records)} are in the lake\n"), done
    assert deployed.count("branches") == len(deployed.rows("branch"))
    assert deployed.waiting("lake-records-dead-letter-queue") == 0
    assert deployed.script("lake-again", "dev") == "nothing is put aside\n"


def test_what_no_stream_has_any_more_is_taken_from_the_tables(deployed: Deployed) -> None:
    s3, before = deployed.emulator.client("s3"), deployed.count("salespersons")
    for one in s3.list_objects_v2(Bucket=BUCKET, Prefix="changes/salespersons/")["Contents"]:
        s3.delete_object(Bucket=BUCKET, Key=one["Key"])
    assert deployed.count("salespersons") == 0
    mended = deployed.invoke(LAKE, {"rebuild": True})
    assert mended["complete"] is True, mended
    assert (mended["rebuilt"]["salespersons"], mended["rebuilt"]["sales"]) == (before, 0), mended
    assert deployed.count("salespersons") == before
    again = deployed.invoke(LAKE, {"rebuild": True})
    assert set(again["rebuilt"].values()) == {0}, again


def test_the_usual_questions_are_saved_and_have_answers(deployed: Deployed) -> None:
    athena = deployed.emulator.client("athena")
    ids = athena.list_named_queries(WorkGroup="cascade-dev")["NamedQueryIds"]
    saved = athena.batch_get_named_query(NamedQueryIds=ids)["NamedQueries"]
    files = sorted((CHECKOUT / "sql" / "questions").glob("*.sql"))
    assert len(saved) == len(files) == 5, [query["Name"] for query in saved]
    for query in saved:
        answer = deployed.ask(query["QueryString"])
        print(f"{query['Name']}: {len(answer)} rows")
        # Nobody was transferred between runs yet.
        assert answer or "transfer" in query["Name"], query["Name"]


def test_a_second_run_writes_nothing_and_a_poison_message_costs_only_itself(deployed: Deployed) -> None:
    before = deployed.all_rows()
    refused = next(iter(before["branch"]))[0]
    deployed.vendor.refuse = lambda path: 403 if path == f"/employees?branchID={refused}" else None
    deployed.sqs.send_message(QueueUrl=deployed.queue("employee-queue"), MessageBody="this is no message")
    answer = deployed.start_run("2026-11-21T02:00:00Z")
    assert (answer["inserted"], answer["updated"], answer["unchanged"]) == (0, 0, 13)
    deployed.wait_for_quiet(" of the second run")

    assert deployed.all_rows() == before, "last_modified and all"
    letters = {letter["Body"]: letter["MessageAttributes"] for letter in deployed.letters("employee-workload")}
    assert len(letters) == 2, letters
    assert "expected" in letters["this is no message"]["reason"]["StringValue"]
    (body,) = letters.keys() - {"this is no message"}
    assert json.loads(body) == {"branch_id": refused, "run_id": "2026-11-21T02:00:00Z"}
    assert "403" in letters[body]["reason"]["StringValue"]
    assert letters[body]["run_id"]["StringValue"] == "2026-11-21T02:00:00Z"


def test_dead_letters_are_listed_and_redriven_by_the_command(deployed: Deployed) -> None:
    listed = deployed.cascade("dlq", "list")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^ *employee .*403", listed.stdout, re.MULTILINE), listed.stdout

    tried = deployed.cascade("dlq", "redrive")
    assert tried.returncode == 0, tried.stderr
    assert deployed.waiting("employee-workload-dead-letter-queue") == 2, "a dry run changes nothing"

    deployed.vendor.refuse = lambda path: None
    seen = len(deployed.vendor.paths)
    done = deployed.cascade("dlq", "redrive", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    deployed.wait_for_quiet(" that were redriven")
    assert any(path.startswith("/employees?") for path in deployed.vendor.paths[seen:])
    # What was mended is done; what never can be is back where it was.
    (letter,) = deployed.letters("employee-workload")
    assert letter["Body"] == "this is no message"

    discarded = deployed.cascade("dlq", "discard", "employee", "--yes")
    assert discarded.returncode == 0, discarded.stdout + discarded.stderr
    assert deployed.waiting("employee-workload-dead-letter-queue") == 0


def test_an_event_source_mapping_is_another_trigger(deployed: Deployed) -> None:
    """Batches with partial failures: what is done is deleted, what failed comes again and is done then."""
    salespersons = list(deployed.rows("salesperson"))
    (good, branch), (bad, _) = salespersons[0], salespersons[1]
    seen = len(deployed.vendor.paths)

    def requests_for(employee: str) -> int:
        return deployed.vendor.paths[seen:].count(f"/sales?employeeID={employee}")

    # All tries of the first delivery.
    deployed.vendor.refuse = lambda path: 500 if path == f"/sales?employeeID={bad}" and requests_for(bad) <= 4 else None
    deployed.set_schedule("sale-collector", "DISABLED")
    # A mapping asks for a visibility time-out of the function's time-out at least. Once it is there, nobody need wait that long.
    queue = deployed.queue("sale-queue")
    mapping = deployed.functions.create_event_source_mapping(
        FunctionName="sale-collector-dev",
        EventSourceArn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:sale-queue-dev",
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 3},
    )
    deployed.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "20"})
    bodies = [
        {"branch_id": branch, "employee_id": employee, "run_id": "2026-11-21T02:30:00Z"} for employee in (good, bad)
    ]
    deployed.sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": body["employee_id"], "MessageBody": json.dumps(body)} for body in bodies],
    )
    wait_for("the second delivery of what failed", lambda: requests_for(bad) == 5, 180)
    deployed.wait_for_quiet(" of the mapping")
    assert requests_for(good) == 1
    assert deployed.waiting("sale-workload-dead-letter-queue") == 0

    deployed.functions.delete_event_source_mapping(UUID=mapping["UUID"])
    deployed.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "900"})
    deployed.set_schedule("sale-collector", "ENABLED")
    deployed.vendor.refuse = lambda path: None


def test_a_failing_function_raises_its_alarm_and_leaves_its_event(deployed: Deployed) -> None:
    deployed.listen("alarm-topic-dev")
    assert deployed.alarm("branch-collector-errors") != "ALARM"
    deployed.vendor.refuse = lambda path: 403 if path == "/branches?branch=Akron" else None
    deployed.functions.invoke(
        FunctionName="branch-collector-dev", InvocationType="Event", Payload=b'{"branches": ["Akron"]}'
    )
    (letter,) = wait_for("the event among the dead letters", lambda: deployed.letters("branch-function"), 60)
    # One invocation and two more tries.
    assert sum("invocation failed" in line for line in deployed.log_lines("branch-collector")) == 3
    wait_for("the alarm", lambda: deployed.alarm("branch-collector-errors") == "ALARM", 30)

    def told() -> Any:
        bodies = [json.loads(message["Message"]) for message in deployed.heard("alarm-topic-dev")]
        return [body for body in bodies if body["AlarmName"] == "branch-collector-errors-dev"]

    (message, *_) = wait_for("the topic's message", told, 30)
    assert message["NewStateValue"] == "ALARM"
    assert "cascade dlq list" in message["AlarmDescription"]

    deployed.vendor.refuse = lambda path: None
    done = deployed.cascade("dlq", "redrive", "branch-function", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for("an invocation of the redriven event", lambda: deployed.vendor.paths[-1] == "/branches?branch=Akron", 30)
    assert deployed.waiting("branch-function-dead-letter-queue") == 0
    deployed.wait_for_quiet(" of the redriven event")


def test_the_doctor_finds_what_is_wrong_with_an_environment(deployed: Deployed) -> None:
    found = deployed.cascade("doctor")
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"ok +employee-queue-dev", found.stdout), found.stdout

    deployed.set_schedule("sale-collector", "DISABLED")
    ill = deployed.cascade("doctor")
    assert ill.returncode == 1, ill.stdout
    assert re.search(r"failed +sale-collector-schedule-dev: is disabled", ill.stdout), ill.stdout
    deployed.set_schedule("sale-collector", "ENABLED")


def test_without_the_state_table_the_collectors_go_on_and_an_alarm_says_so(deployed: Deployed) -> None:
    before = deployed.all_rows()
    described = deployed.dynamodb.describe_table(TableName=STATE_TABLE)["Table"]
    deployed.dynamodb.delete_table(TableName=STATE_TABLE)

    deployed.functions.invoke(
        FunctionName=f"branch-collector-{ENVIRONMENT}",
        InvocationType="Event",
        Payload=json.dumps({"branches": ["Scranton"]}).encode(),
    )
    ill = deployed.cascade("doctor")
    assert ill.returncode == 1, ill.stdout
    assert re.search(r"failed +sync-dev: is missing", ill.stdout), ill.stdout
    # It waits until all that was promised is over, and asks at a pace of its own.
    wait_for(
        "a branch collected without the state table",
        lambda: deployed.metric("branch-collector", "StateFailures") > 0,
        SILENCE + SOME_POLLS,
    )
    wait_for("the alarm", lambda: deployed.alarm("branch-collector-state-failures") == "ALARM", 30)

    deployed.dynamodb.create_table(
        TableName=STATE_TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=described["AttributeDefinitions"],
        KeySchema=described["KeySchema"],
        StreamSpecification=described["StreamSpecification"],
    )
    deployed.wait_for_quiet(" once the state table is there again")
    assert deployed.all_rows() == before
    assert [deployed.waiting(queue) for queue in DEAD_LETTER_QUEUES] == [0] * 7

    # A table that was made anew has another stream, which nobody follows.
    found = deployed.cascade("doctor")
    assert found.returncode == 1, found.stdout
    assert re.search(r"failed +lake-dev, stream of sync-dev: is followed no more", found.stdout), found.stdout


def test_logs_are_json_and_hold_no_secret(deployed: Deployed) -> None:
    for function in [*FUNCTIONS, LAKE]:
        lines = deployed.log_lines(function)
        # What Lambda itself says is not JSON on this emulator.
        ours = [line for line in lines if not re.match(r"(INIT_START|START|END|REPORT|XRAY) ", line)]
        assert len(ours) > 10, lines
        for line in ours:
            parsed = json.loads(line)
            assert "level" in parsed or "_aws" in parsed, line
        if function != LAKE:
            assert any(json.loads(line).get("run_id") == "2026-11-21T01:00:00Z" for line in ours), function
        assert not any(KEY in line for line in lines), function
    assert KEY not in deployed.emulator.log.read_text()


def test_an_update_changes_what_it_names_and_nothing_else(deployed: Deployed, secret: str) -> None:
    before = deployed.all_rows()
    deployed.deploy(**parameters(deployed, secret) | {"FunctionMemory": 192, "SchedulesState": "DISABLED", "Tracing": "Active"})
    assert deployed.stack()["StackStatus"] == "UPDATE_COMPLETE"
    for function in FUNCTIONS:
        got = deployed.functions.get_function(FunctionName=f"{function}-dev")
        assert got["Configuration"]["MemorySize"] == 192
        role = deployed.emulator.client("iam").get_role_policy(RoleName=f"{function}-role-dev", PolicyName="work")
        assert "xray:PutTraceSegments" in json.dumps(role["PolicyDocument"])
        assert "TargetArn" in got["Configuration"]["DeadLetterConfig"]
        assert got["Concurrency"]["ReservedConcurrentExecutions"] >= 1
        schedule = deployed.emulator.client("scheduler").get_schedule(Name=f"{function}-schedule-dev")
        assert schedule["State"] == "DISABLED"
    assert deployed.all_rows() == before


def test_an_update_that_fails_is_taken_back(deployed: Deployed, secret: str) -> None:
    """This emulator knows no Slack channels, so that a stack in the middle of the update fails."""
    slack = {"SlackWorkspaceId": "T012ABCDEFG", "SlackChannelId": "C012ABCDEFG"}
    with pytest.raises(AssertionError, match="SlackChannel"):
        deployed.deploy(**parameters(deployed, secret) | {"FunctionMemory": 256, "SchedulesState": "DISABLED"} | slack)
    assert deployed.stack()["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    for function in FUNCTIONS:
        settings = deployed.functions.get_function(FunctionName=f"{function}-dev")["Configuration"]
        assert settings["MemorySize"] == 192


def test_an_environment_for_development_is_removed_with_all_that_it_made(deployed: Deployed) -> None:
    with pytest.raises(AssertionError, match="failed to delete: .*LakeBucket"):
        deployed.remove()
    looked = deployed.script("empty-lake", "dev")
    assert re.search(rf"{BUCKET} holds [1-9][0-9,]* versions", looked), looked
    assert deployed.script("empty-lake", "dev") == looked, "looking changes nothing"
    assert deployed.script("empty-lake", "dev", "--yes").startswith(f"{BUCKET} is empty")
    deployed.remove()
    assert deployed.buckets("dev") == []
    assert [name for name in deployed.dynamodb.list_tables()["TableNames"] if name.endswith("-dev")] == []
    queues = deployed.sqs.list_queues().get("QueueUrls", [])
    assert [url for url in queues if url.endswith("-dev") and "topic" not in url] == []
    functions = deployed.functions.list_functions()["Functions"]
    assert [function["FunctionName"] for function in functions] == []
    exports = deployed.cloudformation.list_exports()["Exports"]
    assert [export["Name"] for export in exports if export["Name"].startswith("dev-")] == []


def test_the_tables_of_production_outlive_their_stack(deployed: Deployed) -> None:
    deployed.deploy("prod", SchedulesState="DISABLED")
    s3 = deployed.emulator.client("s3")
    bucket = f"cascade-lake-prod-{ACCOUNT}"
    written = time.monotonic()
    deployed.dynamodb.put_item(TableName="branch-prod", Item={"branch_id": {"S": "1"}})
    wait_for("the row in the lake", lambda: "Contents" in s3.list_objects_v2(Bucket=bucket, Prefix="changes/branches/"), 60)
    print(f"\nfrom a write to its row in the lake: {time.monotonic() - written:.1f} s")
    with pytest.raises(ClientError, match="protect"):
        deployed.dynamodb.delete_table(TableName="branch-prod")
    deployed.remove("prod")
    assert list(deployed.rows("branch", "prod")) == [("1",)]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="changes/branches/")["KeyCount"] == 1
    # What the collectors remember goes with them.
    assert "sync-prod" not in deployed.dynamodb.list_tables()["TableNames"]
    assert deployed.functions.list_functions()["Functions"] == []
