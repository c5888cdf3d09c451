//! The Lease of the one leader, held by all members together: a replica that elects a leader, of this version or of an older
//! one, waits for as long as one member works, and members wait for a leader that works. Pure, as [`super::membership`].

use std::time::Duration;

use super::membership::{EXPIRY, STANDS};

/// The holder that the Lease names while every replica works.
pub const HOLDER: &str = "serin-shards";

/// The Lease as a list tells it.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its version.
    pub version: String,
    /// Who holds it; empty when it was given up.
    pub holder: String,
    /// How long it holds without renewal.
    pub lasts: Duration,
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: another member has just renewed it, or a leader holds it.
    Nothing,
    /// It is to be created.
    Create,
    /// It is to be written.
    Write,
}

struct Known {
    version: String,
    /// Since when the version has been known.
    since: Duration,
    /// The version was still this one after then.
    asked: Duration,
}

/// What a member knows of it.
#[derive(Default)]
pub struct Guard {
    known: Option<Known>,
    stands_until: Option<Duration>,
}

impl Guard {
    /// Takes in a list that was asked for and answered at these times.
    pub fn listed(&mut self, (began, ended): (Duration, Duration), held: Option<&Held>) -> Need {
        let Some(held) = held else {
            self.known = None;
            return Need::Create;
        };
        let before = self.known.take();
        let same = before.as_ref().filter(|known| known.version == held.version);
        let since = same.map_or(ended, |known| known.since);
        let is_same = same.is_some();
        self.known = Some(Known { version: held.version.clone(), since, asked: began });
        if held.holder == HOLDER {
            // Another version than at the last look: somebody has renewed it after that.
            return match before.filter(|_| !is_same) {
                Some(known) => {
                    self.stands_until = self.stands_until.max(Some(known.asked + STANDS));
                    Need::Nothing
                }
                None => Need::Write,
            };
        }
        self.stands_until = None;
        let is_free = held.holder.is_empty() || began >= since + held.lasts.max(EXPIRY);
        if is_free { Need::Write } else { Need::Nothing }
    }

    /// It was written, by a request that began then.
    pub fn written(&mut self, (began, ended): (Duration, Duration), version: &str) {
        self.known = Some(Known { version: version.to_owned(), since: ended, asked: began });
        self.stands_until = Some(began + STANDS);
    }

    /// Until when no leader can have taken it.
    pub fn stands_until(&self) -> Option<Duration> {
        self.stands_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(version: &str, holder: &str) -> Held {
        Held { version: version.to_owned(), holder: holder.to_owned(), lasts: EXPIRY }
    }

    fn at(seconds: u64) -> (Duration, Duration) {
        (Duration::from_secs(seconds), Duration::from_secs(seconds))
    }

    #[test]
    fn a_leader_is_waited_for_and_whoever_finds_it_unchanged_renews_it() {
        let mut guard = Guard::default();
        assert_eq!(guard.listed(at(0), Some(&held("1", "serin-old"))), Need::Nothing);
        assert_eq!(guard.listed(at(10), Some(&held("2", "serin-old"))), Need::Nothing, "the leader renews it");
        assert_eq!(guard.listed(at(24), Some(&held("2", "serin-old"))), Need::Nothing);
        assert_eq!(guard.listed(at(25), Some(&held("2", "serin-old"))), Need::Write, "the leader is gone");
        assert_eq!(guard.stands_until(), None);
        guard.written(at(26), "3");
        assert_eq!(guard.stands_until(), Some(Duration::from_secs(38)));
        assert_eq!(guard.listed(at(28), Some(&held("4", HOLDER))), Need::Nothing, "another member has renewed it");
        assert_eq!(guard.stands_until(), Some(Duration::from_secs(38)), "at some time after 26");
        assert_eq!(guard.listed(at(30), Some(&held("5", HOLDER))), Need::Nothing);
        assert_eq!(guard.stands_until(), Some(Duration::from_secs(40)), "at some time after 28");
        assert_eq!(guard.listed(at(32), Some(&held("5", HOLDER))), Need::Write);
        assert_eq!(guard.listed(at(34), Some(&held("6", "serin-old"))), Need::Nothing);
        assert_eq!(guard.stands_until(), None, "a leader holds it");
        assert_eq!(guard.listed(at(36), Some(&held("7", ""))), Need::Write, "it was given up");
        assert_eq!(guard.listed(at(38), None), Need::Create);
    }
}
