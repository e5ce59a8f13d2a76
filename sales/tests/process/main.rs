//! The sale collector as a process, as Lambda runs it: its environment, its events, its log and its end.

mod environment;
mod events;
mod function;
mod logs;
#[cfg(target_os = "linux")]
mod memory;
mod secret;
mod stopping;
mod stub;

/// An answer of the vendor's about one salesperson.
fn sales_of(employee_id: &str, sales: &[&str]) -> String {
    format!(
        r#"{{"result": {{"employee_id": {employee_id}, "sales": [{}]}}}}"#,
        sales.join(", ")
    )
}

/// A sale that is long past.
const SALE: &str = r#"{"id": 3972, "transaction_timestamp": "2023-01-01 23:43:23", "amount": 12.50}"#;

/// A direct call that looks at all sales.
const CALL: &str = r#"{"employee_id": 1235, "branch_id": 1, "lookback_hours": 0}"#;
