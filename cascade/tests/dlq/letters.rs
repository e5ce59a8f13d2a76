//! Letters of work queues, at the module that deals with them.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sqs::types::QueueAttributeName;
use cascade::dead_letters::{Action, AgeBand, Courier, DeadLetterQueue, Filter, Letter, Newcomers, Outcome, grouped};
use shared::jitter::Jitter;
use shared::queue::sqs::SqsQueue;
use shared::queue::{DeadLetter, WorkQueue};
use tokio_util::sync::CancellationToken;

use crate::{House, NOT_FOUND, receive_all, send, send_letter};

const EMPLOYEE: DeadLetterQueue = DeadLetterQueue::EmployeeWorkload;

async fn house_with_letters(count: usize) -> House {
    let house = House::start().await;
    for number in 0..count {
        let url = &house.places.employee_dead_letter_queue_url;
        send_letter(&house.sqs, url, &format!("letter {number:02}"), NOT_FOUND).await;
    }
    house
}

/// Sends the letters of the employee queue back to it.
async fn redrive(house: &House, filter: &Filter, limit: usize) -> Outcome {
    let letters = house.dead_letters();
    let courier = letters.work_queue("employee-queue").await.expect("an answer");
    let courier = courier.expect("a queue");
    let action = Action::Redrive(&courier);
    let found = house.found(EMPLOYEE).await;
    letters.act(&found, filter, limit, None, &action, &|_| {}).await
}

#[tokio::test]
async fn letters_are_grouped_by_queue_reason_and_age_and_can_be_received_at_once_afterwards() {
    // given
    let house = House::start().await;
    let (employees, sales) = (
        &house.places.employee_dead_letter_queue_url,
        &house.places.sale_dead_letter_queue_url,
    );
    send_letter(&house.sqs, employees, "old", NOT_FOUND).await;
    house.move_on(2);
    for number in 1..=12 {
        let reason = format!("the vendor answered 404 Not Found: no branch {number}");
        send_letter(&house.sqs, employees, "x", &reason).await;
    }
    send_letter(&house.sqs, sales, "y", NOT_FOUND).await;
    // when
    let mut letters = house.look(EMPLOYEE).await.letters;
    letters.extend(house.look(DeadLetterQueue::SaleWorkload).await.letters);
    let groups = grouped(letters, |_| house.clock.now());
    // then
    let told: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                group.queue.short_name(),
                group.reason.as_str(),
                group.age,
                group.letters.len(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("employee", NOT_FOUND, AgeBand::Hours, 1),
            (
                "employee",
                "the vendor answered 404 Not Found: no branch …",
                AgeBand::Minutes,
                12
            ),
            ("sale", NOT_FOUND, AgeBand::Minutes, 1),
        ]
    );
    assert_eq!(groups[0].letters[0].run_id.as_deref(), Some("2026-11-21T01:00:00Z"));
    assert_eq!(house.waiting(employees).await, (13, 0));
    assert_eq!(house.waiting(sales).await, (1, 0));
}

#[tokio::test]
async fn a_message_that_sqs_gave_up_says_so() {
    let house = House::start().await;
    let url = &house.places.employee_queue_url;
    send(&house.sqs, url, "poison", &[]).await;
    for _ in 0..11 {
        let receive = house.sqs.receive_message().queue_url(url).visibility_timeout(0);
        receive.send().await.expect("an answer");
    }
    let letters = house.look(EMPLOYEE).await.letters;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].body.as_str()),
        ("10 receives without success", "poison")
    );
}

#[tokio::test]
async fn redriven_letters_are_plain_messages_of_their_work_queue_again() {
    // given
    let house = house_with_letters(25).await;
    // when
    let outcome = redrive(&house, &Filter::default(), usize::MAX).await;
    // then
    assert_eq!(
        (outcome.done, outcome.failed, outcome.cut),
        (25, 0, false),
        "{outcome:?}"
    );
    let expected: Vec<_> = (0..25)
        .map(|number| (format!("letter {number:02}"), 0, "1".to_owned()))
        .collect();
    assert_eq!(
        receive_all(&house.sqs, &house.places.employee_queue_url).await,
        expected
    );
    assert_eq!(
        house.waiting(&house.places.employee_dead_letter_queue_url).await,
        (0, 0)
    );
}

#[tokio::test]
async fn where_the_destination_is_gone_every_letter_stays_and_can_be_received() {
    // given
    let house = house_with_letters(25).await;
    let letters = house.dead_letters();
    let courier = letters
        .work_queue("employee-queue")
        .await
        .expect("an answer")
        .expect("a queue");
    let gone = house.sqs.delete_queue().queue_url(&house.places.employee_queue_url);
    gone.send().await.expect("deleted");
    // when
    let found = house.found(EMPLOYEE).await;
    let action = Action::Redrive(&courier);
    let outcome = letters
        .act(&found, &Filter::default(), usize::MAX, None, &action, &|_| {})
        .await;
    // then
    assert_eq!(
        (outcome.done, outcome.failed, outcome.cut),
        (0, 10, true),
        "{outcome:?}"
    );
    assert_eq!(outcome.problems.len(), 2, "{outcome:?}");
    assert!(
        outcome.problems[1].contains("10 letters failed one after the other"),
        "{outcome:?}"
    );
    assert_eq!(
        house.waiting(&house.places.employee_dead_letter_queue_url).await,
        (25, 0)
    );
    // and a queue that is gone from the start is not found
    assert!(letters.work_queue("employee-queue").await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_limit_and_an_age_leave_the_others_where_they_are() {
    // given
    let house = house_with_letters(3).await;
    house.move_on(2);
    let url = &house.places.employee_dead_letter_queue_url;
    send_letter(&house.sqs, url, "young", "the vendor answered 403 Forbidden").await;
    let old = Filter {
        older_than: Some(Duration::from_secs(3600)),
        ..Filter::default()
    };
    // when
    let two = redrive(&house, &old, 2).await;
    // then
    assert_eq!((two.done, two.cut), (2, true), "{two:?}");
    assert_eq!(house.waiting(url).await, (2, 0));
    // and when
    let others = redrive(&house, &old, usize::MAX).await;
    assert_eq!((others.done, others.cut), (1, false), "{others:?}");
    let rest = house.look(EMPLOYEE).await.letters;
    assert_eq!(
        rest.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>(),
        ["young"]
    );
    // and a look keeps a limit, too
    let found = house.found(EMPLOYEE).await;
    send_letter(&house.sqs, url, "younger", NOT_FOUND).await;
    let letters = house.dead_letters();
    let everything = Filter::default();
    let look = letters.look(&found, &everything, 1, Newcomers::Shown, &|_| {}).await;
    assert_eq!((look.letters.len(), look.cut), (1, true));
    assert_eq!(house.waiting(url).await, (2, 0));
}

#[tokio::test]
async fn only_what_is_meant_is_discarded() {
    let house = house_with_letters(12).await;
    let url = &house.places.employee_dead_letter_queue_url;
    send_letter(&house.sqs, url, "other", "the vendor answered 403 Forbidden").await;
    let filter = Filter {
        reason: Some("404".to_owned()),
        ..Filter::default()
    };
    let found = house.found(EMPLOYEE).await;
    let letters = house.dead_letters();
    let outcome = letters
        .act(&found, &filter, usize::MAX, None, &Action::Discard, &|_| {})
        .await;
    assert_eq!((outcome.done, outcome.failed), (12, 0), "{outcome:?}");
    assert_eq!(house.look(EMPLOYEE).await.letters[0].body, "other");
    assert_eq!(house.waiting(&house.places.employee_queue_url).await, (0, 0));
}

/// Takes letters until it has had enough of them, and then has everything stopped.
struct Stopping {
    taken: AtomicUsize,
    enough: usize,
    stop: CancellationToken,
}

#[async_trait]
impl Courier for Stopping {
    async fn deliver(&self, _: &Letter) -> Result<(), String> {
        if self.taken.fetch_add(1, Ordering::SeqCst) + 1 == self.enough {
            self.stop.cancel();
        }
        Ok(())
    }

    fn at_once(&self) -> usize {
        10
    }
}

#[tokio::test]
async fn an_end_in_the_middle_deletes_what_was_delivered_and_hands_the_rest_back() {
    // given
    let house = house_with_letters(15).await;
    let courier = Stopping {
        taken: AtomicUsize::new(0),
        enough: 4,
        stop: house.stop.clone(),
    };
    // when
    let found = house.found(EMPLOYEE).await;
    let action = Action::Redrive(&courier);
    let letters = house.dead_letters();
    let outcome = letters
        .act(&found, &Filter::default(), usize::MAX, None, &action, &|_| {})
        .await;
    // then
    assert_eq!((outcome.done, outcome.failed, outcome.cut), (4, 0, true), "{outcome:?}");
    assert_eq!(
        house.waiting(&house.places.employee_dead_letter_queue_url).await,
        (11, 0)
    );
}

/// Takes a letter to a place where it fails at once, and comes back as a new one.
struct Returning<'a>(&'a House);

#[async_trait]
impl Courier for Returning<'_> {
    async fn deliver(&self, letter: &Letter) -> Result<(), String> {
        self.0.move_on(1);
        let url = &self.0.places.employee_dead_letter_queue_url;
        send_letter(&self.0.sqs, url, &letter.body, NOT_FOUND).await;
        Ok(())
    }

    fn at_once(&self) -> usize {
        1
    }
}

#[tokio::test]
async fn letters_that_fail_again_at_once_do_not_go_round_and_round() {
    let house = house_with_letters(3).await;
    let found = house.found(EMPLOYEE).await;
    let courier = Returning(&house);
    let action = Action::Redrive(&courier);
    let letters = house.dead_letters();
    let everything = Filter::default();
    let acting = letters.act(&found, &everything, usize::MAX, None, &action, &|_| {});
    let outcome = tokio::time::timeout(Duration::from_secs(60), acting)
        .await
        .expect("it ends");
    assert_eq!((outcome.done, outcome.newer, outcome.cut), (3, 3, false), "{outcome:?}");
    assert_eq!(
        house.waiting(&house.places.employee_dead_letter_queue_url).await,
        (3, 0)
    );
}

#[tokio::test]
async fn a_look_before_a_change_counts_what_the_change_would_leave_alone() {
    let house = house_with_letters(2).await;
    let found = house.found(EMPLOYEE).await;
    house.move_on(1);
    let url = &house.places.employee_dead_letter_queue_url;
    send_letter(&house.sqs, url, "newer", NOT_FOUND).await;
    let letters = house.dead_letters();
    for (newcomers, expected) in [(Newcomers::Counted, (2, 1)), (Newcomers::Shown, (3, 0))] {
        let everything = Filter::default();
        let look = letters.look(&found, &everything, usize::MAX, newcomers, &|_| {}).await;
        assert_eq!((look.letters.len(), look.newer), expected, "{newcomers:?}");
        assert_eq!(look.problems, [""; 0]);
    }
}

/// Takes letters, each in more time than any of them stays hidden.
struct Slow<'a>(&'a House);

#[async_trait]
impl Courier for Slow<'_> {
    async fn deliver(&self, _: &Letter) -> Result<(), String> {
        self.0.move_on(1);
        Ok(())
    }

    fn at_once(&self) -> usize {
        1
    }
}

#[tokio::test]
async fn letters_that_are_kept_and_come_back_do_not_end_a_redrive_and_are_handed_back_without_an_error() {
    // given letters that are not meant, before others that are
    let house = House::start().await;
    let url = &house.places.employee_dead_letter_queue_url;
    for reason in ["stays 1", "stays 2", "goes 1", "goes 2", "goes 3"] {
        send_letter(&house.sqs, url, "{}", reason).await;
    }
    let filter = Filter {
        reason: Some("goes".to_owned()),
        ..Filter::default()
    };
    // when
    let found = house.found(EMPLOYEE).await;
    let courier = Slow(&house);
    let action = Action::Redrive(&courier);
    let letters = house.dead_letters();
    let acting = letters.act(&found, &filter, usize::MAX, None, &action, &|_| {});
    let outcome = tokio::time::timeout(Duration::from_secs(60), acting)
        .await
        .expect("it ends");
    // then
    assert_eq!((outcome.done, outcome.failed), (3, 0), "{outcome:?}");
    assert_eq!(outcome.problems, [""; 0]);
    assert_eq!(house.waiting(url).await, (2, 0));
}

#[tokio::test]
async fn a_letter_of_which_only_the_beginning_is_known_is_not_sent_but_can_be_discarded() {
    let house = House::start().await;
    let url = &house.places.employee_dead_letter_queue_url;
    send(&house.sqs, url, "{\"bra", &[("IS_PAYLOAD_TRUNCATED", "true")]).await;
    let outcome = redrive(&house, &Filter::default(), usize::MAX).await;
    assert_eq!((outcome.done, outcome.failed), (0, 1), "{outcome:?}");
    assert!(outcome.problems[0].contains("only the beginning"), "{outcome:?}");
    assert_eq!(house.waiting(url).await, (1, 0));
    let found = house.found(EMPLOYEE).await;
    let letters = house.dead_letters();
    let everything = Filter::default();
    let discarding = letters.act(&found, &everything, usize::MAX, None, &Action::Discard, &|_| {});
    assert_eq!(discarding.await.done, 1);
}

#[tokio::test]
async fn what_another_reader_has_received_is_not_seen_and_not_touched() {
    let house = house_with_letters(3).await;
    let url = &house.places.employee_dead_letter_queue_url;
    let other = house.sqs.receive_message().queue_url(url).visibility_timeout(60);
    assert_eq!(other.send().await.expect("an answer").messages().len(), 1);
    assert_eq!(house.found(EMPLOYEE).await.depth.in_flight, 1);
    assert_eq!(redrive(&house, &Filter::default(), usize::MAX).await.done, 2);
    assert_eq!(house.waiting(url).await, (0, 1));
}

#[tokio::test]
async fn a_rate_is_kept() {
    let house = house_with_letters(5).await;
    let found = house.found(EMPLOYEE).await;
    let began = Instant::now();
    let letters = house.dead_letters();
    let rate = NonZeroU32::new(20);
    let outcome = letters
        .act(&found, &Filter::default(), usize::MAX, rate, &Action::Discard, &|_| {})
        .await;
    assert_eq!(outcome.done, 5);
    // Four waits of 50 ms lie between five letters.
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_move_task_of_sqs_takes_a_collectors_letter_to_the_queue_that_is_named() {
    // given
    let house = House::start().await;
    let queue = SqsQueue::new(
        house.sqs.clone(),
        house.places.employee_queue_url.clone(),
        Jitter::random(),
    );
    let letter = DeadLetter {
        body: r#"{"branch_id": "1"}"#.to_owned(),
        reason: NOT_FOUND.to_owned(),
        run_id: "2026-11-21T01:00:00Z".to_owned(),
    };
    queue.dead_letter(letter).await.expect("sent");
    let arn = async |url: &str| {
        let name = QueueAttributeName::QueueArn;
        let told = house
            .sqs
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(name.clone());
        told.send()
            .await
            .expect("attributes")
            .attributes
            .and_then(|all| all.get(&name).cloned())
            .expect("an ARN")
    };
    // when
    let task = house
        .sqs
        .start_message_move_task()
        .source_arn(arn(&house.places.employee_dead_letter_queue_url).await)
        .destination_arn(arn(&house.places.employee_queue_url).await);
    task.send().await.expect("a task");
    // then
    let received = queue.receive(1, Duration::from_secs(5)).await.expect("an answer");
    assert_eq!(
        (received[0].body.as_str(), received[0].receive_count),
        (r#"{"branch_id": "1"}"#, 1)
    );
}
