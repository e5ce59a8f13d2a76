//! The `cascade` command as its user has it: options in; output, exit status and tables out.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cascade::cloud::{Cloud, CloudOptions};
use cascade::vendor::{World, WorldOptions};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::lambda::install_tls;
use tempfile::TempDir;

use crate::harness::{START, tables};
use crate::model::Tables;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The seed of every world here.
const SEED: u64 = 71;

/// A small world that begins at [`START`], and a quota that nobody has to wait for.
const SMALL: [&str; 8] = [
    "--salespersons",
    "2",
    "--sales",
    "5",
    "--seed",
    "71",
    "--start",
    "2026-11-21T01:00:00Z",
];

/// A data directory, and the command on it.
pub(crate) struct User {
    data: TempDir,
}

impl User {
    pub(crate) fn new() -> Self {
        Self {
            data: TempDir::new().expect("a directory"),
        }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
        command
            .args(arguments)
            .current_dir(self.data.path())
            .env_remove("API_KEY")
            // "message done", by which a test knows how far a run is, stands at this level.
            .env("LOGGING_LEVEL", "DEBUG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn cascade(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.command(arguments).output().expect("it starts"))
    }

    /// `cascade run` on the data directory in the small world, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        self.cascade(&self.run_arguments(arguments))
    }

    fn run_arguments<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--data", "data"], &SMALL[..], arguments].concat()
    }

    /// Starts `cascade run` as [`User::run`] does.
    pub(crate) fn start_run(&self, arguments: &[&str]) -> Started {
        Started(self.command(&self.run_arguments(arguments)).spawn().expect("it starts"))
    }

    /// A simulated vendor of the small world, in a process of its own.
    pub(crate) fn start_vendor(&self) -> Vendor {
        let arguments = [&["vendor", "--port", "0", "--quota", "60000"], &SMALL[..]].concat();
        let mut process = Started(self.command(&arguments).spawn().expect("it starts"));
        let line = process.first_line();
        let url = line
            .strip_prefix("The vendor answers at ")
            .and_then(|line| line.split(',').next())
            .unwrap_or_else(|| panic!("a URL in {line:?}"));
        Vendor {
            url: url.to_owned(),
            _process: process,
        }
    }

    /// The lines of the log so far, the last one only if it is whole.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.data().join("log.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// Waits until the log says something.
    pub(crate) fn wait_for_log(&self, said: impl Fn(&[Value]) -> bool) {
        let began = Instant::now();
        while !said(&self.log()) {
            assert!(began.elapsed() < PATIENCE, "{:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the tables hold, once no command is running.
    pub(crate) async fn tables(&self) -> Tables {
        install_tls();
        let cloud = Cloud::start(CloudOptions {
            data: Some(self.data()),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: Clock::starting_at(START),
        })
        .await
        .expect("the directory is free");
        let places = cloud.provision("local").await.expect("tables");
        let tables = tables(&cloud, &places).await;
        cloud.shutdown().await.expect("closed");
        tables
    }
}

/// The world that [`SMALL`] asks for.
pub(crate) fn small_world() -> World {
    let mut options = WorldOptions::new(SEED, START);
    options.salespersons_per_branch = 2;
    options.sales_per_salesperson = 5;
    World::new(options).expect("a world")
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// What it printed with `--json`.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn assert_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
    }
}

/// A command that is running; it is killed when this is dropped.
pub(crate) struct Started(Child);

impl Started {
    /// Sends a signal, by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(sent.success(), "{kill}");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Finished {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut finished = Finished {
            status: status.code(),
            stdout: String::new(),
            stderr: String::new(),
        };
        let (mut stdout, mut stderr) = (
            self.0.stdout.take().expect("piped"),
            self.0.stderr.take().expect("piped"),
        );
        stdout.read_to_string(&mut finished.stdout).expect("text");
        stderr.read_to_string(&mut finished.stderr).expect("text");
        finished
    }

    /// The first line that it prints.
    fn first_line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().expect("piped");
        BufReader::with_capacity(1, stdout)
            .read_line(&mut line)
            .expect("a line");
        line
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A simulated vendor that is running.
pub(crate) struct Vendor {
    pub(crate) url: String,
    _process: Started,
}

impl Vendor {
    /// Tells it what to do wrong from now on.
    pub(crate) async fn tell(&self, faults: Value) {
        install_tls();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client
            .post(format!("{}/_vendor/faults", self.url))
            .body(faults.to_string());
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
    }
}

fn counts(run: &Value, stage: &str) -> Value {
    let counts = &run["outcome"]["stages"][stage];
    json!([
        counts["inserted"],
        counts["updated"],
        counts["unchanged"],
        counts["skipped"]
    ])
}

#[tokio::test]
async fn a_run_prints_its_counts_and_the_next_one_writes_only_what_changed() {
    let user = User::new();
    // when
    let first = user.run(&["--quota", "60000", "--json"]);
    // then
    first.assert_status(0);
    let report = first.json();
    assert_eq!(report["complete"], true);
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(1));
    let run = &report["runs"][0];
    assert_eq!(run["first"], true);
    assert_eq!(run["outcome"]["run_id"], "2026-11-21T01:00:00Z");
    assert_eq!(counts(run, "branches"), json!([13, 0, 0, 0]));
    assert_eq!(counts(run, "salespersons"), json!([26, 0, 0, 0]));
    assert_eq!(counts(run, "sales"), json!([130, 0, 0, 0]));
    assert_eq!(run["least_requests"], 52);
    assert_eq!(
        (&run["vendor"]["requests"], &run["vendor"]["answered_429"]),
        (&json!(52), &json!(0))
    );
    assert_eq!(run["database"]["write_units"], 169.0);
    let mut expected = Tables::after_first_load(&small_world());
    user.tables().await.assert_same(&expected);

    // and when the vendor stands still
    let frozen = user.run(&["--quota", "60000", "--frozen", "--json"]);
    // then
    frozen.assert_status(0);
    let run = &frozen.json()["runs"][0];
    assert_eq!(run["first"], false);
    assert_eq!(
        (&run["database"]["write_units"], &run["database"]["read_units"]),
        (&json!(0.0), &json!(0.0))
    );

    // and when it has moved on, with two runs at once
    let second = user.run(&["--quota", "60000", "--hours", "2", "--lookback", "0", "--json"]);
    // then
    second.assert_status(0);
    let report = second.json();
    let mut world = small_world();
    let mut written = 0;
    for (run, hour) in report["runs"].as_array().expect("runs").iter().zip(1..) {
        assert_eq!(run["outcome"]["run_id"], format!("2026-11-21T0{}:00:00Z", hour + 1));
        world.advance_to(START + time::Duration::hours(hour));
        assert_eq!(run["changes"]["hours"], 1);
        written += run["database"]["write_units"].as_f64().expect("a number") as u64;
    }
    assert!((1..30).contains(&written), "{written}");
    // Looking at everything in the last hour alone comes to the same: nobody has moved twice.
    expected.observe(&world, None);
    expected.mark_departed(&world);
    user.tables().await.assert_same(&expected);
}

#[test]
fn a_run_without_json_says_in_words_what_it_did() {
    let user = User::new();
    let first = user.run(&["--quota", "60000"]);
    first.assert_status(0);
    for words in [
        "Run 2026-11-21T01:00:00Z, the first load",
        "39 sent, 39 done, 0 dead-lettered, 0 left in the queues",
        "52 requests, 52 is the least possible; 0 answered 429",
        "inserted  updated  deleted  unchanged  skipped  rejected",
        "169 rows written by ",
        "Complete: every message is done.",
    ] {
        assert!(first.stdout.contains(words), "{words:?} in {}", first.stdout);
    }
    assert!(
        first.stderr.contains("Collecting from a simulated vendor"),
        "{}",
        first.stderr
    );
    let second = user.run(&["--quota", "60000", "--frozen", "--lookback", "0"]);
    second.assert_status(0);
    for words in ["0 rows written", "169 unchanged records cost no write."] {
        assert!(second.stdout.contains(words), "{words:?} in {}", second.stdout);
    }
    // and the data belongs to this world
    let other = user.cascade(&["run", "--data", "data", "--seed", "72"]);
    other.assert_status(2);
    assert!(
        other.stderr.contains("--seed 71 --salespersons 2 --sales 5, not of") && other.stderr.contains("--data"),
        "{}",
        other.stderr
    );
}

#[tokio::test]
async fn a_salesperson_who_is_not_found_ends_the_run_with_1_and_what_is_left() {
    // given a vendor in another process, which does not find one of its salespersons
    let user = User::new();
    let vendor = user.start_vendor();
    let lost = small_world().expected_salespersons().swap_remove(7).id;
    vendor
        .tell(json!({"targets": [{"path": "/sales", "id": lost, "fault": {"status": 404}}]}))
        .await;
    let arguments = ["run", "--data", "data", "--vendor", &vendor.url, "--quota", "60000"];
    // when
    let run = user.cascade(&arguments);
    // then
    run.assert_status(1);
    for words in [
        "Incomplete: not every message is done.",
        "39 sent, 38 done, 1 dead-lettered, 0 left in the queues",
        "1 messages are in sale-workload-dead-letter-queue-local; each carries its reason.",
    ] {
        assert!(run.stdout.contains(words), "{words:?} in {}", run.stdout);
    }
    let of_lost =
        |line: &Value| line["message"] == "message sent to the dead-letter queue" && line["employee_id"] == lost;
    assert!(user.log().iter().any(of_lost), "{lost} in {:#?}", user.log());
    let mut expected = Tables::after_first_load(&small_world());
    expected.sales.retain(|(_, employee), _| *employee != lost);
    // and status says the same
    let status = user.cascade(&["status", "--data", "data", "--json"]);
    status.assert_status(0);
    let status = status.json();
    let rows = |name: &str| {
        let tables = status["tables"].as_array().expect("tables");
        tables.iter().find(|table| table["name"] == name).expect("the table")["rows"].clone()
    };
    assert_eq!(
        [rows("branch-local"), rows("salesperson-local"), rows("sale-local")],
        [13, 26, 125]
    );
    let queues = status["queues"].as_array().expect("queues");
    for queue in queues {
        let letters = u64::from(queue["name"] == "sale-workload-dead-letter-queue-local");
        assert_eq!(
            queue["depth"],
            json!({"waiting": letters, "in_flight": 0, "delayed": 0}),
            "{queue}"
        );
    }
    assert_eq!(queues.len(), 7);
    assert_eq!(status["last_run"]["stages"]["sales"]["dead_lettered"], 1);
    let words = user.cascade(&["status", "--data", "data"]);
    words.assert_status(0);
    assert!(words.stdout.contains(": incomplete, 164 inserted"), "{}", words.stdout);
    user.tables().await.assert_same(&expected);
    // and when the vendor finds him again, the next run has nothing more to complain of
    vendor.tell(json!({})).await;
    user.cascade(&arguments).assert_status(0);
}

#[test]
fn wrong_options_end_with_2_and_say_what_would_be_right() {
    let user = User::new();
    let url = "http://127.0.0.1:9";
    for (arguments, right) in [
        (&["run", "--faults", "2"][..], "expected a number from 0 to 1"),
        (&["--faults", "2"], "expected a number from 0 to 1"),
        (
            &["vendor", "--port", "0", "--faults", "-1"],
            "unexpected argument '-1' found",
        ),
        (
            &["vendor", "--port", "0", "--faults=-1"],
            "expected a number from 0 to 1",
        ),
        (
            &["run", "--vendor", "x", "--quota", "60"],
            "expected the vendor's http or https URL, without a query",
        ),
        (
            &["run", "--vendor", "ftp://x/", "--quota", "60"],
            "expected the vendor's http or https URL",
        ),
        (
            &["run", "--vendor", "http://me:key@x/", "--quota", "60"],
            "the key in API_KEY",
        ),
        (&["run", "--quota", "0"], "expected a whole number from 1"),
        (&["run", "--quota", "many"], "expected a whole number from 1"),
        (&["run", "--vendor", url], "--quota <N>"),
        (
            &["run", "--vendor", url, "--quota", "60", "--sales", "5"],
            "cannot be used with",
        ),
        (
            &["run", "--vendor", url, "--quota", "60", "--frozen"],
            "cannot be used with",
        ),
        (&["run", "--hours", "0"], "expected a whole number from 1"),
        (
            &["run", "--start", "today"],
            "expected a time such as 2026-01-05T09:00:00Z",
        ),
        (&["run", "--salespersons", "9999999"], "too large: at most"),
        (&["run", "--data", ""], "a value is required"),
        (&["runn"], "unrecognized subcommand 'runn'"),
        (&["status"], "there has been no run yet"),
        (&["status", "--aws", "--data", "x"], "cannot be used with"),
    ] {
        let finished = user.cascade(arguments);
        finished.assert_status(2);
        assert!(finished.stderr.contains(right), "{arguments:?}: {}", finished.stderr);
        assert!(
            !finished.stderr.contains("panicked"),
            "{arguments:?}: {}",
            finished.stderr
        );
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused_and_disturbs_nothing() {
    // given a run that takes its time
    let user = User::new();
    let run = user.start_run(&["--quota", "600", "--json"]);
    user.wait_for_log(|log| log.iter().any(|line| line["message"] == "invocation done"));
    // when
    let second = user.run(&["--quota", "60000"]);
    // then
    second.assert_status(2);
    assert!(
        second.stderr.contains("is in use by another process"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains("--data"), "{}", second.stderr);
    // and looking in is allowed
    let status = user.cascade(&["status", "--data", "data", "--json"]);
    status.assert_status(0);
    assert_eq!(status.json()["tables"][0]["rows"], 13);
    // and the first one ends as if it had been alone
    let run = run.end();
    run.assert_status(0);
    assert_eq!(run.json()["complete"], true);
    user.tables()
        .await
        .assert_same(&Tables::after_first_load(&small_world()));
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let user = User::new();
    fs::write(user.data(), "a file").expect("written");
    let run = user.run(&[]);
    run.assert_status(2);
    let path = Path::new("data").display().to_string();
    assert!(
        run.stderr.contains(&path) && run.stderr.starts_with("error: "),
        "{}",
        run.stderr
    );
}
