//! The functions: that they can run, with the settings that the templates give them, and that their variables lead to this
//! environment's own tables and queues.

use shared::config::{API_KEY_SECRET_ARN, CollectorSettings, ConfigError, Variables};

use super::super::blueprint::{Function, LAKE, LAKE_BUCKET, REPORT_TOPIC, RUNTIME, STATE_TABLE, VISIBILITY_SECONDS};
use super::super::facts::{FunctionFacts, Stores, Told, Values};
use super::{Context, Finding, arn_names, unless};

/// The variable that names the table by which the functions share the quota.
pub(super) const STATE_DB: &str = "STATE_DB";

/// The variable that names the topic of what runs came to.
const REPORT_TOPIC_ARN: &str = "REPORT_TOPIC_ARN";

/// How often Lambda tries an asynchronous invocation again where it is not told.
const DEFAULT_RETRIES: i32 = 2;

pub(super) fn findings(
    context: &Context<'_>,
    functions: &[(&'static Function, Told<FunctionFacts>)],
    stores: &Stores,
) -> Vec<Finding> {
    functions
        .iter()
        .flat_map(|(function, told)| of_function(context, function, told, stores))
        .collect()
}

/// What a collector makes of its variables when it starts: the same code reads them.
///
/// # Errors
/// What is missing or unusable.
pub fn settings(function: &Function, values: &Values) -> Result<CollectorSettings, ConfigError> {
    let get = |name: &str| values.0.get(name).cloned();
    let mut variables = Variables::new(&get);
    for (queue, _) in function.queues {
        // Noted in `variables` if it is missing or no URL; whose it is, is looked at elsewhere.
        let _ = variables.queue_url(queue);
    }
    let _ = (variables.poll_window(), variables.lookback_hours());
    let settings = variables.collector();
    variables.finish(settings)
}

/// What keeps a function from starting, of its variables.
fn unusable(function: &Function, values: &Values) -> Option<ConfigError> {
    if *function != LAKE {
        return settings(function, values).err();
    }
    let get = |name: &str| values.0.get(name).cloned();
    let mut variables = Variables::new(&get);
    let settings = lake::function::Settings::read(&mut variables);
    variables.finish(settings).err()
}

fn of_function(
    context: &Context<'_>,
    function: &'static Function,
    told: &Told<FunctionFacts>,
    stores: &Stores,
) -> Vec<Finding> {
    let name = context.name(function.name);
    let facts = match context.found(&name, told) {
        Ok(facts) => facts,
        Err(finding) => return vec![finding],
    };
    let mut problems = runtime(context, function, facts, &name, stores);
    problems.extend(concurrency(function, facts, &name));
    problems.extend(retries(context, function, facts, &name));
    match &facts.variables {
        Told::Found(values) => problems.extend(variables(context, function, values, &name, stores)),
        told => problems.extend(context.found(&format!("{name}, variables"), told).err()),
    }
    unless(problems, || {
        Finding::ok(
            &name,
            format!(
                "active, {} on {}, {} MB, {} s, {} at once, tried again {} times, variables lead to this environment",
                facts.runtime, facts.architecture, facts.memory, facts.time_out, function.at_once, function.retries
            ),
        )
    })
}

/// How the function is set up to run.
fn runtime(
    context: &Context<'_>,
    function: &Function,
    facts: &FunctionFacts,
    name: &str,
    stores: &Stores,
) -> Vec<Finding> {
    let set = |option: &str| format!("aws lambda update-function-configuration --function-name {name} {option}");
    let mut problems = Vec::new();
    if facts.state != "Active" {
        problems.push(Finding::failed(
            name,
            format!("is {}, expected Active", facts.state),
            "the state's reason says what to do; a function that nobody called for weeks is Inactive until its next call",
        ));
    }
    if facts.last_update != "Successful" {
        problems.push(Finding::failed(
            name,
            format!(
                "was last updated with this result: {}, expected Successful",
                facts.last_update
            ),
            "wait if it is in progress; otherwise mend what the reason says, and deploy again",
        ));
    }
    if facts.runtime != RUNTIME {
        problems.push(Finding::failed(
            name,
            format!("runs on {}, expected {RUNTIME}", facts.runtime),
            set(&format!("--runtime {RUNTIME}")),
        ));
    }
    if u32::try_from(facts.time_out) != Ok(VISIBILITY_SECONDS) {
        problems.push(Finding::failed(
            name,
            format!(
                "may take {} s, expected {VISIBILITY_SECONDS} s: a long answer, or a wait for the quota, would be cut off",
                facts.time_out
            ),
            set(&format!("--timeout {VISIBILITY_SECONDS}")),
        ));
    }
    if facts.log_format != "JSON" {
        problems.push(Finding::warning(
            name,
            format!(
                "logs as {}, expected JSON: Lambda's own lines cannot be searched by field",
                facts.log_format
            ),
            set("--logging-config LogFormat=JSON"),
        ));
    }
    problems.extend(dead_letters(
        context,
        function,
        facts.dead_letters.as_deref(),
        name,
        stores,
        || {
            set(&format!(
                "--dead-letter-config TargetArn=<the ARN of {}>",
                context.name(function.dead_letters)
            ))
        },
    ));
    problems
}

/// Whether what failed for good is kept where it is looked for.
pub(super) fn dead_letters(
    context: &Context<'_>,
    function: &Function,
    target: Option<&str>,
    name: &str,
    stores: &Stores,
    mend: impl FnOnce() -> String,
) -> Option<Finding> {
    let expected = context.name(function.dead_letters);
    let queue = stores.queues.get(function.dead_letters).and_then(Told::found);
    match target {
        None => Some(Finding::failed(
            name,
            format!("has no dead-letter queue, expected {expected}: an event that fails for good is lost"),
            mend(),
        )),
        Some(target) if queue.map_or_else(|| arn_names(target, &expected), |queue| queue.is_arn(target)) => None,
        Some(target) => Some(Finding::failed(
            name,
            format!("sends what fails for good to {target}, expected {expected}"),
            mend(),
        )),
    }
}

fn concurrency(function: &Function, facts: &FunctionFacts, name: &str) -> Option<Finding> {
    let expected = function.at_once;
    let mend = format!(
        "aws lambda put-function-concurrency --function-name {name} --reserved-concurrent-executions {expected}"
    );
    match facts.at_once {
        Some(at_once) if at_once == expected => None,
        Some(0) => Some(Finding::failed(
            name,
            "is switched off: its reserved concurrency is 0",
            mend,
        )),
        other => {
            let at_once = other.map_or("as many as the account allows".to_owned(), |at_once| {
                at_once.to_string()
            });
            let so = if *function == LAKE {
                "either records wait in their streams, or it takes places from the collectors"
            } else {
                "while each instance paces itself by its part of the vendor's quota, they add up to something else"
            };
            Some(Finding::warning(
                name,
                format!("may run {at_once} at once, expected {expected}: {so}"),
                mend,
            ))
        }
    }
}

fn retries(context: &Context<'_>, function: &Function, facts: &FunctionFacts, name: &str) -> Option<Finding> {
    let retries = match &facts.retries {
        Told::Found(retries) => retries.unwrap_or(DEFAULT_RETRIES),
        Told::Missing => DEFAULT_RETRIES,
        told => return context.found(&format!("{name}, retries"), told).err(),
    };
    // To put a configuration takes away what else there is in one; to update it needs one.
    let verb = if facts.retries == Told::Missing {
        "put"
    } else {
        "update"
    };
    (retries != function.retries).then(|| {
        Finding::warning(
            name,
            format!(
                "an invocation that fails is tried again {retries} times, expected {}",
                function.retries
            ),
            format!(
                "aws lambda {verb}-function-event-invoke-config --function-name {name} --qualifier '$LATEST' \
                 --maximum-retry-attempts {}",
                function.retries
            ),
        )
    })
}

fn variables(context: &Context<'_>, function: &Function, values: &Values, name: &str, stores: &Stores) -> Vec<Finding> {
    let mend = |variable: &str, value: &str| {
        format!("set {variable} to {value} among the function's environment variables, as the templates do")
    };
    let value = |variable: &str| values.0.get(variable).filter(|value| !value.is_empty());
    let mut problems = Vec::new();
    for problem in unusable(function, values).iter().flat_map(ConfigError::problems) {
        problems.push(Finding::failed(
            name,
            format!("does not start: {problem}"),
            "set it in the function's environment variables, as the templates do",
        ));
    }
    let tables = function.tables.iter();
    let tables = tables.map(|(variable, table)| (*variable, context.name(table)));
    for (variable, expected) in [("APP_ENV", context.environment.to_owned())].into_iter().chain(tables) {
        if let Some(value) = value(variable)
            && *value != expected
        {
            problems.push(Finding::failed(
                name,
                format!("is told {variable}={value}, expected {expected}: it works for another environment"),
                mend(variable, &expected),
            ));
        }
    }
    let expected = context.name(STATE_TABLE);
    if let Some(value) = value(STATE_DB)
        && *value != expected
    {
        let so = if *function == LAKE {
            "it knows other runs than this environment's"
        } else {
            "it shares the quota with others than this environment's"
        };
        problems.push(Finding::failed(
            name,
            format!("is told {STATE_DB}={value}, expected {expected}: {so}"),
            mend(STATE_DB, &expected),
        ));
    }
    if *function == LAKE {
        problems.extend(bucket(context, value("LAKE_URL"), name));
    } else {
        problems.extend(reports(context, value(REPORT_TOPIC_ARN), name));
    }
    for (variable, queue) in function.queues {
        let expected = context.name(queue);
        let facts = stores.queues.get(queue).and_then(Told::found);
        if let (Some(value), Some(facts)) = (value(variable), facts)
            && !facts.is_at(value)
        {
            problems.push(Finding::failed(
                name,
                format!("is told {variable}={value}, expected the URL of {expected}"),
                mend(variable, &facts.url),
            ));
        }
    }
    if value("API_KEY").is_some() && value(API_KEY_SECRET_ARN).is_none() {
        problems.push(Finding::warning(
            name,
            "has the vendor's key in API_KEY, where everybody can read it who may look at the function",
            "keep the key in Secrets Manager, deploy with ApiKeySecretArn, and have the vendor issue a new one",
        ));
    }
    problems
}

/// Whether the lake is this environment's own.
fn bucket(context: &Context<'_>, url: Option<&String>, name: &str) -> Option<Finding> {
    let expected = format!("s3://{}-", context.name(LAKE_BUCKET));
    let url = url?;
    let account = url.strip_prefix(&expected).map(|rest| rest.trim_end_matches('/'));
    let is_own =
        account.is_some_and(|account| !account.is_empty() && account.bytes().all(|digit| digit.is_ascii_digit()));
    (!is_own).then(|| {
        Finding::failed(
            name,
            format!("is told LAKE_URL={url}, expected {expected}<the account's number>: it fills another lake"),
            format!("set LAKE_URL to {expected}<the account's number> among the function's environment variables, as the templates do"),
        )
    })
}

/// Whether it is told where to say what a run came to.
fn reports(context: &Context<'_>, arn: Option<&String>, name: &str) -> Option<Finding> {
    let expected = context.name(REPORT_TOPIC);
    let mend = || {
        format!(
            "set {REPORT_TOPIC_ARN} to the ARN of {expected} among the function's environment variables, as the templates do"
        )
    };
    match arn {
        None => Some(Finding::warning(
            name,
            format!("is not told {REPORT_TOPIC_ARN}: what a run came to stands in its log alone"),
            mend(),
        )),
        Some(arn) if arn_names(arn, &expected) => None,
        Some(arn) => Some(Finding::failed(
            name,
            format!("is told {REPORT_TOPIC_ARN}={arn}, expected the ARN of {expected}"),
            mend(),
        )),
    }
}
