//! Every replica works, each on its share of the Rollouts: the Leases by which they agree, and the passes under way that hold up
//! a hand-over. Who may do what is decided in [`membership`] and [`guard`]; here it is read, written and kept.

pub mod guard;
pub mod membership;
pub mod ring;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use self::guard::{Guard, Held, Need};
use self::membership::{Card, EXPIRY, Membership, Share};
use self::ring::Ring;
use super::clock::Clock;
use super::lease::{self, Leadership};
use super::telemetry::Metrics;

/// The label of members' Leases, and the annotation that says the ring.
pub const LABEL: &str = "serin.dev/shard";
const LABEL_VALUE: &str = "member";
/// The annotation of a Lease that says of which members its holder believes the ring to be.
pub const RING: &str = "serin.dev/ring";
/// How often a member looks and renews: while all agree, and while they do not.
const PERIOD: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(300);
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The share of this process, and its passes under way.
pub struct Shards {
    inner: Mutex<Inner>,
    began: Instant,
}

struct Inner {
    membership: Membership,
    guard: Guard,
    /// Passes under way by key.
    under_way: BTreeMap<String, u32>,
}

/// A pass under way; while it is there, its key is given to nobody.
pub struct Permit {
    of: Option<(Arc<Shards>, String)>,
}

impl Permit {
    /// Where nothing is ever given away.
    pub(super) fn free() -> Self {
        Self { of: None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some((shards, key)) = self.of.take() {
            let mut inner = shards.inner();
            if let Some(count) = inner.under_way.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    inner.under_way.remove(&key);
                }
            }
        }
    }
}

impl Shards {
    /// Those of a process that has said nothing yet.
    pub fn new(member: &str) -> Arc<Self> {
        let inner = Inner { membership: Membership::new(member), guard: Guard::default(), under_way: BTreeMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), began: Instant::now() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether a key is in this process's share, as long as its Lease stands.
    pub fn holds(&self, key: &str) -> bool {
        self.inner().membership.share().holds(key)
    }

    /// The share.
    pub fn share(&self) -> Share {
        self.inner().membership.share().clone()
    }

    /// Begins a pass.
    pub(super) fn begin(self: &Arc<Self>, key: &str) -> Option<Permit> {
        let mut inner = self.inner();
        if !inner.membership.share().holds(key) {
            return None;
        }
        *inner.under_way.entry(key.to_owned()).or_default() += 1;
        Some(Permit { of: Some((self.clone(), key.to_owned())) })
    }

    /// Until when this process may act.
    fn stands_until(&self) -> Option<Instant> {
        let inner = self.inner();
        let until = inner.membership.stands_until()?.min(inner.guard.stands_until()?);
        (until > self.now()).then(|| self.began + until)
    }
}

/// One replica of several.
pub struct Member {
    /// Leases of the controller's namespace.
    pub api: Api<Lease>,
    /// This process, as no other one is ever called.
    pub name: String,
    /// For the times that people read in Leases.
    pub clock: Clock,
    /// What to tell.
    pub leadership: Leadership,
    /// The share.
    pub shards: Arc<Shards>,
    /// Counts members.
    pub metrics: Arc<Metrics>,
}

/// A name for one process of a replica.
pub fn name_of(identity: &str) -> String {
    format!("{identity}-{:08x}", fastrand::u32(..))
}

impl Member {
    /// Takes part until `stop` turns true; then says that it leaves, so that nobody waits for it.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut version = None;
        loop {
            self.look(&mut version).await;
            let is_settled = self.tell();
            tokio::select! {
                biased;
                () = sleep(if is_settled { PERIOD } else { SOON }) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.shards.inner().membership.fall();
        self.leadership.stands(None);
        if version.is_some() && self.write(&mut version, Ring::default()).await.is_none() {
            tracing::warn!("the others could not be told that this replica leaves; they wait until its lease expires");
        }
    }

    /// Tells everybody here what is so now; whether all members agree.
    fn tell(&self) -> bool {
        let (members, is_first, is_settled) = {
            let inner = self.shards.inner();
            let ring = inner.membership.ring();
            (ring.len(), ring.first() == Some(&self.name), inner.membership.is_settled())
        };
        let until = self.shards.stands_until();
        self.metrics.shards(members, is_settled);
        self.metrics.leads(is_first && until.is_some());
        self.leadership.stands(until);
        is_settled
    }

    /// Reads all Leases, and writes the own one and, if need be, that of a leader.
    async fn look(&self, version: &mut Option<String>) {
        let began = self.shards.now();
        let listed = match timeout(TIMEOUT, self.api.list(&ListParams::default())).await {
            Ok(Ok(list)) => Some(list.items),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the leases of the replicas could not be read");
                None
            }
            Err(_) => {
                tracing::warn!("the leases of the replicas could not be read in time");
                None
            }
        };
        let moment = (began, self.shards.now());
        let need = listed.as_ref().map_or(Need::Nothing, |leases| self.take(moment, leases, version));
        let next = {
            let inner = self.shards.inner();
            inner.membership.next(inner.under_way.keys().map(String::as_str))
        };
        self.write(version, next).await;
        let leases = listed.unwrap_or_default();
        match need {
            Need::Nothing => {}
            Need::Create | Need::Write => self.guard(leases.iter().find(|lease| lease.name_any() == lease::NAME)).await,
        }
        self.sweep().await;
    }

    /// Takes a list in.
    fn take(&self, moment: (Duration, Duration), leases: &[Lease], version: &mut Option<String>) -> Need {
        let cards: Vec<Card> = leases.iter().filter_map(card).collect();
        *version = cards.iter().find(|card| card.member == self.name).map(|card| card.version.clone());
        let guard = leases.iter().find(|lease| lease.name_any() == lease::NAME).map(held);
        let mut inner = self.shards.inner();
        let before = inner.membership.ring().clone();
        inner.membership.listed(moment, &cards);
        let need = inner.guard.listed(moment, guard.as_ref());
        let ring = inner.membership.ring();
        if *ring != before {
            tracing::info!(members = %ring, "the members have changed");
        }
        need
    }

    /// Writes the own Lease; none when it is not known that it was written.
    async fn write(&self, version: &mut Option<String>, ring: Ring) -> Option<()> {
        let lease = self.lease(version.clone(), &ring);
        self.shards.inner().membership.writing(&ring);
        let began = self.shards.now();
        let params = PostParams::default();
        let written = match version {
            Some(_) => timeout(TIMEOUT, self.api.replace(&lease_name(&self.name), &params, &lease)).await,
            None => timeout(TIMEOUT, self.api.create(&params, &lease)).await,
        };
        let ended = self.shards.now();
        let mut inner = self.shards.inner();
        match written {
            Ok(Ok(lease)) => {
                version.clone_from(&lease.metadata.resource_version);
                inner.membership.written((began, ended), ring);
                return Some(());
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && version.is_some() => {
                *version = None;
                inner.membership.fall();
                tracing::warn!("the lease of this replica was deleted");
            }
            Ok(Err(error)) => tracing::warn!(%error, "the lease of this replica could not be renewed"),
            Err(_) => tracing::warn!("the lease of this replica could not be renewed in time"),
        }
        None
    }

    fn lease(&self, version: Option<String>, ring: &Ring) -> Lease {
        let metadata = ObjectMeta {
            name: Some(lease_name(&self.name)),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), LABEL_VALUE.to_owned())])),
            annotations: Some(BTreeMap::from([(RING.to_owned(), ring.to_string())])),
            resource_version: version,
            ..ObjectMeta::default()
        };
        Lease { metadata, spec: Some(self.spec(&self.name)) }
    }

    fn spec(&self, holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(EXPIRY.as_secs()).ok(),
            renew_time: Some(MicroTime((self.clock)())),
            ..LeaseSpec::default()
        }
    }

    /// Holds the Lease of a leader together with the others, and says in it who they are.
    async fn guard(&self, known: Option<&Lease>) {
        let ring = self.shards.inner().membership.ring().to_string();
        let mut lease = known.cloned().unwrap_or_default();
        lease.metadata.name = Some(lease::NAME.to_owned());
        lease.metadata.annotations.get_or_insert_default().insert(RING.to_owned(), ring);
        lease.spec = Some(self.spec(guard::HOLDER));
        let (began, params) = (self.shards.now(), PostParams::default());
        let written = match known {
            Some(_) => timeout(TIMEOUT, self.api.replace(lease::NAME, &params, &lease)).await,
            None => timeout(TIMEOUT, self.api.create(&params, &lease)).await,
        };
        let ended = self.shards.now();
        match written {
            Ok(Ok(lease)) => {
                let version = lease.metadata.resource_version.unwrap_or_default();
                self.shards.inner().guard.written((began, ended), &version);
            }
            // Another member was earlier, or a leader.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
            Ok(Err(error)) => tracing::warn!(%error, "the lease {} could not be held", lease::NAME),
            Err(_) => tracing::warn!("the lease {} could not be held in time", lease::NAME),
        }
    }

    /// Deletes Leases that nobody needs any more, if this is the first of the members.
    async fn sweep(&self) {
        let remains = {
            let inner = self.shards.inner();
            let is_first = inner.membership.ring().first() == Some(&self.name);
            if is_first { inner.membership.remains(self.shards.now()) } else { Vec::new() }
        };
        for (member, version) in remains {
            let preconditions = Preconditions { resource_version: Some(version), uid: None };
            let params = DeleteParams::default().preconditions(preconditions);
            let _ = timeout(TIMEOUT, self.api.delete(&lease_name(&member), &params)).await;
        }
    }
}

/// The name of a member's Lease.
fn lease_name(member: &str) -> String {
    format!("serin-shard-{member}")
}

/// The Lease of a member.
fn card(lease: &Lease) -> Option<Card> {
    let is_member = lease.labels().get(LABEL).is_some_and(|value| value == LABEL_VALUE);
    let member = lease.spec.as_ref()?.holder_identity.clone().filter(|_| is_member)?;
    let ring = lease.annotations().get(RING).map(|text| Ring::parse(text)).unwrap_or_default();
    Some(Card { member, version: lease.metadata.resource_version.clone()?, ring })
}

/// The Lease of a leader.
fn held(lease: &Lease) -> Held {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    Held {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        lasts: Duration::from_secs(seconds),
    }
}
