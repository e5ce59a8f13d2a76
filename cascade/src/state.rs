//! What the command remembers between two calls, in `state.json` beside the cloud's data.

use std::fs;
use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::clock::Clock;
use thiserror::Error;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcDateTime};

use crate::pipeline::RunOutcome;
use crate::vendor::Changes;

const FILE: &str = "state.json";

/// The seed of the simulated vendor's world where none is given.
pub const DEFAULT_SEED: u64 = 2005;
/// Its salespersons a branch, where no number is given.
pub const DEFAULT_SALESPERSONS: usize = 8;
/// Its sales a salesperson, where no number is given.
pub const DEFAULT_SALES: usize = 50;

/// What the tables under a data directory are filled from, and how far.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The vendor that the rows came from.
    pub source: Source,
    /// Where the cloud listened when it was started last.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The vendor's quota in requests a minute, as it was said when the cloud was started last with collectors.
    #[serde(default)]
    pub quota: Option<NonZeroU32>,
    /// What the last hourly run came to.
    #[serde(default)]
    pub last_run: Option<RunOutcome>,
    #[serde(skip)]
    path: PathBuf,
}

/// A vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The simulator.
    Simulated(Simulation),
    /// A real one.
    Url(String),
}

/// A simulated vendor's world and how late it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Simulation {
    /// The seed that the world comes from.
    pub seed: u64,
    /// Salespersons a branch at the start.
    pub salespersons: usize,
    /// Sales a salesperson at the start.
    pub sales: usize,
    /// When it begins.
    #[serde(with = "rfc3339")]
    pub start: UtcDateTime,
    /// How late it was when the last run began, or its clock was last moved on; `None` before the first one.
    #[serde(with = "rfc3339::option")]
    pub reached: Option<UtcDateTime>,
    /// What had happened there when the last run ended.
    #[serde(default)]
    pub changes: Changes,
}

/// What the user wants of the simulated world; what is absent is as it was, or has its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The seed.
    pub seed: Option<u64>,
    /// Salespersons a branch.
    pub salespersons: Option<usize>,
    /// Sales a salesperson.
    pub sales: Option<usize>,
    /// When it begins.
    pub start: Option<UtcDateTime>,
}

/// Why the state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file cannot be read or written.
    #[error("could not use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not as this version writes it.
    #[error("{} is not as this version of cascade writes it; choose another directory with --data, or remove this one", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The tables hold another vendor's rows.
    #[error("{} holds the rows of {found}, not of {wanted}; choose another directory with --data, or remove this one", path.display())]
    OtherSource {
        /// The directory.
        path: PathBuf,
        /// Whose rows they are.
        found: String,
        /// Whose were asked for.
        wanted: String,
    },
}

impl Source {
    fn describe(&self) -> String {
        match self {
            Self::Url(url) => format!("the vendor at {url}"),
            Self::Simulated(Simulation {
                seed,
                salespersons,
                sales,
                ..
            }) => format!("a simulated vendor with --seed {seed} --salespersons {salespersons} --sales {sales}"),
        }
    }
}

impl Wish {
    fn is_met_by(&self, simulation: &Simulation) -> bool {
        self.seed.is_none_or(|seed| seed == simulation.seed)
            && self
                .salespersons
                .is_none_or(|salespersons| salespersons == simulation.salespersons)
            && self.sales.is_none_or(|sales| sales == simulation.sales)
            && self.start.is_none_or(|start| start == simulation.start)
    }

    /// The world that is wished for: what is absent is as in `base`.
    fn granted(&self, base: &Simulation) -> Simulation {
        Simulation {
            seed: self.seed.unwrap_or(base.seed),
            salespersons: self.salespersons.unwrap_or(base.salespersons),
            sales: self.sales.unwrap_or(base.sales),
            start: self.start.unwrap_or(base.start),
            reached: None,
            changes: Changes::default(),
        }
    }
}

impl State {
    /// What is remembered under `data`, if anything.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn load(data: &Path) -> Result<Option<Self>, StateError> {
        let path = data.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::File { path, source }),
        };
        match serde_json::from_str::<Self>(&text) {
            Ok(state) => Ok(Some(Self { path, ..state })),
            Err(source) => Err(StateError::Content { path, source }),
        }
    }

    /// The state of a data directory that is filled from a simulated vendor.
    ///
    /// # Errors
    /// If the directory is filled from another one.
    pub fn of_simulation(data: &Path, wish: Wish) -> Result<Self, StateError> {
        let default = Simulation {
            seed: DEFAULT_SEED,
            salespersons: DEFAULT_SALESPERSONS,
            sales: DEFAULT_SALES,
            start: this_hour(UtcDateTime::now()),
            reached: None,
            changes: Changes::default(),
        };
        match Self::load(data)? {
            None => Ok(Self::new(data, Source::Simulated(wish.granted(&default)))),
            Some(state) => match &state.source {
                Source::Simulated(simulation) if wish.is_met_by(simulation) => Ok(state),
                found => {
                    let base = if let Source::Simulated(simulation) = found {
                        simulation
                    } else {
                        &default
                    };
                    Err(other_source(data, found, &Source::Simulated(wish.granted(base))))
                }
            },
        }
    }

    /// The state of a data directory that is filled from a real vendor.
    ///
    /// # Errors
    /// If the directory is filled from another one.
    pub fn of_url(data: &Path, url: &str) -> Result<Self, StateError> {
        let wanted = Source::Url(url.to_owned());
        match Self::load(data)? {
            None => Ok(Self::new(data, wanted)),
            Some(state) if state.source == wanted => Ok(state),
            Some(state) => Err(other_source(data, &state.source, &wanted)),
        }
    }

    fn new(data: &Path, source: Source) -> Self {
        Self {
            source,
            endpoint: None,
            quota: None,
            last_run: None,
            path: data.join(FILE),
        }
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self) -> Result<(), StateError> {
        let failed = |source| StateError::File {
            path: self.path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let draft = self.path.with_extension("json.new");
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &self.path))
            .map_err(failed)
    }

    /// Remembers how late it is in the simulated world.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn reach(&mut self, now: UtcDateTime) -> Result<(), StateError> {
        if let Source::Simulated(simulation) = &mut self.source {
            simulation.reached = Some(now);
        }
        self.save()
    }
}

impl Simulation {
    /// The clock for the next run: the start at first, then the hour after the last one reached; with `frozen`, the
    /// hour that was reached, so that nothing has changed at the vendor's.
    pub fn clock(&self, frozen: bool) -> Clock {
        Clock::starting_at(match self.reached {
            None => self.start,
            Some(reached) if frozen => reached,
            Some(reached) => next_hour(reached),
        })
    }
}

fn other_source(data: &Path, found: &Source, wanted: &Source) -> StateError {
    StateError::OtherSource {
        path: data.to_owned(),
        found: found.describe(),
        wanted: wanted.describe(),
    }
}

/// The hour that `time` lies in.
pub fn this_hour(time: UtcDateTime) -> UtcDateTime {
    let (hour, ..) = time.as_hms();
    // An hour that a time has is one that it can have.
    time::Time::from_hms(hour, 0, 0).map_or(time, |hour| time.replace_time(hour))
}

/// The full hour after `time`.
pub fn next_hour(time: UtcDateTime) -> UtcDateTime {
    this_hour(time) + time::Duration::HOUR
}

/// Reads a time in the form of RFC 3339.
///
/// # Errors
/// If it has another form.
pub fn parse_time(text: &str) -> Result<UtcDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .and_then(OffsetDateTime::checked_to_utc)
        .ok_or_else(|| "expected a time such as 2026-01-05T09:00:00Z".to_owned())
}

mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de, ser};
    use time::UtcDateTime;
    use time::format_description::well_known::Rfc3339;

    pub(super) fn serialize<S: Serializer>(time: &UtcDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.format(&Rfc3339).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UtcDateTime, D::Error> {
        super::parse_time(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }

    pub(super) mod option {
        use super::*;

        pub(in super::super) fn serialize<S: Serializer>(
            time: &Option<UtcDateTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<UtcDateTime>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| super::super::parse_time(&text).map_err(de::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[test]
    fn what_is_saved_is_loaded_and_the_clock_goes_on_by_full_hours() {
        let data = tempfile::tempdir().unwrap();
        let start = utc_datetime!(2026-01-05 09:00);
        let mut state = State::of_simulation(
            data.path(),
            Wish {
                start: Some(start),
                ..Wish::default()
            },
        )
        .unwrap();
        let Source::Simulated(simulation) = &state.source else {
            panic!("no simulation")
        };
        assert!(simulation.clock(false).now() - start < time::Duration::MINUTE);

        state.reach(utc_datetime!(2026-01-05 09:00:40)).unwrap();
        let state = State::of_simulation(data.path(), Wish::default()).unwrap();
        let Source::Simulated(simulation) = &state.source else {
            panic!("no simulation")
        };
        assert_eq!(
            this_hour(simulation.clock(false).now()),
            utc_datetime!(2026-01-05 10:00)
        );
        assert_eq!(this_hour(simulation.clock(true).now()), start);
    }

    #[test]
    fn another_vendors_rows_are_not_mixed_in() {
        let data = tempfile::tempdir().unwrap();
        State::of_simulation(data.path(), Wish::default())
            .unwrap()
            .save()
            .unwrap();
        assert!(
            State::of_simulation(
                data.path(),
                Wish {
                    seed: Some(DEFAULT_SEED),
                    ..Wish::default()
                }
            )
            .is_ok()
        );
        let other = State::of_simulation(
            data.path(),
            Wish {
                sales: Some(7),
                ..Wish::default()
            },
        )
        .unwrap_err();
        assert!(
            other.to_string().contains("--sales 50, not of") && other.to_string().contains("--sales 7"),
            "{other}"
        );
        let real = State::of_url(data.path(), "https://vendor.test").unwrap_err();
        assert!(
            real.to_string().contains("not of the vendor at https://vendor.test"),
            "{real}"
        );
    }

    #[test]
    fn a_file_of_another_form_is_named() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(FILE), "{}").unwrap();
        let error = State::load(data.path()).unwrap_err();
        assert!(
            error.to_string().contains("state.json is not as this version"),
            "{error}"
        );
    }
}
