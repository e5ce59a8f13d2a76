//! A topic in memory, for tests.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Notice, Topic, TopicError};

/// A topic in memory, which keeps what it is sent.
#[derive(Debug, Default)]
pub struct MemoryTopic(Mutex<(Vec<Notice>, bool)>);

impl MemoryTopic {
    /// What was sent.
    pub fn notices(&self) -> Vec<Notice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Makes every call fail from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = failing;
    }
}

#[async_trait]
impl Topic for MemoryTopic {
    async fn publish(&self, notice: &Notice) -> Result<(), TopicError> {
        let mut topic = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if topic.1 {
            return Err(TopicError {
                source: "the topic is down".into(),
            });
        }
        topic.0.push(notice.clone());
        Ok(())
    }
}
