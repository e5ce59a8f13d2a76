//! The queues filled again from the tables.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use cascade::backfill::scope::Scope;
use cascade::backfill::{Backfill, BackfillError, Filled, Tables};
use cascade::pipeline::View;
use shared::account::freshness::by_branch;
use shared::deletions::DeletionRules;
use shared::queue::sqs::SqsQueue;
use shared::queue::{Outbox, QueueError};
use shared::run::RunId;
use shared::state::dynamodb::DynamoState;

use crate::harness::{House, Setup};

/// A queue that takes so many batches and no more.
struct Failing {
    queue: SqsQueue,
    batches_left: AtomicUsize,
}

#[async_trait]
impl Outbox for Failing {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        let left = self
            .batches_left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            return Err(QueueError::Service {
                action: "take messages",
                source: "it is down".into(),
            });
        }
        self.queue.send(bodies, delay).await
    }
}

impl House {
    fn queue(&self, url: &str) -> SqsQueue {
        SqsQueue::new(self.sqs(), url.to_owned(), self.jitter())
    }

    fn backfill(&self, page: i32, sale_queue: Arc<dyn Outbox>) -> Backfill {
        let aws = self.cloud.sdk_config();
        Backfill {
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            tables: Tables {
                branches: self.places.branch_table.clone(),
                salespersons: self.places.salesperson_table.clone(),
                sales: self.places.sale_table.clone(),
            },
            employee_queue: Arc::new(self.queue(&self.places.employee_queue_url)),
            sale_queue,
            state: Arc::new(DynamoState::new(&aws, self.places.state_table.clone())),
            accounts: self.accounts(),
            clock: self.clock.clone(),
            page,
        }
    }

    async fn fill(&self, scope: &Scope) -> Result<Filled, BackfillError> {
        // A run of another second than the last one.
        self.clock.advance(Duration::from_secs(5));
        let sale_queue = Arc::new(self.queue(&self.places.sale_queue_url));
        self.backfill(500, sale_queue).fill(scope, |_| ()).await
    }

    /// Writes a salesperson's row, behind the collectors' back, marked as deleted or not.
    async fn put_salesperson(&self, employee_id: &str, branch_id: &str, is_deleted: bool) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let client = aws_sdk_dynamodb::Client::new(&self.cloud.sdk_config());
        let mut put = client.put_item().table_name(&self.places.salesperson_table);
        put = put
            .item("employee_id", text(employee_id))
            .item("branch_id", text(branch_id))
            .item("last_modified", text("2026-11-21T00:00:00.000Z"));
        if is_deleted {
            put = put.item("deleted_at", text("2026-11-21T00:00:00.000Z"));
        }
        put.send().await.expect("a row");
    }

    async fn freshness(&self) -> BTreeMap<String, RunId> {
        let state = DynamoState::new(&self.cloud.sdk_config(), self.places.state_table.clone());
        by_branch(&state).await.expect("the freshness of branches")
    }

    /// Takes a sale's row away, behind the collectors' back.
    async fn lose(&self, sale_id: &str, employee_id: &str) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let client = aws_sdk_dynamodb::Client::new(&self.cloud.sdk_config());
        let delete = client.delete_item().table_name(&self.places.sale_table);
        let delete = delete
            .key("sale_id", text(sale_id))
            .key("employee_id", text(employee_id));
        delete.send().await.expect("a deletion");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_there_again_and_the_run_says_so() {
    let house = House::start(Setup::small(11)).await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());
    house.run_by(&pipeline).await;
    let expected = house.tables().await;
    let sales: Vec<_> = expected.sales.keys().cloned().collect();
    let employee = sales[0].1.clone();
    let scopes = [
        Scope::All,
        Scope::Employee(employee),
        Scope::Days {
            from: "2000-01-01".to_owned(),
            to: "2026-12-31".to_owned(),
        },
    ];
    for scope in scopes {
        house.lose(&sales[0].0, &sales[0].1).await;
        let filled = house.fill(&scope).await.unwrap();
        assert!(!filled.resumed && filled.sent.1 > 0, "{filled:?}");
        assert_eq!(filled.sent.0 > 0, scope.asks_branches());
        let errors = pipeline
            .work_through(filled.run_id, &View::default(), || ())
            .await
            .unwrap();
        assert_eq!(errors, Vec::<String>::new());
        let sale_queue = Arc::new(house.queue(&house.places.sale_queue_url));
        let extents = house.backfill(500, sale_queue).extents(filled.run_id).await.unwrap();
        assert!(
            extents.is_over && extents.report.is_complete(),
            "{scope}: {}",
            extents.report.text()
        );
        assert_eq!(house.tables().await.sales.len(), expected.sales.len(), "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_broken_off_goes_on_where_it_stopped() {
    let house = House::start(Setup::small(11)).await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());
    house.run_by(&pipeline).await;
    house.clock.advance(Duration::from_secs(5));
    let failing = Failing {
        queue: house.queue(&house.places.sale_queue_url),
        batches_left: AtomicUsize::new(2),
    };
    let broken_off = house.backfill(5, Arc::new(failing)).fill(&Scope::All, |_| ()).await;
    assert!(broken_off.unwrap_err().to_string().contains("could not fill a queue"));

    let other = house.fill(&Scope::Employee("1".to_owned())).await.unwrap_err();
    assert!(
        matches!(other, BackfillError::Unfinished { scope: Scope::All, .. }),
        "{other}"
    );

    let filled = house.fill(&Scope::All).await.unwrap();
    assert!(filled.resumed);
    // Two pages of five were sent before, and the branches' messages.
    assert_eq!(filled.sent, (0, house.salesperson_ids().len() - 10));
    pipeline
        .work_through(filled.run_id, &View::default(), || ())
        .await
        .unwrap();
    let sale_queue = Arc::new(house.queue(&house.places.sale_queue_url));
    let extents = house.backfill(500, sale_queue).extents(filled.run_id).await.unwrap();
    assert!(
        extents.is_over && extents.report.is_complete(),
        "{}",
        extents.report.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_sales_somebody_has_he_is_asked_for_once_and_his_branch_is_none_the_fresher() {
    let house = House::start(Setup::small(11)).await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());
    house.run_by(&pipeline).await;
    let fresh = house.freshness().await;
    assert!(!fresh.is_empty());
    house.clock.advance(Duration::from_secs(5));
    let days = Scope::Days {
        from: "2000-01-01".to_owned(),
        to: "2026-12-31".to_owned(),
    };
    let sale_queue = Arc::new(house.queue(&house.places.sale_queue_url));
    let filled = house.backfill(5, sale_queue).fill(&days, |_| ()).await.unwrap();
    let sellers = house.tables().await.sales.into_keys().map(|(_, seller)| seller);
    let sellers: std::collections::BTreeSet<_> = sellers.collect();
    assert!(house.tables().await.sales.len() > 5 * 2);
    assert_eq!(filled.sent, (0, sellers.len()));
    pipeline
        .work_through(filled.run_id, &View::default(), || ())
        .await
        .unwrap();
    assert_eq!(house.freshness().await, fresh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_without_a_row_is_asked_for_and_who_has_left_is_not() {
    let house = House::start(Setup::small(11)).await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());
    house.run_by(&pipeline).await;
    let (branches, salespersons) = (house.tables().await.branches.len(), house.salesperson_ids().len());
    house.put_salesperson("98765", "4321", false).await;
    house.put_salesperson("98766", "4321", true).await;
    let filled = house.fill(&Scope::All).await.unwrap();
    assert_eq!(filled.sent, (branches + 1, salespersons + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_nothing_is_begun() {
    let house = House::start(Setup::small(11)).await;
    house.run_by(&house.pipeline_with_state(DeletionRules::default())).await;
    for scope in [
        Scope::Branch("no such branch".to_owned()),
        Scope::Employee("nobody".to_owned()),
        Scope::Days {
            from: "1999-01-01".to_owned(),
            to: "1999-01-02".to_owned(),
        },
    ] {
        let nothing = house.fill(&scope).await.unwrap_err();
        assert!(
            matches!(&nothing, BackfillError::Nothing(of) if *of == scope),
            "{nothing}"
        );
    }
    // None of them is in the way of another.
    let sale_queue = Arc::new(house.queue(&house.places.sale_queue_url));
    assert_eq!(house.backfill(500, sale_queue).abandon().await.unwrap(), None);
}
