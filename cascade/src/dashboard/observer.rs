//! Who asks the services what the page shows, and how often.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use shared::clock::Clock;
use shared::entity::Entity;
use shared::error_chain;
use shared::quota::calendar::{slot_of, start_of};
use shared::run::last_modified;
use time::UtcDateTime;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::accounts::Book;
use super::board::{Board, Posted};
use super::cadence::Cadence;
use super::history::{FlowHistory, QuotaHistory, STEP_SECONDS, is_asked};
use super::letters::Letters;
use super::names::{Names, granted_quota};
use super::services::{Counted, Services, Site, count_due, look_at_queues};
use super::snapshot::{BranchFigures, Clocks, Figures, FlowFigures, PlaceFigures, QuotaFigures};
use crate::cloud::sdk_config_for;
use crate::dead_letters::DeadLetterQueue;
use crate::pipeline::{Depth, RunOutcome};
use crate::state::State;
use crate::status::{QUEUES, QueueStatus, Status, Where};

/// What an observer is to do.
#[derive(Clone, Debug)]
pub struct ObserverOptions {
    /// Where it looks.
    pub site: Site,
    /// The environment's name.
    pub environment: String,
    /// How often it looks.
    pub cadence: Cadence,
    /// Cancelled when it is to end.
    pub stop: CancellationToken,
}

/// Gathers what the page shows.
pub struct Observer {
    options: ObserverOptions,
    services: Services,
    /// Where the embedded cloud is that is asked.
    endpoint: Option<String>,
    book: Book,
    names: Names,
    letters: Letters,
    quota: QuotaHistory,
    flow: FlowHistory,
    tables: BTreeMap<Entity, Counted>,
    queues: Vec<QueueStatus>,
    ages: Due,
    limit: Option<u32>,
    limit_due: Due,
    last_run: Option<RunOutcome>,
}

/// Something that is done now and then.
#[derive(Debug, Default)]
struct Due(Option<Instant>);

impl Due {
    /// Whether it is due `at` that time, which then is the last time that it was done.
    fn is_due(&mut self, at: Instant, every: Duration) -> bool {
        let is_due = self.0.is_none_or(|last| at >= last + every);
        if is_due {
            self.0 = Some(at);
        }
        is_due
    }
}

/// What went wrong, each thing once.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        let problem = problem.into();
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// The first one, and how many there are besides.
    fn text(&self) -> Option<String> {
        let (first, rest) = self.0.split_first()?;
        Some(match rest.len() {
            0 => format!("{first}."),
            more => format!("{first} (and {more} more)."),
        })
    }
}

impl Observer {
    /// Somebody who looks as `options` say.
    pub fn new(options: ObserverOptions) -> Self {
        let place = options.site.place();
        let config = options.site.config();
        Self {
            services: Services::new(config, &options.environment, place, options.stop.clone()),
            endpoint: config.endpoint_url().map(str::to_owned),
            book: Book::default(),
            names: Names::default(),
            letters: Letters::default(),
            quota: QuotaHistory::default(),
            flow: FlowHistory::default(),
            tables: BTreeMap::new(),
            queues: Vec::new(),
            ages: Due::default(),
            limit: None,
            limit_due: Due::default(),
            last_run: None,
            options,
        }
    }

    /// What ends it.
    pub(super) fn stop(&self) -> CancellationToken {
        self.options.stop.clone()
    }

    /// Posts what it sees as long as somebody reads the board, and until it is to end. Where looking costs nothing, it goes on
    /// more slowly while nobody does, so that whoever comes sees what was before.
    pub async fn observe(mut self, board: Board) {
        let stop = self.stop();
        let Cadence { every, idle, .. } = self.options.cadence;
        let mut last: Option<Instant> = None;
        loop {
            let is_read = board.readers() > 0;
            let wait = if is_read { Some(every) } else { idle };
            let due = wait.map(|wait| last.map_or_else(Instant::now, |last| last + wait));
            tokio::select! {
                () = stop.cancelled() => return,
                () = board.is_read(), if !is_read => continue,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            last = Some(Instant::now());
            if is_read {
                self.look_and_post(&board).await;
            } else {
                self.look_idly().await;
            }
        }
    }

    async fn look_and_post(&mut self, board: &Board) {
        board.post(self.look(Instant::now()).await);
        if self.look_at_letters(Instant::now()).await {
            board.post(self.look(Instant::now()).await);
        }
    }

    /// Keeps what is drawn over time, and nothing else.
    async fn look_idly(&mut self) {
        if self.book.read(&self.services.state).await.is_ok() {
            self.note_history(Clock::system().now());
        }
    }

    fn note_history(&mut self, wall: UtcDateTime) {
        if let Some(calendar) = &self.book.calendar {
            self.quota.note(calendar, slot_of(wall));
        }
        self.flow.note(wall, self.book.written);
    }

    /// Looks at everything that is due `at` that time, letters left out.
    pub async fn look(&mut self, at: Instant) -> Posted {
        let wall = Clock::system().now();
        let mut problems = Problems::default();
        self.recall(&mut problems);
        let services = &self.services;
        let (tables, queues, read, now) = tokio::join!(
            count_due(&services.status, &self.tables, self.options.cadence, at),
            look_at_queues(&services.status),
            self.book.read(&services.state),
            services.status.now(),
        );
        for (entity, counted) in tables {
            match counted {
                Ok(counted) => drop(self.tables.insert(entity, counted)),
                Err(problem) => problems.add(problem),
            }
        }
        match read {
            Ok(()) => self.note_history(wall),
            Err(failure) => problems.add(format!(
                "could not read the runs and the quota: {}",
                error_chain(&failure)
            )),
        }
        self.take_queues(queues, at, &mut problems).await;
        let branches = self.book.branches();
        if let Err(failure) = self
            .names
            .read(&self.services.dynamodb, &self.options.environment, &branches, at)
            .await
        {
            problems.add(format!("could not read the branches' names: {failure}"));
        }
        self.ask_for_limit(at, &mut problems).await;
        self.follow(&mut problems);
        Posted {
            figures: self.figures(now, wall, &problems).sections(),
            clocks: Clocks {
                now: last_modified(now),
                wall: last_modified(wall),
            },
            at,
        }
    }

    /// Looks into the dead-letter queues that are due; answers whether there were any.
    pub async fn look_at_letters(&mut self, at: Instant) -> bool {
        let looking = self.options.cadence.letters;
        let depths = self.dead_letter_depths();
        let due = self.letters.due(&depths, at, looking);
        for queue in &due {
            let looked = self
                .letters
                .look(&self.services.dead_letters, *queue, at, looking)
                .await;
            let problems = looked.unwrap_or_else(|failure| vec![failure.to_string()]);
            for reason in problems {
                tracing::warn!(
                    queue = queue.short_name(),
                    reason,
                    "dead letters could not be looked at"
                );
            }
        }
        !due.is_empty()
    }

    fn dead_letter_depths(&self) -> BTreeMap<DeadLetterQueue, Depth> {
        let named = DeadLetterQueue::ALL.map(|queue| (queue, queue.name(&self.options.environment)));
        let depth = |name: &str| self.queues.iter().find(|queue| queue.name == name)?.depth;
        named
            .into_iter()
            .filter_map(|(queue, name)| Some((queue, depth(&name)?)))
            .collect()
    }

    /// What the data directory remembers: the last run, and the quota.
    fn recall(&mut self, problems: &mut Problems) {
        let Site::Here { data, .. } = &self.options.site else {
            return;
        };
        match State::load(data) {
            Ok(Some(state)) => {
                self.limit = state.quota.map(std::num::NonZeroU32::get);
                self.last_run = state.last_run;
            }
            Ok(None) => {}
            Err(failure) => problems.add(error_chain(&failure)),
        }
    }

    /// Where another process's cloud has ended, looks for the next one. What that one says is seen the next time.
    fn follow(&mut self, problems: &mut Problems) {
        let Site::Here {
            data, follows: true, ..
        } = &self.options.site
        else {
            return;
        };
        if problems.0.is_empty() {
            return;
        }
        let endpoint = State::load(data).ok().flatten().and_then(|state| state.endpoint);
        match endpoint {
            None => {
                *problems = Problems::default();
                problems.add(format!(
                    "nothing is running on {} any more: these are its last figures; `cascade up` or `cascade run` goes on from there",
                    data.display()
                ));
            }
            Some(endpoint) if self.endpoint.as_ref() != Some(&endpoint) => {
                let config = sdk_config_for(&endpoint);
                self.services = Services::new(&config, &self.options.environment, Where::Here, self.stop());
                self.endpoint = Some(endpoint);
            }
            Some(_) => {}
        }
    }

    async fn take_queues(&mut self, queues: Vec<Result<QueueStatus, String>>, at: Instant, problems: &mut Problems) {
        let mut found = Vec::new();
        for queue in queues {
            match queue {
                Ok(queue) => found.push(queue),
                Err(problem) => problems.add(problem),
            }
        }
        // Half of them would look like an environment that lacks the others.
        if found.len() < QUEUES.len() {
            return;
        }
        if self.ages.is_due(at, self.options.cadence.ages) {
            let reader = &self.services.status;
            let ages = QUEUES
                .iter()
                .zip(&found)
                .map(async |(queue, status)| match status.depth {
                    Some(_) => reader.oldest_seconds(queue).await,
                    None => None,
                });
            let ages = join_all(ages).await;
            for (queue, oldest) in found.iter_mut().zip(ages) {
                queue.oldest_seconds = oldest;
            }
        } else {
            for (queue, before) in found.iter_mut().zip(&self.queues) {
                queue.oldest_seconds = before.oldest_seconds;
            }
        }
        self.queues = found;
    }

    async fn ask_for_limit(&mut self, at: Instant, problems: &mut Problems) {
        let Site::Aws { quota, .. } = self.options.site else {
            return;
        };
        if quota.is_some() {
            self.limit = quota;
        } else if self.limit_due.is_due(at, self.options.cadence.limit) {
            match granted_quota(&self.services.lambda, &self.options.environment).await {
                Ok(limit) => self.limit = limit,
                Err(reason) => problems.add(format!(
                    "could not read the quota's limit (--quota says it, too): {reason}"
                )),
            }
        }
    }

    fn figures(&self, now: UtcDateTime, wall: UtcDateTime, problems: &Problems) -> Figures {
        let Self { options, book, .. } = self;
        let work: u64 = self
            .queues
            .iter()
            .take(2)
            .filter_map(|queue| queue.depth)
            .map(Depth::all)
            .sum();
        // The first stage may wait for the quota while nothing is in the queues, and simulated time flies meanwhile.
        let is_at_rest = work == 0 && !book.calendar.as_ref().is_some_and(|calendar| is_asked(calendar, wall));
        let branches = book.branches().into_iter().filter_map(|(id, complete_until)| {
            Some(BranchFigures {
                name: self.names.of(&id)?,
                id,
                complete_until,
            })
        });
        Figures {
            place: PlaceFigures {
                environment: options.environment.clone(),
                site: options.site.place(),
                version: env!("CARGO_PKG_VERSION"),
                every_seconds: options.cadence.every.as_secs().max(1),
                requests_a_minute: match options.site {
                    Site::Here { .. } => None,
                    Site::Aws { .. } => Some(options.cadence.requests_a_minute()),
                },
            },
            status: Status {
                place: options.site.place(),
                tables: self.tables.values().map(|counted| counted.status.clone()).collect(),
                queues: self.queues.clone(),
                last_run: self.last_run.clone(),
            },
            quota: self.quota_figures(wall),
            flow: self.flow_figures(wall),
            runs: book.runs(now, is_at_rest),
            branches: branches.collect(),
            sales: book.sales(),
            dead_letters: self.letters.figures(now),
            problem: problems.text(),
        }
    }

    fn quota_figures(&self, wall: UtcDateTime) -> Option<QuotaFigures> {
        let calendar = self.book.calendar.as_ref()?;
        let used = self.quota.used(slot_of(wall));
        let (until, history) = self.quota.series(slot_of(wall));
        Some(QuotaFigures {
            limit: self.limit,
            used: used.map(shared::quota::calendar::Promised::all),
            background: used.map_or(0, |used| used.background),
            foreign: used.map_or(0, |used| used.foreign),
            closed_until: calendar.closed_until(wall).map(last_modified),
            step_seconds: STEP_SECONDS,
            until: last_modified(start_of(until)),
            history,
        })
    }

    fn flow_figures(&self, wall: UtcDateTime) -> FlowFigures {
        let per_minute = self.flow.per_minute(wall);
        let series = self.flow.series(wall);
        let kinds = Entity::ALL
            .iter()
            .enumerate()
            .map(|(place, entity)| (place, entity.name()));
        FlowFigures {
            per_minute: kinds
                .clone()
                .map(|(place, name)| (name, per_minute.map(|rows| rows[place])))
                .collect(),
            history: kinds
                .map(|(place, name)| (name, series.iter().map(|rows| rows.map(|rows| rows[place])).collect()))
                .collect(),
        }
    }
}
