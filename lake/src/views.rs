//! The views: SELECTs over the logs' raw tables, the same for every engine.
//!
//! Each stands by itself: it names raw tables only, no other view, so that it can be asked where there are no views. It is
//! written in what DataFusion, Trino (Athena) and DuckDB have in common.

/// A view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name in SQL.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub about: &'static str,
    /// Its SELECT, without a semicolon.
    pub select: &'static str,
}

/// All views.
pub const VIEWS: [View; 9] = [
    View {
        name: "branches",
        about: "the branches as they are now",
        select: include_str!("../views/branches.sql"),
    },
    View {
        name: "salespersons",
        about: "the salespersons as they are now, one row for each branch of theirs",
        select: include_str!("../views/salespersons.sql"),
    },
    View {
        name: "sales",
        about: "the sales as they are now",
        select: include_str!("../views/sales.sql"),
    },
    View {
        name: "branches_changes",
        about: "every change of a branch",
        select: include_str!("../views/branches_changes.sql"),
    },
    View {
        name: "salespersons_changes",
        about: "every change of a salesperson",
        select: include_str!("../views/salespersons_changes.sql"),
    },
    View {
        name: "sales_changes",
        about: "every change of a sale",
        select: include_str!("../views/sales_changes.sql"),
    },
    View {
        name: "runs",
        about: "the runs, with what they did at all branches",
        select: include_str!("../views/runs.sql"),
    },
    View {
        name: "runs_by_branch",
        about: "what each run did at each branch",
        select: include_str!("../views/runs_by_branch.sql"),
    },
    View {
        name: "freshness",
        about: "for each branch, the newest run up to which its data is complete",
        select: include_str!("../views/freshness.sql"),
    },
];
