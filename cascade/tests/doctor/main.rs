//! `cascade doctor` as its user has it: lines, status and what it asks for.

mod aws;
mod embedded;

use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A directory, and the command in it.
struct User {
    directory: TempDir,
}

/// What the command left behind.
struct Finished {
    status: Option<i32>,
    output: String,
    errors: String,
}

impl User {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    /// Runs the command with these variables and nothing of AWS's from this process.
    fn cascade(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let nowhere = self.directory.path().join("no-such-file");
        let output = Command::new(env!("CARGO_BIN_EXE_cascade"))
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", &nowhere)
            .env("AWS_SHARED_CREDENTIALS_FILE", &nowhere)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Finished {
            status: output.status.code(),
            output: text(output.stdout),
            errors: text(output.stderr),
        }
    }
}

impl Finished {
    #[track_caller]
    fn assert_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{}{}", self.output, self.errors);
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|error| panic!("{error}: {}{}", self.output, self.errors))
    }

    /// The findings of a JSON answer that have a status, as `subject: what it says`.
    #[track_caller]
    fn findings(&self, status: &str) -> Vec<String> {
        let json = self.json();
        let sections = json["sections"].as_array().unwrap().iter();
        let findings = sections.flat_map(|section| section["findings"].as_array().unwrap());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        findings
            .filter(|finding| finding["status"] == status)
            .map(|finding| format!("{}: {}", text(&finding["subject"]), text(&finding["says"])))
            .collect()
    }
}
