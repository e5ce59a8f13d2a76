//! The lake: what the tables' streams say, kept as Parquet files that answer SQL.
