//! The lake as a Lambda function: what it is told, and what it measures.

use async_trait::async_trait;
use shared::clock::Clock;
use shared::collector::Call;
use shared::config::Variables;
use shared::error_chain;
use shared::lambda::{Answered, Handler};
use shared::telemetry;
use tracing::level_filters::LevelFilter;
use url::Url;

use crate::handler::{LakeFunction, Tables};
use crate::log::Log;

/// Its name, which the environment's name is added to.
pub const NAME: &str = "lake";

/// What the function is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `APP_ENV`, the environment's name.
    pub environment: String,
    /// `LAKE_URL`, where the lake is.
    pub lake: Url,
    /// `BRANCH_DB`, `SALESPERSON_DB`, `SALE_DB` and `STATE_DB`: the tables whose streams it is given.
    pub tables: Tables,
    /// `STATE_DB`, which knows the runs, and remembers attributes.
    pub state_table: Option<String>,
}

impl Settings {
    /// Reads the level of the log lines, and the settings; `None` if any of them is missing or unusable.
    pub fn read(variables: &mut Variables<'_>) -> Option<(LevelFilter, Self)> {
        let level = variables.level();
        let environment = variables.environment();
        let expected = "the lake's URL (s3://bucket/prefix or file:///…)";
        let lake = match variables.required("LAKE_URL", expected) {
            Some(url) => variables.usable("LAKE_URL", expected, lake_url(&url)),
            None => None,
        };
        let named = [
            ("BRANCH_DB", Log::Branches, "the name of the branches' table"),
            (
                "SALESPERSON_DB",
                Log::Salespersons,
                "the name of the salespersons' table",
            ),
            ("SALE_DB", Log::Sales, "the name of the sales' table"),
        ]
        .map(|(name, log, expected)| variables.required(name, expected).map(|table| (table, log)));
        let state_table = variables.optional("STATE_DB");
        let state = state_table.clone().map(|table| (table, Log::Runs));
        let tables: Tables = named.iter().flatten().cloned().chain(state.clone()).collect();
        let tables = (tables.len() == named.iter().flatten().count() + usize::from(state.is_some())).then_some(tables);
        let tables = variables.usable(
            "BRANCH_DB, SALESPERSON_DB, SALE_DB or STATE_DB",
            "a table of its own",
            tables,
        );
        if named.iter().any(Option::is_none) {
            return None;
        }
        Some((
            level?,
            Self {
                environment: environment?,
                lake: lake?,
                tables: tables?,
                state_table,
            },
        ))
    }
}

fn lake_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let is_place = match url.scheme() {
        "s3" => url.host_str().is_some_and(|bucket| !bucket.is_empty()),
        "file" => url.to_file_path().is_ok(),
        _ => false,
    };
    (is_plain && is_place).then_some(url)
}

/// The function as Lambda calls it.
pub struct Measured {
    /// The function.
    pub function: LakeFunction,
    /// Its name.
    pub name: String,
    /// The environment's name.
    pub environment: String,
    /// The machine's clock.
    pub clock: Clock,
}

#[async_trait]
impl Handler for Measured {
    async fn handle(&self, event: &str, call: Call) -> Answered {
        let request_id = call.request_id.clone();
        let handled = self.function.handle(event, call).await;
        let metrics = handled
            .counts
            .metrics()
            .map(|(name, unit, count)| (name, unit, count.into()));
        Answered {
            answer: handled.answer.map_err(|failure| error_chain(&failure)),
            metrics: telemetry::metrics_line(&self.name, &self.environment, &request_id, &metrics, self.clock.now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 6] = [
        ("APP_ENV", "dev"),
        ("LAKE_URL", "s3://cascade-lake-dev-1"),
        ("BRANCH_DB", "branch-dev"),
        ("SALESPERSON_DB", "salesperson-dev"),
        ("SALE_DB", "sale-dev"),
        ("STATE_DB", "sync-dev"),
    ];

    fn read(changed: &[(&str, &str)]) -> Result<Settings, String> {
        let get = |name: &str| {
            let all = ALL.iter().chain(changed).rev();
            all.into_iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let mut variables = Variables::new(&get);
        let settings = Settings::read(&mut variables);
        variables
            .finish(settings)
            .map(|(_, settings)| settings)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_table_has_its_log() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.tables["salesperson-dev"], Log::Salespersons);
        assert_eq!(settings.tables["sync-dev"], Log::Runs);
        assert_eq!(settings.tables.len(), 4);
        assert_eq!(read(&[("STATE_DB", "")]).unwrap().tables.len(), 3);
    }

    #[test]
    fn one_error_names_everything_that_is_missing_or_unusable() {
        let error = read(&[
            ("APP_ENV", ""),
            ("LAKE_URL", "https://x"),
            ("SALE_DB", ""),
            ("LOGGING_LEVEL", "loud"),
        ])
        .unwrap_err();
        for part in [
            "LOGGING_LEVEL is not usable",
            "APP_ENV is missing",
            "LAKE_URL is not usable, expected the lake's URL (s3://bucket/prefix or file:///…)",
            "SALE_DB is missing, expected the name of the sales' table",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
        for url in [
            "s3://",
            "file://host/x",
            "s3://bucket?x",
            "s3://key:secret@bucket",
            "bucket",
        ] {
            assert!(
                read(&[("LAKE_URL", url)])
                    .unwrap_err()
                    .contains("LAKE_URL is not usable"),
                "{url}"
            );
        }
    }

    #[test]
    fn two_tables_of_one_name_cannot_be_told_apart() {
        let error = read(&[("SALE_DB", "branch-dev")]).unwrap_err();
        assert!(error.contains("expected a table of its own"), "{error}");
    }
}
