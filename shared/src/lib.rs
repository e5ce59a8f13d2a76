//! What more than one collector needs.

pub mod clock;
