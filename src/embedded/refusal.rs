//! Why a request is not carried out, in kube-apiserver's words (k8s.io/apimachinery, `api/errors`).

use serde_json::{Value, json};

use super::kind::Kind;
use crate::schema::check::Problem;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// Kubernetes' reason; empty where it gives none.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// What it is about; null where that is not told.
    pub details: Value,
}

impl Refusal {
    /// Any refusal.
    pub fn new(code: u16, reason: &'static str, message: &str) -> Self {
        Self { code, reason, message: message.to_owned(), details: Value::Null }
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self { details: details(kind, kind.plural, name), ..Self::new(404, "NotFound", &message) }
    }

    /// 404 for what is below an object, or for a kind.
    pub fn no_such_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self { details: json!({}), ..Self::new(404, "NotFound", message) }
    }

    /// 409 at creation; of an object that is on its way out, that too is said.
    pub fn exists(kind: &Kind, name: &str, is_leaving: bool) -> Self {
        let leaving = if is_leaving { "object is being deleted: " } else { "" };
        let message = format!("{leaving}{} \"{name}\" already exists", kind.resource());
        Self { details: details(kind, kind.plural, name), ..Self::new(409, "AlreadyExists", &message) }
    }

    /// 409, for an old version.
    pub fn conflict(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict_over(kind, (kind.plural, &kind.resource()), name, why)
    }

    /// 409, for a precondition of a deletion: what of it, as asked and as found, and what may have happened.
    pub fn precondition(kind: &Kind, name: &str, (what, asked, found): (&str, &str, &str), why: &str) -> Self {
        let why =
            format!("the {what} in the precondition ({asked}) does not match the {what} in record ({found}). {why}");
        Self::conflict_over(kind, (kind.kind, &kind.qualified()), name, &why)
    }

    /// 409, for an update of another object of the same name.
    pub fn other_uid(kind: &Kind, (namespace, name): (&str, &str), asked: &str, found: &str) -> Self {
        let key = format!("/registry/{}/{}/{namespace}/{name}", kind.group, kind.plural);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {found}"
        );
        Self::conflict_over(kind, (kind.plural, &kind.resource()), name, &why)
    }

    fn conflict_over(kind: &Kind, (of, spelt): (&str, &str), name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {spelt} \"{name}\": {why}");
        Self { details: details(kind, of, name), ..Self::new(409, "Conflict", &message) }
    }

    /// 409, for fields that others applied with other values: each manager with its field.
    pub fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let cause = |(manager, field): &(String, String)| json!({"field": field, "message": format!("conflict with \"{manager}\""), "reason": "FieldManagerConflict"});
        let told: Vec<String> =
            conflicts.iter().map(|(manager, field)| format!("conflict with \"{manager}\": {field}")).collect();
        let many = if conflicts.len() == 1 { "conflict" } else { "conflicts" };
        let message = format!("Apply failed with {} {many}: {}", conflicts.len(), told.join("\n"));
        let causes: Vec<Value> = conflicts.iter().map(cause).collect();
        Self { details: json!({"causes": causes}), ..Self::new(409, "Conflict", &message) }
    }

    /// 422, for one field: its path, what is wrong, and the word for that.
    pub fn invalid(kind: &Kind, name: &str, (field, message): (&str, &str), reason: &str) -> Self {
        Self::invalid_as((kind.kind, &kind.qualified()), kind.group, name, (field, message), reason)
    }

    /// 422, for all that a definition refuses; what kept its rules from being looked at is told, too.
    pub fn all_invalid(kind: &Kind, name: &str, problems: &[Problem]) -> Self {
        let rules = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
        let hidden = problems.iter().any(|one| one.hides_rules).then_some(("<nil>", rules, "FieldValueInvalid"));
        let causes = problems.iter().map(|one| (one.path.as_str(), one.message.as_str(), one.reason));
        let causes: Vec<_> = causes.chain(hidden).collect();
        Self::invalid_over((kind.kind, &kind.qualified()), kind.group, name, &causes)
    }

    /// 422, for a field of an update that lacks its version, or of the request's parameters.
    pub fn invalid_as(of: (&str, &str), group: &str, name: &str, (field, message): (&str, &str), reason: &str) -> Self {
        Self::invalid_over(of, group, name, &[(field, message, reason)])
    }

    fn invalid_over((of, spelt): (&str, &str), group: &str, name: &str, causes: &[(&str, &str, &str)]) -> Self {
        let cause = |(field, message, reason): &(&str, &str, &str)| json!({"field": field, "message": message, "reason": reason});
        let told: Vec<String> = causes.iter().map(|(field, message, _)| format!("{field}: {message}")).collect();
        let told = if let [one] = &told[..] { one.clone() } else { format!("[{}]", told.join(", ")) };
        let causes: Vec<Value> = causes.iter().map(cause).collect();
        let mut details = json!({"kind": of, "causes": causes});
        if let Some(details) = details.as_object_mut() {
            details
                .extend([("group", group), ("name", name)].into_iter().filter(|(_, text)| !text.is_empty()).map(own));
        }
        let message = format!("{spelt} \"{name}\" is invalid: {told}");
        Self { details, ..Self::new(422, "Invalid", &message) }
    }

    /// 422, for a JSON patch that cannot be carried out, a failed test among them.
    pub fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self { details: json!({}), ..Self::new(422, "Invalid", message) }
    }

    /// 400.
    pub fn bad_request(message: &str) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410, for a version whose changes are forgotten.
    pub fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", &format!("too old resource version: {asked} ({oldest})"))
    }

    /// The answer's body.
    pub fn status(&self) -> Value {
        let mut status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": self.code, "message": self.message});
        if let Some(status) = status.as_object_mut() {
            if !self.reason.is_empty() {
                status.insert("reason".into(), json!(self.reason));
            }
            if !self.details.is_null() {
                status.insert("details".into(), self.details.clone());
            }
        }
        status
    }
}

fn own((key, text): (&str, &str)) -> (String, Value) {
    (key.to_owned(), json!(text))
}

/// What a refusal or a success is about.
pub fn details(kind: &Kind, of: &str, name: &str) -> Value {
    let mut details = json!({"kind": of, "name": name});
    if let Some(details) = details.as_object_mut().filter(|_| !kind.group.is_empty()) {
        details.insert("group".into(), json!(kind.group));
    }
    details
}
