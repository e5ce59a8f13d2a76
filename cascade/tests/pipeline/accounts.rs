//! The account that each run keeps of itself, and the mail that tells of it.

use cascade::pipeline::{Stage, View};
use cascade::vendor::{Fault, Faults};
use serde_json::Value;
use shared::checkpoint::Thoroughness;
use shared::deletions::DeletionRules;
use shared::run::RunId;

use crate::harness::{BRANCHES, House, Setup};

const ADDRESS: &str = "data@example.com";

impl House {
    /// Has the reports of runs sent to somebody.
    async fn subscribe_to_reports(&self) {
        let sns = aws_sdk_sns::Client::new(&self.cloud.sdk_config());
        let topic = &self.places.report_topic_arn;
        let subscription = sns.subscribe().topic_arn(topic).protocol("email").endpoint(ADDRESS);
        subscription.send().await.expect("a subscription");
        let mails = self.cloud.outbox().await.expect("the outbox");
        let token = mails[0].confirmation_token.clone().expect("a token");
        let confirmation = sns.confirm_subscription().topic_arn(topic).token(token);
        confirmation.send().await.expect("a confirmation");
    }

    async fn reports(&self) -> Vec<(String, String)> {
        let mails = self.cloud.outbox().await.expect("the outbox");
        let reports = mails.into_iter().filter(|mail| mail.confirmation_token.is_none());
        reports.map(|mail| (mail.subject, mail.body)).collect()
    }

    /// What the state table says of an entry.
    async fn entry(&self, id: &str) -> serde_json::Map<String, Value> {
        use shared::state::StateTable;
        use shared::state::dynamodb::DynamoState;
        let state = DynamoState::new(&self.cloud.sdk_config(), self.places.state_table.clone());
        let entry = state.read(id).await.expect("the state table");
        entry.unwrap_or_else(|| panic!("no entry {id}")).body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_reported_once_with_the_numbers_of_its_collectors() {
    let house = House::start(Setup::small(7)).await;
    house.subscribe_to_reports().await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());

    let outcome = house.run_by(&pipeline).await;

    let reports = house.reports().await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (subject, text) = &reports[0];
    assert_eq!(*subject, format!("Cascade test: run {} complete", outcome.run_id));
    assert!(
        text.contains(&format!("Branches      {BRANCHES} of {BRANCHES} complete")),
        "{text}"
    );
    let sales = outcome.stage(Stage::Sales);
    assert!(text.contains(&format!("sales        {:>10}", sales.inserted)), "{text}");
    assert!(
        text.contains(&format!("Requests      {} (0 answered 429)", outcome.total().api_calls)),
        "{text}"
    );

    let freshness = house.entry("freshness").await;
    let branches = freshness["branches"].as_object().expect("branches");
    assert_eq!(branches.len() as u64, BRANCHES);
    assert!(branches.values().all(|run_id| *run_id == outcome.run_id.as_str()));
    let runs = house.entry("runs").await;
    assert_eq!(runs["unreported"], Value::Array(Vec::new()));

    // Nothing is left to do for it, and nobody is told again.
    let run_id = RunId::parse(&outcome.run_id).expect("a run");
    let again = pipeline.run(run_id, Thoroughness::Usual, &View::default(), || ()).await;
    assert_eq!(again.expect("a run").total().api_calls, 0);
    assert_eq!(house.reports().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vendor_refuses_is_named_in_the_report_with_its_reason() {
    let house = House::start(Setup::small(7)).await;
    let lost = house.salesperson_ids().swap_remove(0);
    let faults = Faults::default().with_target("/sales", &lost, Fault::Status(404), None);
    house.vendor.faults().set(faults).expect("faults");
    house.subscribe_to_reports().await;
    let outcome = house.run_by(&house.pipeline_with_state(DeletionRules::default())).await;
    assert_eq!(outcome.new_dead_letters, 1);
    let reports = house.reports().await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    let (subject, text) = &reports[0];
    assert!(subject.ends_with("incomplete"), "{subject}");
    assert!(
        text.contains(&format!("Missing (1):\n- salesperson {lost} of branch ")),
        "{text}"
    );
    assert!(text.contains("404"), "{text}");
}
