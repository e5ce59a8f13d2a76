//! What the views' texts promise: raw tables only, explicit columns that there are, nothing that one engine alone knows.

use std::collections::BTreeSet;

use lake::layout::PARTITION;
use lake::log::Log;
use lake::views::VIEWS;

fn words(text: &str) -> Vec<&str> {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Without the comments before it.
fn select(text: &str) -> &str {
    text.split_once("SELECT")
        .map(|(comments, _)| &text[comments.len()..])
        .unwrap()
}

#[test]
fn each_view_is_one_select_of_raw_tables() {
    let tables: BTreeSet<_> = Log::ALL.map(Log::table).into();
    for view in VIEWS {
        let text = select(view.select);
        assert!(
            text.starts_with("SELECT") && !text.contains(';') && !text.contains('*'),
            "{}",
            view.name
        );
        let words = words(text);
        let named = words
            .windows(2)
            .filter(|pair| matches!(pair[0], "FROM" | "JOIN"))
            .map(|pair| pair[1]);
        let named: BTreeSet<_> = named.filter(|word| *word != "SELECT").collect();
        assert!(
            !named.is_empty() && named.is_subset(&tables),
            "{}: {named:?}",
            view.name
        );
    }
}

#[test]
fn the_views_of_an_entity_have_all_its_columns() {
    for log in [Log::Branches, Log::Salespersons, Log::Sales] {
        let columns: Vec<_> = log.columns().iter().map(|column| column.name).collect();
        for (name, without, with) in [
            (
                log.name().to_owned(),
                ["operation", "deleted_at", "sequence"].as_slice(),
                None,
            ),
            (format!("{}_changes", log.name()), [].as_slice(), Some(PARTITION)),
        ] {
            let view = VIEWS.into_iter().find(|view| view.name == name).unwrap();
            let listed = select(view.select).split("FROM").next().unwrap();
            let listed: Vec<_> = words(listed).into_iter().skip(1).collect();
            let expected = columns
                .iter()
                .copied()
                .filter(|column| !without.contains(column))
                .chain(with);
            assert_eq!(listed, expected.collect::<Vec<_>>(), "{name}");
        }
    }
}

#[test]
fn of_a_change_that_is_there_twice_a_view_takes_the_one_that_says_its_run() {
    for log in [Log::Branches, Log::Salespersons, Log::Sales] {
        for name in [log.name().to_owned(), format!("{}_changes", log.name())] {
            let view = VIEWS.into_iter().find(|view| view.name == name).unwrap();
            assert!(view.select.contains(", run_id NULLS LAST) AS "), "{name}");
        }
    }
}

#[test]
fn a_log_of_runs_has_every_column_that_its_views_name() {
    let columns: BTreeSet<_> = Log::Runs.columns().iter().map(|column| column.name).collect();
    for name in ["runs", "runs_by_branch"] {
        let view = VIEWS.into_iter().find(|view| view.name == name).unwrap();
        let inner = select(view.select)
            .split("FROM (")
            .nth(1)
            .unwrap()
            .split("row_number")
            .next()
            .unwrap();
        for column in words(inner).into_iter().skip(1) {
            assert!(columns.contains(column), "{name}: {column}");
        }
    }
}

#[test]
fn views_are_named_as_the_files_that_they_are_in() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("views");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, VIEWS.map(|view| format!("{}.sql", view.name)).into());
}
