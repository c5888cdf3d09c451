//! `serin demo`: the real controller against an embedded Kubernetes API, one good release promoted and one bad release
//! aborted. Simulated are the pods, the traffic, and a Prometheus that answers the demo's one metric on loopback.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for a key that it lacks")]
#![expect(clippy::print_stdout, reason = "the demo is shown on standard output")]

pub mod prometheus;
pub mod screen;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use kube::Api;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::screen::Screen;
use crate::api::provider::MetricProviderSpec;
use crate::api::status::{Phase, RolloutStatus};
use crate::api::watched::Rollout;
use crate::cli::dashboard;
use crate::cli::dashboard::plot::Face;
use crate::cli::dashboard::serve::Dashboard;
use crate::controller::commit::Sources;
use crate::controller::lease::Leadership;
use crate::controller::measure::prometheus::PrometheusMeter;
use crate::controller::telemetry::Metrics;
use crate::controller::{self, Start, clock};
use crate::embedded::{Cluster, world};
use crate::plan::narrate::narrate;
use crate::plan::observed::Settings;
use crate::plan::revision;

const NAMESPACE: &str = "shop";
const NAME: &str = "checkout";
/// The longest that one release may take, at speed 1.
const LONGEST: Duration = Duration::from_mins(1);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How the demo is shown.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How many times faster than real.
    pub speed: f64,
    /// Whether colours are used.
    pub has_color: bool,
    /// The port at which its Rollout is served as a page, if any.
    pub dashboard: Option<u16>,
}

/// How a release must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Promoted,
    Aborted,
}

/// Runs the demo; an error means that a release did not end as it should.
pub async fn run(options: Options) -> anyhow::Result<()> {
    if !(0.1..=20.0).contains(&options.speed) {
        bail!("--speed must be between 0.1 and 20");
    }
    let clock = clock::wall();
    let cluster = Cluster::new(clock.clone());
    let address = prometheus::serve(cluster.clone()).await.context("serve the demo's Prometheus on loopback")?;
    tokio::spawn(world::run(cluster.clone(), scaled(1_000, options.speed)));
    let (stop, stopped) = watch::channel(false);
    let client = cluster.client(NAMESPACE);
    let start = Start {
        meter: Arc::new(PrometheusMeter::new(Api::namespaced(client.clone(), "serin-system"))),
        client,
        namespace: None,
        clock,
        leadership: Leadership::alone(),
        default_provider: Some(MetricProviderSpec::at(&address)),
        proxies: None,
        sources: Sources::default(),
        settings: Settings {
            route_wait_ms: millis(500, options.speed),
            drain_ms: millis(500, options.speed),
            ..Settings::default()
        },
        metrics: Arc::new(Metrics::default()),
        readiness: controller::readiness(),
        notifications: None,
        tracer: None,
    };
    let page = (cluster.client(NAMESPACE), start.clock.clone());
    let controller = tokio::spawn(controller::run(start, stopped));
    if let Some(port) = options.dashboard {
        serve(port, page).await?;
    }
    let mut screen = Screen::open(options.has_color)?;
    let told = tell(&cluster, options.speed, &mut screen).await;
    screen.close()?;
    if options.dashboard.is_some() {
        println!("The page is served until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    stop.send_replace(true);
    controller.await?;
    told
}

/// Serves the Rollout as a page, on this machine.
async fn serve(port: u16, (client, clock): (kube::Client, clock::Clock)) -> anyhow::Result<()> {
    let (listener, guard) = dashboard::listen(port).await?;
    println!("{}", dashboard::address(&guard));
    let look = (clock, Face::Zone(TimeZone::system()));
    let mut page = Dashboard::new(client, Some(NAMESPACE.to_owned()), guard, look);
    page.acts = true;
    tokio::spawn(dashboard::serve(listener, Arc::new(page)));
    Ok(())
}

async fn tell(cluster: &Cluster, speed: f64, screen: &mut Screen) -> anyhow::Result<()> {
    for (plural, object) in [("services", service()), ("analysistemplates", template(speed))] {
        cluster.apply(plural, &object).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    }
    screen.say("checkout:1 is deployed for the first time: no canary, it becomes stable when its pods are ready")?;
    release(cluster, "checkout:1", "1f0c3ab", (speed, End::Promoted), screen).await?;
    screen.say("checkout:2 is committed: a good release")?;
    release(cluster, "checkout:2", "4f2a91c", (speed, End::Promoted), screen).await?;
    screen.say("checkout:3 is committed: one request in six fails, from 50% of traffic on")?;
    release(cluster, "checkout:3", "9b7e02d", (speed, End::Aborted), screen).await?;
    screen
        .say("the good release was promoted and the bad one aborted, by themselves: nobody was asked, nobody was paged")
}

/// Commits an image and watches it until it has ended.
async fn release(
    cluster: &Cluster,
    image: &str,
    commit: &str,
    (speed, end): (f64, End),
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let object = rollout(image, commit, speed);
    let hash = revision::hash(&object["spec"]["template"]);
    cluster.apply("rollouts", &object).map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    let longest = LONGEST.div_f64(speed.min(1.0));
    let deadline = Instant::now() + longest;
    let mut before = current(cluster).map(|rollout| rollout.status).unwrap_or_default();
    loop {
        let Some(rollout) = current(cluster) else { bail!("the Rollout is gone") };
        let status = rollout.status.clone();
        for note in narrate(&before, &status) {
            screen.note(&note)?;
        }
        screen.draw(&rollout, template_text())?;
        before = status.clone();
        match ended(&status, &hash) {
            Some(found) if found == end => return Ok(()),
            Some(_) => bail!(
                "{image} should have been {}; {}",
                if end == End::Promoted { "promoted" } else { "aborted" },
                status.message
            ),
            None if Instant::now() > deadline => {
                bail!("{image} has not ended after {} s; {}", longest.as_secs(), status.message)
            }
            None => sleep(FRAME.div_f64(speed.max(1.0))).await,
        }
    }
}

fn current(cluster: &Cluster) -> Option<Rollout> {
    Rollout::deserialize(&*cluster.get("rollouts", NAMESPACE, NAME)?).ok()
}

/// How the release of a revision ended, once its route and pods are at rest.
fn ended(status: &RolloutStatus, hash: &str) -> Option<End> {
    let is_stable = status.stable.as_ref().is_some_and(|stable| stable.hash == hash);
    if status.phase == Some(Phase::Healthy) && is_stable && status.draining.is_empty() {
        return Some(End::Promoted);
    }
    let is_aborted = status.aborted.as_ref().is_some_and(|aborted| aborted.hash == hash);
    (is_aborted && status.draining.is_empty() && status.canary.as_ref().is_none_or(|canary| canary.replicas == 0))
        .then_some(End::Aborted)
}

fn scaled(milliseconds: i64, speed: f64) -> SignedDuration {
    SignedDuration::from_millis(milliseconds).div_f64(speed)
}

fn millis(milliseconds: i64, speed: f64) -> i64 {
    i64::try_from(scaled(milliseconds, speed).as_millis()).unwrap_or(milliseconds)
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80}]},
    })
}

fn template_text() -> &'static str {
    "result[0] >= 0.95"
}

fn template(speed: f64) -> Value {
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "AnalysisTemplate", "metadata": {"name": "success-rate", "namespace": NAMESPACE},
        "spec": {
            "args": [{"name": "revision"}],
            "metrics": [{
                "name": "success-rate",
                "interval": format!("{}ms", millis(1_000, speed)),
                "count": 4,
                "failureLimit": 1,
                "successCondition": template_text(),
                "prometheus": {"query": "demo_success_rate{revision=\"{{args.revision}}\"}"},
            }],
        },
    })
}

fn rollout(image: &str, commit: &str, speed: f64) -> Value {
    let pause = json!({"pause": {"duration": format!("{}ms", millis(2_000, speed))}});
    let analysis = json!({"analysis": {
        "templates": [{"templateName": "success-rate"}],
        "args": [{"name": "revision", "valueFrom": {"podTemplateHashValue": "Latest"}}],
    }});
    json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {"serin.dev/git-commit": commit}},
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
            "strategy": {"canary": {
                "trafficRouting": {"istio": {"owned": {"host": NAME, "hosts": [NAME]}}},
                "scaleDownDelaySeconds": 1,
                "abortScaleDownDelaySeconds": 1,
                "steps": [{"setWeight": 20}, analysis, {"setWeight": 50}, analysis, {"setWeight": 80}, pause],
            }},
        },
    })
}
