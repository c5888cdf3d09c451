//! The one place that reads the wall clock.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, Unit};

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock, in whole milliseconds: what a status can hold.
pub fn wall() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
        let now = Timestamp::now();
        now.round(Unit::Millisecond).unwrap_or(now)
    })
}

/// From one time to another, never negative.
pub fn until(now: Timestamp, at: Timestamp) -> std::time::Duration {
    let left = at.duration_since(now).max(SignedDuration::ZERO);
    std::time::Duration::try_from(left).unwrap_or_default()
}
