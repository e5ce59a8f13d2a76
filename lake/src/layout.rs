//! Where what lies in the lake.

use time::Date;

use crate::log::Log;
use crate::moment;

/// The folder of all logs.
pub const CHANGES: &str = "changes";

/// The column that a log's folders are named after: the UTC date of the change, as text (`2026-11-21`). It is in no file.
pub const PARTITION: &str = "date";

/// What the name of a file of rows ends in.
pub const EXTENSION: &str = ".parquet";

/// The folder of a log, such as `changes/sales`.
pub fn folder(log: Log) -> String {
    format!("{CHANGES}/{}", log.name())
}

/// The folder of a log's changes of one date, such as `changes/sales/date=2026-11-21`.
pub fn partition(log: Log, date: Date) -> String {
    format!("{}/{PARTITION}={}", folder(log), moment::format_date(date))
}

/// The date of a folder's name, such as `date=2026-11-21`; none if it names no partition.
pub fn parse_partition(folder: &str) -> Option<Date> {
    moment::parse_date(folder.strip_prefix(PARTITION)?.strip_prefix('=')?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_partition_is_named_by_log_and_date() {
        let day = date!(2026 - 11 - 21);
        assert_eq!(partition(Log::Sales, day), "changes/sales/date=2026-11-21");
        assert_eq!(parse_partition("date=2026-11-21"), Some(day));
        for other in [
            "2026-11-21",
            "date=",
            "date=2026-13-01",
            "date=+2026-11-21",
            "day=2026-11-21",
        ] {
            assert_eq!(parse_partition(other), None, "{other}");
        }
    }
}
