//! The vendor's quota: every request pays, whatever it is for and however it ends.

pub mod calendar;
