//! HTTPRoutes of the Gateway API, which Argo Rollouts edits by a plugin.

use super::super::report::Decision;
use super::super::table::{Loss, Work};
use super::super::yaml::{Entry, Item, List, Map, Node, Scalar};

/// The plugin.
const PLUGIN: &str = "argoproj-labs/gatewayAPI";
const OTHER_PLUGIN: &str =
    "Serin routes by Istio and by HTTPRoutes; put one of those in front, or leave the route out on purpose";
const HTTP_ONLY: &str = "of the Gateway API Serin edits HTTPRoutes only; give the others a route of their own";

/// Whether a canary's plugins name an HTTPRoute.
pub(super) fn names_route(plugins: Option<&Node>) -> bool {
    let config = plugins.and_then(|plugins| plugins.at(&[PLUGIN]));
    config.is_some_and(|config| ["httpRoute", "httpRoutes"].iter().any(|key| config.at(&[key]).is_some()))
}

/// The plugins of a canary: that of the Gateway API becomes `gatewayAPI`.
pub(super) fn plugins(work: &mut Work<'_>, path: &str, entry: Entry) -> Vec<Entry> {
    let mut turned = Vec::new();
    let Entry { above, value, .. } = entry;
    for one in value.entries() {
        let path = format!("{path}.{}", one.key.text);
        if one.key.text == PLUGIN {
            turned.extend(config(work, &path, one));
        } else {
            work.leave_out(&path, one, (Loss::Protection, OTHER_PLUGIN));
        }
    }
    if let Some(first) = turned.first_mut() {
        let above = above.iter().chain(&first.above).filter(|line| !line.is_empty());
        first.above = above.cloned().collect();
    }
    turned
}

/// The plugin's configuration.
fn config(work: &mut Work<'_>, path: &str, entry: &Entry) -> Option<Entry> {
    let mut routes = Vec::new();
    for field in entry.value.entries() {
        let path = format!("{path}.{}", field.key.text);
        match field.key.text.as_str() {
            "httpRoute" => {
                routes.extend(field.value.text().map(str::to_owned));
                work.tell(&path, Decision::Translated, "gatewayAPI.httpRoute");
            }
            "httpRoutes" => {
                for (index, item) in field.value.items().iter().enumerate() {
                    routes.extend(listed(work, &format!("{path}[{index}]"), &item.value));
                }
            }
            "namespace" => namespace(work, &path, field),
            "grpcRoute" | "grpcRoutes" | "tcpRoute" | "tcpRoutes" | "tlsRoute" | "tlsRoutes" => {
                work.leave_out(&path, field, (Loss::Protection, HTTP_ONLY));
            }
            _ => work.leave_out(&path, field, (Loss::Harmless, "is the plugin's own; Serin edits the weights itself")),
        }
    }
    let reference = |name: &String| Map::of(vec![Entry::new("name", Scalar::string(name))]);
    let inner = match routes.as_slice() {
        [] => {
            work.leave_out(path, entry, (Loss::Protection, "names no HTTPRoute"));
            return None;
        }
        [name] => Entry::new("httpRoute", reference(name)),
        names => Entry::new("httpRoutes", List::of(names.iter().map(|name| Item::new(reference(name))).collect())),
    };
    let mut gateway = Entry::new("gatewayAPI", Map::of(vec![inner]));
    gateway.above.clone_from(&entry.above);
    Some(gateway)
}

/// One of several HTTPRoutes.
fn listed(work: &mut Work<'_>, path: &str, route: &Node) -> Option<String> {
    for field in route.entries() {
        let path = format!("{path}.{}", field.key.text);
        if field.key.text == "name" {
            work.tell(&path, Decision::Translated, "name in gatewayAPI.httpRoutes");
        } else {
            work.leave_out(
                &path,
                field,
                (Loss::Harmless, "Serin edits every rule that names both Services, and adds none"),
            );
        }
    }
    route.text_at(&["name"]).map(str::to_owned)
}

/// HTTPRoutes are of the Rollout's namespace.
fn namespace(work: &mut Work<'_>, path: &str, field: &Entry) {
    if field.value.text() == work.argo.namespace.as_deref() {
        work.tell(path, Decision::Translated, "nothing: it is the Rollout's");
        return;
    }
    let why =
        format!("the HTTPRoute is in namespace {}; move it into the Rollout's", field.value.text().unwrap_or_default());
    work.leave_out(path, field, (Loss::Protection, &why));
}
