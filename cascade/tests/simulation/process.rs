//! One process of a function, as the simulation sees it: what it has in hand, and of what it knows that its state could not
//! be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde::Deserialize;
use shared::run::RunId;

use crate::sim::lock;
use crate::vendor::Asked;

/// A message, or the event of a branch run, as far as the simulation has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) asked: Asked,
    pub(crate) branch: String,
    pub(crate) run: RunId,
    pub(crate) first_load: bool,
    pub(crate) verify: bool,
}

#[derive(Deserialize)]
struct Body {
    branch_id: String,
    employee_id: Option<String>,
    run_id: RunId,
    #[serde(default)]
    first_load: bool,
    #[serde(default)]
    verify: bool,
}

impl Work {
    /// What a message asks for.
    pub(crate) fn of(body: &str) -> Self {
        let body: Body = serde_json::from_str(body).expect("a message as the contract says");
        Self {
            asked: match body.employee_id {
                Some(employee) => Asked::new("sales", employee),
                None => Asked::new("employees", body.branch_id.clone()),
            },
            branch: body.branch_id,
            run: body.run_id,
            first_load: body.first_load,
            verify: body.verify,
        }
    }
}

/// A process of a function.
pub(crate) struct Process {
    pub(crate) name: String,
    /// By receipt; the work of an event has no receipt and stays.
    hand: Mutex<BTreeMap<String, Work>>,
    /// The entries of the state table of which a read or a write has failed.
    blind: Mutex<BTreeSet<String>>,
}

impl Process {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            hand: Mutex::default(),
            blind: Mutex::default(),
        }
    }

    pub(crate) fn takes(&self, receipt: String, work: Work) {
        lock(&self.hand).insert(receipt, work);
    }

    pub(crate) fn lays_down(&self, receipt: &str) {
        lock(&self.hand).remove(receipt);
    }

    /// Its invocation has ended.
    pub(crate) fn lays_down_all(&self) {
        lock(&self.hand).clear();
        lock(&self.blind).clear();
    }

    /// What it is doing, or may be doing, about an id.
    pub(crate) fn works_on(&self, asked: &Asked) -> Vec<Work> {
        let hand = lock(&self.hand);
        hand.values().filter(|work| work.asked == *asked).cloned().collect()
    }

    pub(crate) fn receipts(&self) -> Vec<String> {
        lock(&self.hand).keys().cloned().collect()
    }

    /// Notes that an entry of the state table could not be reached: what is done about it until the invocation ends may be
    /// done twice.
    pub(crate) fn could_not_reach(&self, entry: &str) {
        lock(&self.blind).insert(entry.to_owned());
    }

    pub(crate) fn is_blind_to(&self, entry: &str) -> bool {
        lock(&self.blind).contains(entry)
    }
}
