//! What Athena's SQL has and DataFusion's lacks, as far as questions to the lake need it.

mod date_diff;
mod json;
mod json_path;

use datafusion::logical_expr::ScalarUDF;

/// The functions.
pub(crate) fn all() -> [ScalarUDF; 3] {
    [
        date_diff::date_diff(),
        json::json_extract(),
        json::json_extract_scalar(),
    ]
}
