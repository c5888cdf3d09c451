//! Header and mirror routes: HTTP routes in front of those that are edited, which steps put there and take away.
//! Argo Rollouts calls them managed routes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fault, Pick, RouteKind, Routing, Step, Strategy};
use crate::api::istio::{Match, Protocol, TextMatch};
use crate::api::names;
use crate::api::rollout::{CanarySpec, HeaderRouteSpec, MirrorRouteSpec, RequestMatchSpec, TextMatchSpec};
use crate::api::schema::TEXT_MEMBERS;
use crate::api::syntax::{self, LABEL_MOST};

/// A header or mirror route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Managed {
    /// Its name.
    pub name: String,
    /// Any of these matches; none takes the route away.
    pub matches: Vec<Match>,
    /// A mirror: percent of the requests that are copied. A header route leads all of them to the canary.
    pub mirror: Option<i32>,
}

impl Managed {
    /// The step's field.
    pub fn field(&self) -> &'static str {
        if self.mirror.is_some() { "setMirrorRoute" } else { "setHeaderRoute" }
    }
}

impl Strategy {
    /// The header and mirror routes after so many steps, the first in front.
    pub fn managed(&self, steps: usize) -> Vec<Managed> {
        let mut routes: Vec<Managed> = Vec::new();
        for step in self.steps.iter().take(steps) {
            let Step::SetRoute(route) = step else { continue };
            match routes.iter_mut().find(|known| known.name == route.name) {
                Some(known) => *known = route.clone(),
                None => routes.push(route.clone()),
            }
        }
        routes.retain(|route| !route.matches.is_empty());
        let listed = |route: &Managed| {
            self.managed_order.iter().position(|name| *name == route.name).unwrap_or(self.managed_order.len())
        };
        routes.sort_by_key(listed);
        routes
    }

    /// The names of all header and mirror routes, each with the path of a field that gives it.
    pub fn managed_names(&self) -> BTreeMap<&str, String> {
        let mut found = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            if let Step::SetRoute(route) = step {
                let path = format!("spec.strategy.canary.steps[{index}].{}.name", route.field());
                found.entry(route.name.as_str()).or_insert(path);
            }
        }
        found
    }
}

/// A header route of a step.
pub(super) fn header(path: &str, spec: &HeaderRouteSpec, faults: &mut Vec<Fault>) -> Step {
    let before = faults.len();
    check_name(path, &spec.name, faults);
    check_list(path, spec.matches.as_ref().map(Vec::len), faults);
    let mut matches = Vec::new();
    for (index, one) in spec.matches.iter().flatten().enumerate() {
        let path = format!("{path}.match[{index}]");
        if one.header_name.is_empty() {
            faults.push(Fault::new(format!("{path}.headerName"), "is empty; name the header"));
        }
        let value = text(&format!("{path}.headerValue"), &one.header_value, faults);
        matches.push(Match { headers: [(one.header_name.clone(), value)].into(), ..Match::default() });
    }
    let route = Managed { name: spec.name.clone(), matches, mirror: None };
    if faults.len() > before { Step::Faulty } else { Step::SetRoute(route) }
}

/// A mirror route of a step.
pub(super) fn mirror(path: &str, spec: &MirrorRouteSpec, faults: &mut Vec<Fault>) -> Step {
    let before = faults.len();
    check_name(path, &spec.name, faults);
    check_list(path, spec.matches.as_ref().map(Vec::len), faults);
    let percentage = spec.percentage.unwrap_or(100);
    if !(0..=100).contains(&percentage) {
        faults.push(Fault::new(format!("{path}.percentage"), format!("{percentage} is not between 0 and 100")));
    }
    let mut matches = Vec::new();
    for (index, one) in spec.matches.iter().flatten().enumerate() {
        matches.push(request(&format!("{path}.match[{index}]"), one, faults));
    }
    let route = Managed { name: spec.name.clone(), matches, mirror: Some(percentage) };
    if faults.len() > before { Step::Faulty } else { Step::SetRoute(route) }
}

fn request(path: &str, spec: &RequestMatchSpec, faults: &mut Vec<Fault>) -> Match {
    let mut field =
        |name: &str, value: Option<&TextMatchSpec>| value.map(|value| text(&format!("{path}.{name}"), value, faults));
    let (method, uri) = (field("method", spec.method.as_ref()), field("path", spec.path.as_ref()));
    let mut headers = BTreeMap::new();
    for (name, value) in spec.headers.iter().flatten() {
        headers.extend(field(&format!("headers.{name}"), Some(value)).map(|value| (name.clone(), value)));
    }
    let one = Match { method, uri, headers, ..Match::default() };
    if one == Match::default() {
        faults.push(Fault::new(path, "at least one of method, path, headers is required"));
    }
    one
}

fn text(path: &str, spec: &TextMatchSpec, faults: &mut Vec<Fault>) -> TextMatch {
    let given = [&spec.exact, &spec.prefix, &spec.regex].into_iter().flatten().count();
    if given != 1 {
        faults.push(Fault::new(path, format!("exactly one of {} is required", TEXT_MEMBERS.join(", "))));
    }
    TextMatch { exact: spec.exact.clone(), prefix: spec.prefix.clone(), regex: spec.regex.clone() }
}

fn check_name(path: &str, name: &str, faults: &mut Vec<Fault>) {
    if name.len() > LABEL_MOST || !syntax::is_label(name) {
        let why =
            format!("{name:?} is not a name; write at most 63 lower-case letters, digits and hyphens between them");
        faults.push(Fault::new(format!("{path}.name"), why));
    }
}

fn check_list(path: &str, matches: Option<usize>, faults: &mut Vec<Fault>) {
    if matches == Some(0) {
        faults.push(Fault::new(format!("{path}.match"), "is empty; leave it out to remove the route"));
    }
}

/// Header and mirror routes need HTTP routes that are edited, and names of their own.
pub(super) fn check(canary: &CanarySpec, strategy: &mut Strategy) {
    let mut faults = Vec::new();
    let taken = taken(strategy.routing.as_ref());
    for (index, step) in strategy.steps.iter().enumerate() {
        let Step::SetRoute(route) = step else { continue };
        let path = format!("spec.strategy.canary.steps[{index}].{}", route.field());
        if canary.traffic_routing.is_none() {
            faults.push(Fault::new(&path, "needs trafficRouting; remove it"));
        } else if edits_others(strategy.routing.as_ref()) {
            let why = "is for HTTP routes only, and tlsRoutes or tcpRoutes are edited; remove it, or give those a Rollout of their own";
            faults.push(Fault::new(&path, why));
        } else if let Some(Routing::Hosts { kind: RouteKind::HttpRoute, .. }) = &strategy.routing {
            let why =
                "is not supported with gatewayAPI: Serin edits weights of HTTPRoutes alone; remove it, or use istio";
            faults.push(Fault::new(&path, why));
        }
        if taken.contains(&route.name.as_str()) {
            faults.push(Fault::new(
                format!("{path}.name"),
                format!("{} is the route that is edited; choose another name", route.name),
            ));
        }
    }
    for (index, name) in strategy.managed_order.iter().enumerate().filter(|(_, name)| taken.contains(&name.as_str())) {
        let path = format!("spec.strategy.canary.trafficRouting.managedRoutes[{index}].name");
        faults.push(Fault::new(path, format!("{name} is the route that is edited; choose another name")));
    }
    strategy.faults.extend(faults);
}

/// Whether routes are edited that are not HTTP.
fn edits_others(routing: Option<&Routing>) -> bool {
    let Some((_, targets)) = routing.and_then(Routing::in_git) else { return false };
    targets.iter().flat_map(|target| &target.routes).any(|pick| pick.protocol() != Protocol::Http)
}

/// Names of the routes that are edited.
fn taken(routing: Option<&Routing>) -> Vec<&str> {
    match routing {
        None => Vec::new(),
        Some(Routing::Owned { .. }) => vec![names::OWNED_HTTP_ROUTE],
        Some(Routing::InPlace { targets, .. } | Routing::Hosts { targets, .. }) => {
            let picks = targets.iter().flat_map(|target| &target.routes);
            picks.filter_map(|pick| if let Pick::Named(name) = pick { Some(name.as_str()) } else { None }).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::plan::strategy::parse;

    fn header(name: &str) -> Value {
        json!({"setHeaderRoute": {"name": name, "match": [{"headerName": "x-canary", "headerValue": {"exact": "true"}}]}})
    }

    fn told(canary: &Value) -> Vec<String> {
        let spec = json!({
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app"}]}},
            "strategy": {"canary": canary},
        });
        let faults = parse("shop", &spec).faults;
        faults.iter().map(|fault| fault.to_string().replacen("spec.strategy.canary.", "", 1)).collect()
    }

    fn check(step: &Value, faults: &[&str]) {
        assert_eq!(
            told(&json!({"trafficRouting": {"istio": {"owned": {"host": "checkout"}}}, "steps": [step]})),
            faults
        );
    }

    #[test]
    fn faults_name_the_field() {
        check(&header("testers"), &[]);
        check(&json!({"setMirrorRoute": {"name": "shadow"}}), &[]);
        check(
            &header("Testers"),
            &[
                "steps[0].setHeaderRoute.name: \"Testers\" is not a name; write at most 63 lower-case letters, digits and hyphens between them",
            ],
        );
        check(
            &json!({"setHeaderRoute": {"name": "a", "match": [{"headerName": "", "headerValue": {"exact": "x", "prefix": "y"}}]}}),
            &[
                "steps[0].setHeaderRoute.match[0].headerName: is empty; name the header",
                "steps[0].setHeaderRoute.match[0].headerValue: exactly one of exact, prefix, regex is required",
            ],
        );
        check(
            &json!({"setMirrorRoute": {"name": "a", "percentage": 101, "match": [{}, {"path": {}}]}}),
            &[
                "steps[0].setMirrorRoute.percentage: 101 is not between 0 and 100",
                "steps[0].setMirrorRoute.match[0]: at least one of method, path, headers is required",
                "steps[0].setMirrorRoute.match[1].path: exactly one of exact, prefix, regex is required",
            ],
        );
        check(
            &json!({"setHeaderRoute": {"name": "a", "match": []}}),
            &["steps[0].setHeaderRoute.match: is empty; leave it out to remove the route"],
        );
        check(
            &header("serin"),
            &["steps[0].setHeaderRoute.name: serin is the route that is edited; choose another name"],
        );
    }

    #[test]
    fn they_need_an_http_route_and_pods() {
        let scale = json!({"setCanaryScale": {"replicas": 0}});
        assert_eq!(
            told(&json!({"steps": [header("a")]})),
            ["steps[0].setHeaderRoute: needs trafficRouting; remove it"]
        );
        let routing = |extra: Value| json!({"istio": {"virtualService": extra}});
        let tls = routing(json!({"name": "checkout", "routes": ["primary"], "tlsRoutes": [{"port": 443}]}));
        assert_eq!(
            told(&json!({"trafficRouting": tls, "steps": [header("a")]})),
            [
                "steps[0].setHeaderRoute: is for HTTP routes only, and tlsRoutes or tcpRoutes are edited; remove it, or give those a Rollout of their own"
            ]
        );
        let mut http = routing(json!({"name": "checkout", "routes": ["primary"]}));
        assert_eq!(
            told(&json!({"trafficRouting": http, "steps": [scale, header("a"), {"setHeaderRoute": {"name": "a"}}]})),
            [
                "steps[1]: a leads requests to the canary while steps[0].setCanaryScale leaves it no pods; scale it up before"
            ]
        );
        http["managedRoutes"] = json!([{"name": "primary"}]);
        assert_eq!(
            told(&json!({"trafficRouting": http})),
            ["trafficRouting.managedRoutes[0].name: primary is the route that is edited; choose another name"]
        );
    }

    #[test]
    fn the_last_of_a_name_counts_and_managed_routes_come_first() {
        let steps = json!([header("b"), header("c"), header("a"), {"setHeaderRoute": {"name": "c"}}]);
        let routing = json!({"managedRoutes": [{"name": "a"}], "istio": {"owned": {"host": "checkout"}}});
        let spec = json!({"selector": {}, "template": {}, "strategy": {"canary": {"trafficRouting": routing, "steps": steps}}});
        let strategy = parse("shop", &spec);
        let names = |steps| strategy.managed(steps).into_iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(
            [names(0), names(2), names(3), names(4)],
            [vec![], vec!["b", "c"], vec!["a", "b", "c"], vec!["a", "b"]]
        );
    }
}
