//! Everything that Serin can do to the cluster, each one API request.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::revision::Pods;
use super::strategy::{Managed, PodMetadata};
use super::weight::Split;
use crate::api::config::ConfigKind;
use crate::api::istio::Protocol;
use crate::api::json::Json;
use crate::api::names;
use crate::api::watched::ServicePort;

/// One write. Names are in the Rollout's namespace; versions are those of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Writes `spec.replicas` through the scale subresource, where Git leaves it to an autoscaler.
    SetReplicas {
        /// Pods.
        replicas: i32,
    },
    /// Holds the Rollout until its route is back at stable.
    AddFinalizer,
    /// Lets the Rollout go.
    RemoveFinalizer,
    /// Creates the ReplicaSet of a revision from the Rollout's template.
    CreateReplicaSet {
        /// Its name.
        name: String,
        /// Revision hash.
        hash: String,
        /// Pods.
        replicas: i32,
        /// Revision number.
        revision: i64,
        /// What its pods carry for their role.
        #[serde(default, skip_serializing_if = "PodMetadata::is_empty")]
        metadata: PodMetadata,
    },
    /// Creates the ReplicaSet of a baseline from that of the stable revision.
    CreateBaseline {
        /// Its name.
        name: String,
        /// Name of stable's, whose template it has.
        source: String,
        /// Revision hash of stable.
        stable: String,
        /// That of the canary that it is started with.
        canary: String,
        /// Pods.
        replicas: i32,
    },
    /// Changes how many pods a revision has, or a baseline.
    ScaleReplicaSet {
        /// Its name.
        name: String,
        /// Its generation in the snapshot: its pods come and go, and each changes its version.
        generation: i64,
        /// Its revision number in the snapshot: a write that comes late finds another where the revision was rolled back to.
        number: i64,
        /// Pods.
        replicas: i32,
        /// Revision number to record, where it changes.
        revision: Option<i64>,
    },
    /// Deletes an old ReplicaSet without pods.
    DeleteReplicaSet {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
    },
    /// Copies a ConfigMap or a Secret, if its content is what the snapshot says.
    CopyConfig {
        /// Which of them.
        kind: ConfigKind,
        /// Its name.
        source: String,
        /// Name of the copy.
        name: String,
        /// Digest of the content in the snapshot.
        digest: String,
    },
    /// Deletes a copy that no revision has any more.
    DeleteCopy {
        /// Which of them.
        kind: ConfigKind,
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Creates the Job of a measurement.
    CreateJob {
        /// Its name, which no other measurement has.
        name: String,
        /// The whole Job.
        body: Json,
    },
    /// Deletes the Job of a measurement, with its pods.
    DeleteJob {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Writes the VirtualService that Serin owns, whole.
    WriteVirtualService {
        /// Its name.
        name: String,
        /// Its version in the snapshot; none when it does not exist.
        version: Option<String>,
        /// The weights between the subsets; none for the plain host.
        split: Option<Split>,
        /// Header and mirror routes in front, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        front: Vec<Managed>,
    },
    /// Writes the DestinationRule that Serin owns, whole.
    WriteDestinationRule {
        /// Its name.
        name: String,
        /// Its version in the snapshot; none when it does not exist.
        version: Option<String>,
        /// Its host.
        host: String,
        /// Namespaces that see it, as the user's own rule has them.
        export_to: Vec<String>,
        /// Hash of the stable subset.
        stable: String,
        /// Hash of the canary subset.
        canary: String,
    },
    /// Edits the weights of named routes in a VirtualService that Git holds, and what stands in front of them.
    EditVirtualService {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// Each route to edit.
        edits: Vec<WeightEdit>,
        /// What stands in front, where that changes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        front: Option<FrontEdit>,
    },
    /// Edits the weights of rules in an HTTPRoute that Git holds.
    EditHttpRoute {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// Each rule to edit.
        edits: Vec<WeightEdit>,
    },
    /// Edits one label of the two subsets in a DestinationRule that Git holds.
    EditDestinationRule {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// Each subset to edit.
        edits: Vec<SubsetEdit>,
    },
    /// Creates a Service of a canary between hosts.
    CreateService {
        /// Its name.
        name: String,
        /// Its ports.
        ports: Vec<ServicePort>,
    },
    /// Edits the revision key of a Service's selector.
    EditService {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// The hash; none removes the key.
        hash: Option<String>,
    },
    /// Scales a Deployment to 0 that is taken over.
    ScaleWorkload {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// The pods that it wants in the snapshot.
        replicas: i32,
    },
    /// Evicts a pod that is to be restarted; disruption budgets may refuse it for now.
    EvictPod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Edits what the pod template of a ReplicaSet says for the role of its revision.
    EditPodTemplate {
        /// The ReplicaSet's name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// What changes.
        edit: MetadataEdit,
    },
    /// Edits what a pod carries for the role of its revision.
    EditPod {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
        /// What changes.
        edit: MetadataEdit,
    },
    /// Records that all pods of a ReplicaSet carry what its template says.
    EndPodEdits {
        /// The ReplicaSet's name.
        name: String,
        /// Its version in the snapshot.
        version: String,
    },
    /// Answers a `RolloutAction`.
    Answer {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// Whether it was done.
        accepted: bool,
        /// The answer.
        message: String,
        /// When it was decided.
        at: Timestamp,
    },
    /// Makes the Rollout the owner of a `RolloutAction`.
    OwnAction {
        /// Its name.
        name: String,
        /// Its version in the snapshot.
        version: String,
    },
    /// Removes a `RolloutAction` seven days after its answer.
    DeleteAction {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// Labels and annotations to set; those without a value are taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataEdit {
    /// Labels.
    pub labels: BTreeMap<String, Option<String>>,
    /// Annotations; the record of what Serin has put there is among them.
    pub annotations: BTreeMap<String, Option<String>>,
}

impl fmt::Display for MetadataEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.labels.iter().chain(&self.annotations);
        let mut separator = "";
        for (key, value) in all.filter(|(key, _)| *key != names::POD_METADATA) {
            write!(f, "{separator}{key}={}", value.as_deref().unwrap_or("(none)"))?;
            separator = ", ";
        }
        Ok(())
    }
}

/// New weights of one route, or rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightEdit {
    /// The route's protocol.
    pub protocol: Protocol,
    /// Index among the routes of its protocol.
    pub at: usize,
    /// The route's name, where it has one.
    pub route: Option<String>,
    /// Index of the stable destination.
    pub stable_at: usize,
    /// Index of the canary destination.
    pub canary_at: usize,
    /// The weights, in percent of all traffic of this route.
    pub split: Split,
}

/// Header and mirror routes in front of the edited route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontEdit {
    /// Index of the edited HTTP route whose destinations count.
    pub at: usize,
    /// Its name, where it has one.
    pub route: Option<String>,
    /// Index of its canary destination.
    pub canary_at: usize,
    /// The routes that there are: index and name. All are taken away.
    pub removed: Vec<(usize, String)>,
    /// The routes that are put in front of all others, in order.
    pub added: Vec<Managed>,
}

/// The revision label of one subset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubsetEdit {
    /// Index in `spec.subsets`.
    pub at: usize,
    /// The subset's name.
    pub name: String,
    /// Whether the subset has labels at all.
    pub has_labels: bool,
    /// The hash; none removes the label.
    pub hash: Option<String>,
}

/// Pods that a revision wants after some writes, with those that it has now.
pub fn pods_after(actions: &[Action], hash: &str, own: &Pods) -> i32 {
    let written = actions.iter().rev().find_map(|action| {
        if let Action::CreateReplicaSet { hash: of, replicas, .. } = action {
            return (of == hash).then_some(*replicas);
        }
        let Action::ScaleReplicaSet { name, replicas, .. } = action else { return None };
        (*name == own.name).then_some(*replicas)
    });
    written.unwrap_or(own.wanted)
}

impl Action {
    /// Whether this write moves traffic, or makes room for traffic to move.
    pub fn is_route(&self) -> bool {
        match self {
            Self::WriteVirtualService { .. }
            | Self::WriteDestinationRule { .. }
            | Self::EditVirtualService { .. }
            | Self::EditHttpRoute { .. }
            | Self::EditDestinationRule { .. }
            | Self::CreateService { .. }
            | Self::EditService { .. } => true,
            Self::SetReplicas { .. }
            | Self::AddFinalizer
            | Self::RemoveFinalizer
            | Self::CreateReplicaSet { .. }
            | Self::CreateBaseline { .. }
            | Self::ScaleReplicaSet { .. }
            | Self::DeleteReplicaSet { .. }
            | Self::CopyConfig { .. }
            | Self::DeleteCopy { .. }
            | Self::CreateJob { .. }
            | Self::DeleteJob { .. }
            | Self::ScaleWorkload { .. }
            | Self::EvictPod { .. }
            | Self::EditPodTemplate { .. }
            | Self::EditPod { .. }
            | Self::EndPodEdits { .. }
            | Self::Answer { .. }
            | Self::OwnAction { .. }
            | Self::DeleteAction { .. } => false,
        }
    }
}

/// The names of header and mirror routes.
fn named(routes: &[Managed]) -> String {
    routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetReplicas { replicas } => write!(f, "write {replicas} replicas through /scale"),
            Self::AddFinalizer => f.write_str("add the finalizer"),
            Self::RemoveFinalizer => f.write_str("remove the finalizer"),
            Self::CreateReplicaSet { name, replicas, .. } | Self::CreateBaseline { name, replicas, .. } => {
                write!(f, "create ReplicaSet {name} with {replicas} pods")
            }
            Self::ScaleReplicaSet { name, replicas, .. } => {
                write!(f, "scale ReplicaSet {name} to {replicas}")
            }
            Self::DeleteReplicaSet { name, .. } => write!(f, "delete ReplicaSet {name}"),
            Self::CopyConfig { kind, source, name, .. } => write!(f, "copy {kind} {source} as {name}"),
            Self::DeleteCopy { kind, name, .. } => write!(f, "delete {kind} {name}"),
            Self::CreateJob { name, .. } => write!(f, "create Job {name}"),
            Self::DeleteJob { name, .. } => write!(f, "delete Job {name}"),
            Self::WriteVirtualService { name, split: Some(split), front, .. } => {
                write!(f, "write VirtualService {name} with {split}")?;
                if front.is_empty() { Ok(()) } else { write!(f, " behind {}", named(front)) }
            }
            Self::WriteVirtualService { name, split: None, .. } => {
                write!(f, "write VirtualService {name} to the plain host")
            }
            Self::WriteDestinationRule { name, stable, canary, .. } => {
                write!(f, "write DestinationRule {name} with stable {stable}, canary {canary}")
            }
            Self::EditVirtualService { name, edits, front, .. } => {
                if !edits.is_empty() {
                    write!(f, "set the weights of VirtualService {name} to")?;
                    edits.iter().try_for_each(|edit| write!(f, " {}", edit.split))?;
                }
                let Some(front) = front else { return Ok(()) };
                f.write_str(if edits.is_empty() { "" } else { "; " })?;
                match front.added.as_slice() {
                    [] => write!(f, "take the header and mirror routes of VirtualService {name} away"),
                    added => write!(f, "put {} in front of the routes of VirtualService {name}", named(added)),
                }
            }
            Self::EditHttpRoute { name, edits, .. } => {
                write!(f, "set the weights of HTTPRoute {name} to")?;
                edits.iter().try_for_each(|edit| write!(f, " {}", edit.split))
            }
            Self::EditDestinationRule { name, edits, .. } => {
                write!(f, "label the subsets of DestinationRule {name}:")?;
                edits
                    .iter()
                    .try_for_each(|edit| write!(f, " {}={}", edit.name, edit.hash.as_deref().unwrap_or("(none)")))
            }
            Self::CreateService { name, .. } => write!(f, "create Service {name}"),
            Self::EditService { name, hash: Some(hash), .. } => write!(f, "select revision {hash} in Service {name}"),
            Self::EditService { name, hash: None, .. } => write!(f, "select all revisions in Service {name}"),
            Self::ScaleWorkload { name, replicas, .. } => write!(f, "scale Deployment {name} from {replicas} to 0"),
            Self::EvictPod { name, .. } => write!(f, "evict pod {name}"),
            Self::EditPodTemplate { name, edit, .. } => write!(f, "set {edit} for new pods of ReplicaSet {name}"),
            Self::EditPod { name, edit, .. } => write!(f, "set {edit} on pod {name}"),
            Self::EndPodEdits { name, .. } => write!(f, "record that all pods of ReplicaSet {name} are edited"),
            Self::Answer { name, accepted: true, .. } => write!(f, "accept RolloutAction {name}"),
            Self::Answer { name, accepted: false, .. } => write!(f, "refuse RolloutAction {name}"),
            Self::OwnAction { name, .. } => write!(f, "own RolloutAction {name}"),
            Self::DeleteAction { name, .. } => write!(f, "delete RolloutAction {name}"),
        }
    }
}
