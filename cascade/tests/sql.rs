//! `cascade sql` hands its arguments over to the program beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with the command in it, and nothing else.
fn folder() -> (tempfile::TempDir, PathBuf) {
    // Where the command is, so that it need not be copied.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let command = folder.path().join("cascade");
    fs::hard_link(env!("CARGO_BIN_EXE_cascade"), &command).unwrap();
    (folder, command)
}

fn make_program(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn arguments_and_status_are_those_of_the_program() {
    let (folder, command) = folder();
    make_program(
        &folder.path().join("cascade-sql"),
        "#!/bin/sh\nfor argument; do echo \"<$argument>\"; done\nexit 7\n",
    );
    let arguments = [
        "--data",
        "some where",
        "--help",
        "-f",
        "x.sql",
        "SELECT 'a', \"b\" -- c",
        "--",
        "-h",
    ];
    let output = Command::new(command).arg("sql").args(arguments).output().unwrap();
    let given: String = arguments.iter().map(|argument| format!("<{argument}>\n")).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), given);
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn where_the_program_is_missing_the_error_says_how_to_build_it() {
    let (_folder, command) = folder();
    let output = Command::new(command).args(["sql", "SELECT 1"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.starts_with("error: could not find cascade-sql beside this program: `cargo build"),
        "{error}"
    );
}
