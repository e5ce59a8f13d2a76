//! Where the questions of earlier sessions are kept.

use std::ffi::OsString;
use std::path::PathBuf;

/// The file of earlier questions, in the directory that a user's programs keep their state in; none if that is unknown.
///
/// Source: "XDG Base Directory Specification", freedesktop.org.
pub(super) fn path(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")))?;
    Some(state.join("cascade/sql_history"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_with(set: &[(&str, &str)]) -> Option<String> {
        let find = |name: &str| {
            set.iter()
                .find(|(set, _)| *set == name)
                .map(|(_, value)| OsString::from(value))
        };
        path(find).map(|path| path.display().to_string())
    }

    #[test]
    fn it_lies_where_the_users_programs_keep_their_state() {
        assert_eq!(
            path_with(&[("HOME", "/home/pam")]).as_deref(),
            Some("/home/pam/.local/state/cascade/sql_history")
        );
        assert_eq!(
            path_with(&[("HOME", "/home/pam"), ("XDG_STATE_HOME", "/state")]).as_deref(),
            Some("/state/cascade/sql_history")
        );
        // A relative path is to be ignored.
        assert_eq!(
            path_with(&[("HOME", "/home/pam"), ("XDG_STATE_HOME", "state")]).as_deref(),
            Some("/home/pam/.local/state/cascade/sql_history")
        );
        assert_eq!(path_with(&[]), None);
    }
}
