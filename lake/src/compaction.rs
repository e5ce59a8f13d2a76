//! Many small files of a day become one.
//!
//! The file that takes their place is written first, and says in its metadata which files it replaces. Those stay for a while, for
//! whoever is reading them; both being there does no harm, for every view takes each change once. A later compaction deletes
//! them. Whatever of it does not happen, the next compaction does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;
use time::{Date, UtcDateTime};
use tracing::{error, info, warn};

use crate::counts::Counts;
use crate::file::{self, About, Name};
use crate::log::Log;
use crate::merge::Merge;
use crate::moment;
use crate::store::{File, Lake, LakeError, Writer};

/// When files are put together, and when what was replaced is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How large a file should become, and how much is put together at once, in bytes. One of half of it is large enough to be
    /// left alone, so that what was made of others is not made anew each time.
    pub target_bytes: u64,
    /// How many files are put together at once: of each a few rows are held in memory.
    pub at_once: usize,
    /// From how many small files on the day that is not over yet is worth it.
    pub today_from: usize,
    /// How long what was replaced is left for whoever is reading it.
    pub keep_replaced: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            // It decides how much memory a compaction takes: about ten times as much where 64 files are put together, 300 MB for
            // these 24 MiB, and the function has 512 MB (LakeMemory in templates/lake.yml). One that is killed for its memory is
            // no error that could be stepped over, and the next one would begin with the same day. So a busy day keeps several
            // files of 12 to 24 MiB.
            target_bytes: 24 * 1024 * 1024,
            at_once: 64,
            today_from: 16,
            keep_replaced: Duration::from_secs(60 * 60),
        }
    }
}

/// What is to be compacted: everything that is worth it, or the part that is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The log, by its name.
    #[serde(default)]
    pub log: Option<LogName>,
    /// The date, such as `2026-11-21`.
    #[serde(default)]
    pub date: Option<Day>,
    /// Whether the files of the day that is not over are put together however few they are.
    #[serde(default)]
    pub today: bool,
}

/// A log by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogName(pub Log);

impl TryFrom<String> for LogName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let log = Log::ALL.into_iter().find(|log| log.name() == name);
        log.map(Self)
            .ok_or_else(|| format!("{name:?} is no log, expected branches, salespersons, sales or runs"))
    }
}

/// A date by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub Date);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let day = moment::parse_date(&text).map(Self);
        day.ok_or_else(|| format!("{text:?} is no date, expected one such as 2026-11-21"))
    }
}

/// Some folders could not be compacted; the others are done.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} folders could not be compacted")]
pub struct CompactionError {
    /// How many.
    pub failed: usize,
    /// Of how many that have files to compact or delete.
    pub all: usize,
    /// Why the first one could not.
    pub source: Box<LakeError>,
}

/// A compaction.
pub struct Compaction<'a> {
    /// Of what.
    pub lake: &'a Lake,
    /// By which rules.
    pub policy: Policy,
    /// The time now.
    pub now: UtcDateTime,
    /// Whether nothing more is to be begun; the rest is for the next compaction.
    pub ends: &'a (dyn Fn() -> bool + Sync),
}

impl Compaction<'_> {
    /// Compacts what is worth it, oldest days first, and adds to `counts` what was done.
    ///
    /// # Errors
    /// If files cannot be listed, or not all folders could be compacted.
    pub async fn run(&self, part: &Part, counts: &mut Counts) -> Result<(), CompactionError> {
        let (mut all, mut failed) = (0, Vec::new());
        for log in Log::ALL {
            if part.log.is_some_and(|LogName(only)| only != log) {
                continue;
            }
            let files = match self.lake.files(log).await {
                Ok(files) => files,
                Err(failure) => {
                    all += 1;
                    failed.push(failure);
                    continue;
                }
            };
            let mut folders: BTreeMap<Date, Vec<File>> = BTreeMap::new();
            for file in files {
                folders.entry(file.date).or_default().push(file);
            }
            for (date, files) in folders {
                if part.date.is_some_and(|Day(only)| only != date) || files.len() < 2 {
                    continue;
                }
                if (self.ends)() {
                    info!("compaction ends before its end; the next one goes on");
                    return self.result(all, failed);
                }
                all += 1;
                if let Err(failure) = self.folder(log, date, files, part.today, counts).await {
                    error!(
                        log = log.name(),
                        %date,
                        reason = shared::error_chain(&failure),
                        "a folder is not compacted"
                    );
                    failed.push(failure);
                }
            }
        }
        self.result(all, failed)
    }

    fn result(&self, all: usize, failed: Vec<LakeError>) -> Result<(), CompactionError> {
        let count = failed.len();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(source) => Err(CompactionError {
                failed: count,
                all,
                source: source.into(),
            }),
        }
    }

    async fn folder(
        &self,
        log: Log,
        date: Date,
        files: Vec<File>,
        however_few: bool,
        counts: &mut Counts,
    ) -> Result<(), LakeError> {
        let replaced = replaced(self.lake, &files).await?;
        let kept_ms = i64::try_from(self.policy.keep_replaced.as_millis()).unwrap_or(i64::MAX);
        let keep_from = moment::milliseconds(self.now).saturating_sub(kept_ms);
        let mut small = Vec::new();
        let mut waiting = BTreeSet::new();
        for file in files {
            match replaced.get(&file.name) {
                Some(since) if *since <= keep_from => {
                    self.lake.delete(&file).await?;
                    counts.deleted_files += 1;
                }
                Some(_) => {
                    waiting.insert(file.name);
                }
                None if self.is_small(&file) => small.push(file),
                None => {}
            }
        }
        let is_over = date < self.now.date() || however_few;
        let enough = if is_over { 2 } else { self.policy.today_from.max(2) };
        while small.len() >= enough && !(self.ends)() {
            small.sort_by_key(|file| file.size);
            let mut bytes = 0;
            let fitting = small.iter().take(self.policy.at_once).take_while(|file| {
                bytes += file.size;
                bytes <= self.policy.target_bytes
            });
            let group: Vec<File> = small.drain(..fitting.count().max(2)).collect();
            if let Some(made) = self.replace(log, date, &group, &waiting, counts).await? {
                small.extend(Some(made).filter(|made| self.is_small(made)));
            }
            waiting.extend(group.into_iter().map(|file| file.name));
        }
        Ok(())
    }

    /// Whether a file is one of ours, and worth putting together with others.
    fn is_small(&self, file: &File) -> bool {
        file.size < self.policy.target_bytes / 2 && file.parse_name().is_some()
    }

    /// Writes the file that takes the place of others; `None` if there are not two that can be put together.
    async fn replace(
        &self,
        log: Log,
        date: Date,
        group: &[File],
        waiting: &BTreeSet<String>,
        counts: &mut Counts,
    ) -> Result<Option<File>, LakeError> {
        let mut files = Vec::new();
        for file in group {
            match self.lake.read(file).await {
                Ok(rows) => files.push((file, rows)),
                Err(LakeError::Columns { path, .. }) => {
                    warn!(file = path, "a file with other columns is left as it is")
                }
                Err(failure) => return Err(failure),
            }
        }
        let names: Vec<Name> = files.iter().filter_map(|(file, _)| file.parse_name()).collect();
        let (Some(first), Some(last)) = (
            names.iter().map(|name| &name.first).min(),
            names.iter().map(|name| &name.last).max(),
        ) else {
            return Ok(None);
        };
        if names.len() < 2 {
            return Ok(None);
        }
        // What a file replaced that is itself replaced now.
        let before = files.iter().filter_map(|(_, rows)| rows.about.as_ref());
        let before = before
            .flat_map(|about| &about.replaces)
            .filter(|name| waiting.contains(*name));
        let replaces: BTreeSet<String> = files
            .iter()
            .map(|(file, _)| &file.name)
            .chain(before)
            .cloned()
            .collect();
        let about = About {
            log: log.name().to_owned(),
            first_sequence: first.as_str().to_owned(),
            last_sequence: last.as_str().to_owned(),
            written_at: moment::milliseconds(self.now),
            replaces: replaces.into_iter().collect(),
        };
        let name = file::of_compaction(first.as_str(), last.as_str(), &about.replaces);
        let (count, before) = (files.len(), files.iter().map(|(_, rows)| rows.count).sum::<u64>());
        let sources = files.into_iter().map(|(_, rows)| rows.batches).collect();
        let mut merge = Merge::of(log, sources).await?;
        let mut writer = self.lake.writer(log, date, &name)?;
        let rows = match copy(&mut merge, &mut writer).await {
            Ok(rows) => rows,
            Err(failure) => {
                writer.give_up().await;
                return Err(failure);
            }
        };
        let size = writer.finish(&about).await?;
        counts.compacted_files += count as u64;
        counts.files += 1;
        counts.rows += rows;
        counts.bytes += size;
        info!(log = log.name(), %date, files = count, rows_before = before, rows, bytes = size, "files compacted");
        Ok(Some(self.lake.file(log, date, name, size)))
    }
}

/// Writes all rows, and answers how many there are.
async fn copy(merge: &mut Merge, writer: &mut Writer) -> Result<u64, LakeError> {
    let mut rows = 0;
    while let Some(batch) = merge.next().await? {
        writer.write(&batch).await?;
        rows += batch.num_rows() as u64;
    }
    Ok(rows)
}

/// The files that others replace, and since when, in milliseconds since 1970.
pub(crate) async fn replaced(lake: &Lake, files: &[File]) -> Result<HashMap<String, i64>, LakeError> {
    let mut replaced = HashMap::new();
    for file in files {
        if !file.parse_name().is_some_and(|name| name.is_compacted) {
            continue;
        }
        let Some(about) = file::about(&*lake.metadata(file).await?) else {
            warn!(
                file = lake.place(&file.location),
                "a compacted file does not say what it replaces"
            );
            continue;
        };
        for name in about.replaces {
            let since = replaced.entry(name).or_insert(about.written_at);
            *since = about.written_at.min(*since);
        }
    }
    Ok(replaced)
}
