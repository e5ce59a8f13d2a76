//! DynamoDB: dynoxide on a thread and runtime of its own, and the way to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, Uri, header, uri};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

use super::CloudError;

/// SQLite blocks the thread that calls it; with two, one request is parsed while another is stored.
const WORKERS: usize = 2;
/// How long requests that are still running at the end are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The database, reached over a loopback port that only this process knows.
pub(super) struct DynamoDb {
    client: Client<HttpConnector, Body>,
    address: SocketAddr,
}

/// The thread that the database lives on.
pub(super) struct Host {
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

/// Opens the tables in `file`, or in memory, and serves them until `stop`.
pub(super) async fn start(file: Option<&Path>, stop: CancellationToken) -> Result<(DynamoDb, Host), CloudError> {
    let file = match file {
        Some(path) => Some(
            path.to_str()
                .ok_or_else(|| CloudError::tables("the path is not UTF-8"))?,
        ),
        None => None,
    }
    .map(str::to_owned);
    let token = stop.clone();
    let (ready, started) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("dynamodb".into())
        .spawn(move || host(file.as_deref(), &ready, token))
        .map_err(CloudError::tables)?;
    let address = tokio::task::spawn_blocking(move || started.recv())
        .await
        .map_err(CloudError::tables)?
        .map_err(CloudError::tables)??;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    Ok((DynamoDb { client, address }, Host { stop, thread }))
}

/// Spares each write a walk over all stream records: dynoxide asks for the highest sequence number of a table before it
/// adds one, and has no index to answer from.
fn index_streams(file: &str) -> rusqlite::Result<()> {
    rusqlite::Connection::open(file)?.execute_batch(
        "CREATE INDEX IF NOT EXISTS cascade_stream_sequence
         ON _stream_records (table_name, CAST(sequence_number AS INTEGER))",
    )
}

/// How long DynamoDB keeps a stream's record, in seconds.
///
/// Source: "Change data capture for DynamoDB Streams", Amazon DynamoDB Developer Guide.
const STREAM_RETENTION: i64 = 24 * 60 * 60;

/// What dynoxide adds to the numbers that it keeps before it shows them.
const SEQUENCE_OFFSET: u128 = 100_000_000_000_000_000_000;

/// Removes the records of a table's stream that are older than DynamoDB keeps them and come before the number `before`.
/// dynoxide itself keeps all for ever.
pub(super) fn forget_stream_records(file: &Path, table: &str, before: &str) -> rusqlite::Result<usize> {
    let before = before
        .parse::<u128>()
        .ok()
        .and_then(|before| before.checked_sub(SEQUENCE_OFFSET));
    let Some(before) = before.and_then(|before| i64::try_from(before).ok()) else {
        return Ok(0);
    };
    rusqlite::Connection::open(file)?.execute(
        "DELETE FROM _stream_records WHERE table_name = ?1 AND CAST(sequence_number AS INTEGER) < ?2
         AND created_at < CAST(strftime('%s', 'now') AS INTEGER) - ?3",
        (table, before, STREAM_RETENTION),
    )
}

/// The body of the database's thread. Says on `ready` where it listens, or why it does not.
fn host(file: Option<&str>, ready: &mpsc::Sender<Result<SocketAddr, CloudError>>, stop: CancellationToken) {
    let open = || {
        let database = match file {
            Some(file) => Database::new(file),
            None => Database::memory(),
        };
        // What it calls the end of a bulk load sets `synchronous=NORMAL`, as our own file has it: without, each write
        // waits for the disk, which only a power cut would give a reason for.
        let database = database.and_then(|database| database.disable_bulk_loading().map(|()| database));
        let database = database.map_err(CloudError::tables)?;
        if let Some(file) = file {
            index_streams(file).map_err(CloudError::tables)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("dynamodb")
            .enable_all()
            .build();
        Ok((database, runtime.map_err(CloudError::tables)?))
    };
    let (database, runtime) = match open() {
        Ok(opened) => opened,
        Err(error) => {
            // Nobody listens any more if the start was given up: there is nothing to serve then either.
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let listen = || {
            let socket = TcpSocket::new_v4()?;
            // Accepted connections inherit it; without it a long answer's last packet waits for an acknowledgement.
            socket.set_nodelay(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let listener = socket.listen(1024)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let listener = match listen() {
            Ok((listener, address)) => {
                let _ = ready.send(Ok(address));
                listener
            }
            Err(error) => {
                let _ = ready.send(Err(CloudError::tables::<std::io::Error>(error)));
                return;
            }
        };
        let ended = stop.clone();
        let serve = dynoxide::server::serve_with_shutdown(listener, database, stop.cancelled_owned());
        tokio::pin!(serve);
        let result = tokio::select! {
            result = &mut serve => result,
            () = async { ended.cancelled().await; tokio::time::sleep(PATIENCE).await } => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!(error, "the embedded DynamoDB ended");
        }
    });
    // The connections' tasks hold the database too; it is closed once they are gone.
    runtime.shutdown_timeout(PATIENCE);
}

impl Host {
    /// Ends the database and waits until its file is closed.
    pub(super) async fn shutdown(self) {
        self.stop.cancel();
        // A panic over there has been reported by the thread itself; there is nothing to close any more.
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}

impl DynamoDb {
    /// Hands a request on as it is and its answer back, both as streams.
    pub(super) async fn forward(&self, mut request: Request) -> Response {
        let path = request
            .uri()
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| uri::PathAndQuery::from_static("/"));
        let target = Uri::builder()
            .scheme("http")
            .authority(self.address.to_string())
            .path_and_query(path);
        let Ok(target) = target.build() else {
            return StatusCode::BAD_REQUEST.into_response();
        };
        *request.uri_mut() = target;
        // Whether the client keeps its connection says nothing about ours.
        request.headers_mut().remove(header::CONNECTION);
        match self.client.request(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the embedded DynamoDB did not answer"
                );
                let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"The embedded DynamoDB did not answer."}"#;
                let content_type = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
                (StatusCode::INTERNAL_SERVER_ERROR, content_type, body).into_response()
            }
        }
    }
}
