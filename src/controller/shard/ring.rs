//! Which of some members a Rollout falls to: rendezvous hashing, so that a member that comes or goes moves its share alone.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest, Sha256};

/// Members, each of which has its share. An empty one says of a Lease that its member has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    members: BTreeSet<String>,
}

impl Ring {
    /// Of these members.
    pub fn of<M: Into<String>>(members: impl IntoIterator<Item = M>) -> Self {
        Self { members: members.into_iter().map(Into::into).collect() }
    }

    /// As a Lease says it: names with commas between.
    pub fn parse(text: &str) -> Self {
        Self::of(text.split(',').map(str::trim).filter(|name| !name.is_empty()))
    }

    /// Whom a key falls to; nobody where there is no member.
    pub fn owner(&self, key: &str) -> Option<&str> {
        self.members.iter().max_by_key(|member| (score(member, key), *member)).map(String::as_str)
    }

    /// Whether a key falls to a member.
    pub fn gives(&self, member: &str, key: &str) -> bool {
        self.owner(key) == Some(member)
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The first by name.
    pub fn first(&self) -> Option<&str> {
        self.members.first().map(String::as_str)
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, member) in self.members.iter().enumerate() {
            write!(f, "{}{member}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The weight of a member for a key. It must be the same in all versions that may ever run beside each other.
fn score(member: &str, key: &str) -> u64 {
    let digest = Sha256::new().chain_update(member).chain_update([0]).chain_update(key).finalize();
    digest.iter().take(8).fold(0, |score, byte| score << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn keys() -> Vec<String> {
        (0..10_000).map(|number| format!("shop-{}/app-{number}", number % 20)).collect()
    }

    /// A version that hashed otherwise would disagree with those that run beside it.
    #[test]
    fn the_hash_is_the_same_in_all_versions() {
        let ring = Ring::parse("serin-a_1,serin-b_2,serin-c_3");
        assert_eq!(score("serin-a_1", "shop/checkout"), 0xc441_dcc2_6706_a009);
        let owners: Vec<&str> =
            ["shop/checkout", "shop/basket", "pay/ledger"].iter().filter_map(|key| ring.owner(key)).collect();
        assert_eq!(owners, ["serin-a_1", "serin-b_2", "serin-c_3"]);
        assert_eq!(ring.to_string(), "serin-a_1,serin-b_2,serin-c_3");
        assert_eq!(Ring::parse("").owner("shop/checkout"), None);
    }

    #[test]
    fn shares_are_alike_and_only_those_of_who_goes_move() {
        let (three, two) = (Ring::of(["a", "b", "c"]), Ring::of(["a", "b"]));
        let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
        let keys = keys();
        for key in &keys {
            let owner = three.owner(key).unwrap();
            *shares.entry(owner).or_default() += 1;
            assert!(owner == "c" || two.owner(key) == Some(owner), "{key} stays where it is");
        }
        assert!(shares.values().all(|share| (3_100..3_600).contains(share)), "{shares:?}");
    }
}
