//! The one change of the route that comes next, as a table: a route, what is wanted of it, and the change or the wait.

use std::collections::BTreeMap;

use serin::api::istio::{Match, Protocol, TextMatch};
use serin::plan::revision::Pods;
use serin::plan::route::{Change, Front, Leg, Present, Route};
use serin::plan::strategy::{Managed, RouteKind};
use serin::plan::traffic::{Reached, Wanted, next};

/// A route in place at a weight. `a` is stable unless a case says otherwise, `b` the canary, `c` another one.
fn route(stable: &str, canary: &str, weight: i32) -> Route {
    let leg = Leg {
        kind: RouteKind::VirtualService,
        object: "checkout".into(),
        version: "1".into(),
        protocol: Protocol::Http,
        at: 0,
        behind: 0,
        route: None,
        stable_at: 0,
        canary_at: 1,
        canary: weight,
        stable: 100 - weight,
        share: 100,
    };
    let hash = |hash: &str| (hash != "-").then(|| hash.to_owned());
    Route { stable: hash(stable), canary: hash(canary), has_rule: true, legs: vec![leg], ..Route::default() }
}

/// An owned route whose VirtualService does not exist.
fn missing(stable: &str) -> Route {
    Route { legs: Vec::new(), ..route(stable, stable, 0) }
}

/// Ready and available pods by revision.
fn pods(ready: &[(&str, i32)]) -> BTreeMap<String, Pods> {
    let of = |ready: i32| Pods { wanted: ready, exist: ready, ready, available: ready, ..Pods::default() };
    ready.iter().map(|(hash, ready)| ((*hash).to_owned(), of(*ready))).collect()
}

/// A canary `b` that may have 40% with two of its pods, of five; everything is in force and drained.
fn want(pods: &BTreeMap<String, Pods>) -> Wanted<'_> {
    Wanted {
        anchor: Some("a"),
        canary: Some("b"),
        goal: 40,
        front: &[],
        front_passed: &[],
        may_lead: true,
        pods_wanted: 2,
        pods_now: 2,
        may_raise: true,
        pods,
        replicas: 5,
        stable_lacks: 0,
        reached: Reached::InForce,
        drained: true,
        owned: false,
        resting: None,
    }
}

fn reached(is_in_force: bool) -> Reached {
    if is_in_force { Reached::InForce } else { Reached::Sent }
}

/// The same without a canary.
fn rest(pods: &BTreeMap<String, Pods>) -> Wanted<'_> {
    Wanted { canary: None, ..want(pods) }
}

fn names(routes: &[Managed]) -> String {
    routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>().join(",")
}

/// What comes next, in words.
fn told(route: &Route, want: &Wanted<'_>) -> String {
    match next(route, want) {
        (Some(Change::Weight { weight, stay }), None) if stay.is_empty() => format!("weight {weight}"),
        (Some(Change::Weight { weight, stay }), None) => format!("weight {weight}, {} stay", names(&stay)),
        (Some(Change::Keep(stay)), None) => format!("keep {}", names(&stay)),
        (Some(Change::Front(routes)), None) => format!("front {}", names(&routes)),
        (Some(Change::Restore(weights)), None) => format!("restore {weights:?}"),
        (Some(Change::Subsets { stable, canary }), None) => format!("subsets {stable} {canary}"),
        (Some(Change::Unlabel), None) => "unlabel".into(),
        (Some(Change::Port), None) => "port".into(),
        (Some(Change::Plain), None) => "plain".into(),
        (Some(Change::ToSubsets), None) => "to subsets".into(),
        (None, Some((reason, _))) => format!("waits: {reason}"),
        (None, None) => "nothing".into(),
        (Some(change), Some(waiting)) => format!("both {change:?} and {waiting:?}"),
    }
}

#[test]
fn only_weights_are_remembered() {
    assert!(route("a", "b", 0).resting().is_empty());
    assert_eq!(route("a", "b", 30).resting().into_values().collect::<Vec<_>>(), [30]);
}

#[test]
fn an_owned_route_begins_at_the_plain_host() {
    let (five, four, three) = (pods(&[("a", 5), ("b", 5)]), pods(&[("a", 5), ("b", 4)]), pods(&[("a", 5), ("b", 3)]));
    let none = pods(&[("b", 5)]);
    let is = |pods: &BTreeMap<String, Pods>, route: &Route, anchor: Option<&str>, is_in_force: bool| {
        told(route, &Wanted { owned: true, anchor, reached: reached(is_in_force), ..want(pods) })
    };
    // Without the VirtualService.
    assert_eq!(is(&five, &Route { has_rule: false, ..missing("a") }, Some("a"), true), "plain");
    assert_eq!(is(&none, &missing("a"), Some("b"), true), "plain");
    assert_eq!(is(&five, &missing("a"), Some("a"), true), "to subsets");
    assert_eq!(is(&five, &missing("a"), Some("b"), true), "subsets b b");
    assert_eq!(is(&four, &missing("a"), Some("b"), true), "subsets b b");
    assert_eq!(is(&three, &missing("a"), Some("b"), true), "to subsets");
    assert_eq!(is(&five, &missing("a"), None, true), "to subsets");
    // At the plain host, with and without subsets.
    let plain = |stable: &str| Route { is_plain: true, ..route(stable, stable, 0) };
    assert_eq!(is(&five, &plain("-"), None, true), "nothing");
    assert_eq!(is(&five, &plain("-"), Some("a"), true), "subsets a a");
    assert_eq!(is(&five, &plain("b"), Some("a"), true), "subsets a a");
    assert_eq!(is(&five, &plain("a"), Some("a"), false), "waits: RouteSettling");
    assert_eq!(is(&five, &plain("a"), Some("a"), true), "to subsets");
    // A route in Git is never created.
    assert_eq!(told(&missing("a"), &want(&five)), "nothing");
}

#[test]
fn weight_goes_down_at_once() {
    let (ready, one) = (pods(&[("a", 5), ("b", 2)]), pods(&[("a", 5), ("b", 1)]));
    let (dead, alone, gone) = (pods(&[("a", 5), ("b", 0)]), pods(&[("a", 0), ("b", 2)]), pods(&[]));
    let at = |weight| route("a", "b", weight);
    let soon = |pods| Wanted { reached: Reached::Sent, ..want(pods) };
    assert_eq!(told(&at(41), &soon(&ready)), "weight 40");
    assert_eq!(told(&at(40), &soon(&ready)), "nothing");
    assert_eq!(told(&at(40), &soon(&one)), "weight 20");
    assert_eq!(told(&at(40), &soon(&dead)), "weight 0");
    assert_eq!(told(&at(1), &soon(&dead)), "weight 0");
    assert_eq!(told(&at(40), &Wanted { canary: None, ..soon(&ready) }), "weight 0");
    assert_eq!(told(&at(40), &Wanted { canary: Some("c"), ..soon(&ready) }), "weight 0");
    assert_eq!(told(&at(40), &Wanted { replicas: 0, ..soon(&ready) }), "weight 0");
    // Pods for a higher weight are on their way: those that there are keep what they carry.
    assert_eq!(told(&at(40), &Wanted { goal: 80, pods_wanted: 4, ..want(&ready) }), "nothing");
    assert_eq!(told(&at(60), &Wanted { goal: 80, pods_wanted: 4, pods_now: 3, ..want(&ready) }), "weight 40");
    assert_eq!(told(&at(60), &Wanted { goal: 40, pods_now: 3, ..want(&ready) }), "weight 40");
    // Stable has no ready pod: all goes where pods are, once the last change is in force.
    assert_eq!(told(&at(40), &want(&alone)), "weight 100");
    assert_eq!(told(&at(40), &soon(&alone)), "waits: RouteSettling");
    assert_eq!(told(&at(100), &want(&alone)), "nothing");
    assert_eq!(told(&at(40), &rest(&alone)), "waits: StableNotReady");
    assert_eq!(told(&at(40), &want(&gone)), "weight 0");
    assert_eq!(told(&route("-", "b", 40), &want(&alone)), "waits: PodsNotReady");
    // A subset that holds the anchor is no canary's.
    assert_eq!(told(&route("a", "a", 40), &soon(&ready)), "waits: RouteSettling");
    assert_eq!(told(&route("c", "a", 40), &soon(&pods(&[("a", 5), ("c", 5)]))), "waits: RouteSettling");
}

#[test]
fn a_shrunk_stable_gets_what_it_carries() {
    let ready = pods(&[("a", 2), ("b", 5)]);
    let aborted = |stable_lacks, pods| Wanted { stable_lacks, ..rest(pods) };
    assert_eq!(told(&route("a", "b", 100), &aborted(60, &ready)), "weight 60");
    assert_eq!(told(&route("a", "b", 60), &aborted(60, &ready)), "waits: StableNotReady");
    assert_eq!(told(&route("a", "b", 40), &aborted(60, &ready)), "waits: StableNotReady");
    assert_eq!(told(&route("a", "b", 40), &aborted(0, &ready)), "weight 0");
    assert_eq!(told(&route("a", "b", 0), &aborted(60, &ready)), "subsets a a");
    // The canary keeps no more than its own pods carry.
    let mut few = pods(&[("a", 2), ("b", 2)]);
    few.get_mut("b").unwrap().wanted = 5;
    assert_eq!(told(&route("a", "b", 100), &aborted(60, &few)), "weight 40");
    assert_eq!(told(&route("a", "b", 40), &Wanted { stable_lacks: 40, ..want(&ready) }), "nothing");
}

#[test]
fn the_stable_subset_holds_what_serves() {
    let five = pods(&[("a", 5), ("b", 5), ("c", 5)]);
    let ready = |a, c| pods(&[("a", a), ("c", c)]);
    assert_eq!(told(&route("c", "c", 0), &rest(&five)), "subsets a a");
    assert_eq!(told(&route("c", "c", 0), &Wanted { reached: Reached::Sent, ..rest(&five) }), "waits: RouteSettling");
    assert_eq!(told(&route("-", "-", 0), &Wanted { reached: Reached::Sent, ..rest(&five) }), "subsets a a");
    assert_eq!(told(&route("c", "c", 0), &rest(&ready(4, 5))), "subsets a a");
    assert_eq!(told(&route("c", "c", 0), &rest(&ready(3, 5))), "waits: PodsNotReady");
    assert_eq!(told(&route("c", "c", 0), &rest(&ready(3, 0))), "subsets a a");
    assert_eq!(told(&route("c", "c", 0), &rest(&ready(0, 0))), "waits: PodsNotReady");
    // The canary subset is left to a canary, and to requests that are not finished.
    assert_eq!(told(&route("c", "b", 20), &want(&five)), "subsets a b");
    assert_eq!(told(&route("c", "b", 0), &Wanted { drained: false, ..rest(&five) }), "subsets a b");
    assert_eq!(told(&route("c", "b", 0), &rest(&five)), "subsets a a");
    assert_eq!(told(&route("c", "c", 0), &Wanted { anchor: None, ..rest(&five) }), "nothing");
}

#[test]
fn the_canary_subset_moves_at_zero() {
    let ready = pods(&[("a", 5), ("b", 2), ("c", 2)]);
    let one = pods(&[("a", 5), ("b", 1)]);
    let resting = || route("a", "a", 0);
    assert_eq!(told(&resting(), &want(&ready)), "subsets a b");
    assert_eq!(told(&resting(), &Wanted { reached: Reached::Sent, ..want(&ready) }), "waits: RouteSettling");
    assert_eq!(told(&route("a", "-", 0), &Wanted { reached: Reached::Sent, ..want(&ready) }), "subsets a b");
    assert_eq!(told(&resting(), &want(&one)), "nothing");
    assert_eq!(told(&resting(), &Wanted { may_raise: false, ..want(&ready) }), "nothing");
    assert_eq!(told(&resting(), &Wanted { goal: 0, ..want(&ready) }), "nothing");
    assert_eq!(told(&resting(), &Wanted { pods_wanted: 0, ..want(&ready) }), "nothing");
    assert_eq!(told(&resting(), &Wanted { pods_wanted: 0, goal: 0, ..want(&ready) }), "nothing");
    // The canary before has to be drained.
    assert_eq!(told(&route("a", "c", 0), &Wanted { drained: false, ..want(&ready) }), "waits: Draining");
    assert_eq!(told(&route("a", "c", 0), &want(&ready)), "subsets a b");
    assert_eq!(told(&route("a", "b", 0), &rest(&ready)), "subsets a a");
    // Both subsets hold the anchor and the weights are not back yet: they wait until the proxies know.
    assert_eq!(told(&route("a", "a", 40), &Wanted { reached: Reached::Sent, ..want(&ready) }), "waits: RouteSettling");
    assert_eq!(told(&route("a", "a", 40), &want(&ready)), "weight 0");
    assert_eq!(told(&route("a", "-", 40), &Wanted { reached: Reached::Sent, ..want(&ready) }), "weight 0");
}

#[test]
fn weight_goes_up_after_pods() {
    let (ready, one) = (pods(&[("a", 5), ("b", 2)]), pods(&[("a", 5), ("b", 1)]));
    assert_eq!(told(&route("a", "b", 0), &want(&ready)), "weight 40");
    assert_eq!(told(&route("a", "b", 20), &want(&ready)), "weight 40");
    assert_eq!(told(&route("a", "b", 20), &Wanted { reached: Reached::Sent, ..want(&ready) }), "waits: RouteSettling");
    assert_eq!(told(&route("a", "b", 20), &Wanted { may_raise: false, ..want(&ready) }), "nothing");
    assert_eq!(told(&route("a", "b", 20), &want(&one)), "nothing");
    assert_eq!(told(&route("a", "b", 0), &Wanted { pods_wanted: 0, ..want(&ready) }), "nothing");
    assert_eq!(told(&route("a", "b", 0), &Wanted { goal: 0, ..want(&ready) }), "nothing");
    assert_eq!(told(&route("a", "b", 100), &Wanted { goal: 100, ..want(&ready) }), "nothing");
}

#[test]
fn at_rest_the_weights_are_what_they_were() {
    let ready = pods(&[("a", 5), ("c", 5)]);
    let resting = BTreeMap::from([("checkout/0".to_owned(), 10)]);
    let is = |is_in_force| Wanted { resting: Some(&resting), reached: reached(is_in_force), ..rest(&ready) };
    assert_eq!(told(&route("a", "a", 40), &is(true)), r#"restore {"checkout/0": 10}"#);
    assert_eq!(told(&route("a", "a", 40), &is(false)), "waits: RouteSettling");
    assert_eq!(told(&route("a", "a", 10), &is(true)), "nothing");
    let owned = |is_in_force| Wanted { owned: true, reached: reached(is_in_force), ..rest(&ready) };
    assert_eq!(told(&route("a", "a", 40), &owned(true)), "weight 0");
    assert_eq!(told(&route("a", "a", 40), &owned(false)), "waits: RouteSettling");
    assert_eq!(told(&route("a", "a", 0), &owned(true)), "nothing");
    // What somebody else holds in Git is not known before a rollout.
    assert_eq!(told(&route("a", "a", 40), &rest(&ready)), "nothing");
}

fn header(name: &str, value: &str) -> Managed {
    let text = TextMatch { exact: Some(value.into()), ..TextMatch::default() };
    let one = Match { headers: [("x-canary".to_owned(), text)].into(), ..Match::default() };
    Managed { name: name.into(), matches: vec![one], mirror: None }
}

/// A route with these header routes in front; one without a name is not as Serin writes it.
fn behind(route: Route, present: &[&Managed]) -> Route {
    let of = |(at, managed): (usize, &&Managed)| Present {
        at,
        name: managed.name.clone(),
        managed: (!managed.name.is_empty()).then(|| (*managed).clone()),
    };
    let front = Front {
        virtual_service: "checkout".into(),
        version: "1".into(),
        at: present.len(),
        route: None,
        canary_at: 1,
        present: present.iter().enumerate().map(of).collect(),
    };
    Route { fronts: vec![front], ..route }
}

#[test]
fn a_header_route_comes_after_pods_and_the_subset() {
    let (ready, one) = (pods(&[("a", 5), ("b", 2)]), pods(&[("a", 5), ("b", 1)]));
    let testers = [header("testers", "true")];
    let wanted = |pods| Wanted { goal: 0, front: &testers, ..want(pods) };
    let at = |canary| behind(route("a", canary, 0), &[]);
    assert_eq!(told(&at("a"), &wanted(&ready)), "subsets a b");
    assert_eq!(told(&at("b"), &wanted(&ready)), "front testers");
    assert_eq!(told(&at("b"), &Wanted { reached: Reached::Sent, ..wanted(&ready) }), "waits: RouteSettling");
    assert_eq!(told(&at("b"), &Wanted { may_lead: false, ..wanted(&ready) }), "nothing");
    assert_eq!(told(&at("b"), &wanted(&one)), "nothing");
    assert_eq!(told(&behind(route("a", "b", 0), &[&testers[0]]), &wanted(&ready)), "nothing");
    // One change at a time: the header route, then the weight, which leaves it where it is.
    assert_eq!(told(&at("b"), &Wanted { goal: 40, ..wanted(&ready) }), "front testers");
    let led = behind(route("a", "b", 0), &[&testers[0]]);
    assert_eq!(told(&led, &Wanted { goal: 40, ..wanted(&ready) }), "weight 40, testers stay");
    // With stable's pods gone the canary has all and may have a header route, too.
    let alone = pods(&[("a", 0), ("b", 5)]);
    assert_eq!(told(&behind(route("a", "b", 100), &[]), &wanted(&alone)), "front testers");
}

#[test]
fn a_header_route_that_must_not_be_goes_at_once() {
    let ready = pods(&[("a", 5), ("b", 2)]);
    let dead = pods(&[("a", 5), ("b", 0)]);
    let testers = [header("testers", "true")];
    let led = |weight| behind(route("a", "b", weight), &[&testers[0]]);
    let soon = |pods| Wanted { reached: Reached::Sent, front: &testers, goal: 0, ..want(pods) };
    assert_eq!(told(&led(0), &soon(&ready)), "nothing");
    assert_eq!(told(&led(0), &soon(&dead)), "keep ");
    assert_eq!(told(&led(40), &Wanted { goal: 40, ..soon(&dead) }), "weight 0");
    assert_eq!(told(&led(0), &Wanted { front: &[], ..soon(&ready) }), "keep ");
    assert_eq!(told(&led(0), &Wanted { canary: None, ..soon(&ready) }), "keep ");
    assert_eq!(told(&led(40), &Wanted { canary: None, ..soon(&ready) }), "weight 0");
    assert_eq!(told(&led(0), &Wanted { canary: Some("c"), ..soon(&ready) }), "keep ");
    assert_eq!(told(&led(0), &Wanted { replicas: 0, ..soon(&ready) }), "keep ");
    // Before the stable subset moves at a promotion.
    assert_eq!(told(&led(40), &Wanted { anchor: Some("b"), ..rest(&pods(&[("a", 5), ("b", 5)])) }), "keep ");
    // No pod of stable is there to serve instead.
    let alone = pods(&[("a", 0), ("b", 2)]);
    assert_eq!(told(&led(40), &rest(&alone)), "waits: StableNotReady");
}

#[test]
fn a_header_route_is_changed_in_one_write() {
    let ready = pods(&[("a", 5), ("b", 2)]);
    let (old, new) = (header("testers", "true"), header("testers", "yes"));
    let (passed, front) = ([old.clone()], [new]);
    let led = behind(route("a", "b", 0), &[&old]);
    let wanted = Wanted { goal: 0, front: &front, front_passed: &passed, ..want(&ready) };
    assert_eq!(told(&led, &wanted), "front testers");
    assert_eq!(told(&led, &Wanted { reached: Reached::Sent, ..wanted.clone() }), "waits: RouteSettling");
    assert_eq!(told(&led, &Wanted { may_lead: false, ..wanted.clone() }), "nothing");
    // What no step has asked for goes first, and so does what somebody else has written under its name.
    assert_eq!(told(&led, &Wanted { front_passed: &[], ..wanted.clone() }), "keep testers");
    let foreign = Managed { name: String::new(), ..old };
    assert_eq!(told(&behind(route("a", "b", 0), &[&foreign]), &wanted), "keep testers,testers");
}
