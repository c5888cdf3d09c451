//! What Git declares for a person, understood: approvals, rejections, retries, holds and windows.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::{Fault, Step};
use crate::api::promotion::{
    ApprovalSpec, ApprovalStepSpec, PromotionSpec, RejectionSpec, RevisionSelector, WindowMode, WindowSpec,
};
use crate::api::schema::SELECTOR_MEMBERS;
use crate::plan::analysis::later;

/// The shortest and the longest window.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
const LONGEST: SignedDuration = SignedDuration::from_hours(60 * 24);
/// The fewest characters of a commit that name it.
const COMMIT_LEAST: usize = 7;
/// The most people that a step may wait for, as in the definition.
const APPROVERS_MOST: i32 = 10;
/// Windows that are looked at to find out when rollouts go on.
const LOOKED_AT: usize = 100;

/// What Git declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Promotion {
    /// Approvals of steps.
    pub approvals: Vec<ApprovalSpec>,
    /// Whether the rollout is held.
    pub hold: bool,
    /// Revisions that must not be released.
    pub reject: Vec<RejectionSpec>,
    /// How often aborted revisions were to be tried again.
    pub retry: i32,
    /// When rollouts go on.
    pub windows: Windows,
}

/// An approval that a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalStep {
    /// Its name.
    pub name: String,
    /// How many different people give it.
    pub approvers: usize,
}

/// When rollouts go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Windows {
    allow: Vec<Window>,
    deny: Vec<Window>,
}

/// A time that comes again and again.
#[derive(Debug, Clone, PartialEq)]
struct Window {
    begins: Cron,
    zone: TimeZone,
    duration: SignedDuration,
}

impl Window {
    /// Until when it lasts, where it has begun.
    fn ends(&self, at: Timestamp) -> Option<Timestamp> {
        let local = at.to_zoned(self.zone.clone());
        let began = self.begins.find_previous_occurrence(&local, true).ok()?;
        Some(later(began.timestamp(), self.duration)).filter(|end| *end > at)
    }

    /// When it begins next.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let local = after.to_zoned(self.zone.clone());
        self.begins.find_next_occurrence(&local, false).ok().map(|begin| begin.timestamp())
    }
}

impl Windows {
    /// Until when the windows around a time last that hold rollouts, where any do.
    fn denied(&self, at: Timestamp) -> Option<Timestamp> {
        self.deny.iter().filter_map(|window| window.ends(at)).max()
    }

    fn is_allowed(&self, at: Timestamp) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|window| window.ends(at).is_some())
    }

    /// Whether rollouts go on.
    pub fn are_open(&self, at: Timestamp) -> bool {
        self.denied(at).is_none() && self.is_allowed(at)
    }

    /// When rollouts go on next, at a time at which they are held; none where that is not found.
    pub fn open_at(&self, now: Timestamp) -> Option<Timestamp> {
        let mut at = now;
        for _ in 0..LOOKED_AT {
            at = match self.denied(at) {
                Some(end) => end,
                None => self.allow.iter().filter_map(|window| window.next(at)).min()?,
            };
            if self.are_open(at) {
                return Some(at);
            }
        }
        None
    }

    /// When rollouts are held next, at the earliest, at a time at which they go on.
    pub fn closed_at(&self, now: Timestamp) -> Option<Timestamp> {
        let deny = self.deny.iter().filter_map(|window| window.next(now));
        let allow = self.allow.iter().filter_map(|window| window.ends(now)).max();
        deny.chain(allow).min()
    }
}

/// Understands what Git declares, beside the steps.
pub(super) fn parse(spec: Option<&PromotionSpec>, steps: &[Step], faults: &mut Vec<Fault>) -> Promotion {
    check_names(steps, faults);
    let Some(spec) = spec else { return Promotion::default() };
    let approvals = spec.approvals.clone().unwrap_or_default();
    let reject = spec.reject.clone().unwrap_or_default();
    for (index, approval) in approvals.iter().enumerate() {
        check_selector(&format!("spec.promotion.approvals[{index}].for"), &approval.selector, faults);
    }
    for (index, rejection) in reject.iter().enumerate() {
        check_selector(&format!("spec.promotion.reject[{index}].for"), &rejection.selector, faults);
    }
    let mut windows = Windows::default();
    for (index, window) in spec.windows.iter().flatten().enumerate() {
        let Some(parsed) = parse_window(&format!("spec.promotion.windows[{index}]"), window, faults) else { continue };
        match window.mode.unwrap_or_default() {
            WindowMode::Allow => windows.allow.push(parsed),
            WindowMode::Deny => windows.deny.push(parsed),
        }
    }
    let retry = spec.retry.unwrap_or(0);
    Promotion { approvals, hold: spec.hold.unwrap_or(false), reject, retry, windows }
}

/// A step that waits for an approval.
pub(super) fn approval(path: &str, spec: &ApprovalStepSpec, faults: &mut Vec<Fault>) -> Step {
    let approvers = spec.approvers.unwrap_or(1);
    if !(1..=APPROVERS_MOST).contains(&approvers) {
        let message = format!("{approvers} is not a number of people from 1 to {APPROVERS_MOST}");
        faults.push(Fault::new(format!("{path}.approval.approvers"), message));
        return Step::Faulty;
    }
    Step::Approval(ApprovalStep { name: spec.name.clone(), approvers: usize::try_from(approvers).unwrap_or(1) })
}

/// Each approval step has a name of its own.
fn check_names(steps: &[Step], faults: &mut Vec<Fault>) {
    let mut names: Vec<&str> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let Some(ApprovalStep { name, .. }) = step.approval() else { continue };
        let path = format!("spec.strategy.canary.steps[{index}].approval.name");
        if name.is_empty() {
            faults.push(Fault::new(path, "is empty; give the approval a name"));
        } else if names.contains(&name.as_str()) {
            faults.push(Fault::new(path, format!("{name} is the name of an earlier step; give each its own")));
        }
        names.push(name);
    }
}

fn check_selector(path: &str, selector: &RevisionSelector, faults: &mut Vec<Fault>) {
    if *selector == RevisionSelector::default() {
        faults.push(Fault::new(path, format!("at least one of {} is required", SELECTOR_MEMBERS.join(", "))));
    }
    if let Some(commit) = selector.commit.as_ref().filter(|commit| commit.len() < COMMIT_LEAST) {
        let message = format!("{commit:?} is too short; write at least {COMMIT_LEAST} characters");
        faults.push(Fault::new(format!("{path}.commit"), message));
    }
}

fn parse_window(path: &str, spec: &WindowSpec, faults: &mut Vec<Fault>) -> Option<Window> {
    let before = faults.len();
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let begins = parser.parse(&spec.cron);
    if let Err(error) = &begins {
        let example = "write minute, hour, day of the month, month and day of the week, such as 0 9 * * MON-FRI";
        faults.push(Fault::new(format!("{path}.cron"), format!("{:?}: {error}; {example}", spec.cron)));
    }
    let zone = match &spec.time_zone {
        None => Some(TimeZone::UTC),
        Some(name) => TimeZoneDatabase::bundled().get(name).ok(),
    };
    if zone.is_none() {
        let name = spec.time_zone.as_deref().unwrap_or_default();
        let message = format!("{name:?} is not a time zone; write a name such as Europe/Berlin or Asia/Shanghai");
        faults.push(Fault::new(format!("{path}.timeZone"), message));
    }
    let duration = spec.duration.parse();
    match &duration {
        Err(message) => faults.push(Fault::new(format!("{path}.duration"), message.clone())),
        Ok(duration) if !(SHORTEST..=LONGEST).contains(duration) => {
            faults.push(Fault::new(format!("{path}.duration"), "must be 1m at least and 1440h at most"));
        }
        Ok(_) => {}
    }
    if faults.len() > before {
        return None;
    }
    Some(Window { begins: begins.ok()?, zone: zone?, duration: duration.ok()? })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn windows(spec: &Value) -> (Windows, Vec<String>) {
        let spec: PromotionSpec = serde_json::from_value(json!({"windows": spec})).unwrap();
        let mut faults = Vec::new();
        let windows = parse(Some(&spec), &[], &mut faults).windows;
        (windows, faults.iter().map(ToString::to_string).collect())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Whether rollouts go on, and when that changes next.
    fn check(windows: &Windows, now: &str, is_open: bool, next: Option<&str>) {
        assert_eq!(windows.are_open(at(now)), is_open, "{now}");
        let found = if is_open { windows.closed_at(at(now)) } else { windows.open_at(at(now)) };
        assert_eq!(found, next.map(at), "{now}");
    }

    #[test]
    fn rollouts_go_on_in_allowed_windows() {
        let (windows, faults) = windows(&json!([
            {"cron": "0 9 * * MON-FRI", "duration": "8h", "timeZone": "Asia/Shanghai"},
        ]));
        assert_eq!(faults, [""; 0]);
        // 2026-11-20 is a Friday; Shanghai is eight hours ahead.
        check(&windows, "2026-11-20T00:59:59Z", false, Some("2026-11-20T01:00:00Z"));
        check(&windows, "2026-11-20T01:00:00Z", true, Some("2026-11-20T09:00:00Z"));
        check(&windows, "2026-11-20T09:00:00Z", false, Some("2026-11-23T01:00:00Z"));
    }

    #[test]
    fn a_denied_window_is_stronger() {
        let (windows, _) = windows(&json!([
            {"cron": "0 8 * * *", "duration": "10h"},
            {"cron": "0 12 20 11 *", "duration": "24h", "mode": "Deny"},
        ]));
        check(&windows, "2026-11-20T11:00:00Z", true, Some("2026-11-20T12:00:00Z"));
        check(&windows, "2026-11-20T12:00:00Z", false, Some("2026-11-21T12:00:00Z"));
        check(&windows, "2026-11-20T19:00:00Z", false, Some("2026-11-21T12:00:00Z"));
        check(&windows, "2026-11-21T19:00:00Z", false, Some("2026-11-22T08:00:00Z"));
    }

    #[test]
    fn without_an_allowed_window_all_is_allowed_but_what_is_denied() {
        let (windows, _) = windows(&json!([{"cron": "0 0 * * FRI", "duration": "72h", "mode": "Deny"}]));
        check(&windows, "2026-11-19T23:00:00Z", true, Some("2026-11-20T00:00:00Z"));
        check(&windows, "2026-11-22T12:00:00Z", false, Some("2026-11-23T00:00:00Z"));
        check(&Windows::default(), "2026-11-22T12:00:00Z", true, None);
    }

    #[test]
    fn clocks_that_change_move_the_begin_not_the_length() {
        let (windows, _) = windows(&json!([{"cron": "30 2 * * *", "duration": "1h", "timeZone": "Europe/Berlin"}]));
        // On 2026-03-29 two o'clock is three: half past two is not there.
        check(&windows, "2026-03-29T00:59:00Z", false, Some("2026-03-29T01:00:00Z"));
        check(&windows, "2026-03-30T00:29:00Z", false, Some("2026-03-30T00:30:00Z"));
        check(&windows, "2026-03-30T00:30:00Z", true, Some("2026-03-30T01:30:00Z"));
    }

    #[test]
    fn a_window_that_never_comes_holds_for_ever() {
        let (windows, faults) = windows(&json!([{"cron": "0 0 30 2 *", "duration": "1h"}]));
        assert_eq!(faults, [""; 0]);
        check(&windows, "2026-11-20T00:00:00Z", false, None);
    }

    #[test]
    fn faults_name_the_field_and_what_to_do() {
        let fault = |key: &str, value: Value| {
            let mut window = json!({"cron": "0 9 * * *", "duration": "8h"});
            window[key] = value;
            windows(&json!([window])).1.join("\n")
        };
        assert!(fault("cron", json!("every day")).starts_with("spec.promotion.windows[0].cron: \"every day\": "));
        assert!(fault("cron", json!("0 0 9 * * *")).contains("such as 0 9 * * MON-FRI"));
        assert_eq!(
            fault("timeZone", json!("Moon/Copernicus")),
            "spec.promotion.windows[0].timeZone: \"Moon/Copernicus\" is not a time zone; write a name such as Europe/Berlin or Asia/Shanghai"
        );
        assert_eq!(
            fault("duration", json!("1s")),
            "spec.promotion.windows[0].duration: must be 1m at least and 1440h at most"
        );
        assert_eq!(
            fault("duration", json!("long")),
            "spec.promotion.windows[0].duration: \"long\" is not a duration; write 30s, 5m or 1h30m"
        );
    }
}
