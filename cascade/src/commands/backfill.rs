//! `cascade backfill`: the queues filled again from the tables.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shared::account::Accounts;
use shared::clock::Clock;
use shared::jitter::Jitter;
use shared::queue::sqs::SqsQueue;
use shared::state::StateTable;
use shared::state::dynamodb::DynamoState;
use shared::topic::Topic;
use tokio_util::sync::CancellationToken;

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs, Where};
use super::run::interrupted;
use super::session::{Listen, Session, SessionArgs};
use crate::backfill::scope::{Scope, parse_day};
use crate::backfill::{Backfill, Extents, Filled, PAGE, Tables};
use crate::pipeline::View;

/// How often the account is looked at while the work goes on.
const LOOK: Duration = Duration::from_secs(2);

/// How often it is looked at on AWS, where each look costs a read for each branch.
const LOOK_ON_AWS: Duration = Duration::from_secs(15);

/// Fill the queues again from the tables, so that every row is compared with what the vendor says now
///
/// It is background work: it takes what live work leaves of the quota, and never less than a share. What was broken off goes
/// on where it stopped when it is asked for again.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Fill it in the AWS account that the standard AWS environment points to; the deployed collectors do the work
    #[arg(long, requires = "environment", conflicts_with_all = ["data", "vendor", "quota"])]
    aws: bool,
    /// The deployed environment's name
    #[arg(long, value_name = "NAME", requires = "aws", value_parser = super::place::parse_environment)]
    environment: Option<String>,
    #[command(flatten)]
    wish: Wish,
    /// Fill the queues, and do not wait for the work
    #[arg(long)]
    no_wait: bool,
}

/// What is to be filled again.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Wish {
    /// Every branch and every salesperson
    #[arg(long, conflicts_with_all = ["branch", "employee", "from", "to", "abandon"])]
    all: bool,
    /// One branch, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["employee", "from", "to", "abandon"])]
    branch: Option<String>,
    /// One salesperson, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to", "abandon"])]
    employee: Option<String>,
    /// The salespersons who have sales booked from this day on (2026-01-31) …
    #[arg(long, value_name = "DAY", requires = "to", conflicts_with = "abandon", value_parser = parse_day)]
    from: Option<String>,
    /// … up to this one
    #[arg(long, value_name = "DAY", requires = "from", value_parser = parse_day)]
    to: Option<String>,
    /// Give up a backfill that has not filled its queues yet
    #[arg(long)]
    abandon: bool,
}

impl Wish {
    /// What is wished for; `None`: that an unfinished one is given up.
    fn scope(self) -> Result<Option<Scope>, CommandError> {
        let scope = match self {
            Self { abandon: true, .. } => return Ok(None),
            Self { all: true, .. } => Scope::All,
            Self {
                branch: Some(branch), ..
            } => Scope::Branch(branch),
            Self {
                employee: Some(employee),
                ..
            } => Scope::Employee(employee),
            Self {
                from: Some(from),
                to: Some(to),
                ..
            } => Scope::Days { from, to },
            _ => {
                return Err(CommandError::Service {
                    action: "tell what to fill again".to_owned(),
                    reason: "expected --all, --branch, --employee, or --from and --to".to_owned(),
                });
            }
        };
        let reason = match &scope {
            Scope::Branch(id) | Scope::Employee(id) if id.is_empty() => "expected an id, found nothing".to_owned(),
            Scope::Days { from, to } if from > to => {
                format!("expected a first day (--from) that is not after the last one (--to), found {from} and {to}")
            }
            _ => return Ok(Some(scope)),
        };
        Err(CommandError::Service {
            action: "fill the queues again".to_owned(),
            reason,
        })
    }
}

/// Fills the queues, and answers whether all of it is done.
///
/// # Errors
/// If the place cannot be used, there is nothing to fill, or another backfill is unfinished.
pub async fn backfill(args: BackfillArgs) -> Result<bool, CommandError> {
    let scope = args.wish.scope()?;
    let place_args = PlaceArgs::new(args.session.data.clone(), args.aws, args.environment.clone());
    let place = Place::open(&place_args).await?;
    if place.is_own() {
        // Nobody else will do the work.
        place.close().await?;
        return here(args.session, scope, args.no_wait).await;
    }
    let backfill = open(&place.config, place_args.environment(), Clock::system(), None).await?;
    let done = match scope {
        None => abandon(&backfill).await,
        Some(scope) => {
            let filled = fill(&backfill, &scope).await?;
            let pause = match place.site {
                Where::Aws => LOOK_ON_AWS,
                Where::Here => LOOK,
            };
            match args.no_wait {
                true => Ok(true),
                false => wait(&backfill, filled, pause, &CancellationToken::new()).await,
            }
        }
    };
    place.close().await?;
    done
}

/// In a data directory that nobody else works on: this process does the work, too.
async fn here(session: SessionArgs, scope: Option<Scope>, no_wait: bool) -> Result<bool, CommandError> {
    let session = Session::start(&session, true, Listen::default()).await?;
    let stop = session.stop.clone();
    tokio::spawn(async move {
        interrupted().await;
        stop.cancel();
    });
    let config = session.cloud.sdk_config();
    let topic: Arc<dyn Topic> = Arc::new(shared::topic::sns::SnsTopic::new(
        &config,
        session.places.report_topic_arn.clone(),
    ));
    let environment = super::session::ENVIRONMENT;
    let backfill = open(&config, environment, session.clock.clone(), Some(topic)).await?;
    let done = match scope {
        None => abandon(&backfill).await?,
        Some(scope) => {
            let filled = fill(&backfill, &scope).await?;
            if no_wait {
                true
            } else {
                let view = View::default();
                let is_worked_through = CancellationToken::new();
                let work = async {
                    let worked = session
                        .pipeline
                        .work_through(filled.run_id, &view, || session.cloud.time_moved())
                        .await;
                    is_worked_through.cancel();
                    worked
                };
                let (watched, worked) = tokio::join!(wait(&backfill, filled, LOOK, &is_worked_through), work);
                for failure in worked? {
                    eprintln!("a collector failed: {failure}");
                }
                watched?
            }
        }
    };
    session.shutdown().await?;
    Ok(done)
}

async fn open(
    config: &SdkConfig,
    environment: &str,
    clock: Clock,
    topic: Option<Arc<dyn Topic>>,
) -> Result<Backfill, CommandError> {
    let name = |what: &str| format!("{what}-{environment}");
    let sqs = aws_sdk_sqs::Client::new(config);
    let queue = async |what: &str| {
        let found = sqs.get_queue_url().queue_name(name(what)).send().await;
        let found = found.map_err(|error| CommandError::Service {
            action: format!("find the queue {}", name(what)),
            reason: shared::error_chain(&error.into_service_error()),
        })?;
        let url = found.queue_url.unwrap_or_default();
        Ok::<_, CommandError>(Arc::new(SqsQueue::new(sqs.clone(), url, Jitter::random())))
    };
    let state: Arc<dyn StateTable> = Arc::new(DynamoState::new(config, name("sync")));
    let is_reporter = topic.is_some();
    let accounts = Accounts::new(
        Some(state.clone()),
        topic,
        clock.clone(),
        Jitter::random(),
        environment.to_owned(),
        None,
    );
    let accounts = match is_reporter {
        true => accounts,
        false => accounts.without_reports(),
    };
    Ok(Backfill {
        dynamodb: aws_sdk_dynamodb::Client::new(config),
        tables: Tables {
            branches: name("branch"),
            salespersons: name("salesperson"),
            sales: name("sale"),
        },
        employee_queue: queue("employee-queue").await?,
        sale_queue: queue("sale-queue").await?,
        state,
        accounts,
        clock,
        page: PAGE,
    })
}

async fn abandon(backfill: &Backfill) -> Result<bool, CommandError> {
    match backfill.abandon().await? {
        Some(scope) => say(format_args!(
            "The backfill of {scope} is given up. What is in the queues already is worked through."
        ))?,
        None => say("There is no unfinished backfill.")?,
    }
    Ok(true)
}

async fn fill(backfill: &Backfill, scope: &Scope) -> Result<Filled, CommandError> {
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new_spinner().with_style(style("filling the queues: {pos} messages"))
    } else {
        ProgressBar::hidden()
    };
    let filled = backfill.fill(scope, |sent| bar.set_position(sent as u64)).await;
    bar.finish_and_clear();
    let filled = filled?;
    let (branches, salespersons) = filled.sent;
    let resumed = if filled.resumed {
        ", from where it had stopped"
    } else {
        ""
    };
    eprintln!(
        "The queues are filled with {scope}{resumed}: {branches} messages about branches, {salespersons} about \
         salespersons, as run {}.",
        filled.run_id
    );
    Ok(filled)
}

/// Shows how far the work is until it is over, nobody works on it any more, or the user has seen enough.
async fn wait(
    backfill: &Backfill,
    filled: Filled,
    pause: Duration,
    is_worked_through: &CancellationToken,
) -> Result<bool, CommandError> {
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(0).with_style(style("salespersons {bar:30} {pos}/{len} · {msg}"))
    } else {
        ProgressBar::hidden()
    };
    loop {
        let nobody_is_left = is_worked_through.is_cancelled();
        let Extents {
            salespersons,
            is_over,
            report,
        } = backfill.extents(filled.run_id).await?;
        bar.set_length(salespersons.1 as u64);
        bar.set_position(salespersons.0 as u64);
        bar.set_message(format!("{} requests", report.requests));
        if is_over || nobody_is_left {
            bar.finish_and_clear();
            say(report.text().trim_end())?;
            return Ok(report.is_complete());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = is_worked_through.cancelled() => {}
            () = interrupted() => {
                bar.finish_and_clear();
                eprintln!("The queues are filled; the collectors go on without this command.");
                return Ok(false);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are all there are.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(wish: Wish) -> String {
        wish.scope().unwrap_err().to_string()
    }

    fn nothing() -> Wish {
        Wish {
            all: false,
            branch: None,
            employee: None,
            from: None,
            to: None,
            abandon: false,
        }
    }

    #[test]
    fn days_in_the_wrong_order_are_refused_with_both_of_them() {
        let day = |day: &str| Some(day.to_owned());
        let wish = |from, to| Wish { from, to, ..nothing() };
        assert_eq!(
            refused(wish(day("2026-11-20"), day("2026-11-01"))),
            "could not fill the queues again: expected a first day (--from) that is not after the last one (--to), \
             found 2026-11-20 and 2026-11-01"
        );
        let one_day = wish(day("2026-11-20"), day("2026-11-20")).scope().unwrap();
        assert!(matches!(one_day, Some(Scope::Days { .. })), "{one_day:?}");
    }

    #[test]
    fn an_empty_id_is_refused() {
        let branch = Some(String::new());
        assert!(refused(Wish { branch, ..nothing() }).ends_with("expected an id, found nothing"));
    }
}
