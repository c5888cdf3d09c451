//! Which of the shipped rights the stories made use of, by the API server's own audit: none is there without need.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

/// API group, resource with its subresource, verb.
type Right = (String, String, String);

/// As whom the stories' controllers ask.
const ACCOUNT: &str = "system:serviceaccount:serin-system:serin";

/// An object whose write met a newer version is read before the next try, which no story brings about at will.
const AFTER_A_CONFLICT: &str = "reads what it wrote onto an older version of";
/// Rights that no request of these stories shows, and why they are there.
const UNSEEN: &[(&str, &str, &str)] = &[
    ("services", "get", AFTER_A_CONFLICT),
    ("deployments", "get", AFTER_A_CONFLICT),
    ("virtualservices", "get", AFTER_A_CONFLICT),
    ("destinationrules", "get", AFTER_A_CONFLICT),
    ("httproutes", "get", AFTER_A_CONFLICT),
    ("replicasets", "get", AFTER_A_CONFLICT),
    ("notificationchannels", "get", AFTER_A_CONFLICT),
    ("rolloutactions", "delete", "an answer goes after seven days"),
    ("events", "patch", "what is told twice within minutes is counted in one Event"),
    ("rollouts/finalizers", "update", "admission asks for it, of who creates what blocks the deletion of its owner"),
    ("serviceaccounts/token", "create", "there is an istiod in e2e/mesh alone"),
];

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|one| Some(one.as_str()?.to_owned())).collect()
}

/// Every right that is shipped.
fn shipped() -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for file in ["rbac.yaml", "sharding.yaml", "istiod.yaml", "config-snapshots.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        for document in serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()) {
            for rule in document["rules"].as_array().into_iter().flatten() {
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        let verbs = texts(&rule["verbs"]).into_iter();
                        rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
                    }
                }
            }
        }
    }
    rights
}

/// Every right that an allowed request made use of.
fn used(log: &str) -> BTreeSet<Right> {
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let allowed = events.filter(|event| {
        event["user"]["username"] == ACCOUNT && event["annotations"]["authorization.k8s.io/decision"] == "allow"
    });
    let right = |event: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &event["objectRef"];
        let resource = match of["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&of["resource"])),
            None => text(&of["resource"]),
        };
        (text(&of["apiGroup"]), resource, text(&event["verb"]))
    };
    allowed.map(right).collect()
}

/// The rights that nothing shows the need of; none where nobody writes an audit.
pub fn unused() -> Vec<String> {
    let Ok(path) = std::env::var("E2E_AUDIT") else {
        return Vec::new();
    };
    let used = used(&std::fs::read_to_string(path).expect("the audit"));
    assert!(!used.is_empty(), "the audit is empty");
    let unseen: BTreeSet<(&str, &str)> = UNSEEN.iter().map(|(resource, verb, _)| (*resource, *verb)).collect();
    let shipped = shipped();
    let is_needed = |right: &&Right| {
        let (group, resource, verb) = right;
        // Only a server that does not stream lists is asked for one.
        let streams = verb == "list" && used.contains(&(group.clone(), resource.clone(), "watch".to_owned()));
        used.contains(*right) || streams || unseen.contains(&(resource.as_str(), verb.as_str()))
    };
    shipped.iter().filter(|right| !is_needed(right)).map(|(_, resource, verb)| format!("{verb} {resource}")).collect()
}
