//! What holds of anything that comes from outside: answers, messages, events and headers, whatever is in them. Each
//! property is a function that panics where it does not hold.
//!
//! The fuzz targets (`fuzz/`) call them with what a fuzzer makes up, and an ordinary test with what lies in
//! `fuzz/corpus/`.

mod answers;
mod events;
mod headers;
mod messages;

pub use answers::{branches, employees, sales};
pub use events::events;
pub use headers::{link, rate_limit, retry_after};
pub use messages::messages;

/// What holds of some bytes from outside: panics where it does not.
pub type Property = fn(&[u8]);

/// All of them, by the names of their fuzz targets.
pub const ALL: [(&str, Property); 8] = [
    ("branches", branches),
    ("employees", employees),
    ("events", events),
    ("link", link),
    ("messages", messages),
    ("rate_limit", rate_limit),
    ("retry_after", retry_after),
    ("sales", sales),
];

/// serde_json's own reading of a text, to compare ours with. It refuses some that we read: numbers that no float can
/// hold, halves of surrogate pairs, and what nests deeply.
fn tree(json: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(name)
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn every_property_has_a_fuzz_target_and_a_corpus() {
        let names = |name| -> BTreeSet<_> {
            let files = files(&folder(name));
            files
                .iter()
                .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
                .collect()
        };
        let all: BTreeSet<_> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("fuzz_targets"), all);
        assert_eq!(names("corpus"), all);
    }

    #[test]
    fn every_property_holds_of_its_corpus() {
        for (name, property) in ALL {
            let inputs = files(&folder("corpus").join(name));
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                // Told only if the property panics.
                println!("{}", input.display());
                property(&fs::read(&input).unwrap());
            }
        }
    }
}
