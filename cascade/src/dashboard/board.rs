//! Where the latest figures are posted, and who reads them.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::snapshot::Clocks;

/// What was gathered at one time.
#[derive(Clone, Debug)]
pub struct Posted {
    /// The figures by section, as the page takes them.
    pub figures: Map<String, Value>,
    /// What time it was.
    pub clocks: Clocks,
    /// When they were gathered.
    pub at: Instant,
}

impl Posted {
    /// The sections that are not as they were `before`.
    pub fn since(&self, before: Option<&Self>) -> Map<String, Value> {
        let is_new = |name: &str, value: &Value| before.and_then(|before| before.figures.get(name)) != Some(value);
        self.figures
            .iter()
            .filter(|(name, value)| is_new(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// The latest figures, and how many read them. Clones are one board.
#[derive(Clone, Debug)]
pub struct Board {
    latest: watch::Sender<Option<Arc<Posted>>>,
    readers: watch::Sender<usize>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(None),
            readers: watch::Sender::new(0),
        }
    }
}

/// Somebody who reads the board. As long as there is one, it is kept up to date.
#[derive(Debug)]
pub struct Reader {
    /// The latest figures; `None` before the first.
    pub latest: watch::Receiver<Option<Arc<Posted>>>,
    readers: watch::Sender<usize>,
}

impl Board {
    /// Posts new figures.
    pub fn post(&self, posted: Posted) {
        self.latest.send_replace(Some(Arc::new(posted)));
    }

    /// Begins to read.
    pub fn read(&self) -> Reader {
        self.readers.send_modify(|readers| *readers += 1);
        Reader {
            latest: self.latest.subscribe(),
            readers: self.readers.clone(),
        }
    }

    /// How many read.
    pub fn readers(&self) -> usize {
        *self.readers.borrow()
    }

    /// Waits until somebody reads.
    pub async fn is_read(&self) {
        // An error would mean that the board is gone, with whoever waits here.
        let _ = self.readers.subscribe().wait_for(|readers| *readers > 0).await;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.readers.send_modify(|readers| *readers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn posted(figures: &Value) -> Posted {
        Posted {
            figures: figures.as_object().cloned().unwrap(),
            clocks: Clocks::default(),
            at: Instant::now(),
        }
    }

    #[tokio::test]
    async fn only_sections_that_have_changed_are_sent() {
        let first = posted(&json!({"status": {"rows": 1}, "runs": []}));
        let second = posted(&json!({"status": {"rows": 2}, "runs": []}));
        assert_eq!(first.since(None), first.figures);
        assert_eq!(
            Value::Object(second.since(Some(&first))),
            json!({"status": {"rows": 2}})
        );
        assert!(second.since(Some(&second)).is_empty());
    }

    #[tokio::test]
    async fn readers_are_counted_as_long_as_they_read() {
        let board = Board::default();
        let (one, other) = (board.read(), board.clone().read());
        assert_eq!(board.readers(), 2);
        board.is_read().await;
        drop(one);
        board.post(posted(&json!({})));
        assert!(other.latest.borrow().is_some());
        drop(other);
        assert_eq!(board.readers(), 0);
    }
}
