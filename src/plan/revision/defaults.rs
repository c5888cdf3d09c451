//! What an API server fills into a pod template: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/>.
//! A template read from a Deployment has it all, the same template in Git has not; without it both have one hash.
//!
//! The table is frozen: a hash must not move when Serin or Kubernetes is upgraded. What a later Kubernetes fills in is told
//! from a new template by the Deployment's generation (`api::status::WorkloadStatus`).

use serde_json::{Map, Value};

/// A field, and the values that mean the same as leaving it out.
type Defaults = &'static [(&'static str, &'static [Filled])];

/// A value that is filled in, or that is left out when it is written.
#[derive(Clone, Copy)]
enum Filled {
    Text(&'static str),
    Number(i64),
    False,
}

use Filled::{False, Number, Text};

const POD: Defaults = &[
    ("restartPolicy", &[Text("Always")]),
    ("dnsPolicy", &[Text("ClusterFirst")]),
    ("schedulerName", &[Text("default-scheduler")]),
    ("terminationGracePeriodSeconds", &[Number(30)]),
    ("serviceAccountName", &[Text("")]),
    ("hostNetwork", &[False]),
    ("hostPID", &[False]),
    ("hostIPC", &[False]),
];
const CONTAINER: Defaults = &[
    ("terminationMessagePath", &[Text("/dev/termination-log")]),
    ("terminationMessagePolicy", &[Text("File")]),
    ("workingDir", &[Text("")]),
    ("stdin", &[False]),
    ("stdinOnce", &[False]),
    ("tty", &[False]),
];
const PORT: Defaults = &[("protocol", &[Text("TCP")]), ("hostPort", &[Number(0)])];
const MOUNT: Defaults = &[("readOnly", &[False]), ("subPath", &[Text("")]), ("subPathExpr", &[Text("")])];
const PROBE: Defaults = &[
    ("initialDelaySeconds", &[Number(0)]),
    ("timeoutSeconds", &[Number(1), Number(0)]),
    ("periodSeconds", &[Number(10), Number(0)]),
    ("successThreshold", &[Number(1), Number(0)]),
    ("failureThreshold", &[Number(3), Number(0)]),
];
const HTTP_GET: Defaults = &[("scheme", &[Text("HTTP")]), ("path", &[Text("/"), Text("")])];
const GRPC: Defaults = &[("service", &[Text("")])];
const FIELD: Defaults = &[("apiVersion", &[Text("v1")])];
const RESOURCE: Defaults = &[("divisor", &[Text("0"), Number(0)])];
const FILES: Defaults = &[("defaultMode", &[Number(420)])];
const TOKEN: Defaults = &[("expirationSeconds", &[Number(3600)]), ("audience", &[Text("")])];
const HOST_PATH: Defaults = &[("type", &[Text("")])];
const ISCSI: Defaults = &[("iscsiInterface", &[Text("default")])];
const RBD: Defaults =
    &[("pool", &[Text("rbd")]), ("user", &[Text("admin")]), ("keyring", &[Text("/etc/ceph/keyring")])];
const AZURE_DISK: Defaults = &[
    ("cachingMode", &[Text("ReadWrite")]),
    ("kind", &[Text("Shared")]),
    ("fsType", &[Text("ext4")]),
    ("readOnly", &[False]),
];
const SCALE_IO: Defaults = &[("storageMode", &[Text("ThinProvisioned")]), ("fsType", &[Text("xfs")])];
const CLAIM: Defaults = &[("volumeMode", &[Text("Filesystem")])];

/// Takes out of a pod template what an API server fills in.
pub(super) fn strip(template: &mut Value) {
    if let Some(metadata) = template.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, value| field != "creationTimestamp" || !value.is_null());
    }
    let Some(pod) = template.pointer_mut("/spec").and_then(Value::as_object_mut) else {
        return;
    };
    strip_account(pod);
    without_empty(pod, "securityContext");
    let is_on_host = pod.get("hostNetwork") == Some(&Value::Bool(true));
    without(pod, POD);
    for list in ["containers", "initContainers"] {
        each(pod, list, |container| strip_container(container, is_on_host));
    }
    each(pod, "volumes", strip_volume);
}

/// Leaves the fields out that have a default's value.
fn without(fields: &mut Map<String, Value>, defaults: Defaults) {
    fields.retain(|field, value| {
        let known = defaults.iter().filter(|(name, _)| name == field).flat_map(|(_, values)| values.iter());
        !known.copied().any(|default| is_default(value, default))
    });
}

fn is_default(value: &Value, default: Filled) -> bool {
    match default {
        Text(text) => value.as_str() == Some(text),
        Number(number) => value.as_i64() == Some(number),
        False => value.as_bool() == Some(false),
    }
}

/// Leaves a map out that is empty.
fn without_empty(fields: &mut Map<String, Value>, field: &str) {
    if fields.get(field).and_then(Value::as_object).is_some_and(Map::is_empty) {
        fields.remove(field);
    }
}

/// Every object of a list.
fn each(fields: &mut Map<String, Value>, list: &str, strip: impl FnMut(&mut Map<String, Value>)) {
    let items = fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(strip);
}

/// The object of a field, where it has one.
fn inner(fields: &mut Map<String, Value>, field: &str, strip: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(inner) = fields.get_mut(field).and_then(Value::as_object_mut) {
        strip(inner);
    }
}

/// The old name of `serviceAccountName` is filled in beside it.
fn strip_account(pod: &mut Map<String, Value>) {
    let Some(account) = pod.remove("serviceAccount") else { return };
    if pod.get("serviceAccountName").is_none_or(|name| name.as_str() == Some("")) {
        pod.insert("serviceAccountName".into(), account);
    }
}

fn strip_container(container: &mut Map<String, Value>, is_on_host: bool) {
    without(container, CONTAINER);
    for field in ["resources", "securityContext"] {
        without_empty(container, field);
    }
    let pulled = container.get("image").and_then(Value::as_str).map(pull_policy);
    if pulled.is_some() && container.get("imagePullPolicy").and_then(Value::as_str) == pulled {
        container.remove("imagePullPolicy");
    }
    each(container, "ports", |port| {
        if is_on_host && port.get("hostPort") == port.get("containerPort") {
            port.remove("hostPort");
        }
        without(port, PORT);
    });
    each(container, "volumeMounts", |mount| without(mount, MOUNT));
    each(container, "env", |variable| {
        without(variable, &[("value", &[Text("")])]);
        inner(variable, "valueFrom", strip_source);
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        inner(container, probe, |probe| {
            without(probe, PROBE);
            strip_handler(probe);
        });
    }
    inner(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            inner(lifecycle, hook, strip_handler);
        }
    });
}

/// What the kubelet does with an image of this name where nobody says it.
fn pull_policy(image: &str) -> &'static str {
    let name = image.rsplit('/').next().unwrap_or(image);
    let is_latest = !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    if is_latest { "Always" } else { "IfNotPresent" }
}

fn strip_handler(handler: &mut Map<String, Value>) {
    inner(handler, "httpGet", |get| without(get, HTTP_GET));
    inner(handler, "grpc", |grpc| without(grpc, GRPC));
}

/// Where a value comes from: a field of the pod, or a resource of a container.
fn strip_source(source: &mut Map<String, Value>) {
    inner(source, "fieldRef", |field| without(field, FIELD));
    inner(source, "resourceFieldRef", |resource| without(resource, RESOURCE));
}

fn strip_volume(volume: &mut Map<String, Value>) {
    for files in ["secret", "configMap", "downwardAPI", "projected"] {
        inner(volume, files, |files| without(files, FILES));
    }
    inner(volume, "downwardAPI", |files| each(files, "items", strip_source));
    inner(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            inner(source, "serviceAccountToken", |token| without(token, TOKEN));
            inner(source, "downwardAPI", |files| each(files, "items", strip_source));
        });
    });
    for (kind, defaults) in
        [("hostPath", HOST_PATH), ("iscsi", ISCSI), ("rbd", RBD), ("azureDisk", AZURE_DISK), ("scaleIO", SCALE_IO)]
    {
        inner(volume, kind, |source| without(source, defaults));
    }
    inner(volume, "image", |image| {
        let pulled = image.get("reference").and_then(Value::as_str).map(pull_policy);
        if pulled.is_some() && image.get("pullPolicy").and_then(Value::as_str) == pulled {
            image.remove("pullPolicy");
        }
    });
    inner(volume, "ephemeral", |ephemeral| {
        inner(ephemeral, "volumeClaimTemplate", |claim| inner(claim, "spec", |spec| without(spec, CLAIM)));
    });
}
