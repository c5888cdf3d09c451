//! How a command ends, as an exit code that a pipeline can tell apart.

use std::io;
use std::process::ExitCode;

use kube::Error as KubeError;
use thiserror::Error;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked is reached. 0.
    Reached,
    /// The command, its arguments or the API server failed. 1.
    Failed,
    /// The release was aborted, or the Rollout is degraded. 2.
    Aborted,
    /// A person is awaited. 3.
    Waits,
    /// The time is over. 4.
    TimedOut,
    /// There is no such object. 5.
    NotFound,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Reached => 0,
            Outcome::Failed => 1,
            Outcome::Aborted => 2,
            Outcome::Waits => 3,
            Outcome::TimedOut => 4,
            Outcome::NotFound => 5,
        })
    }
}

/// There is no such object.
#[derive(Debug, Error)]
#[error("there is no {0}")]
pub struct NotFound(pub String);

/// The outcome of an error.
pub fn of(error: &anyhow::Error) -> Outcome {
    let is_missing = |cause: &(dyn std::error::Error + 'static)| {
        let status = cause
            .downcast_ref::<KubeError>()
            .is_some_and(|error| matches!(error, KubeError::Api(status) if status.code == 404));
        status || cause.is::<NotFound>()
    };
    if error.chain().any(is_missing) { Outcome::NotFound } else { Outcome::Failed }
}

/// Whether somebody has stopped reading what is printed, as `head` does.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_pipe)
}

/// What went wrong and why, each cause once: many repeat those below them.
pub fn told(error: &anyhow::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(KubeError::Api(status)) = cause.downcast_ref::<KubeError>() {
            // Its own source is the same status.
            told.push(status.message.clone());
            break;
        }
        let text = cause.to_string();
        let is_wrapper = matches!(cause.downcast_ref::<KubeError>(), Some(KubeError::Service(_)));
        if !is_wrapper && !told.iter().any(|known| known.contains(&text)) {
            told.push(text);
        }
    }
    told.join(": ")
}

/// No kubeconfig names a cluster.
#[derive(Debug, Error)]
#[error("no cluster is known: {0}")]
pub struct NoCluster(pub String);

/// The next step for a person, where the error tells it.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(NotFound(what)) = error.downcast_ref::<NotFound>() {
        if what.starts_with("Deployment") {
            return Some("kubectl get deployments shows which there are".to_owned());
        }
        return Some("kubectl serin list -A shows the rollouts there are".to_owned());
    }
    if error.downcast_ref::<NoCluster>().is_some() {
        return Some("set KUBECONFIG, or give --kubeconfig and --context".to_owned());
    }
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<KubeError>())?;
    if matches!(cause, KubeError::Service(_) | KubeError::HyperError(_)) {
        return Some("is the cluster up, and reachable from here? kubectl cluster-info".to_owned());
    }
    let KubeError::Api(status) = cause else { return None };
    match status.code {
        401 => Some("sign in again: the API server does not accept your credentials".to_owned()),
        403 => Some("ask for this permission, or choose another account with --context".to_owned()),
        404 if status.message.contains("could not find the requested resource") => {
            Some("install Serin's CustomResourceDefinitions: serin crds | kubectl apply --server-side -f -".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use kube::core::Status;

    use super::*;

    #[test]
    fn every_cause_is_told_once() {
        let inner = anyhow!("no such file").context("read config: no such file").context("list rollouts");
        assert_eq!(told(&inner), "list rollouts: read config: no such file");
        let refused = Status::failure("rollouts is forbidden", "Forbidden").with_code(403);
        let error = anyhow::Error::new(KubeError::Api(Box::new(refused))).context("list rollouts");
        assert_eq!(told(&error), "list rollouts: rollouts is forbidden");
        assert_eq!((of(&error), hint(&error).is_some()), (Outcome::Failed, true));
        let gone = anyhow::Error::new(NotFound("rollout a".to_owned()));
        assert_eq!((of(&gone), told(&gone).as_str()), (Outcome::NotFound, "there is no rollout a"));
    }
}
