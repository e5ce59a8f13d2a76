//! What Athena's SQL has and DataFusion's lacks, or does otherwise, as far as questions to the lake need it.

mod date_diff;
mod json;
mod json_path;
mod sum;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// The functions.
pub(crate) fn all() -> [ScalarUDF; 3] {
    [
        date_diff::date_diff(),
        json::json_extract(),
        json::json_extract_scalar(),
    ]
}

/// The functions that make one value of many.
pub(crate) fn aggregates() -> [AggregateUDF; 1] {
    [sum::sum()]
}
