//! `cascade bench` where it has nothing to measure. What it measures with the functions' binaries is looked at by
//! `.ci/bench`: they belong to other packages, and `cargo test` may find none, or old ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[test]
fn without_the_functions_beside_it_the_command_says_what_to_type() {
    // given: the command alone in a folder
    let folder = TempDir::new().expect("a folder");
    let alone = folder.path().join("cascade");
    let command = Path::new(env!("CARGO_BIN_EXE_cascade"));
    fs::hard_link(command, &alone)
        .or_else(|_| fs::copy(command, &alone).map(drop))
        .expect("a copy");
    for bench in ["quota", "pipeline"] {
        // when
        let output = Command::new(&alone).args(["bench", bench]).output().expect("it starts");
        // then
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("branches is missing: "), "{said}");
        assert!(said.contains("type: cargo build"), "{said}");
    }
}

#[test]
fn a_run_of_fewer_requests_than_any_takes_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
    let output = command
        .args(["bench", "quota", "--requests", "25"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("expected a whole number from 26"), "{said}");
}
