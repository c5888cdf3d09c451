//! `kubectl serin undo`: back to an earlier revision. Git holds the template, so the answer is the revert.

use std::io::Write as _;

use anyhow::Context as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use serde_json::Value;

use super::cluster::Cluster;
use super::earlier;
use super::origin::{self, Held, How};
use super::outcome::{NotFound, Outcome};
use super::screen::clean;
use super::view::short;
use crate::api::names;
use crate::api::status::{OutcomeKind, RolloutStatus};
use crate::api::watched::ReplicaSet;
use crate::plan::revision;

/// Which Rollout, and how far back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  kubectl serin undo checkout                              the revert\n  kubectl serin undo checkout --to-revision 3 --emit       the change, to commit"
)]
pub struct Arguments {
    /// Name of the Rollout.
    #[arg(add = super::completion::rollouts(), value_parser = super::cluster::name)]
    name: String,
    /// The number of the revision to go back to; absent: stable's, or the one before it.
    #[arg(long)]
    to_revision: Option<i64>,
    /// Changes the Rollout, or the Deployment that brings its template, in the cluster, for those that no tool applies from Git.
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    how: How,
}

/// One revision that there is a ReplicaSet of.
struct Revision {
    hash: String,
    number: i64,
    image: String,
    set: Value,
}

/// Tells how to go back, or does it.
pub async fn run(cluster: &Cluster, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let name = &arguments.name;
    let held = Held::of(cluster, name).await?;
    let (template, now) = held.template()?;
    let revisions = revisions(cluster, name).await?;
    let (Some(current), Some(target)) = (
        revisions.iter().find(|one| one.hash == now),
        target(&revisions, &now, &held.rollout.status, arguments.to_revision),
    ) else {
        let known: Vec<String> = revisions.iter().map(|one| format!("r{}", one.number)).collect();
        let what = format!("revision of {name} to go back to that was promoted before");
        return Err(NotFound(format!("{what}; it has {}; --to-revision names one", known.join(", "))).into());
    };
    if !arguments.how.emit && !arguments.apply {
        return tell(&held, &revisions, (current, target));
    }
    let earlier = earlier::template((name, &target.hash), &template, &current.set, &target.set)?;
    let what = format!(
        "Change {name} from r{} ({}) back to r{} ({})",
        current.number, current.image, target.number, target.image
    );
    origin::change(cluster, held, earlier, &what, &arguments.how).await
}

/// The revisions that there are ReplicaSets of, by number.
async fn revisions(cluster: &Cluster, name: &str) -> anyhow::Result<Vec<Revision>> {
    let resource = ApiResource::erase::<ReplicaSet>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let own = ListParams::default().labels(&format!("{}={name}", names::ROLLOUT));
    let mut revisions = Vec::new();
    for object in api.list(&own).await.context("list ReplicaSets")?.items {
        let set = serde_json::to_value(&object)?;
        let slim: ReplicaSet = serde_json::from_value(set.clone())?;
        let pods = revision::pods(std::slice::from_ref(&slim));
        revisions.extend(pods.into_iter().map(|(hash, pods)| Revision {
            hash,
            number: pods.revision,
            image: pods.image,
            set: set.clone(),
        }));
    }
    revisions.sort_by_key(|one| one.number);
    Ok(revisions)
}

/// The revision to go back to: stable's while another is wanted, else the one that was promoted before it.
fn target<'a>(
    revisions: &'a [Revision],
    now: &str,
    status: &RolloutStatus,
    number: Option<i64>,
) -> Option<&'a Revision> {
    let of_hash = |hash: &str| revisions.iter().find(|one| one.hash == hash);
    if let Some(number) = number {
        return revisions.iter().find(|one| one.number == number && one.hash != now);
    }
    if let Some(stable) = status.stable.as_ref().filter(|stable| stable.hash != now) {
        return of_hash(&stable.hash);
    }
    let promoted = status.history.iter().rev().filter(|outcome| outcome.outcome == OutcomeKind::Promoted);
    promoted.filter(|outcome| outcome.hash != now).find_map(|outcome| of_hash(&outcome.hash))
}

/// Tells the revert, and what follows.
fn tell(held: &Held, revisions: &[Revision], (current, target): (&Revision, &Revision)) -> anyhow::Result<Outcome> {
    let rollout = &held.rollout;
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{name}: r{} ({}) is asked for; undo brings back r{} ({}).",
        current.number,
        clean(&current.image),
        target.number,
        clean(&target.image)
    )?;
    let holder =
        origin::holder(&held.object).map_or_else(String::new, |tool| format!(", from where {tool} applies it"));
    let is_brought = held.deployment()?.is_some();
    let brings = if is_brought { format!(", in the manifest of {}", held.title()) } else { String::new() };
    writeln!(out, "Revert it in Git{holder}{brings}:\n")?;
    let between: Vec<&Revision> =
        revisions.iter().rev().filter(|one| target.number < one.number && one.number <= current.number).collect();
    let commits: Option<Vec<String>> = between.iter().map(|one| commit(held, &one.hash, &current.hash)).collect();
    match (commits, commit(held, &target.hash, &current.hash)) {
        (Some(commits), _) if !commits.is_empty() => {
            let commits: Vec<&str> = commits.iter().map(|commit| short(commit)).collect();
            writeln!(out, "  git revert --no-edit {}", commits.join(" "))?;
        }
        (_, Some(target)) => {
            let of = if is_brought { "Deployment" } else { "Rollout" };
            writeln!(out, "  git restore --source {} -- FILE   # the {of}'s; then commit", short(&target))?
        }
        _ => writeln!(out, "  git revert COMMIT   # annotation {} names none", names::GIT_COMMIT)?,
    }
    writeln!(out, "  git push\n")?;
    let is_stable = rollout.status.stable.as_ref().is_some_and(|stable| stable.hash == target.hash);
    let follows = if is_stable {
        "all traffic returns to stable at once, without steps"
    } else if rollout.spec.value().pointer("/rollbackWindow/revisions").is_some() {
        "within rollbackWindow its steps are skipped, else they run as for any release"
    } else {
        "its steps run as for any release"
    };
    writeln!(out, "What follows: {follows}.")?;
    writeln!(
        out,
        "The change itself: kubectl serin undo {name} --emit; without Git: kubectl serin undo {name} --apply"
    )?;
    Ok(Outcome::Reached)
}

/// The commit that brought a revision, as far as it is known.
fn commit(held: &Held, hash: &str, now: &str) -> Option<String> {
    let status = &held.rollout.status;
    let mut sides = [&status.canary, &status.stable].into_iter().flatten();
    let of_side = sides.find(|side| side.hash == hash).and_then(|side| side.commit.clone());
    let mut ended = status.history.iter().rev().filter(|outcome| outcome.hash == hash);
    let of_history = || ended.find_map(|outcome| outcome.commit.clone());
    let of_now = || held.annotation(names::GIT_COMMIT).filter(|_| hash == now);
    of_side.or_else(of_history).or_else(of_now)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::status::{Outcome as Ended, RevisionStatus};

    fn revision(number: i64, hash: &str) -> Revision {
        Revision { hash: hash.to_owned(), number, image: String::new(), set: Value::Null }
    }

    fn ended(hash: &str, outcome: OutcomeKind) -> Ended {
        let at = Timestamp::UNIX_EPOCH;
        Ended {
            hash: hash.into(),
            revision: 1,
            commit: None,
            outcome,
            started_at: at,
            ended_at: at,
            reason: String::new(),
        }
    }

    #[test]
    fn what_was_never_promoted_is_not_gone_back_to() {
        let known = [revision(1, "a"), revision(2, "b"), revision(3, "c")];
        let stable = RevisionStatus { hash: "a".to_owned(), ..RevisionStatus::default() };
        let history = vec![ended("a", OutcomeKind::Promoted), ended("b", OutcomeKind::Aborted)];
        let status = RolloutStatus { stable: Some(stable), history, ..RolloutStatus::default() };
        let number = |now: &str, wanted| target(&known, now, &status, wanted).map(|one| one.number);
        assert_eq!(number("a", None), None, "nothing was promoted before");
        assert_eq!(number("c", None), Some(1), "stable, while another is asked for");
        assert_eq!(number("a", Some(2)), Some(2), "where it is named");
        assert_eq!(number("a", Some(1)), None, "it is there already");
    }
}
