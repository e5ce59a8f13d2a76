//! The embedded cloud.
