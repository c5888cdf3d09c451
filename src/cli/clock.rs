//! The one place of the plugin that reads the wall clock, for ages on screens.

use jiff::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the one place of the plugin")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
