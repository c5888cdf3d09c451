//! One Rollout's page: where it is, what it waits for and what to do, its past as a plot, decisions, history, pods and routes.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::frame::{choice, choices, head_row, long_cell, section, table};
use super::html::{Html, encoded};
use super::list::{address, badge, bar};
use super::plot::{Face, Window};
use super::read::Read;
use super::seen::Past;
use super::timeline::{Foretold, Span, Timeline, author};
use crate::api::status::{OutcomeKind, RevisionStatus, RolloutStatus};
use crate::api::watched::Rollout;
use crate::cli::explain;
use crate::cli::view::{age, short, step_text};
use crate::plan::strategy;
use crate::sim::scenario::BUILT_IN;

/// What a page shows.
pub struct Shown {
    /// What was read of the Rollout.
    pub read: Arc<Read>,
    /// What was seen of it before.
    pub past: Past,
    /// How much of its past is wanted.
    pub span: Span,
    /// A simulation to compare with, or why there is none.
    pub foretold: Option<Result<Foretold, String>>,
    /// Now.
    pub now: Timestamp,
    /// How times are told.
    pub face: Face,
}

impl Shown {
    fn rollout(&self) -> &Rollout {
        &self.read.tree.rollout
    }

    fn status(&self) -> &RolloutStatus {
        &self.rollout().status
    }

    /// One sentence for people who do not see the page.
    pub fn told(&self) -> String {
        let phase = self.status().phase.map_or_else(|| "Unknown".to_owned(), |phase| phase.to_string());
        format!("{}: {phase}. {}", self.rollout().name_any(), self.status().message)
    }

    /// Writes the page; `act` writes what a person can do.
    pub fn write(&self, html: &mut Html, act: impl FnOnce(&mut Html)) {
        html.line("h1", &[], &self.rollout().name_any());
        section(html, "now", "Now", |html| self.present(html));
        act(html);
        section(html, "timeline", "Timeline", |html| self.timeline(html));
        section(html, "decisions", "Decisions", |html| self.decisions(html));
        section(html, "history", "History", |html| self.history(html));
        section(html, "tree", "Revisions, pods and routes", |html| {
            html.branches(std::slice::from_ref(&self.read.branch));
            if let Some(lacking) = &self.read.lacking {
                html.line("p", &[("class", "dim")], &format!("Routes are not shown: {lacking}"));
            }
            if !self.read.tree.unseen.is_empty() {
                let what = self.read.tree.unseen.join(" and ");
                html.line("p", &[("class", "dim")], &format!("Not shown: you may not list {what}."));
            }
        });
        section(html, "events", "Events", |html| self.events(html));
    }

    fn present(&self, html: &mut Html) {
        let status = self.status();
        html.element("p", &[("class", "lead")], |html| {
            badge(html, self.rollout());
            html.text(" ").text(&status.message);
        });
        if self.rollout().is_behind() && status.phase.is_some() {
            html.line("p", &[("class", "warn")], "The controller has not seen the last change of the spec yet.");
        }
        if self.rollout().metadata.deletion_timestamp.is_some() {
            let text = "It is being deleted, and goes once the controller has brought its route back.";
            html.line("p", &[("class", "bad")], text);
        }
        html.element("dl", &[("class", "sides")], |html| {
            let canary = if status.aborted.is_some() { "Aborted" } else { "Canary" };
            let class = if status.aborted.is_some() { "bad" } else { "canary" };
            side(html, (canary, class), status.canary.as_ref());
            side(html, ("Stable", "stable"), status.stable.as_ref());
        });
        self.steps(html);
        html.line("h3", &[], "Why, and what next");
        html.element("div", &[("class", "why")], |html| {
            for line in explain::lines(&self.read.tree, self.now) {
                let text = line.to_string();
                let class = if text.starts_with("  ") { "quoted" } else { "" };
                html.element("p", &[("class", class)], |html| html.spans(&line));
            }
        });
    }

    /// The steps, each with whether it is passed.
    fn steps(&self, html: &mut Html) {
        let status = self.status();
        let Some(at) = status.attempt.as_ref().and(status.current_step_index) else { return };
        let namespace = self.rollout().namespace().unwrap_or_default();
        let steps = strategy::parse(&namespace, &self.rollout().spec.value()).steps;
        let at = usize::try_from(at).unwrap_or(0);
        html.line("h3", &[], "Steps");
        html.element("ol", &[("class", "steps")], |html| {
            for (index, step) in steps.iter().enumerate() {
                let (class, word) = match index.cmp(&at) {
                    Ordering::Less => ("passed", ", passed"),
                    Ordering::Equal if status.aborted.is_some() => ("failed", ", aborted here"),
                    Ordering::Equal => ("current", ", under way"),
                    Ordering::Greater => ("ahead", ", ahead"),
                };
                let mut attributes = vec![("class", class)];
                attributes.extend((index == at).then_some(("aria-current", "step")));
                html.element("li", &attributes, |html| {
                    html.text(&step_text(step));
                    html.unseen(word);
                });
            }
        });
    }

    fn timeline(&self, html: &mut Html) {
        let (from, to) = self.span.bounds(self.status(), self.now);
        let page = address(self.rollout());
        choices(html, "How much of the past", |html| {
            for (span, name, text) in Span::ALL {
                choice(html, (&format!("{page}?span={name}"), text), "", span == self.span);
            }
        });
        let window = Window { from, to, face: self.face.clone() };
        let foretold = self.foretold.as_ref().and_then(|foretold| foretold.as_ref().ok().cloned());
        let timeline =
            Timeline { past: &self.past, condition: &|metric| self.read.tree.condition(metric), window, foretold };
        if let Some(Err(error)) = &self.foretold {
            html.line("p", &[("class", "warn")], &format!("It cannot be simulated: {error}"));
        }
        timeline.write(html);
        let since = self.face.day(self.past.since);
        html.line(
            "p",
            &[("class", "dim")],
            &format!(
                "Weights and pods are what this page has seen since {since}: the API server keeps no earlier ones. Measurements, decisions and events are as the status tells them: the last ten, ten and twenty, and those that were seen."
            ),
        );
        html.element("p", &[], |html| {
            html.text("Compare with a simulation of this release: ");
            for (name, what) in BUILT_IN {
                let target = format!("{page}?compare={}", encoded(name));
                html.line("a", &[("href", &target), ("title", what)], name);
                html.text(", ");
            }
            html.line("a", &[("href", &format!("{page}/simulate"))], "or see the whole plan");
            html.text(".");
        });
    }

    fn decisions(&self, html: &mut Html) {
        if self.past.decisions.is_empty() {
            html.line("p", &[], "Nothing was decided yet.");
            return;
        }
        table(html, "Decisions", "", |html| {
            head_row(html, &[("", "No."), ("", "Time"), ("", "Decision"), ("", "By"), ("", "Release"), ("", "Why")]);
            html.element("tbody", &[], |html| {
                for (at, decision) in self.past.decisions.iter().enumerate().rev() {
                    html.element("tr", &[], |html| {
                        html.line("td", &[], &(at + 1).to_string());
                        self.time(html, decision.at);
                        html.line("td", &[], &decision.what);
                        html.line("td", &[], &author(decision));
                        html.line("td", &[], &self.release_at(decision.at));
                        long_cell(html, &decision.why);
                    });
                }
            });
        });
    }

    /// The revision that a rollout was about at a time, with its commit and, where it is known, its author.
    fn release_at(&self, at: Timestamp) -> String {
        let status = self.status();
        let ended = status.history.iter().rev().find(|one| one.started_at <= at && at <= one.ended_at);
        let (hash, revision, commit) = match (ended, status.in_progress(), status.attempt.as_ref()) {
            (Some(one), ..) => (&one.hash, one.revision, one.commit.as_ref()),
            (None, Some(canary), Some(attempt)) if attempt.started_at <= at => {
                (&canary.hash, canary.revision, canary.commit.as_ref())
            }
            (None, ..) => return "-".to_owned(),
        };
        let sides = [&status.canary, &status.stable].into_iter().flatten();
        let author = sides.filter(|side| side.hash == *hash).find_map(|side| side.author.clone());
        let commit = commit.map_or_else(String::new, |commit| format!(", commit {}", short(commit)));
        format!("r{revision}{commit}{}", author.map_or_else(String::new, |author| format!(" by {author}")))
    }

    fn history(&self, html: &mut Html) {
        let status = self.status();
        if status.history.is_empty() {
            html.line("p", &[], "No rollout has ended yet.");
            return;
        }
        table(html, "History", "", |html| {
            let names = ["Revision", "Outcome", "Ended", "Took", "Commit", "Why"];
            head_row(html, &names.map(|name| ("", name)));
            html.element("tbody", &[], |html| {
                for one in status.history.iter().rev() {
                    let class = match one.outcome {
                        OutcomeKind::Promoted => "good",
                        OutcomeKind::Aborted => "bad",
                        OutcomeKind::Superseded | OutcomeKind::Reverted => "warn",
                    };
                    html.element("tr", &[], |html| {
                        html.line("td", &[], &format!("r{}", one.revision));
                        html.line("td", &[("class", class)], &one.outcome.to_string());
                        self.time(html, one.ended_at);
                        html.line("td", &[], &age(one.started_at, one.ended_at));
                        html.line("td", &[("class", "code")], one.commit.as_deref().map_or("-", short));
                        long_cell(html, &one.reason);
                    });
                }
            });
        });
    }

    fn events(&self, html: &mut Html) {
        if self.past.events.is_empty() {
            html.line("p", &[], "Nothing happened yet.");
            return;
        }
        table(html, "Events", "", |html| {
            head_row(html, &[("", "Time"), ("", "Event"), ("wide", "Commit"), ("", "What happened")]);
            html.element("tbody", &[], |html| {
                for event in self.past.events.values().rev() {
                    html.element("tr", &[], |html| {
                        self.time(html, event.at);
                        html.line("td", &[], &event.reason);
                        html.line("td", &[("class", "wide code")], event.commit.as_deref().map_or("-", short));
                        long_cell(html, &event.message);
                    });
                }
            });
        });
    }

    /// A cell with a time of day, and how long ago that is.
    fn time(&self, html: &mut Html, at: Timestamp) {
        html.element("td", &[("class", "time")], |html| {
            html.line("time", &[("datetime", &at.to_string()), ("title", &self.face.day(at))], &self.face.clock(at));
            html.line("span", &[("class", "dim")], &format!(" {} ago", age(at, self.now)));
        });
    }
}

/// One revision: weight, pods, image, commit and author.
fn side(html: &mut Html, (name, class): (&str, &str), side: Option<&RevisionStatus>) {
    let Some(side) = side else { return };
    html.element("div", &[], |html| {
        html.line("dt", &[], name);
        html.element("dd", &[], |html| {
            html.element("p", &[("class", "weight")], |html| {
                bar(html, side.observed_weight, class);
                html.text(" of traffic");
                if side.weight != side.observed_weight {
                    html.line("span", &[("class", "warn")], &format!(", wanted {}%", side.weight));
                }
                if let Some(weight) = side.weight_in_force.filter(|weight| *weight != side.observed_weight) {
                    html.line("span", &[("class", "warn")], &format!(", proxies have {weight}%"));
                }
                html.text(&format!(", {}/{} pods ready", side.ready, side.replicas));
            });
            html.element("p", &[], |html| {
                html.line("strong", &[], &format!("r{} ", side.revision));
                html.line("span", &[("class", "code")], &side.image);
                if let Some(commit) = &side.commit {
                    html.line("span", &[("class", "dim")], &format!(" commit {}", short(commit)));
                }
                if let Some(author) = &side.author {
                    html.line("span", &[("class", "dim")], &format!(" by {author}"));
                }
            });
        });
    });
}
