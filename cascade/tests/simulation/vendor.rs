//! The vendor: data that changes, an exact quota, faults; and what it has said to whom, which everything is held against.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use serde_json::{Map, Value as Json, json};
use shared::clock::Clock;
use shared::entity::Entity;
use shared::run::{format_vendor_timestamp, last_modified};
use shared::value::Value;
use shared::vendor::rate_limit::RateLimit;
use shared::vendor::transport::{Exchange, Memory, Outcome, Transport};
use time::UtcDateTime;
use tokio::time::Instant;
use url::Url;

use crate::plan::{Fault, Plan};
use crate::process::Process;
use crate::sim::{BEGINNING, Die, Invariant, lock, on_the_wire};
use crate::world::World;

/// Where the simulated vendor is.
pub(crate) const BASE_URL: &str = "http://vendor.invalid/";

/// One request's limit.
pub(crate) const TIME_OUT: Duration = Duration::from_secs(10);

/// By how much the ways of two requests to the vendor differ at the most. With the skew of the clocks, this stays within
/// what the ledger assumes.
const MOST_WAY_MS: u64 = 190;

const WINDOW: Duration = Duration::from_secs(60);

/// How many records a page has.
const PAGE: usize = 2;

/// What is asked: a path, and the value of its parameter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
}

impl Asked {
    pub(crate) fn new(kind: &'static str, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The kind of the records by which it comes to be asked for.
    fn told_by(&self) -> Entity {
        match self.kind {
            "employees" => Entity::Branch,
            _ => Entity::Salesperson,
        }
    }

    /// The kind of the records that are answered.
    pub(crate) fn entity(&self) -> Entity {
        match self.kind {
            "branches" => Entity::Branch,
            "employees" => Entity::Salesperson,
            _ => Entity::Sale,
        }
    }
}

/// As the state table names its entry.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// A row's key: its kind, its id, and the id of what it belongs to.
pub(crate) type RowKey = (Entity, String, String);

/// A record as the vendor said it at some time.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: RowKey,
    json: Json,
    /// What its row has to hold, after the contract's section 5; a sale's first-seen branch aside.
    pub(crate) row: BTreeMap<String, Value>,
    /// How many versions of it there were before.
    pub(crate) version: usize,
    /// Whether it can be stored, and is one of ours.
    pub(crate) is_stored: bool,
    /// When a sale was booked.
    pub(crate) booked: Option<UtcDateTime>,
}

/// A complete answer that was given.
#[derive(Clone)]
pub(crate) struct Given {
    /// When, by true time.
    pub(crate) at: UtcDateTime,
    /// When it was asked for, by the clock of whoever asked.
    pub(crate) asked_at: UtcDateTime,
    pub(crate) records: Vec<Arc<Record>>,
}

impl Given {
    pub(crate) fn stamp(&self) -> String {
        last_modified(self.asked_at)
    }

    fn tells_of(&self, id: &str) -> bool {
        self.records.iter().any(|record| record.key.1 == id)
    }
}

pub(crate) struct Vendor {
    rng: Rng,
    lists: BTreeMap<Asked, Vec<Arc<Record>>>,
    /// All versions of each record.
    said: BTreeMap<RowKey, Vec<Arc<Record>>>,
    /// When something changes, the next last, and whether somebody comes or goes.
    changes: Vec<(Duration, bool)>,
    /// What has vanished, and may come back.
    vanished: Vec<(Asked, Json)>,
    next_id: u32,
    requests: VecDeque<Duration>,
    /// When others make requests, in order.
    foreign: Vec<Duration>,
    refused: Vec<Asked>,
    /// All complete answers.
    pub(crate) given: BTreeMap<Asked, Vec<Given>>,
    /// Answers of several pages whose last one was not asked for yet.
    begun: BTreeMap<u64, Given>,
    pub(crate) asked: Vec<Duration>,
}

impl Vendor {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut vendor = Self {
            rng: Rng::with_seed(plan.seed ^ 0x5eed),
            lists: BTreeMap::new(),
            said: BTreeMap::new(),
            changes: Vec::new(),
            vanished: Vec::new(),
            next_id: 1,
            requests: VecDeque::new(),
            foreign: Vec::new(),
            refused: Vec::new(),
            given: BTreeMap::new(),
            begun: BTreeMap::new(),
            asked: Vec::new(),
        };
        for branch in 1..=plan.branches {
            let name = branch_name(branch);
            let record = json!({"id": branch, "branch_name": name, "location": format!("{name}, PA"), "employees": 3});
            vendor.say(&Asked::new("branches", name), record);
            let staff = vendor.rng.u32(1..=plan.salespersons);
            vendor
                .lists
                .insert(Asked::new("employees", branch.to_string()), Vec::new());
            for _ in 0..staff {
                vendor.hire(&branch.to_string(), plan);
            }
            let clerk = vendor.new_id();
            let clerk = json!({"id": clerk, "occupation": "accountant", "name": "Angela"});
            vendor.say(&Asked::new("employees", branch.to_string()), clerk);
        }
        let end = u64::from(plan.runs) * 3600;
        for (unrest, is_departure) in [(Fault::Changes, false), (Fault::Departures, true)] {
            if !plan.has(unrest) {
                continue;
            }
            for _ in 0..vendor.rng.u32(1..12) {
                // Most of them while something is going on.
                let at = if vendor.rng.u32(0..3) == 0 {
                    vendor.rng.u64(0..end * 1000)
                } else {
                    vendor.rng.u64(0..u64::from(plan.runs)) * 3_600_000 + vendor.rng.u64(0..240_000)
                };
                vendor.changes.push((Duration::from_millis(at), is_departure));
            }
        }
        vendor.changes.sort_by(|one, other| other.cmp(one));
        if plan.has(Fault::Foreigners) {
            for _ in 0..vendor.rng.u32(1..20) {
                let burst = vendor.rng.u64(0..u64::from(plan.runs)) * 3600 + vendor.rng.u64(0..600);
                for _ in 0..vendor.rng.u32(1..=plan.quota) {
                    let at = burst * 1000 + vendor.rng.u64(0..30_000);
                    vendor.foreign.push(Duration::from_millis(at));
                }
            }
            vendor.foreign.sort();
        }
        if plan.has(Fault::Refusals) {
            let all: Vec<_> = vendor.lists.keys().cloned().collect();
            vendor.refused.push(all[vendor.rng.usize(0..all.len())].clone());
        }
        vendor
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        1000 + self.next_id
    }

    fn hire(&mut self, branch: &str, plan: &Plan) {
        let id = self.new_id();
        let person = json!({"id": id, "occupation": "Salesperson", "name": format!("N{id}"), "commission_rate": 0.5,
            "company_car": true});
        self.say(&Asked::new("employees", branch), person);
        self.lists.insert(Asked::new("sales", id.to_string()), Vec::new());
        for _ in 0..self.rng.u32(0..=plan.sales) {
            self.sell(&id.to_string(), plan, BEGINNING);
        }
    }

    fn sell(&mut self, employee: &str, plan: &Plan, now: UtcDateTime) {
        let id = self.new_id();
        let age = self.rng.i64(0..72 * 3600);
        let mut sale = json!({"id": id.to_string(), "amount": 10, "note": "n",
            "transaction_timestamp": format_vendor_timestamp(now - time::Duration::seconds(age))});
        if self.rng.u32(0..6) == 0 {
            sale["branch_id"] = 77.into();
        }
        if plan.has(Fault::BadRecords) && self.rng.u32(0..4) == 0 {
            sale["transaction_timestamp"] = "soon".into();
        }
        self.say(&Asked::new("sales", employee), sale);
    }

    /// Puts a record into a list, in place of the one of the same id.
    fn say(&mut self, asked: &Asked, json: Json) {
        let id = match &json["id"] {
            Json::String(id) => id.clone(),
            id => id.to_string(),
        };
        let entity = asked.entity();
        let parent = match entity {
            Entity::Branch => String::new(),
            Entity::Salesperson | Entity::Sale => asked.id.clone(),
        };
        let key = (entity, id, parent);
        let booked = json["transaction_timestamp"].as_str();
        let booked = booked.and_then(shared::run::parse_vendor_timestamp);
        let is_stored = match entity {
            Entity::Branch => true,
            Entity::Salesperson => json["occupation"] == "Salesperson",
            Entity::Sale => booked.is_some(),
        };
        let versions = self.said.entry(key.clone()).or_default();
        let record = Arc::new(Record {
            row: row_of(&json),
            json,
            version: versions.len(),
            is_stored,
            booked,
            key,
        });
        versions.push(record.clone());
        let list = self.lists.entry(asked.clone()).or_default();
        match list.iter_mut().find(|other| other.key == record.key) {
            Some(place) => *place = record,
            None => list.push(record),
        }
    }

    /// Lets happen what has to have happened by `now`.
    fn go_on(&mut self, elapsed: Duration, plan: &Plan) {
        while let Some((at, is_departure)) = self.changes.pop_if(|(at, _)| *at <= elapsed) {
            if is_departure {
                self.come_or_go();
            } else {
                self.change(plan, BEGINNING + at);
            }
        }
    }

    /// Lets a record vanish, or become one that is none of ours, or come back.
    fn come_or_go(&mut self) {
        if !self.vanished.is_empty() && self.rng.bool() {
            let index = self.rng.usize(0..self.vanished.len());
            let (asked, json) = self.vanished.swap_remove(index);
            self.say(&asked, json);
            return;
        }
        let lists: Vec<Asked> = self.lists.keys().cloned().collect();
        let asked = lists[self.rng.usize(0..lists.len())].clone();
        let Some(list) = self.lists.get_mut(&asked).filter(|list| !list.is_empty()) else {
            return;
        };
        let record = list.remove(self.rng.usize(0..list.len()));
        if record.is_stored && asked.kind == "employees" && self.rng.u32(0..3) == 0 {
            let mut promoted = record.json.clone();
            promoted["occupation"] = "manager".into();
            self.say(&asked, promoted);
        }
        self.vanished.push((asked, record.json.clone()));
    }

    fn change(&mut self, plan: &Plan, now: UtcDateTime) {
        let lists: Vec<Asked> = self.lists.keys().cloned().collect();
        let asked = lists[self.rng.usize(0..lists.len())].clone();
        let list = self.lists[&asked].clone();
        match self.rng.u32(0..10) {
            0 | 1 if asked.kind == "sales" => self.sell(&asked.id, plan, now),
            0 if asked.kind == "employees" => self.hire(&asked.id, plan),
            // Somebody is transferred.
            1 if asked.kind == "employees" && !list.is_empty() => {
                let person = list[self.rng.usize(0..list.len())].clone();
                let to = self.rng.u32(1..=plan.branches).to_string();
                if to != asked.id {
                    self.lists
                        .entry(asked)
                        .or_default()
                        .retain(|other| other.key != person.key);
                    self.say(&Asked::new("employees", to), person.json.clone());
                }
            }
            _ if list.is_empty() => {}
            _ => {
                let record = list[self.rng.usize(0..list.len())].clone();
                let versions = &self.said[&record.key];
                // Work that could not reach the state table leaves an earlier answer there, and a row that goes back to it
                // is then not looked at: that is a known limit.
                let may_go_back = !plan.has(Fault::StateErrors) && !plan.has(Fault::StateOutages);
                let json = if may_go_back && versions.len() > 1 && self.rng.u32(0..3) == 0 {
                    // As it was before.
                    versions[versions.len() - 2].json.clone()
                } else {
                    let mut json = record.json.clone();
                    if may_go_back && let Json::Object(members) = &mut json {
                        change(members, &mut self.rng);
                    } else {
                        self.next_id += 1;
                        json["extra"] = self.next_id.into();
                    }
                    json
                };
                self.say(&asked, json);
            }
        }
    }

    /// What the vendor answers now.
    pub(crate) fn list(&self, asked: &Asked) -> &[Arc<Record>] {
        self.lists.get(asked).map_or(&[], Vec::as_slice)
    }

    /// All that a run asks for that begins with these names.
    pub(crate) fn asked_by_a_run(&self, names: &[String]) -> BTreeSet<Asked> {
        let mut all: BTreeSet<_> = names.iter().map(|name| Asked::new("branches", name.clone())).collect();
        for kind in ["employees", "sales"] {
            let told: Vec<_> = all
                .iter()
                .filter(|asked| asked.kind != kind)
                .flat_map(|asked| self.list(asked))
                .filter(|record| record.is_stored && record.key.0 == Asked::new(kind, "").told_by())
                .map(|record| Asked::new(kind, record.key.1.clone()))
                .collect();
            all.extend(told);
        }
        all
    }

    /// The names whose answers ever had a branch.
    pub(crate) fn names_of(&self, branch: &str) -> BTreeSet<String> {
        self.names_where(|answers| answers.iter().any(|given| given.tells_of(branch)))
    }

    /// The names whose last answers had a branch.
    pub(crate) fn names_now_of(&self, branch: &str) -> BTreeSet<String> {
        self.names_where(|answers| answers.last().is_some_and(|given| given.tells_of(branch)))
    }

    fn names_where(&self, is_so: impl Fn(&[Given]) -> bool) -> BTreeSet<String> {
        let asked = self.given.iter().filter(|(asked, _)| asked.kind == "branches");
        asked
            .filter(|(_, answers)| is_so(answers))
            .map(|(asked, _)| asked.id.clone())
            .collect()
    }

    /// The ids of all records that an answer ever had.
    pub(crate) fn all_ever(&self, asked: &Asked) -> impl Iterator<Item = &str> {
        let given = self.given.get(asked).into_iter().flatten();
        given
            .flat_map(|given| &given.records)
            .map(|record| record.key.1.as_str())
    }

    /// By what a record is asked for: a branch by each name that it ever had.
    pub(crate) fn asked_for(&self, key: &RowKey) -> Vec<Asked> {
        match key.0 {
            Entity::Branch => {
                let names = self
                    .versions(key)
                    .iter()
                    .filter_map(|record| record.json["branch_name"].as_str());
                let names: BTreeSet<_> = names.collect();
                names.into_iter().map(|name| Asked::new("branches", name)).collect()
            }
            Entity::Salesperson => vec![Asked::new("employees", key.2.clone())],
            Entity::Sale => vec![Asked::new("sales", key.2.clone())],
        }
    }

    /// All that the vendor has said of a record.
    pub(crate) fn versions(&self, key: &RowKey) -> &[Arc<Record>] {
        self.said.get(key).map_or(&[], Vec::as_slice)
    }

    fn others(&self, elapsed: Duration) -> usize {
        let upto = self.foreign.partition_point(|at| *at <= elapsed);
        let from = self.foreign.partition_point(|at| *at + WINDOW <= elapsed);
        upto - from
    }
}

pub(crate) fn branch_name(number: u32) -> String {
    ["Scranton", "Utica", "Nashua", "Akron"][number as usize - 1].to_owned()
}

fn change(members: &mut Map<String, Json>, rng: &mut Rng) {
    let names: Vec<String> = members
        .keys()
        .filter(|name| !["id", "occupation", "transaction_timestamp", "branch_name"].contains(&name.as_str()))
        .cloned()
        .collect();
    if rng.u32(0..4) == 0 || names.is_empty() {
        members.insert("extra".to_owned(), rng.u32(0..3).into());
    } else {
        let name = names[rng.usize(0..names.len())].clone();
        if rng.u32(0..4) == 0 {
            members.remove(&name);
        } else {
            members.insert(name, rng.u32(0..1000).into());
        }
    }
}

/// The row of a record, after the contract's section 5: these records have two names that are reserved.
fn row_of(json: &Json) -> BTreeMap<String, Value> {
    let Json::Object(members) = json else {
        return BTreeMap::new();
    };
    members
        .iter()
        .filter(|(name, _)| *name != "id")
        .map(|(name, value)| {
            let name = match name.as_str() {
                "name" => "employee_name",
                "location" => "branch_location",
                other => other,
            };
            let raw = serde_json::value::to_raw_value(value).expect("JSON");
            (name.to_owned(), Value::from_json(&raw).expect("a value"))
        })
        .collect()
}

/// A request on its way.
struct Request {
    asked: Asked,
    /// The answer that it asks for another page of.
    answer: Option<(u64, usize)>,
    etag: Option<String>,
    asked_at: UtcDateTime,
}

/// One process's way to the vendor.
pub(crate) struct SimTransport {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) clock: Clock,
}

#[async_trait]
impl Transport for SimTransport {
    async fn get(&self, url: &Url, etag: Option<&str>, _memory: &mut Memory) -> Exchange {
        let request = Request {
            asked_at: self.clock.now(),
            etag: etag.map(str::to_owned),
            ..read(url)
        };
        if request.answer.is_none() {
            self.world.check_request(&self.process, &request.asked);
        }
        let (world, process) = (self.world.clone(), self.process.clone());
        // Sent: it arrives even if its sender ends now.
        on_the_wire(async move { exchange(&world, &process, request).await }).await
    }
}

fn read(url: &Url) -> Request {
    let kind = match url.path() {
        "/branches" => "branches",
        "/employees" => "employees",
        "/sales" => "sales",
        other => panic!("the vendor has no {other}"),
    };
    let (mut id, mut answer) = (String::new(), None);
    for (name, value) in url.query_pairs() {
        match &*name {
            "answer" => {
                let (number, page) = value.split_once('-').expect("an answer and its page");
                answer = Some((number.parse().expect("a number"), page.parse().expect("a number")));
            }
            _ => id = value.into_owned(),
        }
    }
    Request {
        asked: Asked::new(kind, id),
        answer,
        etag: None,
        asked_at: BEGINNING,
    }
}

async fn exchange(world: &World, process: &Process, request: Request) -> Exchange {
    let sim = &world.sim;
    let fault = sim
        .strikes(Fault::VendorErrors, 8)
        .then(|| sim.throw(Die::Fault(Fault::VendorErrors), |rng| rng.u32(0..6)));
    if fault == Some(0) {
        sim.note(|| format!("{} cannot reach the vendor for {}", process.name, request.asked));
        return Outcome::may_pass("connection refused").into();
    }
    sim.latency(MOST_WAY_MS).await;
    let exchange = arrive(world, process, &request, fault.is_some());
    match fault {
        Some(1) => {
            tokio::time::sleep(TIME_OUT).await;
            return Outcome::may_pass("timed out").into();
        }
        Some(2) => {
            // Slow, and still in time.
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        _ => sim.latency(300).await,
    }
    exchange
}

/// What happens as a request arrives at the vendor.
fn arrive(world: &World, process: &Process, request: &Request, fails: bool) -> Exchange {
    let sim = &world.sim;
    let plan = &sim.plan;
    let elapsed = sim.elapsed();
    let asked = &request.asked;
    let mut vendor = lock(&world.vendor);
    let vendor = &mut *vendor;
    vendor.go_on(elapsed, plan);
    vendor.asked.push(elapsed);
    vendor.requests.push_back(elapsed);
    while vendor.requests.front().is_some_and(|at| *at + WINDOW <= elapsed) {
        vendor.requests.pop_front();
    }
    let (ours, quota) = (vendor.requests.len(), plan.quota as usize);
    // A known limit: the paces of an outage and the promises right after it know nothing of each other.
    let limit = if lock(&world.state).has_been_out(elapsed) {
        2 * quota
    } else {
        quota
    };
    if ours > limit {
        sim.violate(Invariant::Quota, || {
            format!("{ours} requests in 60 seconds, with a quota of {quota}")
        });
    }
    let others = if sim.is_calm() { 0 } else { vendor.others(elapsed) };
    let rate_limit = plan.rate_limits.then(|| RateLimit {
        remaining: u32::try_from(quota.saturating_sub(ours + others)).unwrap_or(0),
        reset: Duration::from_secs(60),
    });
    let outcome = if ours + others > quota {
        let says = sim.throw(Die::World, |rng| rng.bool());
        Outcome::Throttled {
            retry_after: says.then_some(Duration::from_secs(7)),
        }
    } else if fails && sim.throw(Die::Fault(Fault::VendorErrors), |rng| rng.bool()) {
        Outcome::may_pass("503, or half an answer")
    } else if vendor.refused.contains(asked) && !sim.is_calm() {
        Outcome::Final("404".to_owned())
    } else {
        vendor.answer(world, request)
    };
    sim.note(|| {
        let told = match &outcome {
            Outcome::Page { next: Some(_), .. } => "a page",
            Outcome::Page { .. } => "answered",
            Outcome::NotModified => "not modified",
            Outcome::Throttled { .. } => "429",
            Outcome::MayPass { .. } => "fails",
            Outcome::Final(_) => "refused",
            Outcome::Redirect(_) => "elsewhere",
        };
        format!("{} asks for {asked}: {told} ({ours} of {quota})", process.name)
    });
    Exchange {
        outcome,
        rate_limit: rate_limit.map(|limit| (limit, Instant::now())),
    }
}

impl Vendor {
    fn answer(&mut self, world: &World, request: &Request) -> Outcome {
        let (sim, asked) = (&world.sim, &request.asked);
        let list = self.lists.get(asked).cloned().unwrap_or_default();
        let (number, from) = request.answer.unwrap_or_else(|| (sim.number(), 0));
        let upto = if sim.plan.pages && asked.kind == "sales" {
            list.len().min(from + PAGE)
        } else {
            list.len()
        };
        let page: Vec<_> = list[from.min(upto)..upto].to_vec();
        let records: Vec<&Json> = page.iter().map(|record| &record.json).collect();
        let body = match asked.kind {
            "branches" => json!({ "result": records }),
            "employees" => json!({"result": {"branch_id": asked.id, "employees": records}}),
            _ => json!({"result": {"employee_id": asked.id, "sales": records}}),
        }
        .to_string();
        let begun = self.begun.remove(&number);
        let mut given = begun.unwrap_or_else(|| Given {
            at: sim.now(),
            asked_at: request.asked_at,
            records: Vec::new(),
        });
        given.records.extend(page);
        if upto < list.len() {
            self.begun.insert(number, given);
            let next = format!("{BASE_URL}{}?id={}&answer={number}-{upto}", asked.kind, asked.id);
            return Outcome::Page {
                body: body.into(),
                next: Some(next.parse().expect("a URL")),
                etag: None,
            };
        }
        self.given.entry(asked.clone()).or_default().push(given);
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let etag = (sim.plan.etags && from == 0).then(|| format!("{:x}", hasher.finish()));
        if etag.is_some() && etag == request.etag {
            return Outcome::NotModified;
        }
        Outcome::Page {
            body: body.into(),
            next: None,
            etag,
        }
    }
}
