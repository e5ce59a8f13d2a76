//! Each thing that can be wrong, told by the facts alone.

use std::collections::BTreeMap;

use shared::entity::Entity;
use shared::secret::SecretArn;
use url::Url;

use super::super::Finding;
use super::super::Status::{self, Failed, Skipped, Warning};
use super::super::blueprint::{
    ALARMS, DEAD_LETTER_QUEUES, DEPLOYED, FUNCTIONS, Function, LAKE, LAKE_DEAD_LETTER_QUEUES, WORK_QUEUES,
};
use super::super::facts::*;
use super::diagnose;

const SQS: &str = "arn:aws:sqs:eu-central-1:123456789012";
const TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:alarm-topic-prod";
const REPORT_TOPIC: &str = "arn:aws:sns:eu-central-1:123456789012:report-topic-prod";
const SECRET: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:key";
const QUOTA: &str = "API_REQUESTS_PER_MINUTE";
const KEY: &str = "v3nd0r-s3cr3t";

/// An environment on AWS in which nothing is wrong.
fn sound() -> Facts {
    let identity = Identity {
        account: "123456789012".to_owned(),
        arn: "arn:aws:iam::123456789012:user/pam".to_owned(),
    };
    Facts {
        environment: "prod".to_owned(),
        source: Source::Aws(Caller {
            region: Some("eu-central-1".to_owned()),
            identity: Told::Found(identity),
        }),
        stores: Some(Stores {
            tables: Entity::ALL.map(|entity| (entity, Told::Found(table(entity)))).into(),
            state: Told::Found(state()),
            queues: queues(),
        }),
        services: Some(services()),
        vendors: vec![(Url::parse("https://vendor.test/api").unwrap(), Reached::Answered(404))],
        quota: Some(50),
    }
}

fn table(entity: Entity) -> TableFacts {
    let keys = [Some(entity.partition_key()), entity.sort_key()].into_iter().flatten();
    TableFacts {
        status: "ACTIVE".to_owned(),
        keys: keys.map(|key| (key.to_owned(), "S".to_owned())).collect(),
        stream: Some("NEW_IMAGE".to_owned()),
        stream_arn: Some(stream(entity.name())),
        is_on_demand: true,
        is_protected: true,
        recovery: Some(Told::Found(true)),
    }
}

fn state() -> StateFacts {
    StateFacts {
        table: TableFacts {
            status: "ACTIVE".to_owned(),
            keys: vec![("id".to_owned(), "S".to_owned())],
            stream: Some("NEW_IMAGE".to_owned()),
            stream_arn: Some(stream("sync")),
            is_on_demand: true,
            is_protected: false,
            recovery: None,
        },
        time_to_live: Some(Told::Found(Some("expires_at".to_owned()))),
    }
}

fn stream(table: &str) -> String {
    format!("arn:aws:dynamodb:eu-central-1:123456789012:table/{table}-prod/stream/2026-11-21T00:00:00.000")
}

fn queues() -> BTreeMap<&'static str, Told<QueueFacts>> {
    let queue = |name: &str, attributes: &[(&str, String)]| {
        let all = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let arn = [("QueueArn".to_owned(), format!("{SQS}:{name}-prod"))];
        let encrypted = [("SqsManagedSseEnabled".to_owned(), "true".to_owned())];
        Told::Found(QueueFacts {
            url: format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}-prod"),
            attributes: all.chain(arn).chain(encrypted).collect(),
        })
    };
    let work = WORK_QUEUES.map(|(name, dead_letters)| {
        let target = format!(r#"{{"deadLetterTargetArn": "{SQS}:{dead_letters}-prod", "maxReceiveCount": 10}}"#);
        let attributes = [("VisibilityTimeout", "900".to_owned()), ("RedrivePolicy", target)];
        (name, queue(name, &attributes))
    });
    let dead = DEAD_LETTER_QUEUES
        .into_iter()
        .chain(LAKE_DEAD_LETTER_QUEUES)
        .map(|name| {
            let attributes = [
                ("MessageRetentionPeriod", "1209600".to_owned()),
                ("ApproximateNumberOfMessages", "0".to_owned()),
            ];
            (name, queue(name, &attributes))
        });
    work.into_iter().chain(dead).collect()
}

fn services() -> Services {
    Services {
        functions: DEPLOYED
            .map(|function| (function, Told::Found(self::function(function))))
            .into(),
        schedules: DEPLOYED
            .map(|function| (function, Told::Found(schedule(function))))
            .into(),
        mappings: Told::Found(["branch", "salesperson", "sale", "sync"].map(mapping).into()),
        alarms: Told::Found(ALARMS.map(alarm).into()),
        alarm_topic: announced(TOPIC, "arn:aws:kms:eu-central-1:123456789012:key/1"),
        report_topic: announced(REPORT_TOPIC, "alias/aws/sns"),
        secrets: vec![(
            SecretArn::parse(SECRET).unwrap(),
            Told::Found(SecretFacts { is_going: false }),
        )],
    }
}

fn announced(arn: &str, key: &str) -> Announced {
    Announced {
        topic: Told::Found(TopicFacts {
            arn: arn.to_owned(),
            key: Some(key.to_owned()),
        }),
        subscriptions: Told::Found(vec![subscription(&format!("{arn}:1"))]),
    }
}

fn mapping(table: &str) -> MappingFacts {
    MappingFacts {
        uuid: format!("uuid-of-{table}"),
        stream: stream(table),
        state: "Enabled".to_owned(),
        last_result: "OK".to_owned(),
        on_failure: Some(format!("{SQS}:lake-records-dead-letter-queue-prod")),
    }
}

fn function(function: &Function) -> FunctionFacts {
    let queues = function.queues.iter().map(|(variable, queue)| {
        let url = format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{queue}-prod");
        ((*variable).to_owned(), url)
    });
    let tables = function.tables.iter();
    let tables = tables.map(|(variable, table)| ((*variable).to_owned(), format!("{table}-prod")));
    let common = [("APP_ENV", "prod".to_owned()), ("STATE_DB", "sync-prod".to_owned())];
    let of_lake = [("LAKE_URL", "s3://cascade-lake-prod-123456789012".to_owned())];
    let of_collectors = [
        ("REPORT_TOPIC_ARN", REPORT_TOPIC.to_owned()),
        ("API_REQUESTS_PER_MINUTE", "50".to_owned()),
        ("API_QUOTA_SHARE", "100".to_owned()),
        ("API_REQUESTS_PER_SECOND", String::new()),
        ("COLLECTOR_INSTANCES", "9".to_owned()),
        ("API_BASE_URL", "https://vendor.test/api".to_owned()),
        ("API_KEY_SECRET_ARN", SECRET.to_owned()),
    ];
    let own = if *function == LAKE {
        of_lake.as_slice()
    } else {
        of_collectors.as_slice()
    };
    let variables = common.iter().chain(own);
    let variables = variables.map(|(name, value)| ((*name).to_owned(), value.clone()));
    FunctionFacts {
        arn: format!(
            "arn:aws:lambda:eu-central-1:123456789012:function:{}-prod",
            function.name
        ),
        role: format!("arn:aws:iam::123456789012:role/{}-prod", function.role),
        state: "Active".to_owned(),
        last_update: "Successful".to_owned(),
        runtime: "provided.al2023".to_owned(),
        architecture: "arm64".to_owned(),
        memory: 128,
        time_out: 900,
        at_once: Some(function.at_once),
        variables: Told::Found(Values(variables.chain(tables).chain(queues).collect())),
        dead_letters: Some(format!("{SQS}:{}-prod", function.dead_letters)),
        log_format: "JSON".to_owned(),
        retries: Told::Found(Some(function.retries)),
    }
}

fn schedule(function: &Function) -> ScheduleFacts {
    ScheduleFacts {
        is_enabled: true,
        rate: function.rate.to_owned(),
        target: format!(
            "arn:aws:lambda:eu-central-1:123456789012:function:{}-prod",
            function.name
        ),
        role: "arn:aws:iam::123456789012:role/scheduler-role-prod".to_owned(),
        dead_letters: Some(format!("{SQS}:{}-prod", function.dead_letters)),
        starts: Told::Found(2),
    }
}

fn alarm(name: &str) -> AlarmFacts {
    AlarmFacts {
        name: format!("{name}-prod"),
        state: "OK".to_owned(),
        has_actions: true,
        tells_trouble: vec![TOPIC.to_owned()],
        tells_end: vec![TOPIC.to_owned()],
    }
}

fn subscription(arn: &str) -> Subscription {
    Subscription {
        protocol: "email".to_owned(),
        endpoint: "pam@dundermifflinpaper.test".to_owned(),
        arn: arn.to_owned(),
    }
}

/// What is found that is not well, once the sound environment was changed.
fn problems(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = sound();
    change(&mut facts);
    let findings = diagnose(&facts).into_iter().flat_map(|section| section.findings);
    findings.filter(|finding| finding.status != Status::Ok).collect()
}

/// The only thing that is not well then: that it is of this kind, about this, and what it says and advises.
#[track_caller]
fn finds(status: Status, subject: &str, says: &str, mend: &str, change: impl FnOnce(&mut Facts)) {
    let found = problems(change);
    let [finding] = found.as_slice() else {
        panic!("expected one problem ({subject} {says}), found {found:#?}");
    };
    is(finding, status, subject, says, mend);
}

/// The only thing that is not well then, besides that the sale collector's part of the quota is not known.
#[track_caller]
fn finds_and_no_quota(status: Status, subject: &str, says: &str, mend: &str, change: impl FnOnce(&mut Facts)) {
    let found = problems(change);
    let [finding, quota] = found.as_slice() else {
        panic!("expected two problems ({subject} {says}), found {found:#?}");
    };
    is(finding, status, subject, says, mend);
    is(
        quota,
        Skipped,
        QUOTA,
        "the settings of sale-collector-prod are not known",
        "under Functions",
    );
}

#[track_caller]
fn is(finding: &Finding, status: Status, subject: &str, says: &str, mend: &str) {
    assert_eq!(
        (finding.status, finding.subject.as_str()),
        (status, subject),
        "{finding:?}"
    );
    assert!(finding.says.contains(says), "{says} in {finding:?}");
    let advice = finding.mend.as_deref().unwrap_or_default();
    assert!(advice.contains(mend), "{mend} in {finding:?}");
}

fn branch_table(facts: &mut Facts) -> &mut TableFacts {
    found(&mut facts.stores.as_mut().unwrap().tables[0].1)
}

fn sale_table(facts: &mut Facts) -> &mut Told<TableFacts> {
    &mut facts.stores.as_mut().unwrap().tables[2].1
}

fn state_table(facts: &mut Facts) -> &mut Told<StateFacts> {
    &mut facts.stores.as_mut().unwrap().state
}

fn queue<'a>(facts: &'a mut Facts, name: &str) -> &'a mut BTreeMap<String, String> {
    &mut found(facts.stores.as_mut().unwrap().queues.get_mut(name).unwrap()).attributes
}

fn of_aws(facts: &mut Facts) -> &mut Services {
    facts.services.as_mut().unwrap()
}

fn sale_function(facts: &mut Facts) -> &mut FunctionFacts {
    found(&mut of_aws(facts).functions[2].1)
}

fn sale_variable(facts: &mut Facts, name: &str, value: &str) {
    let variables = found(&mut sale_function(facts).variables);
    variables.0.insert(name.to_owned(), value.to_owned());
}

fn variable_of_all(facts: &mut Facts, name: &str, value: &str) {
    for (_, told) in of_aws(facts)
        .functions
        .iter_mut()
        .filter(|(function, _)| **function != LAKE)
    {
        let variables = found(&mut found(told).variables);
        variables.0.insert(name.to_owned(), value.to_owned());
    }
}

/// As it was before there was a state table: each instance paces itself.
fn unshared(facts: &mut Facts) {
    variable_of_all(facts, "STATE_DB", "");
    facts.quota = Some(450);
}

fn lake_function(facts: &mut Facts) -> &mut FunctionFacts {
    found(&mut of_aws(facts).functions[3].1)
}

fn lake_variable(facts: &mut Facts, name: &str, value: &str) {
    let variables = found(&mut lake_function(facts).variables);
    variables.0.insert(name.to_owned(), value.to_owned());
}

fn first_mapping(facts: &mut Facts) -> &mut MappingFacts {
    &mut found(&mut of_aws(facts).mappings)[0]
}

fn branch_schedule(facts: &mut Facts) -> &mut ScheduleFacts {
    found(&mut of_aws(facts).schedules[0].1)
}

fn first_alarm(facts: &mut Facts) -> &mut AlarmFacts {
    &mut found(&mut of_aws(facts).alarms)[0]
}

fn found<T>(told: &mut Told<T>) -> &mut T {
    match told {
        Told::Found(thing) => thing,
        _ => panic!("nothing is there"),
    }
}

#[test]
fn a_sound_environment_has_no_problem_and_a_line_for_each_thing() {
    let sections = diagnose(&sound());
    let headings: Vec<_> = sections.iter().map(|section| section.heading).collect();
    assert_eq!(
        headings,
        [
            "Account",
            "Tables",
            "Queues",
            "Functions",
            "Roles",
            "Schedules",
            "Streams",
            "Alarms",
            "Vendor"
        ]
    );
    let lines: Vec<_> = sections.iter().map(|section| section.findings.len()).collect();
    assert_eq!(lines, [2, 4, 9, 4, 8, 4, 4, 5, 3]);
    assert_eq!(problems(|_| ()), []);
}

#[test]
fn without_region_or_credentials_nothing_else_is_said() {
    for (region, identity, subject, mend) in [
        (None, Told::Missing, "region", "AWS_REGION"),
        (
            Some("eu-central-1".to_owned()),
            Told::Unread {
                action: "sts:GetCallerIdentity",
                reason: "ExpiredToken".to_owned(),
            },
            "credentials",
            "AWS_PROFILE",
        ),
    ] {
        let found = problems(|facts| {
            facts.source = Source::Aws(Caller { region, identity });
            (facts.stores, facts.services, facts.vendors) = (None, None, Vec::new());
        });
        assert_eq!((found[0].status, found[0].subject.as_str()), (Failed, subject));
        assert!(found[0].mend.as_deref().unwrap().contains(mend));
        assert!(
            found
                .iter()
                .all(|finding| ["region", "credentials"].contains(&finding.subject.as_str()))
        );
    }
}

#[test]
fn an_environment_of_which_nothing_is_there_is_one_line() {
    finds(
        Failed,
        "prod",
        "in account 123456789012, region eu-central-1",
        "AWS_REGION",
        |facts| {
            let stores = facts.stores.as_mut().unwrap();
            stores.tables.iter_mut().for_each(|(_, table)| *table = Told::Missing);
            stores.state = Told::Missing;
            stores.queues.values_mut().for_each(|queue| *queue = Told::Missing);
            of_aws(facts)
                .functions
                .iter_mut()
                .for_each(|(_, function)| *function = Told::Missing);
        },
    );
}

#[test]
fn what_may_not_be_seen_is_skipped_and_the_action_named() {
    finds(
        Skipped,
        "sale-prod",
        "dynamodb:DescribeTable",
        "have dynamodb:DescribeTable allowed",
        |facts| {
            *sale_table(facts) = Told::Forbidden("dynamodb:DescribeTable");
        },
    );
    finds_and_no_quota(
        Skipped,
        "sale-collector-prod, variables",
        "kms:Decrypt",
        "kms:Decrypt",
        |facts| {
            sale_function(facts).variables = Told::Forbidden("kms:Decrypt");
        },
    );
    finds(
        Failed,
        "sale-prod",
        "dynamodb:DescribeTable: timed out",
        "try again",
        |facts| {
            *sale_table(facts) = Told::Unread {
                action: "dynamodb:DescribeTable",
                reason: "timed out".to_owned(),
            };
        },
    );
}

#[test]
fn tables_that_are_not_as_the_contract_says_are_found() {
    finds(Failed, "sale-prod", "is missing", "sam deploy", |facts| {
        *sale_table(facts) = Told::Missing
    });
    finds(Failed, "branch-prod", "is CREATING", "wait", |facts| {
        branch_table(facts).status = "CREATING".to_owned()
    });
    finds(Warning, "branch-prod", "is UPDATING", "wait", |facts| {
        branch_table(facts).status = "UPDATING".to_owned()
    });
    finds(
        Failed,
        "branch-prod",
        "has the keys id (N), expected branch_id (S)",
        "cannot be changed",
        |facts| {
            branch_table(facts).keys = vec![("id".to_owned(), "N".to_owned())];
        },
    );
    finds(
        Failed,
        "branch-prod",
        "no stream",
        "StreamViewType=NEW_IMAGE",
        |facts| branch_table(facts).stream = None,
    );
    finds(
        Failed,
        "branch-prod",
        "a stream of KEYS_ONLY",
        "StreamEnabled=false",
        |facts| {
            branch_table(facts).stream = Some("KEYS_ONLY".to_owned());
        },
    );
    finds(
        Warning,
        "branch-prod",
        "provisioned",
        "--billing-mode PAY_PER_REQUEST",
        |facts| {
            branch_table(facts).is_on_demand = false;
        },
    );
    finds(
        Warning,
        "branch-prod",
        "point in time",
        "PointInTimeRecoveryEnabled=true",
        |facts| {
            branch_table(facts).recovery = Some(Told::Found(false));
        },
    );
    finds(
        Warning,
        "branch-prod",
        "may be deleted",
        "--deletion-protection-enabled",
        |facts| {
            branch_table(facts).is_protected = false;
        },
    );
}

#[test]
fn a_state_table_that_does_not_serve_is_found() {
    let name = "sync-prod";
    for mend in [
        "sam deploy",
        "or make it by hand, empty: aws dynamodb create-table --table-name sync-prod",
        "--stream-specification StreamEnabled=true,StreamViewType=NEW_IMAGE",
    ] {
        finds(Failed, name, "is missing", mend, |facts| {
            *state_table(facts) = Told::Missing
        });
    }
    finds(
        Failed,
        name,
        "has the keys branch_id (S), expected id (S)",
        "cannot be changed",
        |facts| {
            found(state_table(facts)).table.keys = vec![("branch_id".to_owned(), "S".to_owned())];
        },
    );
    finds(
        Warning,
        name,
        "provisioned",
        "update-table --table-name sync-prod --billing-mode PAY_PER_REQUEST",
        |facts| {
            found(state_table(facts)).table.is_on_demand = false;
        },
    );
    finds(
        Failed,
        name,
        "no stream",
        "update-table --table-name sync-prod --stream-specification",
        |facts| {
            found(state_table(facts)).table.stream = None;
        },
    );
    for told in [Told::Found(None), Told::Missing] {
        finds(
            Warning,
            name,
            "no time to live",
            "--table-name sync-prod --time-to-live-specification Enabled=true,AttributeName=expires_at",
            |facts| {
                found(state_table(facts)).time_to_live = Some(told);
            },
        );
    }
    finds(
        Warning,
        name,
        "by their expires, expected expires_at",
        "Enabled=false,AttributeName=expires",
        |facts| {
            found(state_table(facts)).time_to_live = Some(Told::Found(Some("expires".to_owned())));
        },
    );
    finds(
        Skipped,
        "sync-prod, time to live",
        "dynamodb:DescribeTimeToLive",
        "allowed",
        |facts| {
            found(state_table(facts)).time_to_live = Some(Told::Forbidden("dynamodb:DescribeTimeToLive"));
        },
    );
}

#[test]
fn only_production_needs_protection_from_deletion() {
    let found = problems(|facts| {
        facts.environment = "dev".to_owned();
        branch_table(facts).is_protected = false;
    });
    assert!(
        !found.iter().any(|finding| finding.subject == "branch-dev"),
        "{found:#?}"
    );
}

#[test]
fn queues_that_are_wired_wrongly_are_found() {
    let (work, dead) = ("employee-queue", "employee-workload-dead-letter-queue");
    finds(
        Failed,
        "employee-queue-prod",
        "for 30 s",
        "--attributes 'VisibilityTimeout=900'",
        |facts| {
            queue(facts, work).insert("VisibilityTimeout".to_owned(), "30".to_owned());
        },
    );
    finds(
        Failed,
        "employee-queue-prod",
        "no dead-letter queue",
        "RedrivePolicy",
        |facts| {
            queue(facts, work).remove("RedrivePolicy");
        },
    );
    finds(
        Failed,
        "employee-queue-prod",
        "sale-workload-dead-letter-queue-prod, expected employee",
        "RedrivePolicy",
        |facts| {
            let policy = queue(facts, "sale-queue")["RedrivePolicy"].clone();
            queue(facts, work).insert("RedrivePolicy".to_owned(), policy);
        },
    );
    finds(
        Failed,
        "employee-queue-prod",
        "after 3 receives",
        "maxReceiveCount",
        |facts| {
            let policy = queue(facts, work)["RedrivePolicy"].replace("10", "\"3\"");
            queue(facts, work).insert("RedrivePolicy".to_owned(), policy);
        },
    );
    finds(
        Warning,
        "employee-queue-prod",
        "not encrypted",
        "SqsManagedSseEnabled=true",
        |facts| {
            queue(facts, work).remove("SqsManagedSseEnabled");
        },
    );
    finds(
        Failed,
        "employee-workload-dead-letter-queue-prod",
        "for 345600 s",
        "MessageRetentionPeriod=1209600",
        |facts| {
            queue(facts, dead).insert("MessageRetentionPeriod".to_owned(), "345600".to_owned());
        },
    );
    finds(
        Warning,
        "employee-workload-dead-letter-queue-prod",
        "dead letters wait: 7",
        "cascade dlq list --aws --environment prod",
        |facts| {
            queue(facts, dead).insert("ApproximateNumberOfMessages".to_owned(), "7".to_owned());
        },
    );
    finds(
        Warning,
        "lake-records-dead-letter-queue-prod",
        "dead letters wait: 1",
        "the log of lake-prod says why",
        |facts| {
            queue(facts, "lake-records-dead-letter-queue")
                .insert("ApproximateNumberOfMessages".to_owned(), "1".to_owned());
        },
    );
}

#[test]
fn a_redrive_policys_mend_is_json_that_sets_the_right_target() {
    let found = problems(|facts| drop(queue(facts, "sale-queue").remove("RedrivePolicy")));
    let mend = found[0].mend.as_deref().unwrap();
    let attributes: serde_json::Value = serde_json::from_str(mend.split('\'').nth(1).unwrap()).unwrap();
    let policy: serde_json::Value = serde_json::from_str(attributes["RedrivePolicy"].as_str().unwrap()).unwrap();
    assert_eq!(
        policy["deadLetterTargetArn"],
        format!("{SQS}:sale-workload-dead-letter-queue-prod")
    );
    assert_eq!(policy["maxReceiveCount"], "10");
}

#[test]
fn functions_with_other_settings_are_found() {
    let name = "sale-collector-prod";
    finds(Failed, name, "is Failed (no such image)", "reason", |facts| {
        sale_function(facts).state = "Failed (no such image)".to_owned();
    });
    finds(Failed, name, "InProgress", "wait", |facts| {
        sale_function(facts).last_update = "InProgress".to_owned()
    });
    finds(
        Failed,
        name,
        "runs on provided.al2,",
        "--runtime provided.al2023",
        |facts| {
            sale_function(facts).runtime = "provided.al2".to_owned();
        },
    );
    finds(Failed, name, "may take 3 s", "--timeout 900", |facts| {
        sale_function(facts).time_out = 3
    });
    finds(Failed, name, "takes on arn:aws:iam::1:role/admin", "--role", |facts| {
        sale_function(facts).role = "arn:aws:iam::1:role/admin".to_owned();
    });
    finds(Warning, name, "logs as Text", "LogFormat=JSON", |facts| {
        sale_function(facts).log_format = "Text".to_owned()
    });
    finds(
        Failed,
        name,
        "has no dead-letter queue",
        "--dead-letter-config",
        |facts| {
            sale_function(facts).dead_letters = None;
        },
    );
    finds(
        Failed,
        name,
        "branch-function-dead-letter-queue-prod, expected sale-function",
        "--dead-letter-config",
        |facts| {
            sale_function(facts).dead_letters = Some(format!("{SQS}:branch-function-dead-letter-queue-prod"));
        },
    );
    finds(
        Failed,
        name,
        "switched off",
        "--reserved-concurrent-executions 3",
        |facts| {
            sale_function(facts).at_once = Some(0);
        },
    );
    let unlimited = problems(|facts| sale_function(facts).at_once = None);
    assert_eq!(unlimited.len(), 2, "{unlimited:#?}");
    is(
        &unlimited[0],
        Warning,
        name,
        "as many as the account allows at once, expected 3",
        "--reserved-concurrent-executions 3",
    );
    for retries in [Told::Missing, Told::Found(None), Told::Found(Some(2))] {
        finds(
            Warning,
            name,
            "2 times, expected 0",
            "--maximum-retry-attempts 0",
            |facts| {
                sale_function(facts).retries = retries;
            },
        );
    }
}

#[test]
fn variables_that_lead_elsewhere_are_found() {
    let name = "sale-collector-prod";
    finds_and_no_quota(
        Failed,
        name,
        "does not start: DB is missing",
        "environment variables",
        |facts| sale_variable(facts, "DB", ""),
    );
    finds_and_no_quota(
        Failed,
        name,
        "does not start: POLL_WINDOW_SECONDS is not usable",
        "environment variables",
        |facts| {
            sale_variable(facts, "POLL_WINDOW_SECONDS", "soon");
        },
    );
    finds(
        Failed,
        name,
        "APP_ENV=dev, expected prod",
        "set APP_ENV to prod",
        |facts| sale_variable(facts, "APP_ENV", "dev"),
    );
    finds(
        Failed,
        name,
        "DB=sale-dev, expected sale-prod",
        "set DB to sale-prod",
        |facts| {
            sale_variable(facts, "DB", "sale-dev");
        },
    );
    for elsewhere in [
        "https://sqs.eu-central-1.amazonaws.com/123456789012/sale-queue-dev",
        "https://sqs.eu-central-1.amazonaws.com/210987654321/sale-queue-prod",
        "https://sqs.us-east-1.amazonaws.com/123456789012/sale-queue-prod",
    ] {
        finds(
            Failed,
            name,
            elsewhere,
            "set SQS to https://sqs.eu-central-1",
            |facts| sale_variable(facts, "SQS", elsewhere),
        );
    }
}

#[test]
fn a_topic_of_reports_that_is_not_the_environments_is_found() {
    let name = "sale-collector-prod";
    finds(
        Warning,
        name,
        "is not told REPORT_TOPIC_ARN",
        "the ARN of report-topic-prod",
        |facts| sale_variable(facts, "REPORT_TOPIC_ARN", ""),
    );
    let other = REPORT_TOPIC.replace("prod", "dev");
    finds(
        Failed,
        name,
        "report-topic-dev, expected",
        "report-topic-prod",
        |facts| {
            sale_variable(facts, "REPORT_TOPIC_ARN", &other);
        },
    );
}

#[test]
fn a_lakes_function_that_fills_another_lake_is_found() {
    let name = "lake-prod";
    for url in [
        "s3://cascade-lake-dev-123456789012",
        "s3://cascade-lake-prod-2-123456789012",
        "s3://cascade-lake-prod-",
    ] {
        finds(
            Failed,
            name,
            url,
            "s3://cascade-lake-prod-<the account's number>",
            |facts| {
                lake_variable(facts, "LAKE_URL", url);
            },
        );
    }
    finds(
        Failed,
        name,
        "does not start: LAKE_URL is not usable",
        "environment variables",
        |facts| lake_variable(facts, "LAKE_URL", "s3://cascade-lake-prod-123456789012?x"),
    );
    finds(
        Failed,
        name,
        "SALE_DB=sale-dev, expected sale-prod",
        "set SALE_DB to sale-prod",
        |facts| lake_variable(facts, "SALE_DB", "sale-dev"),
    );
    finds(Failed, name, "knows other runs", "set STATE_DB to sync-prod", |facts| {
        lake_variable(facts, "STATE_DB", "sync-dev");
    });
    finds(
        Warning,
        name,
        "may run 1 at once, expected 8: either records wait",
        "--reserved-concurrent-executions 8",
        |facts| lake_function(facts).at_once = Some(1),
    );
}

#[test]
fn streams_that_do_not_reach_the_lake_are_found() {
    let name = "lake-prod, stream of branch-prod";
    let follow = "create-event-source-mapping --function-name lake-prod --event-source-arn \
                  arn:aws:dynamodb:eu-central-1:123456789012:table/branch-prod/stream/2026-11-21T00:00:00.000";
    finds(Failed, name, "is not followed", follow, |facts| {
        drop(found(&mut of_aws(facts).mappings).remove(0))
    });
    finds(Failed, name, "is followed no more", follow, |facts| {
        first_mapping(facts).stream.push('1')
    });
    // A new stream's numbers can be lower than those of the log, which the views would stay at.
    let bucket = "s3://cascade-lake-prod-<the account's number>";
    let aside = format!("first aws s3 mv --recursive {bucket}/changes/branches/ {bucket}/aside/branches/ ");
    finds(Failed, name, "is followed no more", &aside, |facts| {
        first_mapping(facts).stream.push('1')
    });
    finds(
        Failed,
        name,
        "is followed no more",
        r#"--payload '{"rebuild": {"log": "branches"}}'"#,
        |facts| first_mapping(facts).stream.push('1'),
    );
    finds(
        Failed,
        name,
        "is Disabled, expected Enabled",
        "update-event-source-mapping --uuid uuid-of-branch --enabled",
        |facts| first_mapping(facts).state = "Disabled".to_owned(),
    );
    finds(
        Failed,
        name,
        "PROBLEM: Function call failed",
        "the log of lake-prod",
        |facts| first_mapping(facts).last_result = "PROBLEM: Function call failed".to_owned(),
    );
    finds(
        Warning,
        name,
        "tells nobody of records",
        "the ARN of lake-records-dead-letter-queue-prod",
        |facts| first_mapping(facts).on_failure = None,
    );
    finds(
        Failed,
        "lake-prod, stream of sync-prod",
        "is not followed",
        r#"--filter-criteria '{"Filters":[{"Pattern":"{\"dynamodb\":"#,
        |facts| drop(found(&mut of_aws(facts).mappings).pop()),
    );
    finds(
        Skipped,
        "lake-prod, streams",
        "lambda:ListEventSourceMappings",
        "allowed",
        |facts| of_aws(facts).mappings = Told::Forbidden("lambda:ListEventSourceMappings"),
    );
}

#[test]
fn without_the_streams_arn_any_stream_of_the_table_will_do() {
    assert_eq!(
        problems(|facts| {
            branch_table(facts).stream_arn = None;
            first_mapping(facts).stream.push('1');
        }),
        []
    );
}

#[test]
fn without_the_lakes_function_its_streams_are_not_looked_at() {
    let found = problems(|facts| {
        of_aws(facts).functions[3].1 = Told::Missing;
        of_aws(facts).mappings = Told::Missing;
    });
    let [function] = found.as_slice() else {
        panic!("expected one problem, found {found:#?}");
    };
    is(function, Failed, "lake-prod", "is missing", "sam deploy");
}

#[test]
fn a_queues_url_may_have_another_host() {
    assert_eq!(
        problems(|facts| sale_variable(facts, "SQS", "http://127.0.0.1:4566/123456789012/sale-queue-prod")),
        []
    );
}

#[test]
fn a_key_among_the_variables_is_found_and_not_shown() {
    finds(Warning, "sale-collector-prod", "API_KEY", "ApiKeySecretArn", |facts| {
        sale_variable(facts, "API_KEY", KEY);
        sale_variable(facts, "API_KEY_SECRET_ARN", "");
    });
    let mut facts = sound();
    sale_variable(&mut facts, "API_KEY", KEY);
    sale_variable(&mut facts, "API_BASE_URL", &format!("https://pam:{KEY}@vendor.test"));
    facts.vendors = vec![(
        Url::parse(&format!("https://pam:{KEY}@vendor.test")).unwrap(),
        Reached::Not("refused".to_owned()),
    )];
    assert!(!format!("{:?}", diagnose(&facts)).contains(KEY));
    assert!(!format!("{:?}", sale_function(&mut facts).variables).contains(KEY));
}

#[test]
fn schedules_that_do_not_start_their_function_are_found() {
    let name = "branch-collector-schedule-prod";
    finds(
        Failed,
        name,
        "runs at rate(1 day), expected rate(1 hour)",
        "edit",
        |facts| {
            branch_schedule(facts).rate = "rate(1 day)".to_owned();
        },
    );
    finds(
        Failed,
        name,
        "sale-collector-prod, expected branch-collector-prod",
        "edit",
        |facts| {
            branch_schedule(facts).target = schedule(&FUNCTIONS[2]).target;
        },
    );
    finds(Failed, name, "takes on arn:aws:iam::1:role/admin", "edit", |facts| {
        branch_schedule(facts).role = "arn:aws:iam::1:role/admin".to_owned();
    });
    finds(Failed, name, "has no dead-letter queue", "edit", |facts| {
        branch_schedule(facts).dead_letters = None
    });
    finds(
        Warning,
        name,
        "was not started in the last 125 minutes",
        "scheduler-role-prod trusts",
        |facts| {
            branch_schedule(facts).starts = Told::Found(0);
        },
    );
}

#[test]
fn without_its_schedule_the_branch_collector_needs_no_alarm_of_no_success() {
    finds(
        Failed,
        "branch-collector-schedule-prod",
        "is disabled, while others are not",
        "enable it",
        |facts| {
            branch_schedule(facts).is_enabled = false;
            branch_schedule(facts).starts = Told::Found(0);
            found(&mut of_aws(facts).alarms).retain(|alarm| !alarm.name.contains("no-success"));
        },
    );
}

#[test]
fn schedules_that_are_all_disabled_are_a_pause() {
    let pause = |facts: &mut Facts| {
        for (_, told) in &mut of_aws(facts).schedules {
            let schedule = found(told);
            (schedule.is_enabled, schedule.starts) = (false, Told::Found(0));
        }
        found(&mut of_aws(facts).alarms).retain(|alarm| !alarm.name.contains("no-success"));
    };
    finds(
        Warning,
        "schedules",
        "(branch-collector-schedule-prod, salesperson-collector-schedule-prod, sale-collector-schedule-prod, \
         lake-schedule-prod)",
        "SchedulesState=ENABLED",
        pause,
    );
    let mut paused = sound();
    pause(&mut paused);
    let schedules = diagnose(&paused)
        .into_iter()
        .find(|section| section.heading == "Schedules")
        .unwrap();
    assert!(
        schedules
            .findings
            .iter()
            .all(|finding| !finding.says.starts_with("enabled") && !finding.says.contains("lately")),
        "{schedules:#?}"
    );
    let rest = problems(|facts| {
        pause(facts);
        branch_schedule(facts).rate = "rate(1 day)".to_owned();
        of_aws(facts).schedules[2].1 = Told::Forbidden("scheduler:GetSchedule");
    });
    let statuses: Vec<_> = rest.iter().map(|finding| finding.status).collect();
    assert_eq!(statuses, [Warning, Failed, Skipped], "{rest:#?}");
    assert!(!rest[0].says.contains("sale-collector-schedule"), "{rest:#?}");
}

#[test]
fn alarms_that_nobody_hears_are_found() {
    let name = "branch-collector-errors-prod";
    finds(Failed, name, "is missing", "sam deploy", |facts| {
        drop(found(&mut of_aws(facts).alarms).remove(0))
    });
    finds(
        Failed,
        name,
        "switched off",
        "enable-alarm-actions --alarm-names branch-collector-errors-prod",
        |facts| {
            first_alarm(facts).has_actions = false;
        },
    );
    finds(
        Failed,
        name,
        "does not tell alarm-topic-prod of trouble",
        "templates",
        |facts| {
            first_alarm(facts).tells_trouble = vec![TOPIC.replace("prod", "dev")];
        },
    );
    finds(Warning, name, "when trouble is over", "templates", |facts| {
        first_alarm(facts).tells_end.clear()
    });
    finds(Warning, name, "is in alarm", "AlarmDescription", |facts| {
        first_alarm(facts).state = "ALARM".to_owned()
    });
}

#[test]
fn a_topic_that_cannot_be_told_anything_is_found() {
    let set = "--attribute-value alias/cascade-prod";
    finds(Failed, "alarm-topic-prod", "every alarm is silent", set, |facts| {
        found(&mut of_aws(facts).alarm_topic.topic).key = Some("alias/aws/sns".to_owned());
    });
    finds(Warning, "alarm-topic-prod", "not encrypted", set, |facts| {
        found(&mut of_aws(facts).alarm_topic.topic).key = None
    });
}

#[test]
fn of_a_topics_key_only_its_name_is_claimed() {
    let findings = diagnose(&sound()).into_iter().flat_map(|section| section.findings);
    let topic = findings
        .into_iter()
        .find(|finding| finding.subject == "alarm-topic-prod");
    let says = topic.unwrap().says;
    assert!(
        says.contains("arn:aws:kms:eu-central-1:123456789012:key/1") && says.ends_with("was not looked at"),
        "{says}"
    );
}

#[test]
fn subscriptions_that_were_never_confirmed_are_found() {
    let subject = "alarm-topic-prod, who is told";
    finds(
        Failed,
        subject,
        "pam@dundermifflinpaper.test (email) was never confirmed: every alarm is silent",
        "aws sns subscribe --topic-arn arn:aws:sns:eu-central-1:123456789012:alarm-topic-prod --protocol email",
        |facts| of_aws(facts).alarm_topic.subscriptions = Told::Found(vec![subscription("PendingConfirmation")]),
    );
    finds(
        Warning,
        subject,
        "never confirmed: it is told nothing",
        "link",
        |facts| {
            found(&mut of_aws(facts).alarm_topic.subscriptions).push(subscription("PendingConfirmation"));
        },
    );
    for nobody in [vec![], vec![subscription("Deleted")]] {
        finds(Failed, subject, "nobody has subscribed", "AlarmEmail", |facts| {
            of_aws(facts).alarm_topic.subscriptions = Told::Found(nobody);
        });
    }
}

#[test]
fn nobody_has_to_be_told_what_runs_came_to_but_whoever_wants_to_is() {
    let subject = "report-topic-prod, who is told";
    assert_eq!(
        problems(|facts| of_aws(facts).report_topic.subscriptions = Told::Found(vec![])),
        []
    );
    finds(
        Warning,
        subject,
        "never confirmed: it is told nothing",
        "report-topic-prod --protocol email",
        |facts| {
            of_aws(facts).report_topic.subscriptions = Told::Found(vec![subscription("PendingConfirmation")]);
        },
    );
    finds(
        Warning,
        "report-topic-prod",
        "not encrypted",
        "--attribute-value alias/aws/sns",
        |facts| found(&mut of_aws(facts).report_topic.topic).key = None,
    );
    finds(Failed, "report-topic-prod", "is missing", "sam deploy", |facts| {
        of_aws(facts).report_topic.topic = Told::Missing;
    });
}

#[test]
fn a_vendor_that_does_not_answer_is_found() {
    let vendor = "https://vendor.test";
    let answers = |answer: Reached| move |facts: &mut Facts| facts.vendors[0].1 = answer;
    finds(
        Failed,
        vendor,
        "does not answer from here: timed out",
        "ApiBaseUrl",
        answers(Reached::Not("timed out".to_owned())),
    );
    finds(
        Warning,
        vendor,
        "used up (429)",
        "in a minute",
        answers(Reached::Answered(429)),
    );
    finds(
        Warning,
        vendor,
        "answers with 503",
        "ask the vendor",
        answers(Reached::Answered(503)),
    );
    finds(
        Warning,
        "API_BASE_URL",
        "different vendors",
        "one ApiBaseUrl",
        |facts| {
            facts
                .vendors
                .push((Url::parse("https://other.test").unwrap(), Reached::Answered(200)));
        },
    );
}

#[test]
fn a_key_that_cannot_be_read_is_found() {
    finds(
        Failed,
        SECRET,
        "is missing",
        "aws secretsmanager create-secret",
        |facts| {
            of_aws(facts).secrets[0].1 = Told::Missing;
        },
    );
    finds(
        Failed,
        SECRET,
        "about to be deleted",
        "restore-secret --secret-id arn:",
        |facts| {
            of_aws(facts).secrets[0].1 = Told::Found(SecretFacts { is_going: true });
        },
    );
    finds(Skipped, SECRET, "secretsmanager:DescribeSecret", "allowed", |facts| {
        of_aws(facts).secrets[0].1 = Told::Forbidden("secretsmanager:DescribeSecret");
    });
}

#[test]
fn a_shared_quota_that_is_not_the_vendors_is_found() {
    finds(
        Warning,
        QUOTA,
        "all instances share 50 requests a minute (100 % of 50), expected 49",
        "deploy with ApiRequestsPerMinute=49",
        |facts| facts.quota = Some(49),
    );
    for (variable, value) in [("API_QUOTA_SHARE", "80"), ("API_REQUESTS_PER_MINUTE", "49")] {
        let kept = problems(|facts| {
            facts.quota = Some(49);
            variable_of_all(facts, variable, value);
        });
        assert_eq!(kept, []);
    }
    let slow = problems(|facts| {
        facts.quota = Some(60);
        variable_of_all(facts, QUOTA, "600");
        variable_of_all(facts, "API_REQUESTS_PER_SECOND", "1");
    });
    assert_eq!(slow, []);
    assert_eq!(problems(|facts| facts.quota = None), []);
}

#[test]
fn functions_that_do_not_agree_on_one_quota_are_found() {
    for (variable, value, says) in [
        (
            QUOTA,
            "20",
            "API_REQUESTS_PER_MINUTE is 20 for sale-collector-prod, 50 for branch-collector-prod and \
             salesperson-collector-prod",
        ),
        (
            "API_QUOTA_SHARE",
            "20",
            "API_QUOTA_SHARE is 100 for branch-collector-prod",
        ),
        (
            "API_REQUESTS_PER_SECOND",
            "2",
            "API_REQUESTS_PER_SECOND is 2 for sale-collector-prod, not set for",
        ),
        (
            "COLLECTOR_INSTANCES",
            "3",
            "COLLECTOR_INSTANCES is 3 for sale-collector-prod, 9 for",
        ),
        (
            "STATE_DB",
            "",
            "STATE_DB is not set for sale-collector-prod, sync-prod for",
        ),
    ] {
        for quota in [Some(50), None] {
            finds(
                Failed,
                QUOTA,
                says,
                "deploy all of them with the same ApiRequestsPerMinute",
                |facts| {
                    facts.quota = quota;
                    sale_variable(facts, variable, value);
                },
            );
        }
    }
}

#[test]
fn a_quota_shared_with_another_environment_is_found() {
    let found = problems(|facts| sale_variable(facts, "STATE_DB", "sync-dev"));
    let [function, quota] = found.as_slice() else {
        panic!("expected two problems, found {found:#?}");
    };
    is(
        function,
        Failed,
        "sale-collector-prod",
        "STATE_DB=sync-dev, expected sync-prod",
        "set STATE_DB to sync-prod",
    );
    is(quota, Failed, QUOTA, "STATE_DB is sync-dev for", "sync-prod");
    let all = problems(|facts| variable_of_all(facts, "STATE_DB", "sync-dev"));
    assert_eq!(all.len(), 3, "{all:#?}");
}

#[test]
fn more_instances_than_the_functions_are_told_of_are_found() {
    let together = "may run at once, while COLLECTOR_INSTANCES says 9";
    for (at_once, says) in [(None, "as many as the account allows"), (Some(4), "10")] {
        let found = problems(|facts| sale_function(facts).at_once = at_once);
        let [function, quota] = found.as_slice() else {
            panic!("expected two problems, found {found:#?}");
        };
        is(
            function,
            Warning,
            "sale-collector-prod",
            "at once, expected 3",
            "put-function-concurrency",
        );
        is(quota, Warning, QUOTA, &format!("{says} {together}"), "template.yml");
    }
}

#[test]
fn without_a_state_table_a_quota_that_all_processes_together_exceed_is_found() {
    let sum = "1×50 + 5×50 + 3×50 = 450 requests a minute at most";
    finds(
        Warning,
        QUOTA,
        &format!("{sum}, expected 449"),
        "deploy with ApiRequestsPerMinute=49 (449/9, rounded down) or less; or have all instances share one quota: deploy the \
         templates as they are now, with which STATE_DB is sync-prod",
        |facts| {
            unshared(facts);
            facts.quota = Some(449);
        },
    );
    finds(
        Warning,
        QUOTA,
        sum,
        "a quota of 8 is too small for 9 instances",
        |facts| {
            unshared(facts);
            facts.quota = Some(8);
        },
    );
    finds(
        Warning,
        QUOTA,
        &format!("all functions carry 50, and each instance paces itself by it: {sum}"),
        "--quota N; if that is 50, deploy with ApiRequestsPerMinute=5 (50/9",
        |facts| {
            unshared(facts);
            facts.quota = None;
        },
    );
    let parts = problems(|facts| {
        unshared(facts);
        facts.quota = None;
        sale_variable(facts, QUOTA, "20");
    });
    assert_eq!(parts, []);
}

#[test]
fn the_share_that_is_advised_keeps_the_quota() {
    let followed = problems(|facts| {
        unshared(facts);
        facts.quota = Some(449);
        variable_of_all(facts, QUOTA, "49");
    });
    assert_eq!(followed, []);
}

#[test]
fn without_a_state_table_functions_without_reserved_concurrency_keep_no_quota() {
    for quota in [None, Some(u32::MAX)] {
        let found = problems(|facts| {
            unshared(facts);
            facts.quota = quota;
            sale_function(facts).at_once = None;
        });
        let about = found.iter().find(|finding| finding.subject == QUOTA).unwrap();
        is(
            about,
            Warning,
            QUOTA,
            "may run at once of sale-collector-prod",
            "put-function-concurrency --function-name sale-collector-prod --reserved-concurrent-executions 3",
        );
    }
}

#[test]
fn a_quota_that_cannot_be_compared_is_skipped() {
    for told in [
        Told::Missing,
        Told::Forbidden("lambda:GetFunction"),
        Told::Unread {
            action: "lambda:GetFunction",
            reason: "timed out".to_owned(),
        },
    ] {
        let found = problems(|facts| of_aws(facts).functions[2].1 = told);
        let about = found.iter().find(|finding| finding.subject == QUOTA).unwrap();
        is(
            about,
            Skipped,
            QUOTA,
            "sale-collector-prod are not known",
            "under Functions",
        );
    }
}

/// What is found that is not well in a data directory, where its only environment is looked at and much is broken.
fn problems_here(data: &str, environment: &str) -> Vec<Finding> {
    problems(|facts| {
        *sale_table(facts) = Told::Missing;
        branch_table(facts).stream = None;
        queue(facts, "sale-workload-dead-letter-queue")
            .insert("ApproximateNumberOfMessages".to_owned(), "1".to_owned());
        facts.environment = environment.to_owned();
        facts.source = Source::Here(Remembered {
            data: data.to_owned(),
            environment: "prod",
            vendor: "simulated".to_owned(),
            last_run: Some(("2026-11-21T01:00:00Z".to_owned(), false)),
        });
        facts.services = None;
    })
}

#[test]
fn here_mends_are_those_of_the_data_directory() {
    for (data, word) in [("here", "here"), ("Pam's data", r"'Pam'\''s data'")] {
        let found = problems_here(data, "prod");
        let mends: Vec<_> = found.iter().map(|finding| finding.mend.as_deref().unwrap()).collect();
        assert_eq!(mends.len(), 4, "{found:#?}");
        let option = format!("--data {word}");
        assert!(
            mends
                .iter()
                .all(|mend| mend.contains("cascade ") && mend.contains(&option) && !mend.contains("aws ")),
            "{mends:#?}"
        );
    }
}

#[test]
fn here_there_is_no_other_environment() {
    let found = problems_here("here", "foo");
    let [last_run, environment] = found.as_slice() else {
        panic!("expected two problems, found {found:#?}");
    };
    assert_eq!(last_run.subject, "last run");
    is(
        environment,
        Failed,
        "foo",
        "there is only `prod` here",
        "leave out --environment",
    );
}
