//! Who handles what when every replica works: pure, and time is an argument, in each process's own monotonic clock.
//!
//! Each member has a Lease, renews it, and says in it of which members it believes the ring to be. By that ring it *claims* what
//! falls to it. It *handles* a key only
//!
//! 1. while its Lease stands: for [`STANDS`] from before the last renewal was sent, which is shorter than the [`EXPIRY`] after
//!    which the others take it as gone;
//! 2. if every ring that its Lease says, or may say, gives it the key;
//! 3. if in a list that was asked for after its Lease said so, no other member that lives claims the key.
//!
//! It gives a key up before its Lease says so: the next ring is published only when no pass of what it gives away is under way.
//! So of two members that want the same key one has claimed it first, and the other one has seen that before it began.
//! docs/decisions/0007 has the proof; `tests/it/membership.rs` looks for a counterexample.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ring::Ring;

/// How long a member may act after it began to renew its Lease: clocks may differ in speed by a fifth.
pub const STANDS: Duration = Duration::from_secs(12);
/// After how long without a change a Lease is that of a member that is gone.
pub const EXPIRY: Duration = Duration::from_secs(15);

/// A Lease of a member as a list tells it.
#[derive(Debug, Clone)]
pub struct Card {
    /// The member.
    pub member: String,
    /// The version of the Lease.
    pub version: String,
    /// What it says; empty when the member has left.
    pub ring: Ring,
}

/// What is known of another member.
#[derive(Debug, Clone)]
struct Seen {
    version: String,
    /// Since when the version has been known here.
    since: Duration,
    ring: Ring,
}

/// What others claim, as a list told it that was asked for after own claims stood in the Lease.
type Others = Vec<(String, Ring)>;

/// What a member handles as long as its Lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    own: String,
    /// All who live, and this one.
    wanted: Ring,
    /// What the own Lease says, or may say, or has said since the last list that counts.
    claims: Vec<Ring>,
    granted: Option<Others>,
}

impl Share {
    /// Whether a key is in it.
    pub fn holds(&self, key: &str) -> bool {
        let Some(others) = &self.granted else { return false };
        // Who says the same as this member gives the key to nobody else.
        let differs = |ring: &Ring| *ring != self.wanted;
        self.wanted.gives(&self.own, key)
            && self.claims.iter().filter(|ring| differs(ring)).all(|ring| ring.gives(&self.own, key))
            && !others.iter().any(|(other, ring)| differs(ring) && ring.gives(other, key))
    }
}

/// A member's view.
#[derive(Debug)]
pub struct Membership {
    share: Share,
    others: BTreeMap<String, Seen>,
    /// What the last write that was answered says.
    adopted: Option<Ring>,
    /// When the last write was answered; none while its fate is unknown.
    answered: Option<Duration>,
    stands_until: Option<Duration>,
}

impl Membership {
    /// A member that has said nothing yet. Its name is that of one process, and never used again.
    pub fn new(own: &str) -> Self {
        let share = Share { own: own.to_owned(), wanted: Ring::of([own]), claims: Vec::new(), granted: None };
        Self { share, others: BTreeMap::new(), adopted: None, answered: None, stands_until: None }
    }

    /// Takes in a list of all Leases that was asked for and answered at these times.
    pub fn listed(&mut self, (began, ended): (Duration, Duration), cards: &[Card]) {
        for card in cards.iter().filter(|card| card.member != self.share.own) {
            let known = self.others.get(&card.member).is_some_and(|seen| seen.version == card.version);
            if !known {
                let seen = Seen { version: card.version.clone(), since: ended, ring: card.ring.clone() };
                self.others.insert(card.member.clone(), seen);
            }
        }
        // Who is not listed has not said that it leaves: somebody took its Lease away, and it does not know yet.
        self.others.retain(|member, seen| lives(seen, began) || cards.iter().any(|card| card.member == *member));
        let living: Others = self
            .others
            .iter()
            .filter(|(_, seen)| lives(seen, began))
            .map(|(member, seen)| (member.clone(), seen.ring.clone()))
            .collect();
        self.share.wanted = Ring::of(living.iter().map(|(member, _)| member.clone()).chain([self.share.own.clone()]));
        let was_written = self.answered.is_some_and(|answered| answered <= began);
        let is_there = cards.iter().any(|card| card.member == self.share.own);
        if !self.stands(ended) || (was_written && !is_there) {
            self.fall();
        } else if was_written && let Some(adopted) = &self.adopted {
            self.share.claims = vec![adopted.clone()];
            self.share.granted = Some(living);
        }
    }

    /// What the own Lease is to say next, while passes of these keys are under way.
    pub fn next<'a>(&self, under_way: impl IntoIterator<Item = &'a str>) -> Ring {
        let gives_away = under_way.into_iter().any(|key| !self.share.wanted.gives(&self.share.own, key));
        self.adopted.clone().filter(|_| gives_away).unwrap_or_else(|| self.share.wanted.clone())
    }

    /// The own Lease is about to be written: from now on it may say this.
    pub fn writing(&mut self, ring: &Ring) {
        self.answered = None;
        if !self.share.claims.contains(ring) {
            self.share.claims.push(ring.clone());
        }
    }

    /// The write that began then was answered: no earlier one can arrive any more.
    pub fn written(&mut self, (began, ended): (Duration, Duration), ring: Ring) {
        if !self.stands(ended) {
            self.fall();
        }
        if self.share.granted.is_none() {
            self.share.claims = vec![ring.clone()];
        }
        self.adopted = Some(ring);
        self.answered = Some(ended);
        self.stands_until = Some(began + STANDS);
    }

    /// The own Lease is gone, or somebody else's; what was granted is not any more.
    pub fn fall(&mut self) {
        self.share.granted = None;
        self.stands_until = None;
    }

    /// Until when this member may act.
    pub fn stands_until(&self) -> Option<Duration> {
        self.stands_until.filter(|_| self.share.granted.is_some())
    }

    fn stands(&self, now: Duration) -> bool {
        self.stands_until.is_some_and(|until| now < until)
    }

    /// What this member handles, as long as it stands.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// All who live, as this member sees it.
    pub fn ring(&self) -> &Ring {
        &self.share.wanted
    }

    /// Whether all who live say the same.
    pub fn is_settled(&self) -> bool {
        self.adopted.as_ref() == Some(&self.share.wanted)
            && self
                .share
                .granted
                .as_ref()
                .is_some_and(|others| others.iter().all(|(_, ring)| *ring == self.share.wanted))
    }

    /// Members whose Leases nobody needs any more: they have left, or been gone for long.
    pub fn remains(&self, now: Duration) -> Vec<(String, String)> {
        let is_over = |seen: &Seen| now.saturating_sub(seen.since) > EXPIRY * 2;
        let over = self.others.iter().filter(|(_, seen)| is_over(seen));
        over.map(|(member, seen)| (member.clone(), seen.version.clone())).collect()
    }
}

/// Whether a member lives, by a list that was asked for then.
fn lives(seen: &Seen, began: Duration) -> bool {
    !seen.ring.is_empty() && began < seen.since + EXPIRY
}
