//! What can fail in the shell, and what follows: a conflict is planned anew at once, a refusal is shown, the rest is tried again.

use thiserror::Error;

/// A failed request, or a reason not to send one.
#[derive(Debug, Error)]
pub enum Error {
    /// A write that the API server did not carry out.
    #[error("{action}: {}", told(source))]
    Write {
        /// What was to be done.
        action: String,
        /// The answer.
        source: Box<kube::Error>,
    },
    /// A write that was not answered in time; it may have happened.
    #[error("{action}: no answer in time")]
    TimeOut {
        /// What was to be done.
        action: String,
    },
    /// What was to be done speaks of something that has changed since.
    #[error("{action}: it has changed meanwhile")]
    Old {
        /// What was to be done.
        action: String,
    },
    /// Another replica leads, or may.
    #[error("this replica does not lead")]
    NotLeading,
    /// A refusal that the status tells now.
    #[error("{message}")]
    Told {
        /// The refusal.
        message: String,
    },
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The snapshot is old: read again, plan again, at once.
    Conflict,
    /// The API server refuses what is asked: show it, try again later.
    Refused,
    /// It may work later.
    Transient,
    /// It is another replica's turn.
    NotLeading,
}

impl Error {
    /// What follows.
    pub fn class(&self) -> Class {
        match self {
            Self::Write { source, .. } => class_of(source),
            Self::Old { .. } => Class::Conflict,
            Self::TimeOut { .. } => Class::Transient,
            Self::Told { .. } => Class::Refused,
            Self::NotLeading => Class::NotLeading,
        }
    }

    /// The API server's status code.
    pub fn code(&self) -> Option<u16> {
        let Self::Write { source, .. } = self else { return None };
        if let kube::Error::Api(status) = &**source { Some(status.code) } else { None }
    }

    /// The class as a metric label.
    pub fn metric_label(&self) -> &'static str {
        match self.class() {
            Class::Conflict => "conflict",
            Class::Refused => "refused",
            Class::Transient => "transient",
            Class::NotLeading => "not_leading",
        }
    }
}

/// An answer as a person reads it: the API server's own message, without kube's dump of the whole Status.
fn told(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return error.to_string() };
    if status.message.is_empty() {
        return format!("the API server answers {} {}", status.code, status.reason);
    }
    status.message.clone()
}

/// What follows from an answer of the API server.
pub fn class_of(error: &kube::Error) -> Class {
    let kube::Error::Api(status) = error else {
        return Class::Transient;
    };
    match status.code {
        // A missing object, and a failed `test` of a JSON patch, say that the snapshot is old too.
        404 | 409 | 410 => Class::Conflict,
        422 if is_failed_test(status) => Class::Conflict,
        408 | 429 => Class::Transient,
        400..500 => Class::Refused,
        _ => Class::Transient,
    }
}

/// Whether a 422 is a failed `test` of a JSON patch rather than a faulty object.
fn is_failed_test(status: &kube::core::Status) -> bool {
    let message = status.message.to_lowercase();
    status.details.as_ref().is_none_or(|details| details.causes.is_empty())
        && (message.contains("test") || message.contains("rejected our request due to an error in our request"))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refusal(message: &str) -> String {
        let status = Status::failure(message, "Forbidden").with_code(403);
        Error::Write {
            action: "create ReplicaSet checkout-x".to_owned(),
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
        .to_string()
    }

    #[test]
    fn a_refusal_is_told_in_the_api_servers_words() {
        let quota = "replicasets.apps \"checkout-x\" is forbidden: exceeded quota: small";
        assert_eq!(refusal(quota), format!("create ReplicaSet checkout-x: {quota}"));
        assert_eq!(refusal(""), "create ReplicaSet checkout-x: the API server answers 403 Forbidden");
    }
}
