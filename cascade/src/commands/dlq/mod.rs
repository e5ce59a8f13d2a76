//! `cascade dlq`: dead letters listed, shown, sent again, thrown away.

mod print;

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use shared::deletions::{DEFAULT_MAX_PERCENT, DeletionRules};
use shared::jitter::Jitter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::print::{Done, Dry, List, Seen, Show, typed_with};
use super::CommandError;
use super::output::{printable, say};
use super::place::{Place, PlaceArgs, Where};
use super::run::interrupted;
use super::session::{ENVIRONMENT, Listen, Session, SessionArgs, WorldArgs, parse_count};
use crate::dead_letters::{
    Action, CollectorHere, Courier, DeadLetterQueue, DeadLetters, Filter, Found, FunctionCourier, Look, Newcomers,
    Origin, Outcome, Thoroughness, grouped,
};
use crate::state::{Source, State};

/// List, show, redrive or discard dead letters: here, or in an AWS account
///
/// There are five dead-letter queues. `employee` and `sale` hold messages that a collector could not work on (with the
/// reason), or that SQS gave up after ten receives. `branch-function`, `employee-function` and `sale-function` hold the
/// events of invocations that failed.
///
/// What is printed is a snapshot. A queue can only be looked into by receiving, which hides its messages from others
/// until the command ends and hands them back; after a kill they come back by themselves within 16 minutes. A message that
/// somebody else has received is not seen. Looking raises a message's receive count, which nothing here goes by.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    List(ListArgs),
    Show(ShowArgs),
    Redrive(RedriveArgs),
    Discard(DiscardArgs),
}

/// Count dead letters by queue, reason and age (within an hour, within a day, older)
#[derive(Debug, Args)]
struct ListArgs {
    /// The queues to look into [default: all]
    #[arg(value_name = "QUEUE")]
    queues: Vec<Choice>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Look at no more than so many letters
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse_count)]
    limit: NonZeroU32,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Show each dead letter: id, age, queue, reason, run, body
#[derive(Debug, Args)]
struct ShowArgs {
    /// The queues to look into [default: all]
    #[arg(value_name = "QUEUE")]
    queues: Vec<Choice>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show no more than so many letters
    #[arg(long, value_name = "N", default_value = "20", value_parser = parse_count)]
    limit: NonZeroU32,
    /// Print one JSON object instead of text; bodies are in it as they are, as text
    #[arg(long)]
    json: bool,
}

/// Send dead letters again to where they failed; without --yes, only say what would be sent
///
/// A message goes back to its work queue, an event to its function. A letter is deleted only after it is safely there. Where it
/// cannot be sent it stays, and the exit status is 1, also of a dry run that can tell. What Lambda has taken, it tries by itself:
/// an event that fails again comes back here.
///
/// Here, without AWS, there are no functions: the collector is run in this process, against the simulated vendor, and the letter is
/// deleted if it succeeds. That needs the data directory for itself: while `cascade up` has it, events stay where they are.
///
/// `aws sqs start-message-move-task --source-arn … --destination-arn …` does the same for messages, without a choice of them.
#[derive(Debug, Args)]
struct RedriveArgs {
    /// The queues to redrive [default: all]
    #[arg(value_name = "QUEUE")]
    queues: Vec<Choice>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    change: ChangeArgs,
    /// Requests a minute that a real vendor allows: for events that are sent again here, where the data directory is filled
    /// from one; API_KEY is taken from the environment
    #[arg(long, value_name = "N", conflicts_with = "aws", value_parser = parse_count)]
    quota: Option<NonZeroU32>,
}

/// Delete dead letters; without --yes, only say which would be deleted
#[derive(Debug, Args)]
struct DiscardArgs {
    /// The queues to delete from
    #[arg(value_name = "QUEUE", required = true)]
    queues: Vec<Choice>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// What a command that changes something can be told.
#[derive(Clone, Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// No more than so many letters in all [default: no limit]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    limit: Option<NonZeroU32>,
    /// No more than so many letters a second [default: as fast as it goes]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    rate: Option<NonZeroU32>,
    /// Really do it
    #[arg(long)]
    yes: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct FilterArgs {
    /// Only letters that were sent longer ago than this, such as 90s, 2h, `1day 6h`; what SQS moved was sent when its
    /// message was
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Option<Duration>,
    /// Only letters whose reason holds this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter {
            older_than: self.older_than,
            reason: self.reason.clone(),
        }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a duration with its units, such as 90s, 2h or '1day 6h'"))
}

/// A queue, or all of them, as they are called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Messages of the employee queue
    Employee,
    /// Messages of the sale queue
    Sale,
    /// Invocations of the branch collector
    BranchFunction,
    /// Invocations of the salesperson collector
    EmployeeFunction,
    /// Invocations of the sale collector
    SaleFunction,
    /// All of them
    All,
}

impl Choice {
    fn queue(self) -> Option<DeadLetterQueue> {
        match self {
            Self::Employee => Some(DeadLetterQueue::EmployeeWorkload),
            Self::Sale => Some(DeadLetterQueue::SaleWorkload),
            Self::BranchFunction => Some(DeadLetterQueue::BranchFunction),
            Self::EmployeeFunction => Some(DeadLetterQueue::EmployeeFunction),
            Self::SaleFunction => Some(DeadLetterQueue::SaleFunction),
            Self::All => None,
        }
    }

    /// The queues that are meant, in their order; all of them by none.
    fn meant(choices: &[Self]) -> Vec<DeadLetterQueue> {
        let all = choices.is_empty() || choices.contains(&Self::All);
        let meant = |queue: &DeadLetterQueue| all || choices.iter().any(|choice| choice.queue() == Some(*queue));
        DeadLetterQueue::ALL.into_iter().filter(meant).collect()
    }
}

/// What a shell has for a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Does what is asked, and answers whether nothing is left that should have been done.
///
/// # Errors
/// If there is nothing to look at, or it cannot be reached.
pub async fn dlq(args: DlqArgs) -> Result<bool, CommandError> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        interrupted().await;
        stopped.cancel();
        eprintln!("Ending: letters that are held are handed back; once more ends it at once.");
        interrupted().await;
        eprintln!("Ended: letters that were held come back by themselves within 16 minutes.");
        std::process::exit(INTERRUPTED);
    });
    match args.command {
        DlqCommand::List(args) => {
            let query = Query {
                queues: Choice::meant(&args.queues),
                filter: args.filter.filter(),
                limit: Some(args.limit),
            };
            let mut desk = Desk::open(&args.place, stop).await?;
            let seen = desk.look(&query, Newcomers::Shown).await;
            desk.close().await?;
            let seen = seen?;
            let list = List::of(seen);
            print(args.json, list.json(), &list, &list.seen.problems)?;
            Ok(list.seen.is_complete())
        }
        DlqCommand::Show(args) => {
            let query = Query {
                queues: Choice::meant(&args.queues),
                filter: args.filter.filter(),
                limit: Some(args.limit),
            };
            let mut desk = Desk::open(&args.place, stop).await?;
            let seen = desk.look(&query, Newcomers::Shown).await;
            desk.close().await?;
            let show = Show(seen?);
            print(args.json, show.json(), &show, &show.0.problems)?;
            Ok(show.0.is_complete())
        }
        DlqCommand::Redrive(args) => {
            change(
                &args.place,
                &args.queues,
                &args.change,
                Change::Redrive(args.quota),
                stop,
            )
            .await
        }
        DlqCommand::Discard(args) => change(&args.place, &args.queues, &args.change, Change::Discard, stop).await,
    }
}

/// Prints what was found or done; what went wrong follows on the standard error.
fn print(
    json: bool,
    value: serde_json::Value,
    text: &impl std::fmt::Display,
    problems: &[(DeadLetterQueue, String)],
) -> Result<(), CommandError> {
    if json {
        say(format_args!("{value:#}"))?;
    } else {
        say(text)?;
    }
    for (queue, problem) in problems {
        eprintln!("error: {}: {}", queue.short_name(), printable(problem));
    }
    Ok(())
}

/// Which letters are meant.
struct Query {
    queues: Vec<DeadLetterQueue>,
    filter: Filter,
    limit: Option<NonZeroU32>,
}

impl Query {
    fn limit(&self) -> usize {
        self.limit
            .map_or(usize::MAX, |limit| usize::try_from(limit.get()).unwrap_or(usize::MAX))
    }
}

/// What is done with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// They are sent again; here, within a real vendor's quota.
    Redrive(Option<NonZeroU32>),
    Discard,
}

/// Where letters of a queue go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// To a work queue, by its name without the environment.
    Queue(&'static str),
    /// To a function.
    Function(Origin),
    /// To a collector in this process.
    Here(Origin),
    /// Nowhere, for a reason.
    Blocked(String),
    /// Away.
    Deleted,
}

/// The dead-letter queues of a place.
struct Desk {
    place: Place,
    letters: DeadLetters,
    environment: String,
    stop: CancellationToken,
}

impl Desk {
    async fn open(args: &PlaceArgs, stop: CancellationToken) -> Result<Self, CommandError> {
        let place = if args.aws {
            tokio::select! {
                place = Place::open(args) => place?,
                () = stop.cancelled() => {
                    return Err(CommandError::Service {
                        action: "find out which AWS account and region are meant".to_owned(),
                        reason: "interrupted before there was an answer".to_owned(),
                    });
                }
            }
        } else {
            Place::open(args).await?
        };
        let environment = args.environment().to_owned();
        let letters = dead_letters(&place.config, place.site, &environment, &stop);
        Ok(Self {
            place,
            letters,
            environment,
            stop,
        })
    }

    async fn close(mut self) -> Result<(), CommandError> {
        self.place.keep_time()?;
        self.place.close().await
    }

    async fn look(&mut self, query: &Query, newcomers: Newcomers) -> Result<Seen, CommandError> {
        let found = self.find(&query.queues).await?;
        let expected = found.queues.iter().map(|found| found.depth.waiting).sum();
        let progress = Progress::new("looked at", expected);
        let seen = |letters| progress.add(letters);
        let looks = join_all(
            found
                .queues
                .iter()
                .map(|found| self.letters.look(found, &query.filter, query.limit(), newcomers, &seen)),
        )
        .await;
        progress.end();
        Ok(found.seen(looks, query.limit(), self.stop.is_cancelled()))
    }

    /// Finds queues, as long as nobody ends the command.
    async fn find(&self, queues: &[DeadLetterQueue]) -> Result<FoundQueues, CommandError> {
        tokio::select! {
            found = find(&self.letters, queues, &self.environment) => found,
            () = self.stop.cancelled() => Ok(FoundQueues::default()),
        }
    }

    /// Where the letters of a queue would go, if that is there.
    async fn open_way(&self, queue: DeadLetterQueue, change: Change) -> Way {
        let way = self.way(queue, change);
        let Way::Queue(name) = way else { return way };
        match self.letters.work_queue(name).await {
            Ok(Some(_)) => way,
            Ok(None) => Way::Blocked(no_queue(name, &self.environment)),
            Err(failure) => Way::Blocked(failure.to_string()),
        }
    }

    /// Where the letters of a queue would go.
    fn way(&self, queue: DeadLetterQueue, change: Change) -> Way {
        let Change::Redrive(quota) = change else {
            return Way::Deleted;
        };
        match (queue.origin(), self.place.site) {
            (Origin::WorkQueue(name), _) => Way::Queue(name),
            (function, Where::Aws) => Way::Function(function),
            (_, Where::Here) if self.environment != ENVIRONMENT => Way::Blocked(format!(
                "there are no functions here, and the collectors of this command work on the environment {ENVIRONMENT}, not on {}",
                self.environment
            )),
            (_, Where::Here) if !self.place.is_own() => Way::Blocked(
                "another process has the data directory; there are no functions here, and its collectors take no \
                 events from others: end it first, and this command runs the collector"
                    .to_owned(),
            ),
            (function, Where::Here) => match &self.place.state {
                Some(State {
                    source: Source::Url(url),
                    ..
                }) if quota.is_none() => Way::Blocked(format!(
                    "the collector would run here and ask the vendor at {url}: say with --quota how many requests a \
                     minute it allows"
                )),
                _ => Way::Here(function),
            },
        }
    }
}

/// Why messages stay where they are.
fn no_queue(name: &str, environment: &str) -> String {
    format!("there is no queue {name}-{environment} to send them to; none was touched")
}

fn dead_letters(
    config: &aws_config::SdkConfig,
    site: Where,
    environment: &str,
    stop: &CancellationToken,
) -> DeadLetters {
    let thoroughness = match site {
        Where::Here => Thoroughness::Exact,
        Where::Aws => Thoroughness::Distributed,
    };
    DeadLetters::new(config, environment, thoroughness, Jitter::random(), stop.clone())
}

/// The queues that are there, and those that are not or cannot be asked.
#[derive(Debug, Default)]
struct FoundQueues {
    queues: Vec<Found>,
    missing: Vec<DeadLetterQueue>,
    problems: Vec<(DeadLetterQueue, String)>,
}

impl FoundQueues {
    fn seen(self, looks: Vec<Look>, limit: usize, interrupted: bool) -> Seen {
        let mut problems = self.problems;
        let (mut letters, mut newer, mut cut) = (Vec::new(), Vec::new(), false);
        for (found, look) in self.queues.iter().zip(looks) {
            cut |= look.cut;
            letters.extend(look.letters);
            if look.newer > 0 {
                newer.push((found.queue, look.newer));
            }
            problems.extend(look.problems.into_iter().map(|problem| (found.queue, problem)));
        }
        cut |= letters.len() > limit;
        letters.truncate(limit);
        Seen {
            queues: self.queues,
            missing: self.missing,
            letters,
            newer,
            cut,
            interrupted,
            problems,
        }
    }
}

/// Finds queues.
///
/// # Errors
/// If none of them is there.
async fn find(
    letters: &DeadLetters,
    queues: &[DeadLetterQueue],
    environment: &str,
) -> Result<FoundQueues, CommandError> {
    let mut found = FoundQueues::default();
    for (queue, is) in queues
        .iter()
        .zip(join_all(queues.iter().map(|queue| letters.find(*queue))).await)
    {
        match is {
            Ok(Some(there)) => found.queues.push(there),
            Ok(None) => found.missing.push(*queue),
            Err(failure) => found.problems.push((*queue, failure.to_string())),
        }
    }
    if found.queues.is_empty() {
        return Err(CommandError::Service {
            action: format!("find a dead-letter queue of the environment {environment}"),
            reason: match found.problems.into_iter().next() {
                Some((_, problem)) => problem,
                None => format!(
                    "there is none of the name {}; are environment, region and account the right ones?",
                    found
                        .missing
                        .first()
                        .map_or_else(String::new, |queue| queue.name(environment))
                ),
            },
        });
    }
    Ok(found)
}

async fn change(
    place: &PlaceArgs,
    choices: &[Choice],
    args: &ChangeArgs,
    change: Change,
    stop: CancellationToken,
) -> Result<bool, CommandError> {
    let query = Query {
        queues: Choice::meant(choices),
        filter: args.filter.filter(),
        limit: args.limit,
    };
    let mut desk = Desk::open(place, stop).await?;
    if !args.yes {
        let seen = desk.look(&query, Newcomers::Counted).await;
        let mut ways = Vec::new();
        for queue in DeadLetterQueue::ALL {
            let held = seen.as_ref().is_ok_and(|seen| seen.holds(queue)) && !desk.stop.is_cancelled();
            let way = if held {
                desk.open_way(queue, change).await
            } else {
                desk.way(queue, change)
            };
            ways.push((queue, way));
        }
        let environment = desk.environment.clone();
        desk.close().await?;
        let dry = Dry {
            seen: seen?,
            ways,
            change,
            environment,
            command: typed_with("--yes"),
        };
        print(args.json, dry.json(), &dry, &dry.seen.problems)?;
        return Ok(dry.is_complete());
    }
    let found = match desk.find(&query.queues).await {
        Ok(found) => found,
        Err(failure) => {
            desk.close().await?;
            return Err(failure);
        }
    };
    // Events are sent again here by a collector in this process, which needs all that a run needs.
    let events = |found: &&Found| found.depth.all() > 0 && matches!(desk.way(found.queue, change), Way::Here(_));
    let session = match &desk.place.state {
        Some(state) if found.queues.iter().any(|found| events(&found)) => session_args(place, state, change).map(Some),
        _ => Ok(None),
    };
    let session = match session {
        Ok(session) => session,
        Err(failure) => {
            desk.close().await?;
            return Err(failure);
        }
    };
    let ways = DeadLetterQueue::ALL.map(|queue| (queue, desk.way(queue, change)));
    let (environment, stop) = (desk.environment.clone(), desk.stop.clone());
    let outcomes = match session {
        None => {
            let work = Work {
                letters: &desk.letters,
                config: &desk.place.config,
                environment: &environment,
                session: None,
            };
            let outcomes = work.go(&found.queues, &ways, &query, args).await;
            desk.close().await?;
            outcomes
        }
        Some(options) => {
            desk.close().await?;
            change_in_session(&options, &ways, &query, args, &environment, &stop).await?
        }
    };
    let done = Done {
        outcomes,
        missing: found.missing,
        problems: found.problems,
        change,
        environment,
        interrupted: stop.is_cancelled(),
    };
    print(args.json, done.json(), &done, &done.problems())?;
    Ok(done.is_complete())
}

/// Deals with letters where collectors are at hand.
async fn change_in_session(
    options: &SessionArgs,
    ways: &[(DeadLetterQueue, Way)],
    query: &Query,
    args: &ChangeArgs,
    environment: &str,
    stop: &CancellationToken,
) -> Result<Vec<(DeadLetterQueue, Way, Outcome)>, CommandError> {
    let session = Session::start(options, true, Listen::default()).await?;
    let ending = tokio::spawn({
        let (stop, session) = (stop.clone(), session.stop.clone());
        async move {
            stop.cancelled().await;
            session.cancel();
        }
    });
    let config = session.cloud.sdk_config();
    let letters = dead_letters(&config, Where::Here, environment, stop);
    let outcomes = match find(&letters, &query.queues, environment).await {
        Ok(found) => {
            let work = Work {
                letters: &letters,
                config: &config,
                environment,
                session: Some(&session),
            };
            Ok(work.go(&found.queues, ways, query, args).await)
        }
        Err(failure) => Err(failure),
    };
    ending.abort();
    session.shutdown().await?;
    outcomes
}

/// The options of a run on a place, its world as it is.
///
/// # Errors
/// If the vendor that the state names has no usable address.
fn session_args(place: &PlaceArgs, state: &State, change: Change) -> Result<SessionArgs, CommandError> {
    let quota = match change {
        Change::Redrive(quota) => quota,
        Change::Discard => None,
    };
    let vendor = match &state.source {
        Source::Url(url) => Some(Url::parse(url).map_err(|error| CommandError::Service {
            action: format!("use the vendor's address in the state of {}", place.data.display()),
            reason: format!("{url:?} is not a URL ({error}); expected one such as https://vendor.example"),
        })?),
        Source::Simulated(_) => None,
    };
    Ok(SessionArgs {
        quota,
        vendor,
        data: place.data.clone(),
        lookback: 24,
        deletions: DeletionRules::default(),
        deletions_max_percent: DEFAULT_MAX_PERCENT,
        world: WorldArgs {
            salespersons: None,
            sales: None,
            seed: None,
            start: None,
            faults: 0.0,
        },
    })
}

/// What is needed to deal with letters.
struct Work<'a> {
    letters: &'a DeadLetters,
    config: &'a aws_config::SdkConfig,
    environment: &'a str,
    session: Option<&'a Session>,
}

impl Work<'_> {
    /// Deals with the queues one after the other, so that a limit holds for all of them together.
    async fn go(
        &self,
        queues: &[Found],
        ways: &[(DeadLetterQueue, Way)],
        query: &Query,
        args: &ChangeArgs,
    ) -> Vec<(DeadLetterQueue, Way, Outcome)> {
        let expected: u64 = queues.iter().map(|found| found.depth.waiting).sum();
        let progress = Progress::new("dealt with", expected.min(query.limit() as u64));
        let dealt_with = |letters| progress.add(letters);
        let mut left = query.limit();
        let mut outcomes = Vec::new();
        let way_of = |found: &Found| ways.iter().find(|(queue, _)| *queue == found.queue);
        for (found, (_, way)) in queues.iter().filter_map(|found| Some((found, way_of(found)?))) {
            let mut outcome = Outcome::default();
            if left == 0 {
                outcome.cut = found.depth.waiting > 0;
                outcomes.push((found.queue, way.clone(), outcome));
                continue;
            }
            let courier = match self.courier(way).await {
                Ok(courier) => courier,
                Err(_) if found.depth.all() == 0 => None,
                Err(reason) => {
                    // What is not meant may stay without a word.
                    let look = self.letters.look(found, &query.filter, 1, Newcomers::Counted, &|_| {});
                    let look = look.await;
                    outcome.newer = look.newer;
                    outcome.cut = look.cut || !look.letters.is_empty();
                    outcome.problems = look.problems;
                    if !look.letters.is_empty() {
                        outcome.problems.push(reason);
                    }
                    outcomes.push((found.queue, way.clone(), outcome));
                    continue;
                }
            };
            let action = match &courier {
                Some(courier) => Some(Action::Redrive(courier.as_ref())),
                None => (*way == Way::Deleted).then_some(Action::Discard),
            };
            if let Some(action) = action {
                outcome = self
                    .letters
                    .act(found, &query.filter, left, args.rate, &action, &dealt_with)
                    .await;
                left -= usize::try_from(outcome.done + outcome.failed).unwrap_or(left).min(left);
            }
            outcomes.push((found.queue, way.clone(), outcome));
        }
        progress.end();
        outcomes
    }

    /// Who takes letters a way; nobody, where they are deleted.
    async fn courier(&self, way: &Way) -> Result<Option<Box<dyn Courier + '_>>, String> {
        Ok(match way {
            Way::Queue(name) => match self.letters.work_queue(name).await {
                Ok(Some(courier)) => Some(Box::new(courier)),
                Ok(None) => return Err(no_queue(name, self.environment)),
                Err(failure) => return Err(failure.to_string()),
            },
            Way::Function(function) => Some(Box::new(FunctionCourier::new(
                self.config,
                function.name(self.environment),
            ))),
            Way::Here(Origin::Function(stage)) => self.session.map(|session| {
                Box::new(CollectorHere {
                    pipeline: &session.pipeline,
                    stage: *stage,
                }) as Box<dyn Courier>
            }),
            Way::Here(Origin::WorkQueue(_)) | Way::Deleted => None,
            Way::Blocked(reason) => return Err(reason.clone()),
        })
    }
}

/// Shows how far a long look or redrive is, on the standard error.
struct Progress {
    bar: ProgressBar,
    what: &'static str,
    last_line: Mutex<Instant>,
}

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

impl Progress {
    fn new(what: &'static str, expected: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(expected), ProgressDrawTarget::stderr());
        // The template is fixed, and has been seen to work.
        let style = ProgressStyle::with_template("{bar:40.cyan/dim} {msg} {pos} of about {len} letters")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━━─");
        Self {
            bar: bar.with_style(style).with_message(what),
            what,
            last_line: Mutex::new(Instant::now()),
        }
    }

    fn add(&self, letters: u64) {
        self.bar.inc(letters);
        let mut last = self.last_line.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.bar.is_hidden() && last.elapsed() >= LINE {
            *last = Instant::now();
            let expected = self.bar.length().unwrap_or_default();
            eprintln!("{} {} of about {expected} letters", self.what, self.bar.position());
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
