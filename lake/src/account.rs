//! The account that a run keeps of itself in the state table, as a row of the log of runs.

use std::collections::BTreeMap;

use shared::run::RunId;
use shared::value::Value;

use crate::change::{Change, Operation, Unreadable};
use crate::log::{
    BRANCH_ID, CHANGED_AT, COMPLETE, Log, OPERATION, REASONS, RUN_COUNTS, RUN_ID, RUN_KIND, RUN_SETS, RUN_TIMES,
    SEQUENCE,
};
use crate::moment;
use crate::row::{Cell, Row, in_order};

pub use shared::account::entries::PREFIX;

/// Run and branch of an entry's id, the branch empty for the run as a whole; `None` for an entry that is no account.
pub fn parse_id(id: &str) -> Option<(&str, &str)> {
    let rest = id.strip_prefix(PREFIX)?;
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

/// The row of a change of the state table; `None` where it is not about a run, and where an account is no longer kept: what
/// happened in a run does not become undone with it.
///
/// # Errors
/// If the account is not as the collectors keep it.
pub fn row(change: &Change) -> Result<Option<Row>, Unreadable> {
    let id = change.keys.values().next().map_or("", String::as_str);
    let Some((run_id, branch_id)) = parse_id(id) else {
        return Ok(None);
    };
    if change.operation == Operation::Remove {
        return Ok(None);
    }
    // Views make a time of it.
    if RunId::parse(run_id).map(|run| run.to_string()).as_deref() != Ok(run_id) {
        return Err(other_than("id", "run/ and a time such as 2026-11-21T01:00:00Z"));
    }
    let account = Account(&change.image);
    // An id that is too long for a key stands in the entry alone.
    let branch_id = match change.image.get(BRANCH_ID) {
        Some(Value::String(id)) if !branch_id.is_empty() => id.as_str(),
        _ => branch_id,
    };
    let mut cells = BTreeMap::from([
        (OPERATION, Cell::Text(change.operation.name().to_owned())),
        (RUN_ID, Cell::Text(run_id.to_owned())),
        (BRANCH_ID, Cell::Text(branch_id.to_owned())),
        (RUN_KIND, account.kind()?),
        (COMPLETE, Cell::Boolean(account.is_complete(branch_id)?)),
        (REASONS, Cell::Text(account.reasons()?)),
        (CHANGED_AT, Cell::Timestamp(change.changed_at)),
        (SEQUENCE, Cell::Text(change.sequence.as_str().to_owned())),
    ]);
    for name in RUN_TIMES {
        cells.insert(name, account.time(name)?);
    }
    for name in RUN_SETS {
        let size = account.set(name)?.len();
        cells.insert(name, Cell::Whole(i64::try_from(size).unwrap_or(i64::MAX)));
    }
    for name in RUN_COUNTS {
        cells.insert(name, Cell::Whole(account.count(name)?));
    }
    Ok(Some(Row {
        keys: vec![run_id.to_owned(), branch_id.to_owned()],
        sequence: change.sequence.clone(),
        changed_at: change.changed_at,
        cells: in_order(Log::Runs, cells),
        unfit: 0,
    }))
}

fn other_than(attribute: &str, expected: &'static str) -> Unreadable {
    Unreadable::Account {
        attribute: attribute.to_owned(),
        expected,
    }
}

struct Account<'a>(&'a BTreeMap<String, Value>);

impl<'a> Account<'a> {
    fn kind(&self) -> Result<Cell, Unreadable> {
        match self.0.get(RUN_KIND) {
            None => Ok(Cell::Null),
            Some(Value::String(kind)) => Ok(Cell::Text(kind.clone())),
            Some(_) => Err(other_than(RUN_KIND, "a text")),
        }
    }

    fn time(&self, name: &str) -> Result<Cell, Unreadable> {
        let Some(value) = self.0.get(name) else {
            return Ok(Cell::Null);
        };
        match value {
            Value::String(text) => moment::of_rfc3339(text).map(Cell::Timestamp),
            _ => None,
        }
        .ok_or_else(|| other_than(name, "a time such as 2026-11-21T01:02:03.456Z"))
    }

    fn count(&self, name: &str) -> Result<i64, Unreadable> {
        match self.0.get(name) {
            None => Some(0),
            Some(Value::Number(number)) => number.as_str().parse().ok(),
            Some(_) => None,
        }
        .ok_or_else(|| other_than(name, "a whole number"))
    }

    /// The elements of a set, in order.
    fn set(&self, name: &str) -> Result<Vec<&'a str>, Unreadable> {
        let unusable = || other_than(name, "a set of texts");
        let Some(value) = self.0.get(name) else {
            return Ok(Vec::new());
        };
        let Value::Array(elements) = value else {
            return Err(unusable());
        };
        let texts = elements.iter().map(|element| match element {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(unusable()),
        });
        texts.collect()
    }

    /// Whether everything that was expected is done. Where nothing was expected yet, nothing is known to be.
    fn is_complete(&self, branch_id: &str) -> Result<bool, Unreadable> {
        let all_of = |expected: &str, finished: &str| -> Result<bool, Unreadable> {
            let finished = self.set(finished)?;
            Ok(self.set(expected)?.iter().all(|one| finished.contains(one)))
        };
        if !branch_id.is_empty() {
            return Ok(self.0.contains_key("listed_at")
                && all_of("salespersons_expected", "salespersons_finished")?
                && all_of("first_loads_expected", "first_loads_finished")?);
        }
        let expected = self.set("names_expected")?.len() + self.set("branches_expected")?.len();
        Ok(expected > 0
            && all_of("names_expected", "names_finished")?
            && all_of("branches_expected", "branches_finished")?)
    }

    fn reasons(&self) -> Result<String, Unreadable> {
        serde_json::to_string(&self.set(REASONS)?).map_err(Unreadable::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Sequence;

    fn change(id: &str, image: &str) -> Change {
        let raw: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(image).unwrap();
        Change {
            operation: Operation::Update,
            keys: [("id".to_owned(), id.to_owned())].into(),
            image: raw
                .iter()
                .map(|(name, raw)| (name.clone(), Value::from_json(raw).unwrap()))
                .collect(),
            changed_at: 5,
            sequence: Sequence::zero(),
        }
    }

    fn cell_of(row: &Row, name: &str) -> Cell {
        let at = Log::Runs.columns().iter().position(|column| column.name == name);
        row.cells[at.unwrap()].clone()
    }

    #[test]
    fn an_account_is_told_from_what_else_the_state_table_holds() {
        let run = "2026-11-21T01:00:00Z";
        assert_eq!(parse_id("run/2026-11-21T01:00:00Z"), Some((run, "")));
        assert_eq!(parse_id("run/2026-11-21T01:00:00Z/1"), Some((run, "1")));
        assert_eq!(parse_id("run/2026-11-21T01:00:00Z/a/b#c"), Some((run, "a/b#c")));
        for other in [
            "report/2026-11-21T01:00:00Z",
            "runs",
            "freshness",
            "branches/Scranton",
            "run",
        ] {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_branch_is_complete_once_its_salespersons_are_known_and_done() {
        let branch = |image: &str| {
            let row = row(&change("run/2026-11-21T01:00:00Z/1", image)).unwrap().unwrap();
            (cell_of(&row, COMPLETE), cell_of(&row, "salespersons_expected"))
        };
        let listed = r#""listed_at": "2026-11-21T01:00:05.000Z""#;
        assert_eq!(branch("{}"), (Cell::Boolean(false), Cell::Whole(0)));
        assert_eq!(branch(&format!("{{{listed}}}")), (Cell::Boolean(true), Cell::Whole(0)));
        let half = format!(r#"{{{listed}, "salespersons_expected": ["7", "8"], "salespersons_finished": ["7"]}}"#);
        assert_eq!(branch(&half), (Cell::Boolean(false), Cell::Whole(2)));
        let whole = format!(r#"{{{listed}, "salespersons_expected": ["7"], "salespersons_finished": ["7", "9"]}}"#);
        assert_eq!(branch(&whole), (Cell::Boolean(true), Cell::Whole(1)));
        let owed = format!(r#"{{{listed}, "first_loads_expected": ["7"], "salespersons_finished": ["7"]}}"#);
        assert_eq!(branch(&owed), (Cell::Boolean(false), Cell::Whole(0)));
    }

    #[test]
    fn a_run_is_complete_once_its_names_and_its_branches_are_done() {
        let complete = |image: &str| {
            let row = row(&change("run/2026-11-21T01:00:00Z", image)).unwrap().unwrap();
            cell_of(&row, COMPLETE) == Cell::Boolean(true)
        };
        assert!(!complete("{}"));
        assert!(!complete(r#"{"names_expected": ["a"]}"#));
        assert!(complete(r#"{"names_expected": ["a"], "names_finished": ["a"]}"#));
        assert!(!complete(
            r#"{"names_expected": ["a"], "names_finished": ["a"], "branches_expected": ["1"]}"#
        ));
        assert!(complete(r#"{"branches_expected": ["1"], "branches_finished": ["1"]}"#));
    }

    #[test]
    fn counts_times_and_reasons_are_columns_and_what_is_absent_is_nothing() {
        let image = r#"{"kind": "schedule", "first_at": "2026-11-21T01:00:01.500Z", "api_calls": 13, "version": 7,
            "sales_inserted": 5200, "reasons": ["1235: the vendor answered 404"]}"#;
        let row = row(&change("run/2026-11-21T01:00:00Z", image)).unwrap().unwrap();
        assert_eq!(row.keys, ["2026-11-21T01:00:00Z", ""]);
        assert_eq!(cell_of(&row, "kind"), Cell::Text("schedule".to_owned()));
        assert_eq!(cell_of(&row, "first_at"), Cell::Timestamp(1_795_222_801_500));
        assert_eq!(cell_of(&row, "last_at"), Cell::Null);
        assert_eq!(cell_of(&row, "api_calls"), Cell::Whole(13));
        assert_eq!(cell_of(&row, "sales_deleted"), Cell::Whole(0));
        let reasons = r#"["1235: the vendor answered 404"]"#.to_owned();
        assert_eq!(cell_of(&row, REASONS), Cell::Text(reasons));
    }

    #[test]
    fn an_account_of_another_form_is_refused_by_name() {
        let reason = |id: &str, image: &str| row(&change(id, image)).unwrap_err().to_string();
        assert_eq!(
            reason("run/yesterday", "{}"),
            "its attribute \"id\" is not as in the account of a run, expected run/ and a time such as 2026-11-21T01:00:00Z"
        );
        let id = "run/2026-11-21T01:00:00Z";
        for (image, attribute) in [
            (r#"{"api_calls": "13"}"#, "api_calls"),
            (r#"{"api_calls": 1.5}"#, "api_calls"),
            (r#"{"names_expected": "a"}"#, "names_expected"),
            (r#"{"first_at": "now"}"#, "first_at"),
            (r#"{"kind": 1}"#, "kind"),
        ] {
            assert!(
                reason(id, image).starts_with(&format!("its attribute {attribute:?} is not")),
                "{image}"
            );
        }
    }

    #[test]
    fn an_account_that_is_no_longer_kept_leaves_its_rows() {
        let mut gone = change("run/2026-11-21T01:00:00Z", "{}");
        gone.operation = Operation::Remove;
        assert_eq!(row(&gone).unwrap(), None);
    }
}
