//! Questions to the lake, in SQL.
