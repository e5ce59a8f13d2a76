//! A file that is there in full, or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file that an answer is written to. It takes its name once it is complete; until then, what had that name stays.
pub struct OutputFile(Kind);

enum Kind {
    /// A file beside the one that it is going to be.
    Beside {
        file: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    /// A pipe or a device, which cannot be replaced.
    Straight(BufWriter<File>),
}

impl OutputFile {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let there = path.metadata().ok();
        if there.is_some_and(|there| !there.is_file()) {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Self(Kind::Straight(BufWriter::new(file))));
        }
        // Of a link, the file that it leads to.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = Builder::new()
            .prefix(".cascade-sql-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)?;
        Ok(Self(Kind::Beside {
            file: BufWriter::new(file),
            path,
        }))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// If it cannot be written in full, or cannot have the name.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Kind::Beside { file, path } => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(path).map_err(|refused| refused.error)?;
                Ok(())
            }
            Kind::Straight(mut file) => file.flush(),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Beside { file, .. } => file.write(bytes),
            Kind::Straight(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Beside { file, .. } => file.flush(),
            Kind::Straight(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_its_name_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.csv");
        std::fs::write(&path, "before").unwrap();
        let files = || folder.path().read_dir().unwrap().count();
        // when it is given up on the way
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        // then nothing has changed
        assert_eq!(
            (std::fs::read_to_string(&path).unwrap().as_str(), files()),
            ("before", 1)
        );
        // when it is finished
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
        file.finish().unwrap();
        assert_eq!(
            (std::fs::read_to_string(&path).unwrap().as_str(), files()),
            ("whole", 1)
        );
    }

    #[test]
    fn a_link_stays_and_a_device_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("answer.csv"), folder.path().join("link.csv"));
        std::fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = OutputFile::create(&link).unwrap();
        file.write_all(b"after").unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert!(matches!(
            OutputFile::create(Path::new("/dev/null")).unwrap().0,
            Kind::Straight(_)
        ));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(OutputFile::create(&folder.path().join("no/answer.csv")).is_err());
    }
}
