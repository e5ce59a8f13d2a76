//! A vendor that answers what a script says, to the byte: also what no HTTP library would send.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its place among all requests, from 0.
    pub(crate) place: usize,
    /// The connection it came by, from 0.
    pub(crate) connection: usize,
    /// Path and query, as sent.
    pub(crate) target: String,
    /// All of the head: request line and headers.
    pub(crate) head: String,
}

impl Asked {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// What is done with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, and the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, and the connection is closed.
    Cut(Vec<u8>),
    /// These bytes, and then nothing more.
    Hang(Vec<u8>),
}

impl Reply {
    /// A complete answer. `headers` are whole lines, each with its end.
    pub(crate) fn with(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// A complete answer with status 200.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::with("200 OK", "", body)
    }

    /// A complete answer with status 200 and a next page.
    pub(crate) fn page(body: &str, next: &str) -> Self {
        Self::with("200 OK", &format!("Link: <{next}>; rel=\"next\"\r\n"), body)
    }

    /// A redirect.
    pub(crate) fn redirect(status: &str, location: &str) -> Self {
        Self::with(status, &format!("Location: {location}\r\n"), "")
    }
}

/// The vendor: a server on a port of its own, until it is dropped.
pub(crate) struct ScriptedVendor {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: JoinHandle<()>,
}

impl ScriptedVendor {
    /// A vendor that answers each request as `script` says.
    pub(crate) async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), asked.clone());
        let server = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, connection, script.clone(), log.clone()));
            }
        });
        Self { port, asked, server }
    }

    /// A vendor that gives these answers one after the other, and 404 once there are no more.
    pub(crate) async fn saying(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<_> = replies.into_iter().collect();
        let unscripted = Reply::with("404 Not Found", "", "the script has ended");
        Self::start(move |asked| replies.get(asked.place).unwrap_or(&unscripted).clone()).await
    }

    /// Its URL, with a path.
    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The paths and queries it was asked for so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.target).collect()
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, bytes) = match self {
            Self::Bytes(bytes) => ("Bytes", bytes),
            Self::Cut(bytes) => ("Cut", bytes),
            Self::Hang(bytes) => ("Hang", bytes),
        };
        write!(f, "{kind}({:?})", String::from_utf8_lossy(bytes))
    }
}

impl Drop for ScriptedVendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: Arc<impl Fn(&Asked) -> Reply>,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    while let Some(head) = read_head(&mut stream).await {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let asked = {
            let mut log = log.lock().unwrap();
            let place = log.len();
            log.push(Asked {
                place,
                connection,
                target,
                head,
            });
            log[place].clone()
        };
        let (bytes, goes_on) = match script(&asked) {
            Reply::Bytes(bytes) => (bytes, true),
            Reply::Cut(bytes) => (bytes, false),
            Reply::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                std::future::pending().await
            }
        };
        // A client that has gone away has had enough.
        if stream.write_all(&bytes).await.is_err() || !goes_on {
            return;
        }
    }
}

/// The head of the next request; a GET has no body. `None` once the client has gone away.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
