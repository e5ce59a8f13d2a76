//! Which run a row belongs to.

use serde::Deserialize;
use shared::state::{StateError, StateTable};

use crate::moment;

/// The entry of the state table that names the newest runs.
pub const ENTRY: &str = "runs";

/// The newest runs, oldest first, in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs(Vec<i64>);

#[derive(Deserialize)]
struct Recent {
    #[serde(default)]
    recent: Vec<String>,
}

impl Runs {
    /// These runs. What is no time is left out: no run is named like that.
    pub fn of<T: AsRef<str>>(runs: impl IntoIterator<Item = T>) -> Self {
        let times = runs.into_iter().filter_map(|run| moment::of_rfc3339(run.as_ref()));
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        Self(times)
    }

    /// The runs that the state table knows; none if it does not know of runs.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(state: &dyn StateTable) -> Result<Self, StateError> {
        match state.read(ENTRY).await? {
            Some(entry) => Ok(Self::of(entry.read::<Recent>()?.recent)),
            None => Ok(Self::default()),
        }
    }

    /// The newest run that had begun by that time. Of a time before the oldest run that is known, none is known.
    pub fn newest_at(&self, milliseconds: i64) -> Option<i64> {
        let begun = self.0.partition_point(|run| *run <= milliseconds);
        self.0.get(begun.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use shared::state::Entry;
    use shared::state::memory::MemoryState;

    #[test]
    fn a_row_belongs_to_the_newest_run_that_had_begun() {
        let runs = Runs::of(["1970-01-01T02:00:00Z", "1970-01-01T01:00:00Z"]);
        let hour = 3_600_000;
        for (time, run) in [
            (hour - 1, None),
            (hour, Some(hour)),
            (2 * hour - 1, Some(hour)),
            (3 * hour, Some(2 * hour)),
        ] {
            assert_eq!(runs.newest_at(time), run, "{time}");
        }
        assert_eq!(Runs::default().newest_at(hour), None);
    }

    #[tokio::test]
    async fn the_runs_are_read_from_the_state_table() {
        let state = MemoryState::default();
        assert_eq!(Runs::read(&state).await.unwrap(), Runs::default());
        let body = json!({"recent": ["1970-01-01T00:00:01Z"], "unreported": []});
        state
            .swap(ENTRY, None, &Entry::after(None, &body, None).unwrap())
            .await
            .unwrap();
        assert_eq!(Runs::read(&state).await.unwrap().newest_at(5000), Some(1000));
        state.fail(true);
        assert!(Runs::read(&state).await.is_err());
    }
}
