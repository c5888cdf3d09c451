//! Secrets of a channel, from its own namespace: Serin may read them where the namespace's owner says so, and nowhere else.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::api::notification::NotificationChannelSpec;
use crate::notify::format::Secrets;
use crate::notify::service::{self, Fault};

/// How long a Secret is waited for: a pass that hangs here would keep its channel silent.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The values of all keys that a channel names.
pub async fn read(client: &Client, namespace: &str, spec: &NotificationChannelSpec) -> Result<Secrets, Fault> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut values = Secrets::default();
    let mut keys = service::secrets(spec);
    keys.sort_by(|left, right| (&left.name, &left.key).cmp(&(&right.name, &right.key)));
    let mut secret: Option<Secret> = None;
    for key in keys {
        let is_read = secret.as_ref().is_some_and(|known| known.metadata.name.as_ref() == Some(&key.name));
        if !is_read {
            let read = timeout(TIMEOUT, api.get(&key.name)).await;
            let read = read.map_err(|_| unreadable(&key.name))?;
            secret = Some(read.map_err(|error| fault(namespace, &key.name, &error))?);
        }
        let bytes = secret.as_ref().and_then(|known| known.data.as_ref()?.get(&key.key));
        let Some(text) = bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()) else {
            let message = format!("the Secret {} has no text under the key {}", key.name, key.key);
            return Err(Fault { reason: "SecretKeyMissing", path: String::new(), message });
        };
        values.0.insert((key.name, key.key), text.trim().to_owned());
    }
    Ok(values)
}

fn unreadable(name: &str) -> Fault {
    let message = format!("the Secret {name} could not be read; it is tried again");
    Fault { reason: "SecretUnreadable", path: String::new(), message }
}

fn fault(namespace: &str, name: &str, error: &kube::Error) -> Fault {
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    let (reason, message) = match code {
        403 => (
            "SecretForbidden",
            format!(
                "Serin may not read the Secret {name}; apply a Role that names it, such as deploy/notifications/secret-role.yaml: kubectl -n {namespace} create role serin-notifications --verb=get --resource=secrets --resource-name={name} and kubectl -n {namespace} create rolebinding serin-notifications --role=serin-notifications --serviceaccount=serin-system:serin"
            ),
        ),
        404 => ("SecretMissing", format!("the Secret {name} does not exist in {namespace}; create it")),
        _ => return unreadable(name),
    };
    Fault { reason, path: String::new(), message }
}
