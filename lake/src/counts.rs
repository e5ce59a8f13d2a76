//! What one invocation did.

use serde::Serialize;

/// Counts, as they stand in the answer, the summary line and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records of streams that were delivered.
    pub records: u64,
    /// Those of them that are about nothing that the lake keeps.
    pub ignored: u64,
    /// Those of them that are not understood, and are handed back for the queue of what failed.
    pub refused: u64,
    /// Those of them that are handed back to come again.
    pub failed: u64,
    /// Rows written.
    pub rows: u64,
    /// Files written.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Values that do not fit their column exactly, and are kept as JSON.
    pub unfit_values: u64,
    /// Attributes that were not there before, or not of that type or form.
    pub new_attributes: u64,
    /// Files whose rows were put together with others'.
    pub compacted_files: u64,
    /// Files that had been replaced, and are deleted now.
    pub deleted_files: u64,
    /// How often the state table could not be reached.
    pub state_failures: u64,
}

impl Counts {
    /// The counts under the names of their metrics, with their units.
    pub fn metrics(&self) -> [(&'static str, &'static str, u64); 12] {
        [
            ("LakeRecords", "Count", self.records),
            ("LakeRecordsIgnored", "Count", self.ignored),
            ("LakeRecordsRefused", "Count", self.refused),
            ("LakeRecordsFailed", "Count", self.failed),
            ("LakeRows", "Count", self.rows),
            ("LakeFiles", "Count", self.files),
            ("LakeBytes", "Bytes", self.bytes),
            ("LakeUnfitValues", "Count", self.unfit_values),
            ("LakeNewAttributes", "Count", self.new_attributes),
            ("LakeCompactedFiles", "Count", self.compacted_files),
            ("LakeDeletedFiles", "Count", self.deleted_files),
            ("StateFailures", "Count", self.state_failures),
        ]
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.ignored += other.ignored;
        self.refused += other.refused;
        self.failed += other.failed;
        self.rows += other.rows;
        self.files += other.files;
        self.bytes += other.bytes;
        self.unfit_values += other.unfit_values;
        self.new_attributes += other.new_attributes;
        self.compacted_files += other.compacted_files;
        self.deleted_files += other.deleted_files;
        self.state_failures += other.state_failures;
    }
}
