//! Stories drawn from a seed: a Rollout of some kind, a few commits, and faults.

mod baseline;
mod jobs;
mod promotion;
mod role;
mod scene;

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use super::story::{Answer, At, Event, Fault, Health, Pods, Rule, Story};
use crate::plan::observed::Settings;

/// Requests that may go wrong: the first ones of a run.
const REQUESTS: u64 = 600;
/// The longest that a story may take to come to rest once all is fair, in milliseconds.
const LONGEST: u64 = 60 * 60 * 1000;

/// How long after the last event something may go wrong, in milliseconds.
const DISTURBED: u64 = 5 * 60 * 1000;

/// How much may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wildness {
    /// Nothing that touches metrics, specs, people or pods: the end is the same as without faults.
    Silent,
    /// Anything.
    Wild,
}

/// How much may go wrong with a seed.
pub fn wildness(seed: u64) -> Wildness {
    if seed.is_multiple_of(3) { Wildness::Silent } else { Wildness::Wild }
}

/// The story of a seed.
pub fn story(seed: u64) -> Story {
    let mut draw = Draw { chance: Rng::with_seed(seed), events: Vec::new() };
    let routing = draw.routing(seed);
    let wildness = wildness(seed);
    let replicas = draw.chance.i64(1..=6);
    // A chance of its own: what is drawn here leaves the rest as it is.
    let mut other = Draw { chance: Rng::with_seed(!seed), events: Vec::new() };
    let mut objects = routes(routing);
    attach(&mut objects, seed);
    objects.extend(templates(other.one_of(&["5s", "5s", "12s", "20s"])));
    let mut spec = draw.spec(routing, replicas, wildness);
    if !["ratio", "httpRoute"].contains(&routing) {
        Draw { chance: Rng::with_seed(seed.rotate_left(32) | 1), events: Vec::new() }.lead(&mut spec);
    }
    let mut roles = Draw { chance: Rng::with_seed(seed.rotate_left(16) | 1), events: Vec::new() };
    roles.dress(&mut spec);
    let last = match wildness {
        Wildness::Silent => draw.silent(spec.pointer("/strategy/canary/analysis").is_some()),
        Wildness::Wild => {
            let last = draw.wild(routing != "ratio");
            if other.is_so(0.5) { other.scene(&objects, last) } else { last }
        }
    };
    draw.events.extend(promotion::events((seed, wildness), &mut spec, last));
    if wildness == Wildness::Wild && spec.pointer("/strategy/canary/stableMetadata").is_some() {
        roles.redress(last);
    }
    draw.events.extend(other.events.into_iter().chain(roles.events));
    if seed % 8 == 5 && routing != "inPlaceAlone" {
        objects.push(take_over(&mut spec, routing != "ratio" && seed % 16 == 5));
        if routing == "delegate" && wildness == Wildness::Wild {
            // What follows the Deployment's pods is Git's to say, after the route is there.
            let at = Rng::with_seed(seed.rotate_left(24) | 1).u64(0..=last);
            let roots =
                objects.extract_if(.., |object| object.pointer("/metadata/name").is_some_and(|name| name == "root"));
            draw.events.extend(roots.map(|root| At { at, event: Event::Apply(root) }));
        }
    }
    if ["owned", "delegate"].contains(&routing) && wildness == Wildness::Wild {
        // From then on a destination of Serin's has to name the port that is meant.
        let at = Rng::with_seed(seed.rotate_left(40) | 1).u64(0..=last);
        let ports = json!([{"name": "http", "port": 80}, {"name": "metrics", "port": 9090}]);
        draw.event(at, Event::Apply(service("checkout", &ports)));
    }
    objects.extend((seed % 3 == 1 && routing != "ratio").then(|| baseline::beside(&mut spec)));
    objects.extend((seed % 5 == 2).then(|| jobs::beside(seed, &mut spec)));
    objects.push(json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": spec,
    }));
    let faults = draw.faults();
    let controllers = if draw.is_so(0.3) { 2 } else { 1 };
    let from = if wildness == Wildness::Silent { 100_000 } else { 0 };
    draw.api_faults(controllers, (from, last));
    let mut proxies = Draw { chance: Rng::with_seed(seed.rotate_left(8) | 1), events: Vec::new() };
    let slowest = (seed % 4 == 2 && routing != "ratio").then(|| proxies.proxies(&draw.events, last));
    draw.events.append(&mut proxies.events);
    draw.events.iter_mut().filter(|_| routing == "httpRoute").for_each(|at| turn(&mut at.event));
    draw.events.sort_by_key(|at| at.at);
    let fair_at = last + 60_000;
    Story {
        seed,
        objects,
        settings: Settings::default(),
        slowest,
        controllers,
        events: draw.events,
        faults,
        fair_at,
        heals: true,
        promotes_after: None,
        gives_up_after: None,
        requests_from: 0,
        ends_at: fair_at + LONGEST,
    }
}

/// An HTTPRoute is for a Service of the mesh, for a Gateway, or for both.
fn attach(objects: &mut [Value], seed: u64) {
    let service = json!({"group": "", "kind": "Service", "name": "checkout"});
    let gateway = json!({"name": "edge", "namespace": "istio-system"});
    let parents = match Rng::with_seed(seed.rotate_left(48) | 1).u8(0..4) {
        0 => json!([gateway]),
        1 => json!([gateway, service]),
        _ => json!([service]),
    };
    for own in objects.iter_mut().filter_map(|object| object.pointer_mut("/spec/parentRefs")) {
        own.clone_from(&parents);
    }
}

/// What happens to VirtualServices happens to HTTPRoutes.
fn turn(event: &mut Event) {
    if let Event::Delete(plural, _) | Event::Lag(plural, _) = event
        && plural == "virtualservices"
    {
        "httproutes".clone_into(plural);
    }
}

/// A story with faults between the controllers and the API server that are drawn from a seed; nothing else goes wrong.
pub fn disturb(story: &Story, seed: u64) -> Story {
    let mut draw = Draw { chance: Rng::with_seed(seed), events: story.events.clone() };
    let first = story.events.iter().map(|at| at.at).min().unwrap_or(0);
    let last = story.events.iter().map(|at| at.at).max().unwrap_or(0) + DISTURBED;
    let faults = draw.faults();
    let controllers = if draw.is_so(0.3) { 2 } else { 1 };
    draw.api_faults(controllers, (first, last));
    draw.events.sort_by_key(|at| at.at);
    Story { seed, controllers, events: draw.events, faults, fair_at: last, ..story.clone() }
}

/// The same story without what goes wrong between the controllers and the API server.
pub fn without_faults(story: &Story) -> Story {
    let mut story = story.clone();
    story.faults.clear();
    story.events.retain(|at| matches!(at.event, Event::Commit(_) | Event::Answers(_)));
    story
}

struct Draw {
    chance: Rng,
    events: Vec<At>,
}

impl Draw {
    fn routing(&mut self, seed: u64) -> &'static str {
        match self.one_of(&["owned", "delegate", "inPlace", "inPlaceAlone", "hosts", "ratio"]) {
            "hosts" if Rng::with_seed(seed.rotate_left(40) | 1).bool() => "httpRoute",
            routing => routing,
        }
    }

    fn is_so(&mut self, probability: f64) -> bool {
        self.chance.f64() < probability
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = self.chance.usize(..choices.len());
        #[expect(clippy::indexing_slicing, reason = "the index is drawn from the length")]
        choices[at]
    }

    fn event(&mut self, at: u64, event: Event) {
        self.events.push(At { at, event });
    }

    fn seconds(&mut self, from: u64, to: u64) -> u64 {
        self.chance.u64(from * 1000..=to * 1000)
    }

    /// Proxies that are asked what they have: how slow the slowest is, and when they or istiod do not answer.
    fn proxies(&mut self, events: &[At], last: u64) -> u64 {
        for _ in 0..self.chance.u64(0..=2) {
            let at = self.chance.u64(0..=last);
            let away = Event::IstiodAway(self.seconds(1, 60));
            let silent = Event::Silent(self.chance.usize(0..3), self.seconds(1, 120));
            let event = if self.is_so(0.5) { away } else { silent };
            self.event(at, event);
        }
        // Nobody can tell which proxies will use a route that none has: for a new one there is the wait alone.
        let is_renewed =
            events.iter().any(|at| matches!(&at.event, Event::Delete(plural, _) if plural == "virtualservices"));
        if is_renewed { 1500 } else { self.one_of(&[300, 1500, 6000, 15_000]) }
    }

    fn spec(&mut self, routing: &str, replicas: i64, wildness: Wildness) -> Value {
        let steps = self.steps(wildness, routing != "ratio");
        let mut canary = json!({"steps": steps});
        let steps = i64::try_from(steps.as_array().map_or(0, Vec::len)).unwrap_or(1);
        let (delay, after_abort) = (self.chance.i64(0..=20), self.chance.i64(1..=20));
        let of_routing = |istio: Value| Some(json!({"istio": istio}));
        let routed = match routing {
            "owned" => of_routing(json!({"owned": {"host": "checkout", "hosts": ["checkout"]}})),
            "delegate" => of_routing(json!({"owned": {"host": "checkout"}})),
            "inPlace" => of_routing(
                json!({"virtualService": {"name": "checkout", "routes": ["primary"]}, "destinationRule": {"name": "checkout", "stableSubsetName": "stable", "canarySubsetName": "canary"}}),
            ),
            "inPlaceAlone" | "hosts" => of_routing(json!({"virtualService": {"name": "checkout"}})),
            "httpRoute" => Some(json!({"gatewayAPI": {"httpRoute": {"name": "checkout"}}})),
            _ => None,
        };
        if let Some(canary) = canary.as_object_mut() {
            if ["hosts", "httpRoute"].contains(&routing) {
                canary.insert("stableService".into(), json!("checkout-stable"));
                canary.insert("canaryService".into(), json!("checkout-canary"));
            }
            match routed {
                Some(routed) => {
                    canary.insert("trafficRouting".into(), routed);
                    canary.insert("scaleDownDelaySeconds".into(), json!(delay));
                    canary.insert("abortScaleDownDelaySeconds".into(), json!(after_abort));
                    if self.is_so(0.2) {
                        canary.insert("dynamicStableScale".into(), json!(true));
                    }
                    if self.is_so(0.2) {
                        canary.insert("minPodsPerReplicaSet".into(), json!(2));
                    }
                }
                None => {
                    canary.insert("maxSurge".into(), json!(self.chance.i64(1..=2)));
                    canary.insert("maxUnavailable".into(), json!(self.chance.i64(0..=1)));
                }
            }
            if self.is_so(0.3) {
                let starting = self.chance.i64(0..=1).min(steps - 1);
                canary.insert(
                    "analysis".into(),
                    json!({"templates": [{"templateName": "background"}], "startingStep": starting}),
                );
            }
        }
        let mut spec = json!({
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "checkout"}},
            "minReadySeconds": self.one_of(&[0, 0, 5]),
            "progressDeadlineSeconds": self.one_of(&[60, 120, 600]),
            "template": template("checkout:1"),
            "strategy": {"canary": canary},
        });
        if wildness == Wildness::Wild
            && self.is_so(0.15)
            && let Some(spec) = spec.as_object_mut()
        {
            spec.insert("rollbackWindow".into(), json!({"revisions": 2}));
        }
        spec
    }

    fn steps(&mut self, wildness: Wildness, is_routed: bool) -> Value {
        let mut steps = Vec::new();
        let mut weight = 0;
        for _ in 0..self.chance.usize(1..=4) {
            weight = (weight + self.chance.i64(5..=45)).min(100);
            if is_routed && self.is_so(0.1) {
                steps.push(json!({"setCanaryScale": self.one_of(&[Some(2), None]).map_or(json!({"matchTrafficWeight": true}), |pods| json!({"replicas": pods}))}));
            }
            steps.push(json!({"setWeight": weight}));
            match self.chance.usize(..6) {
                0 | 1 => steps.push(json!({"analysis": {"templates": [{"templateName": "success-rate"}]}})),
                2 | 3 => steps.push(json!({"pause": {"duration": format!("{}s", self.chance.i64(1..=30))}})),
                4 if wildness == Wildness::Wild && self.is_so(0.3) => steps.push(json!({"pause": {}})),
                _ => {}
            }
        }
        Value::Array(steps)
    }

    /// Header and mirror routes among the steps.
    fn lead(&mut self, spec: &mut Value) {
        let Some(steps) = spec.pointer_mut("/strategy/canary/steps").and_then(Value::as_array_mut) else { return };
        if !self.is_so(0.4) {
            return;
        }
        let matches = |value: &str| json!([{"headerName": "x-canary", "headerValue": {"exact": value}}]);
        let mut routes = vec![json!({"setHeaderRoute": {"name": "testers", "match": matches("true")}})];
        if self.is_so(0.4) {
            routes.push(
                json!({"setMirrorRoute": {"name": "shadow", "percentage": 50, "match": [{"path": {"prefix": "/"}}]}}),
            );
        }
        if self.is_so(0.3) {
            routes.push(json!({"setHeaderRoute": {"name": "testers", "match": matches("yes")}}));
        }
        if self.is_so(0.4) {
            routes.push(json!({"setHeaderRoute": {"name": "testers"}}));
        }
        let mut at = 0;
        for route in routes {
            at = self.chance.usize(at..=steps.len());
            steps.insert(at, route);
            at += 1;
        }
    }

    /// One commit, good or bad, long after the first deployment. What a background analysis sees in time is chance.
    fn silent(&mut self, has_background: bool) -> u64 {
        if !has_background && self.is_so(0.4) {
            let from_weight = self.one_of(&[None, Some(20), Some(50)]);
            self.event(
                0,
                Event::Answers(Rule { image: Some(image(2)), from_weight, answer: Answer::Bad, ..Rule::default() }),
            );
        }
        let at = 120_000;
        self.event(at, Event::Commit(json!({"template": template(&image(2))})));
        at + 120_000
    }

    /// A few commits, pods and metrics that misbehave, people who act.
    fn wild(&mut self, is_routed: bool) -> u64 {
        let mut at = 0;
        for number in 1..=4 {
            if self.is_so(0.3) {
                let from_weight = self.one_of(&[None, None, Some(30)]);
                let answer = self.one_of(&[Answer::Bad, Answer::Bad, Answer::Value(0.9)]);
                self.event(
                    0,
                    Event::Answers(Rule { image: Some(image(number)), from_weight, answer, ..Rule::default() }),
                );
            }
            if self.is_so(0.3) {
                let pods = match self.chance.usize(..4) {
                    0 => Pods::Unready(self.chance.usize(1..=6)),
                    1 => Pods::Flapping(self.seconds(2, 20)),
                    _ => Pods::ReadyAfter(self.seconds(0, 40)),
                };
                let since = self.seconds(0, 60);
                self.event(since, Event::Pods(image(number), pods));
            }
        }
        for _ in 0..self.chance.usize(1..=9) {
            at += self.seconds(0, 60);
            let event = self.happening(is_routed);
            self.event(at, event);
            if is_routed && self.is_so(0.1) {
                at = self.without_route(at);
            } else if is_routed && self.is_so(0.05) {
                at = self.reverted_each_second(at);
            } else if self.is_so(0.03) {
                at = self.without_pods(at);
            }
        }
        at
    }

    /// Somebody takes the route away, perhaps just when a release goes bad, and notices late. When it is back.
    fn without_route(&mut self, mut at: u64) -> u64 {
        if self.is_so(0.7) {
            let image = image(self.chance.u8(1..=4));
            self.event(at, Event::Commit(json!({"template": template(&image)})));
            at += self.seconds(5, 40);
            self.event(at, Event::Answers(Rule { image: Some(image), answer: Answer::Bad, ..Rule::default() }));
            at += self.seconds(0, 10);
        }
        let route = self.one_of(&["checkout", "checkout-serin"]);
        self.event(at, Event::Delete("virtualservices".into(), route.into()));
        self.event(at + 200_000, Event::RevertRoutes);
        at + 200_000
    }

    /// A release whose pods never come, or die once they have traffic. When somebody looks at it.
    fn without_pods(&mut self, at: u64) -> u64 {
        let image = image(self.chance.u8(1..=4));
        self.event(at, Event::Commit(json!({"template": template(&image)})));
        let die_at = if self.is_so(0.5) { at } else { at + self.seconds(10, 60) };
        self.event(die_at, Event::Pods(image.clone(), Pods::Unready(9)));
        self.event(die_at, Event::Evict(image, 9));
        die_at + 240_000
    }

    /// A GitOps tool that reverts the routes each second. When it ends.
    fn reverted_each_second(&mut self, at: u64) -> u64 {
        let times = self.chance.u64(5..=40);
        (1..=times).for_each(|second| self.event(at + second * 1000, Event::RevertRoutes));
        at + times * 1000
    }

    fn happening(&mut self, is_routed: bool) -> Event {
        let number = self.chance.u8(1..=4);
        match self.chance.usize(..15) {
            0..=4 => Event::Commit(json!({"template": template(&image(number))})),
            5 => Event::Commit(json!({"replicas": self.chance.i64(1..=7)})),
            6 => Event::Commit(
                json!({"strategy": {"canary": {"steps": self.steps(Wildness::Wild, is_routed), "analysis": null}}}),
            ),
            7 | 8 => Event::Act(
                self.one_of(&["promote", "promoteFull", "abort", "retry", "pause", "resume", "restart"]).to_owned(),
            ),
            9 => Event::Evict(image(number), self.chance.usize(1..=6)),
            10 => Event::RevertRoutes,
            11 => Event::Prometheus(self.health()),
            12 => {
                let answer =
                    self.one_of(&[Answer::Good, Answer::Bad, Answer::NotANumber, Answer::Nothing, Answer::Value(0.9)]);
                Event::Answers(Rule { image: Some(image(number)), answer, ..Rule::default() })
            }
            13 => Event::ClockJump(self.chance.i64(-600_000..=600_000)),
            _ => Event::Pods(
                image(number),
                self.one_of(&[Pods::ReadyAfter(0), Pods::ReadyAfter(20_000), Pods::Unready(1), Pods::Flapping(5_000)]),
            ),
        }
    }

    fn health(&mut self) -> Health {
        self.one_of(&[Health::Up, Health::Down, Health::Slow(5_000), Health::Slow(60_000)])
    }

    /// What goes wrong between the controllers and the API server, besides single requests.
    fn api_faults(&mut self, controllers: u8, (from, last): (u64, u64)) {
        for _ in 0..self.chance.usize(..5) {
            let at = self.chance.u64(from..=last.max(from + 1));
            let number = self.chance.u8(..controllers);
            // Whoever lists anew may ask an API server that lags behind, for longer than it was away.
            let lags = self.chance.u8(..3) == 0;
            let pause = if lags { self.seconds(0, 4) } else { self.seconds(0, 20) };
            let plural = self.one_of(&[
                "rollouts",
                "replicasets",
                "virtualservices",
                "destinationrules",
                "services",
                "rolloutactions",
            ]);
            let event = match self.chance.usize(..8) {
                0 | 1 => Event::Kill(number, pause),
                2 => Event::Stop(number, pause),
                3 => Event::Lag(plural.to_owned(), self.seconds(0, 5)),
                4 => Event::DropWatches,
                5 => Event::Expire(self.chance.bool()),
                6 => Event::Outage(self.seconds(1, 15)),
                _ if controllers > 1 => Event::FreeLease,
                _ => Event::Lag(plural.to_owned(), self.seconds(0, 2)),
            };
            if lags && !matches!(event, Event::Lag(..)) {
                let plural = if self.chance.bool() { "rollouts" } else { plural };
                let lag = Event::Lag(plural.to_owned(), self.seconds(5, 15));
                self.event(at, lag);
            }
            self.event(at, event);
        }
        if controllers > 1 && self.is_so(0.3) {
            let (at, number) = (self.chance.u64(from..=last.max(from + 1)), self.chance.u8(..controllers));
            let lasts = self.seconds(10, 40);
            self.event(at, Event::LeaseHangs(number, lasts));
        }
    }

    fn faults(&mut self) -> BTreeMap<u64, Fault> {
        let probability = self.one_of(&[0.0, 0.02, 0.06, 0.15]);
        let mut faults = BTreeMap::new();
        for number in 20..REQUESTS {
            if self.is_so(probability) {
                let pause = self.seconds(0, 10);
                let fault = match self.chance.usize(..12) {
                    0 | 1 => Fault::Refused(409),
                    2 => Fault::Refused(429),
                    3 => Fault::Refused(500),
                    4 => Fault::Refused(504),
                    5 | 6 => Fault::AnswerLost,
                    7 => Fault::Hangs,
                    8 => Fault::Late(self.seconds(0, 30)),
                    9 => Fault::KilledBefore(pause),
                    _ => Fault::KilledAfter(pause),
                };
                faults.insert(number, fault);
            }
        }
        faults
    }
}

fn image(number: u8) -> String {
    format!("checkout:{number}")
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "checkout"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

/// The Deployment that a Rollout takes over, with the Rollout's template; Git holds its replicas or leaves them out.
fn take_over(spec: &mut Value, holds_replicas: bool) -> Value {
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "checkout"}}},
    });
    if let Some(fields) = spec.as_object_mut() {
        let template = fields.remove("template").unwrap_or_default();
        fields.insert("workloadRef".into(), json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}));
        let own = deployment.get_mut("spec").and_then(Value::as_object_mut);
        own.into_iter().for_each(|own| {
            own.insert("template".into(), template.clone());
            if holds_replicas {
                own.insert("replicas".into(), json!(2));
            }
        });
    }
    deployment
}

fn templates(interval: &str) -> Vec<Value> {
    let metric = |name: &str, mut metric: Value| {
        if let Some(metric) = metric.as_object_mut() {
            metric.insert("name".into(), json!(name));
            metric.insert("successCondition".into(), json!("result[0] >= 0.95"));
        }
        json!({"apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": name, "namespace": "shop"}, "spec": {"metrics": [metric]}})
    };
    vec![
        metric(
            "success-rate",
            json!({"prometheus": {"query": "rate"}, "interval": interval, "count": 3, "failureLimit": 1, "failureCondition": "result[0] < 0.85"}),
        ),
        metric("background", json!({"istio": {"metric": "requestSuccessRate"}, "interval": "7s", "failureLimit": 2})),
    ]
}

fn service(name: &str, ports: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": {"app": "checkout"}, "ports": ports}})
}

/// What Git holds besides the Rollout and its templates.
fn routes(routing: &str) -> Vec<Value> {
    let service = |name: &str| service(name, &json!([{"port": 80}]));
    let virtual_service = |route: Value| json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "checkout", "namespace": "shop"}, "spec": {"hosts": ["checkout"], "http": [route]}});
    let subsets = |weight: bool| {
        let mut stable = json!({"destination": {"host": "checkout", "subset": if weight { "stable" } else { "checkout-stable" }}, "weight": 100});
        let canary = json!({"destination": {"host": "checkout", "subset": if weight { "canary" } else { "checkout-canary" }}, "weight": 0});
        if let Some(stable) = stable.as_object_mut() {
            stable.insert("headers".into(), json!({"request": {"set": {"x-side": "stable"}}}));
        }
        json!({"name": "primary", "timeout": "5s", "route": [stable, canary]})
    };
    match routing {
        "inPlace" => vec![
            service("checkout"),
            virtual_service(subsets(true)),
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "checkout", "namespace": "shop"},
                "spec": {"host": "checkout", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 777}}}, "subsets": [
                    {"name": "stable", "labels": {"app": "checkout"}}, {"name": "canary", "labels": {"app": "checkout"}}]},
            }),
        ],
        "inPlaceAlone" => vec![service("checkout"), virtual_service(subsets(false))],
        "hosts" => vec![
            service("checkout-stable"),
            service("checkout-canary"),
            virtual_service(json!({"route": [
                {"destination": {"host": "checkout-stable"}, "weight": 100}, {"destination": {"host": "checkout-canary"}, "weight": 0}]})),
        ],
        // Serin creates the canary's Service.
        "httpRoute" => vec![
            service("checkout-stable"),
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "checkout", "namespace": "shop"},
                "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "checkout"}], "rules": [
                    {"name": "primary", "timeouts": {"request": "5s"}, "backendRefs": [
                        {"name": "checkout-stable", "port": 80, "weight": 100}, {"name": "checkout-canary", "port": 80, "weight": 0}]},
                    {"matches": [{"path": {"value": "/old"}}], "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 301}}]}]},
            }),
        ],
        "delegate" => vec![
            service("checkout"),
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "root", "namespace": "shop"},
                "spec": {"hosts": ["checkout.example"], "gateways": ["gateway"], "http": [{"delegate": {"name": "checkout-serin"}}]},
            }),
        ],
        _ => vec![service("checkout")],
    }
}
