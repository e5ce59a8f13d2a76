//! What an environment consists of, as the templates make it (the contract's sections 2, 5 and 7). Names here are without
//! the environment that each ends in.

/// How long a message stays with the function that received it, and how long a function may take, in seconds.
pub const VISIBILITY_SECONDS: u32 = 900;

/// How often a message is received before it is a dead letter.
pub const RECEIVES: u32 = 10;

/// How long dead letters are kept, in seconds: 14 days, the longest that SQS offers.
pub const DEAD_LETTER_RETENTION_SECONDS: u32 = 14 * 24 * 3600;

/// What the functions run on.
pub const RUNTIME: &str = "provided.al2023";

/// The environment whose tables may not be deleted.
pub const PRODUCTION: &str = "prod";

/// The table that the functions share the quota by, `STATE_DB`.
pub const STATE_TABLE: &str = "sync";

/// The topic that every alarm is published to.
pub const TOPIC: &str = "alarm-topic";

/// The topic that is told what a run came to, `REPORT_TOPIC_ARN`.
pub const REPORT_TOPIC: &str = "report-topic";

/// What the lake's bucket is called before the environment's name; its account's number comes after it.
pub const LAKE_BUCKET: &str = "cascade-lake";

/// Where it is kept which of a stream's records are not in the lake.
pub const LAKE_RECORDS: &str = "lake-records-dead-letter-queue";

/// How long records of a stream wait for others that go with them into one file, in seconds.
pub const BATCH_WINDOW_SECONDS: u32 = 60;

/// How many records of a stream go together at most.
pub const BATCH_RECORDS: u32 = 1000;

/// How often a batch of a stream that fails is tried again.
pub const BATCH_TRIES: u32 = 100;

/// How old a stream's record may become before it is put aside, in seconds: half of what a stream keeps it for.
pub const RECORD_AGE_SECONDS: u32 = 12 * 3600;

/// Which records of the state table's stream reach the lake.
pub const RUNS_PATTERN: &str = r#"{"dynamodb": {"Keys": {"id": {"S": [{"prefix": "run/"}]}}}}"#;

/// The schedules' role.
pub const SCHEDULER_ROLE: &str = "scheduler-role";

/// Each queue of work, and where its dead letters go.
pub const WORK_QUEUES: [(&str, &str); 2] = [
    ("employee-queue", "employee-workload-dead-letter-queue"),
    ("sale-queue", "sale-workload-dead-letter-queue"),
];

/// The queues that are kept empty: letters in them wait for somebody.
pub const DEAD_LETTER_QUEUES: [&str; 5] = [
    "employee-workload-dead-letter-queue",
    "sale-workload-dead-letter-queue",
    "branch-function-dead-letter-queue",
    "employee-function-dead-letter-queue",
    "sale-function-dead-letter-queue",
];

/// Those of the lake, which only AWS has.
pub const LAKE_DEAD_LETTER_QUEUES: [&str; 2] = ["lake-function-dead-letter-queue", LAKE_RECORDS];

/// One function, deployed.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// The function's name.
    pub name: &'static str,
    /// Its role's.
    pub role: &'static str,
    /// Its schedule's.
    pub schedule: &'static str,
    /// How often that starts it.
    pub rate: &'static str,
    /// In how many seconds that starts it twice, with some for CloudWatch to count it.
    pub two_starts: u32,
    /// How many of it may run at once.
    pub at_once: i32,
    /// How often Lambda tries an invocation again.
    pub retries: i32,
    /// Its variables that hold tables' names, with the table of each, `STATE_DB` aside.
    pub tables: &'static [(&'static str, &'static str)],
    /// Its variables that hold queues' URLs, with the queue of each.
    pub queues: &'static [(&'static str, &'static str)],
    /// Where the events of invocations that failed for good go.
    pub dead_letters: &'static str,
}

/// The collectors, in the order of the cascade.
pub const FUNCTIONS: [Function; 3] = [
    Function {
        name: "branch-collector",
        role: "branch-collector-role",
        schedule: "branch-collector-schedule",
        rate: "rate(1 hour)",
        two_starts: 7500,
        at_once: 1,
        retries: 2,
        tables: &[("DB", "branch")],
        queues: &[("SQS", "employee-queue")],
        dead_letters: "branch-function-dead-letter-queue",
    },
    Function {
        name: "salesperson-collector",
        role: "salesperson-collector-role",
        schedule: "salesperson-collector-schedule",
        rate: "rate(1 minute)",
        two_starts: 600,
        at_once: 5,
        retries: 0,
        tables: &[("DB", "salesperson")],
        queues: &[("SOURCE_SQS", "employee-queue"), ("TARGET_SQS", "sale-queue")],
        dead_letters: "employee-function-dead-letter-queue",
    },
    Function {
        name: "sale-collector",
        role: "sale-collector-role",
        schedule: "sale-collector-schedule",
        rate: "rate(1 minute)",
        two_starts: 600,
        at_once: 3,
        retries: 0,
        tables: &[("DB", "sale")],
        queues: &[("SQS", "sale-queue")],
        dead_letters: "sale-function-dead-letter-queue",
    },
];

/// The function that fills the lake. It asks no vendor.
pub const LAKE: Function = Function {
    name: "lake",
    role: "lake-role",
    schedule: "lake-schedule",
    rate: "rate(1 hour)",
    two_starts: 7500,
    at_once: 8,
    retries: 0,
    tables: &[
        ("BRANCH_DB", "branch"),
        ("SALESPERSON_DB", "salesperson"),
        ("SALE_DB", "sale"),
    ],
    queues: &[],
    dead_letters: "lake-function-dead-letter-queue",
};

/// All functions.
pub const DEPLOYED: [&Function; 4] = {
    let [branches, salespersons, sales] = &FUNCTIONS;
    [branches, salespersons, sales, &LAKE]
};

/// How many instances of all collectors may run at once, `COLLECTOR_INSTANCES`.
pub const INSTANCES: i32 = {
    let [branches, salespersons, sales] = &FUNCTIONS;
    branches.at_once + salespersons.at_once + sales.at_once
};

/// The alarms that are only there where the collectors are started by their schedules.
pub const SCHEDULED_ALARMS: [&str; 2] = ["branch-collector-no-success", "sale-collector-freshness"];

/// Every alarm.
pub const ALARMS: [&str; 36] = [
    "branch-collector-errors",
    "branch-collector-duration",
    "branch-collector-throttles",
    "branch-collector-rejected",
    "branch-collector-state-failures",
    "branch-collector-no-success",
    "salesperson-collector-errors",
    "salesperson-collector-duration",
    "salesperson-collector-throttles",
    "salesperson-collector-failed",
    "salesperson-collector-rejected",
    "salesperson-collector-state-failures",
    "sale-collector-errors",
    "sale-collector-duration",
    "sale-collector-throttles",
    "sale-collector-failed",
    "sale-collector-rejected",
    "sale-collector-state-failures",
    "sale-collector-freshness",
    "lake-errors",
    "lake-duration",
    "lake-throttles",
    "lake-iterator-age",
    "lake-failed",
    "lake-refused",
    "lake-new-attributes",
    "lake-state-failures",
    "employee-queue-oldest-message",
    "sale-queue-oldest-message",
    "employee-workload-dead-letters",
    "sale-workload-dead-letters",
    "branch-function-dead-letters",
    "employee-function-dead-letters",
    "sale-function-dead-letters",
    "lake-function-dead-letters",
    "lake-records-dead-letters",
];

#[cfg(test)]
mod tests {
    use lake::layout::{PARTITION, folder};
    use lake::log::{DECIMAL, Kind, Log};
    use shared::entity::Entity;

    use super::*;

    /// Everything that the templates make by a name of the blueprint's.
    const TEMPLATES: [&str; 8] = [
        include_str!("../../../templates/BranchCollector.yml"),
        include_str!("../../../templates/SalespersonCollector.yml"),
        include_str!("../../../templates/SaleCollector.yml"),
        include_str!("../../../templates/iam.yml"),
        include_str!("../../../templates/notifications.yml"),
        include_str!("../../../templates/queues.yml"),
        include_str!("../../../templates/tables.yml"),
        LAKE_TEMPLATE,
    ];

    const LAKE_TEMPLATE: &str = include_str!("../../../templates/lake.yml");

    fn lines() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().flat_map(|template| template.lines()).map(str::trim)
    }

    /// That exactly one resource has this name.
    #[track_caller]
    fn is_made(property: &str, name: &str) {
        let line = format!("{property}: !Sub {name}-${{Environment}}");
        assert_eq!(lines().filter(|other| *other == line).count(), 1, "{line}");
    }

    #[test]
    fn every_name_is_one_that_the_templates_give() {
        for function in DEPLOYED {
            is_made("FunctionName", function.name);
            is_made("RoleName", function.role);
            is_made("Name", function.schedule);
            for (_, table) in function.tables {
                is_made("TableName", table);
            }
        }
        for entity in Entity::ALL {
            is_made("TableName", entity.name());
        }
        is_made("TableName", STATE_TABLE);
        for (queue, _) in WORK_QUEUES {
            is_made("QueueName", queue);
        }
        for queue in DEAD_LETTER_QUEUES.into_iter().chain(LAKE_DEAD_LETTER_QUEUES) {
            is_made("QueueName", queue);
        }
        is_made("RoleName", SCHEDULER_ROLE);
        is_made("TopicName", TOPIC);
        is_made("TopicName", REPORT_TOPIC);
        assert!(LAKE_TEMPLATE.contains(&format!(
            "BucketName: !Sub {LAKE_BUCKET}-${{Environment}}-${{AWS::AccountId}}"
        )));
        for alarm in ALARMS {
            is_made("AlarmName", alarm);
        }
    }

    #[test]
    fn as_many_instances_run_at_once_as_the_functions_are_told() {
        let root: Vec<_> = include_str!("../../../template.yml").lines().map(str::trim).collect();
        let [branches, salespersons, sales] = FUNCTIONS.each_ref().map(|function| function.at_once);
        for (name, at_once) in [
            ("Branches", branches),
            ("Salespersons", salespersons),
            ("Sales", sales),
            ("Together", INSTANCES),
            ("Lake", LAKE.at_once),
        ] {
            assert!(
                root.contains(&format!("{name}: {at_once}").as_str()),
                "{name}: {at_once}"
            );
        }
        // Nor may a template that is deployed alone say anything else.
        for (function, template) in FUNCTIONS.iter().zip(TEMPLATES) {
            let lines: Vec<_> = template.lines().map(str::trim).collect();
            for (parameter, value) in [
                ("ReservedConcurrency", function.at_once),
                ("CollectorInstances", INSTANCES),
            ] {
                let name = format!("{parameter}:");
                let at = lines.iter().position(|line| *line == name).unwrap();
                assert_eq!(
                    lines[at + 2],
                    format!("Default: {value}"),
                    "{parameter} of {}",
                    function.name
                );
            }
        }
    }

    #[test]
    fn the_lake_follows_every_stream_as_told() {
        let lines: Vec<_> = LAKE_TEMPLATE.lines().map(str::trim).collect();
        let all = 1 + LAKE.tables.len();
        for (line, times) in [
            (format!("MaximumBatchingWindowInSeconds: {BATCH_WINDOW_SECONDS}"), all),
            (format!("BatchSize: {BATCH_RECORDS}"), all),
            (format!("MaximumRetryAttempts: {BATCH_TRIES}"), all),
            (format!("MaximumRecordAgeInSeconds: {RECORD_AGE_SECONDS}"), all),
            ("BisectBatchOnFunctionError: true".to_owned(), all),
            ("FunctionResponseTypes: [ReportBatchItemFailures]".to_owned(), all),
            (format!("- Pattern: '{RUNS_PATTERN}'"), 1),
            (format!("Default: {}", LAKE.at_once), 1),
        ] {
            assert_eq!(lines.iter().filter(|other| **other == line).count(), times, "{line}");
        }
    }

    #[test]
    fn the_catalog_has_the_columns_of_the_lakes_files() {
        let lines: Vec<_> = include_str!("../../../templates/catalog.yml")
            .lines()
            .map(str::trim)
            .collect();
        for log in Log::ALL {
            let begins = format!("Name: {}", log.table());
            let table = lines.iter().copied().skip_while(|line| *line != begins).skip(1);
            let table: Vec<_> = table.take_while(|line| !line.starts_with("Type: AWS::")).collect();
            let found: Vec<_> = table
                .iter()
                .copied()
                .filter(|line| line.starts_with("- {Name: "))
                .collect();
            let columns = log.columns().iter().map(|column| {
                let kind = match column.kind {
                    Kind::Text | Kind::Id => "string".to_owned(),
                    Kind::Whole => "bigint".to_owned(),
                    Kind::Date => "date".to_owned(),
                    Kind::Timestamp => "timestamp".to_owned(),
                    Kind::Decimal => format!("'decimal({},{})'", DECIMAL.0, DECIMAL.1),
                    Kind::Boolean => "boolean".to_owned(),
                };
                format!("- {{Name: {}, Type: {kind}}}", column.name)
            });
            // As text, so that every engine compares it with text.
            let partition = format!("- {{Name: {PARTITION}, Type: string}}");
            let expected: Vec<_> = [partition].into_iter().chain(columns).collect();
            assert_eq!(found, expected, "{log:?}");
            let location = format!("- s3://${{Bucket}}/{}/", folder(log));
            assert!(table.contains(&location.as_str()), "{location}");
            let day = format!("- s3://${{Bucket}}/{}/{PARTITION}=${{!{PARTITION}}}", folder(log));
            assert!(table.contains(&day.as_str()), "{day}");
        }
    }

    #[test]
    fn the_templates_have_no_other_alarm_and_no_other_queue() {
        let named = |property: &str| lines().filter(|line| line.starts_with(property)).count();
        assert_eq!(named("AlarmName:"), ALARMS.len());
        let queues = WORK_QUEUES.len() + DEAD_LETTER_QUEUES.len() + LAKE_DEAD_LETTER_QUEUES.len();
        assert_eq!(named("QueueName:"), queues);
    }
}
