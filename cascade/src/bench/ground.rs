//! What the functions run between: a cloud and a vendor of their own, and a folder for both and for what they write.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_sqs::types::QueueAttributeName;
use shared::clock::Clock;
use shared::error_chain;
use shared::lambda::install_tls;

use super::{BenchError, ENVIRONMENT};
use crate::cloud::{Cloud, CloudOptions, Provisioned};
use crate::vendor::{VendorOptions, VendorServer, WorldOptions};

/// How long nothing changes at the vendor by itself.
const STANDSTILL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A cloud and a vendor.
pub(super) struct Ground {
    pub(super) cloud: Cloud,
    pub(super) places: Provisioned,
    pub(super) vendor: VendorServer,
    pub(super) folder: Folder,
}

impl Ground {
    /// Starts both. The world stays as it is, because its clock shows a time before its first hour.
    pub(super) async fn start(
        world: WorldOptions,
        requests_per_minute: Option<usize>,
        etags: bool,
    ) -> Result<Self, BenchError> {
        install_tls();
        let folder = Folder::new()?;
        let cloud = Cloud::start(CloudOptions {
            data: Some(folder.path().join("cloud")),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: Clock::system(),
        })
        .await?;
        let places = cloud.provision(ENVIRONMENT).await?;
        let base = VendorOptions::new(world.seed, Clock::starting_at(world.start - STANDSTILL));
        let vendor = VendorServer::start(VendorOptions {
            world,
            requests_per_minute,
            etags,
            ..base
        })
        .await?;
        Ok(Self {
            cloud,
            places,
            vendor,
            folder,
        })
    }

    /// What is left in the work queues. The employee queue is looked at first: what it causes is in the sale queue by then.
    pub(super) async fn messages_left(&self) -> Result<u64, BenchError> {
        let employees = self.cloud.messages_in(&self.places.employee_queue_url).await?;
        Ok(employees + self.cloud.messages_in(&self.places.sale_queue_url).await?)
    }

    /// What is in the dead-letter queues of the work queues.
    pub(super) async fn dead_letters(&self) -> Result<u64, BenchError> {
        let employees = self
            .cloud
            .messages_in(&self.places.employee_dead_letter_queue_url)
            .await?;
        Ok(employees + self.cloud.messages_in(&self.places.sale_dead_letter_queue_url).await?)
    }

    /// Lets received messages come back after this time, if they are not deleted.
    pub(super) async fn hide_received_for(&self, time: Duration) -> Result<(), BenchError> {
        let sqs = aws_sdk_sqs::Client::new(&self.cloud.sdk_config());
        for queue in [&self.places.employee_queue_url, &self.places.sale_queue_url] {
            sqs.set_queue_attributes()
                .queue_url(queue)
                .attributes(QueueAttributeName::VisibilityTimeout, time.as_secs().to_string())
                .send()
                .await
                .map_err(|error| BenchError::Visibility {
                    queue: queue.clone(),
                    reason: error_chain(&error),
                })?;
        }
        Ok(())
    }

    /// Ends all in order, and answers what was measured. Where that is an error, the folder is left for whoever wants to
    /// know why.
    pub(super) async fn shutdown<T>(mut self, measured: Result<T, BenchError>) -> Result<T, BenchError> {
        self.folder.is_kept = measured.is_err();
        self.vendor.shutdown().await;
        let ended = self.cloud.shutdown().await;
        let measured = measured?;
        ended?;
        Ok(measured)
    }
}

/// A folder under the system's temporary one.
pub(super) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn new() -> Result<Self, BenchError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("cascade-bench-{}-{}", std::process::id(), now.as_nanos());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("logs")).map_err(BenchError::io(format!("make {}", path.display())))?;
        Ok(Self { path, is_kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the functions write to.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(folder = %self.path.display(), reason = %error, "a folder is left behind");
        }
    }
}
