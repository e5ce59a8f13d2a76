//! Randomness, a parameter of whatever waits, so that tests own it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A source of random waits. Clones share one source.
#[derive(Clone, Debug)]
pub struct Jitter(Arc<Mutex<fastrand::Rng>>);

impl Jitter {
    /// A source that differs from process to process.
    pub fn random() -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::new())))
    }

    /// A source that gives the same waits for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A wait from nothing to `most`.
    pub fn up_to(&self, most: Duration) -> Duration {
        let share = self.0.lock().unwrap_or_else(PoisonError::into_inner).f64();
        most.mul_f64(share)
    }

    /// A text that nobody else has drawn: what tells one process's writes from another's.
    pub fn token(&self) -> String {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        format!("{number:032x}")
    }

    /// `wait`, half of it certain and half of it random: what keeps many that failed at once from coming back at once.
    pub fn around(&self, wait: Duration) -> Duration {
        wait / 2 + self.up_to(wait / 2)
    }
}
