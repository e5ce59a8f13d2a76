//! Where a lake is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where a lake is: in a directory, or in a bucket of S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory on this machine.
    Directory(PathBuf),
    /// A bucket, and the lake in it.
    Bucket {
        /// The bucket's name.
        bucket: String,
        /// What the keys of all files begin with; empty, or without a slash at either end.
        prefix: String,
    },
}

/// A text that names no place for a lake.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("expected a directory or s3://BUCKET[/PREFIX]")]
pub struct LocationError;

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(LocationError),
                directory => Ok(Self::Directory(directory.into())),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if scheme == "s3" && !bucket.is_empty() && bucket.bytes().all(is_plain) {
            Ok(Self::Bucket {
                bucket: bucket.to_owned(),
                prefix: prefix.trim_matches('/').to_owned(),
            })
        } else {
            Err(LocationError)
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_or_a_bucket_can_be_named() {
        let bucket = |bucket: &str, prefix: &str| {
            Ok(Location::Bucket {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        };
        assert_eq!("s3://cascade-lake-prod-1".parse(), bucket("cascade-lake-prod-1", ""));
        assert_eq!("s3://b/".parse(), bucket("b", ""));
        assert_eq!("s3://b/some/where/".parse(), bucket("b", "some/where"));
        assert_eq!("a/b".parse(), Ok(Location::Directory("a/b".into())));
        assert_eq!("s3://b/x".parse::<Location>().unwrap().to_string(), "s3://b/x");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://Bucket",
            "s3://a b",
            "s3://key:secret@b",
            "gs://b",
            "https://b.s3.amazonaws.com",
        ] {
            assert_eq!(text.parse::<Location>(), Err(LocationError), "{text}");
        }
    }
}
