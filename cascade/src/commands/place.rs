//! Where a command looks: an AWS account, or the embedded cloud under a data directory.

use std::path::PathBuf;

use aws_config::{BehaviorVersion, SdkConfig};
use clap::Args;
use shared::clock::Clock;
use shared::lambda::{install_tls, sdk_config};

use super::CommandError;
use super::session::{ENVIRONMENT, LOOPBACK};
use crate::cloud::{Cloud, CloudError, CloudOptions, sdk_config_for};
use crate::state::{Source, State};
pub(super) use crate::status::Where;

/// How long an environment's name may be: the names of its resources have to fit their services' limits.
const LONGEST_ENVIRONMENT: usize = 30;

/// The options that say where to look.
#[derive(Clone, Debug, Args)]
pub(super) struct PlaceArgs {
    /// Directory that tables and queues are kept in
    #[arg(long, value_name = "DIR", default_value = ".cascade")]
    pub(super) data: PathBuf,
    /// Look at whatever the standard AWS environment (AWS_ACCESS_KEY_ID or AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL)
    /// points to; after `aws sso login`, `aws configure export-credentials --format env` makes the credentials
    #[arg(long, conflicts_with = "data")]
    pub(super) aws: bool,
    /// The environment's name, which the names of tables and queues end in; with --aws it has to be given
    #[arg(long, value_name = "NAME", required_if_eq("aws", "true"), value_parser = parse_environment)]
    environment: Option<String>,
}

impl PlaceArgs {
    /// A data directory, or with `aws` an environment there.
    pub(super) fn new(data: PathBuf, aws: bool, environment: Option<String>) -> Self {
        Self { data, aws, environment }
    }

    /// What is here, under `data`.
    pub(super) fn here(data: PathBuf) -> Self {
        Self::new(data, false, None)
    }

    /// The environment's name: the one that was given, or the one that everything has here.
    pub(super) fn environment(&self) -> &str {
        self.environment.as_deref().unwrap_or(ENVIRONMENT)
    }

    /// Whatever the standard AWS environment points to.
    pub(super) async fn aws_config() -> SdkConfig {
        install_tls();
        sdk_config(aws_config::defaults(BehaviorVersion::latest())).await
    }
}

/// An environment's name, as the parameter `Environment` of the templates allows it.
pub(super) fn parse_environment(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= LONGEST_ENVIRONMENT
        && text.bytes().all(is_plain);
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected small letters, digits and hyphens, at most {LONGEST_ENVIRONMENT}, the first a letter"
        ))
    }
}

/// A place that can be looked at. [`Place::close`] ends what was started for it.
pub(super) struct Place {
    pub(super) config: SdkConfig,
    pub(super) site: Where,
    /// What is remembered of the data directory; `None` on AWS.
    pub(super) state: Option<State>,
    /// The embedded cloud and its clock, if this process has them.
    own: Option<(Cloud, Clock)>,
}

impl Place {
    /// Finds the place: of a data directory, the running cloud, if another process has it, or else one started for it.
    ///
    /// # Errors
    /// If there is nothing there, or it cannot be reached.
    pub(super) async fn open(args: &PlaceArgs) -> Result<Self, CommandError> {
        install_tls();
        if args.aws {
            return Ok(Self {
                config: PlaceArgs::aws_config().await,
                site: Where::Aws,
                state: None,
                own: None,
            });
        }
        let Some(state) = State::load(&args.data)? else {
            return Err(CommandError::Service {
                action: format!("find anything in {}", args.data.display()),
                reason: "there has been no run yet; `cargo run` makes one, and --data chooses another directory"
                    .to_owned(),
            });
        };
        let clock = match &state.source {
            Source::Simulated(simulation) => simulation.clock(true),
            Source::Url(_) => Clock::system(),
        };
        let options = CloudOptions {
            data: Some(args.data.clone()),
            address: LOOPBACK,
            port: 0,
            clock: clock.clone(),
        };
        let (config, own) = match Cloud::start(options).await {
            Ok(cloud) => (cloud.sdk_config(), Some((cloud, clock))),
            Err(CloudError::InUse { path }) => match &state.endpoint {
                Some(endpoint) => (sdk_config_for(endpoint), None),
                None => return Err(CloudError::InUse { path }.into()),
            },
            Err(failure) => return Err(failure.into()),
        };
        Ok(Self {
            config,
            site: Where::Here,
            state: Some(state),
            own,
        })
    }

    /// Whether this process has the embedded cloud, and may use its data as it likes.
    pub(super) fn is_own(&self) -> bool {
        self.own_cloud().is_some()
    }

    /// The embedded cloud, if this process has it.
    pub(super) fn own_cloud(&self) -> Option<&Cloud> {
        self.own.as_ref().map(|(cloud, _)| cloud)
    }

    /// Remembers how late it is, where messages were touched: the next clock on this data must not be behind this one.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub(super) fn keep_time(&mut self) -> Result<(), CommandError> {
        if let (Some((_, clock)), Some(state)) = (&self.own, &mut self.state) {
            state.reach(clock.now())?;
        }
        Ok(())
    }

    /// Tells other commands where the embedded cloud is that this process has: for one that keeps it for long.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub(super) fn offer(&mut self) -> Result<(), CommandError> {
        if let (Some((cloud, _)), Some(state)) = (&self.own, &mut self.state) {
            state.endpoint = Some(cloud.endpoint());
            state.save()?;
        }
        Ok(())
    }

    /// Ends the cloud that was started to look at it.
    ///
    /// # Errors
    /// If its files could not be written in full.
    pub(super) async fn close(self) -> Result<(), CommandError> {
        match self.own {
            Some((cloud, _)) => Ok(cloud.shutdown().await?),
            None => Ok(()),
        }
    }

    /// Ends it as [`Place::close`] does, after it was offered to others.
    ///
    /// # Errors
    /// If its files or the state could not be written in full.
    pub(super) async fn withdraw(mut self) -> Result<(), CommandError> {
        if let (Some(_), Some(state)) = (&self.own, &mut self.state) {
            state.endpoint = None;
            state.save()?;
        }
        self.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_named_as_the_templates_allow() {
        let longest = "a".repeat(LONGEST_ENVIRONMENT);
        for name in ["dev", "prod", "smoke-17", "a", longest.as_str()] {
            assert_eq!(parse_environment(name).as_deref(), Ok(name));
        }
        let too_long = "a".repeat(LONGEST_ENVIRONMENT + 1);
        for name in ["", "Prod", "1st", "-dev", "a b", "a;b", "a_b", "dév", too_long.as_str()] {
            assert!(
                parse_environment(name).is_err_and(|error| error.contains("expected small letters")),
                "{name}"
            );
        }
    }

    #[test]
    fn the_pattern_is_that_of_the_template() {
        let pattern = format!("AllowedPattern: '[a-z][a-z0-9-]{{0,{}}}'", LONGEST_ENVIRONMENT - 1);
        let template = include_str!("../../../template.yml");
        assert!(template.contains(&pattern), "{pattern}");
    }
}
