//! Leader election by Lease. A holder stops writing before its lease can have expired: see [`Leadership::may_write`].
//!
//! Times are those of this process's own monotonic clock; clocks of other machines are never compared. A candidate takes
//! a lease over only when it has not changed for its whole duration as seen from here. docs/decisions/0001 tells why.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::apply::WRITE_TIMEOUT;
use super::clock::Clock;
use super::shard::membership::Share;
use super::shard::{Permit, Shards};

/// Name of the Lease.
pub const NAME: &str = "serin";

/// How long a lease holds without renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed, and how often a candidate looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether this process leads, or has a share, and until when it may write.
#[derive(Clone)]
pub struct Leadership {
    until: Arc<watch::Sender<Option<Instant>>>,
    shards: Option<Arc<Shards>>,
}

/// What a process handles at some time.
#[derive(Clone, PartialEq)]
pub enum View {
    /// Nothing.
    Nothing,
    /// Everything.
    All,
    /// A share.
    Share(Share),
}

impl View {
    /// Whether it handles a key.
    pub fn holds(&self, key: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Share(share) => share.holds(key),
        }
    }
}

impl Leadership {
    /// Leads for ever: for a single process that shares its cluster with nobody.
    pub fn alone() -> Self {
        let far = Instant::now() + Duration::from_hours(10 * 365 * 24);
        Self { until: Arc::new(watch::Sender::new(Some(far))), shards: None }
    }

    /// A candidate.
    pub fn candidate() -> Self {
        Self { until: Arc::new(watch::Sender::new(None)), shards: None }
    }

    /// One of several, each of which has a share; see [`super::shard`].
    pub fn shared(shards: Arc<Shards>) -> Self {
        Self { until: Arc::new(watch::Sender::new(None)), shards: Some(shards) }
    }

    /// Whether a write that begins now is answered, or given up, before the lease can have expired.
    pub fn may_write(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() + WRITE_TIMEOUT < until)
    }

    /// Follows whether this process leads.
    pub fn watch(&self) -> watch::Receiver<Option<Instant>> {
        self.until.subscribe()
    }

    /// Whether a write about a key may begin now; keys are `namespace/name` of Rollouts, and what others choose.
    pub fn may_handle(&self, key: &str) -> bool {
        self.may_write() && self.shards.as_ref().is_none_or(|shards| shards.holds(key))
    }

    /// Begins a pass, which holds up that the key is given away; none where the key is not this process's now.
    pub fn begin(&self, key: &str) -> Option<Permit> {
        if !self.may_write() {
            return None;
        }
        self.shards.as_ref().map_or_else(|| Some(Permit::free()), |shards| shards.begin(key))
    }

    /// Whether a key is in the share of another replica, or in none at the moment: this one is told when it has it.
    pub fn is_of_another(&self, key: &str) -> bool {
        self.shards.as_ref().is_some_and(|shards| !shards.holds(key))
    }

    /// What this process handles now.
    pub fn view(&self) -> View {
        if self.until.borrow().is_none() {
            return View::Nothing;
        }
        self.shards.as_ref().map_or(View::All, |shards| View::Share(shards.share()))
    }

    /// The members, where each has a share.
    pub fn shards(&self) -> Option<&Arc<Shards>> {
        self.shards.as_ref()
    }

    pub(super) fn stands(&self, until: Option<Instant>) {
        self.until.send_replace(until);
    }

    fn renewed(&self, began: Instant) {
        self.until.send_replace(Some(began + DURATION));
    }

    fn lost(&self) {
        if self.until.borrow().is_some() {
            self.until.send_replace(None);
        }
    }
}

/// One candidate.
pub struct Candidate {
    /// The Lease.
    pub api: Api<Lease>,
    /// Its name.
    pub name: String,
    /// This process.
    pub identity: String,
    /// For the times that people read in the Lease.
    pub clock: Clock,
    /// What to tell.
    pub leadership: Leadership,
}

/// What a candidate has seen of a lease: the version, and since when it has not changed.
struct Seen {
    version: Option<String>,
    since: Instant,
    /// The lease as this process wrote it last: renewed without being read, unless somebody else has written it since.
    own: Option<Lease>,
}

impl Candidate {
    /// Takes part until `stop` turns true, then gives the lease up, so that a successor need not wait.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut seen = Seen { version: None, since: Instant::now(), own: None };
        loop {
            let began = Instant::now();
            match timeout(WRITE_TIMEOUT, self.take(&mut seen)).await {
                Ok(Ok(true)) => self.leadership.renewed(began),
                Ok(Ok(false)) => self.leadership.lost(),
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("the lease could not be renewed in time"),
            }
            if self.leadership.until.borrow().is_some_and(|until| until <= Instant::now()) {
                self.leadership.lost();
            }
            tokio::select! {
                biased;
                () = sleep(PERIOD) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let leads = self.leadership.until.borrow().is_some();
        self.leadership.lost();
        if leads && !matches!(timeout(WRITE_TIMEOUT, self.give_up()).await, Ok(Ok(()))) {
            tracing::warn!("the lease could not be given up; a successor waits until it expires");
        }
    }

    /// Takes or renews the lease; false while another holds it.
    async fn take(&self, seen: &mut Seen) -> kube::Result<bool> {
        if let Some(own) = seen.own.take() {
            seen.own = self.write(own).await?;
            if seen.own.is_some() {
                return Ok(true);
            }
        }
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            seen.own = unless_overtaken(self.api.create(&PostParams::default(), &lease).await)?;
            return Ok(seen.own.is_some());
        };
        if seen.version != lease.metadata.resource_version {
            *seen = Seen { version: lease.metadata.resource_version.clone(), since: Instant::now(), own: None };
        }
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let held_for = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok()).unwrap_or(0);
        if holder != self.identity && !holder.is_empty() && seen.since.elapsed() < Duration::from_secs(held_for) {
            return Ok(false);
        }
        seen.own = self.write(lease).await?;
        Ok(seen.own.is_some())
    }

    /// Writes the lease as its holder; none when it has changed since it was read.
    async fn write(&self, lease: Lease) -> kube::Result<Option<Lease>> {
        let next = Lease { spec: Some(self.spec(lease.spec.as_ref())), ..lease };
        unless_overtaken(self.api.replace(&self.name, &PostParams::default(), &next).await)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime((self.clock)()));
        let stays = before.filter(|before| before.holder_identity.as_ref() == Some(&self.identity));
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: stays.map_or(now.clone(), |stays| stays.acquire_time.clone()),
            renew_time: now,
            lease_transitions: Some(if stays.is_some() || before.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }
    }

    async fn give_up(&self) -> kube::Result<()> {
        let mut lease = self.api.get(&self.name).await?;
        if let Some(spec) = &mut lease.spec
            && spec.holder_identity.as_ref() == Some(&self.identity)
        {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            self.api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

/// What was written, or none when somebody else was earlier.
fn unless_overtaken(answer: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match answer {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn only_a_conflict_is_somebody_else_s_lease() {
        let refused = |code| unless_overtaken(Err(kube::Error::Api(Box::new(Status { code, ..Status::default() }))));
        assert!(matches!(refused(409), Ok(None)));
        // The namespace is missing, or the permission: that is told.
        assert!(refused(404).is_err());
        assert!(refused(403).is_err());
    }
}
