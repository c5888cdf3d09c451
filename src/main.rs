//! The binary `serin`: parses arguments, builds clients, calls the library.
#![expect(clippy::print_stdout, reason = "a command answers on standard output")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use kube::Api;
use serin::api::provider::MetricProviderSpec;
use serin::api::{crd, kustomize, names};
use serin::cli::cluster::Connection;
use serin::cli::screen::LookArguments;
use serin::cli::{dashboard, simulate};
use serin::controller::clock::Clock;
use serin::controller::lease::{self, Candidate, Leadership};
use serin::controller::measure::prometheus::PrometheusMeter;
use serin::controller::notify::Notifications;
use serin::controller::notify::send::{self, Post};
use serin::controller::proxies::Proxies;
use serin::controller::proxies::istiod::{Addresses, Istiod, TokenOf};
use serin::controller::proxies::search::Searches;
use serin::controller::server::Readiness;
use serin::controller::shard::{self, Member, Shards};
use serin::controller::telemetry::{self, LogFormat, Metrics};
use serin::controller::trace::export::{Collector, Tracer};
use serin::controller::{self, Start, clock, commit, server};
use serin::demo;
use serin::notify::host::Hosts;
use serin::plan::observed::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Progressive delivery for Istio: canaries gated by Prometheus metrics, declared in Git.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the controller.
    Run(Box<RunArguments>),
    /// Shows a good release promoted and a bad one aborted; needs no cluster.
    Demo(DemoArguments),
    /// Shows what a release will do, in virtual time; needs no cluster.
    Simulate(Box<SimulateArguments>),
    /// Serves rollouts as a page that only looks, in a pod, for those who may forward its port.
    Dashboard(DashboardArguments),
    /// Prints the CustomResourceDefinitions as YAML.
    Crds(CrdsArguments),
}

#[derive(clap::Args)]
struct SimulateArguments {
    #[command(flatten)]
    own: simulate::Arguments,
    #[command(flatten)]
    look: LookArguments,
}

#[derive(clap::Args)]
struct DemoArguments {
    /// How many times faster, 0.1 to 20.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Serves it as a page for the browser, too, at this port of this machine, and goes on until Ctrl-C.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8046")]
    dashboard: Option<u16>,
    /// Uses no colours; so does a set `NO_COLOR`.
    #[arg(long)]
    no_color: bool,
    #[arg(long, env = "NO_COLOR", hide = true, num_args = 0..=1, default_value = "", default_missing_value = "1")]
    no_color_variable: String,
}

#[derive(clap::Args)]
struct DashboardArguments {
    /// Of this namespace only; absent: of all.
    #[arg(long, env = "SERIN_NAMESPACE")]
    namespace: Option<String>,
    /// The port at 127.0.0.1 of the pod.
    #[arg(long, default_value_t = 8046)]
    port: u16,
}

#[derive(clap::Args)]
struct CrdsArguments {
    /// Writes one file a kind into this folder instead.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// Prints what Kustomize needs to merge lists of these kinds and of Kubernetes' own by their keys: the file of `openapi:`.
    #[arg(long, conflicts_with = "output_dir")]
    kustomize_openapi: bool,
}

#[derive(clap::Args)]
struct RunArguments {
    /// Works in this namespace only; absent: in all.
    #[arg(long, env = "SERIN_NAMESPACE")]
    namespace: Option<String>,
    /// The controller's own namespace: its Lease, and Secrets of metric providers.
    #[arg(long, env = "POD_NAMESPACE", default_value = "serin-system")]
    system_namespace: String,
    /// Makes the metric provider named `default`.
    #[arg(long, env = "SERIN_PROMETHEUS_URL")]
    prometheus_url: Option<String>,
    /// Who is asked which proxies have a written route: every istiod that is found (`auto`), nobody (`off`), or the istiods with
    /// debug endpoints at these URLs, all of which must answer.
    #[arg(long, env = "SERIN_ISTIOD", default_value = "auto", value_delimiter = ',')]
    istiod: Vec<String>,
    /// Namespace of istiod.
    #[arg(long, env = "SERIN_ISTIO_NAMESPACE", default_value = "istio-system")]
    istio_namespace: String,
    /// Service account of istiod's namespace whose token istiod is shown.
    #[arg(long, env = "SERIN_ISTIOD_SERVICE_ACCOUNT", default_value = names::ISTIOD_SERVICE_ACCOUNT)]
    istiod_service_account: String,
    /// File of a token to show instead, with the audience `istio-ca`.
    #[arg(long, env = "SERIN_ISTIOD_TOKEN_FILE")]
    istiod_token_file: Option<PathBuf>,
    /// Whose records tell the commit of a Rollout without the annotation `serin.dev/git-commit`: Flux's Kustomizations, Argo CD's
    /// Applications. Each needs the rules in deploy/commit.
    #[arg(long, env = "SERIN_COMMIT_FROM", value_enum, value_delimiter = ',')]
    commit_from: Vec<CommitSource>,
    /// Namespace of Argo CD.
    #[arg(long, env = "SERIN_ARGOCD_NAMESPACE", default_value = "argocd")]
    argocd_namespace: String,
    /// Seconds that a written route takes at most to reach every proxy, where nobody can be asked.
    #[arg(long, env = "SERIN_ROUTE_WAIT", default_value_t = 2.0)]
    route_wait: f64,
    /// Seconds that proxies have to acknowledge a written route; after them only more canary weight waits on.
    #[arg(long, env = "SERIN_ROUTE_ACK_TIMEOUT", default_value_t = 30.0)]
    route_ack_timeout: f64,
    /// Seconds that subsets and pods are kept for proxies that do not acknowledge.
    #[arg(long, env = "SERIN_DRAIN_TIMEOUT", default_value_t = 600.0)]
    drain_timeout: f64,
    /// Seconds that the longest request takes: a revision without traffic is drained after it.
    #[arg(long, env = "SERIN_DRAIN", default_value_t = 5.0)]
    drain: f64,
    /// A host that notification channels may ask besides the well-known ones: `host` or `host:port`; with `http://` or `smtp://`
    /// before it, without TLS. May be repeated.
    #[arg(long, env = "SERIN_NOTIFICATION_HOST", value_delimiter = ',')]
    notification_host: Vec<String>,
    /// Shows who asks by a `RolloutAction` as verified: only where an admission policy holds that `spec.by` is the user, as the
    /// chart's `requesters.enabled` does.
    #[arg(long, env = "SERIN_VERIFIED_REQUESTERS")]
    verified_requesters: bool,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "SERIN_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Elects a leader by Lease; `false` for a single process.
    #[arg(long, env = "SERIN_LEADER_ELECTION", default_value_t = true, action = clap::ArgAction::Set)]
    leader_election: bool,
    /// Every replica works, each on its share of the Rollouts, in place of one that leads.
    #[arg(long, env = "SERIN_SHARDING")]
    sharding: bool,
    /// Names this replica in its Lease, and in its requests.
    #[arg(long, env = "POD_NAME", default_value = "serin")]
    identity: String,
    #[command(flatten)]
    traces: TraceArguments,
    /// How log lines look.
    #[arg(long, env = "SERIN_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
    /// Which log lines, such as `info,serin=debug`.
    #[arg(long, env = "SERIN_LOG", default_value = "info")]
    log: String,
    #[arg(long, env = "NO_COLOR", hide = true, num_args = 0..=1, default_value = "", default_missing_value = "1")]
    no_color_variable: String,
}

// The standard variables of OpenTelemetry; those of time-outs, headers, compression and attributes hold, too. A comment for
// rustdoc would become the command's own help.
#[derive(clap::Args)]
struct TraceArguments {
    /// Where traces of rollouts go, by OTLP, such as `http://collector:4318`; absent: nowhere.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Where traces go, with their path; wins over the endpoint of all signals.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hide = true)]
    otlp_traces_endpoint: Option<String>,
    /// How they are sent: `http/protobuf` or `grpc`.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL")]
    otlp_protocol: Option<String>,
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", hide = true)]
    otlp_traces_protocol: Option<String>,
    #[arg(long, env = "OTEL_SERVICE_NAME", hide = true)]
    otel_service_name: Option<String>,
    /// `none` sends no traces.
    #[arg(long, env = "OTEL_TRACES_EXPORTER", hide = true)]
    otel_traces_exporter: Option<String>,
    /// `true` sends nothing.
    #[arg(long, env = "OTEL_SDK_DISABLED", hide = true)]
    otel_sdk_disabled: Option<String>,
}

impl TraceArguments {
    /// Starts what sends traces, where there is somewhere to send them to.
    fn tracer(&self, arguments: &RunArguments, metrics: &Arc<Metrics>) -> anyhow::Result<Option<Tracer>> {
        let is_off = self.otel_sdk_disabled.as_ref().is_some_and(|text| text.eq_ignore_ascii_case("true"))
            || self.otel_traces_exporter.as_ref().is_some_and(|text| text == "none");
        let collector = Collector {
            endpoint: self.otlp_endpoint.clone(),
            traces_endpoint: self.otlp_traces_endpoint.clone(),
            protocol: self.otlp_traces_protocol.clone().or_else(|| self.otlp_protocol.clone()),
            service_name: self.otel_service_name.clone(),
            identity: arguments.identity.clone(),
            namespace: arguments.system_namespace.clone(),
        };
        if is_off || !collector.is_named() {
            return Ok(None);
        }
        let exporter = collector.exporter().map_err(|wrong| anyhow::anyhow!(wrong))?;
        Ok(Some(Tracer::spawn(exporter, metrics.clone())))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum CommitSource {
    /// `status.lastAttemptedRevision` of the Kustomization that the Rollout's labels name.
    Flux,
    /// `status.operationState` of the Application that the Rollout's tracking annotation names.
    Argocd,
}

fn main() -> anyhow::Result<ExitCode> {
    controller::use_ring();
    match Arguments::parse().command {
        Command::Run(arguments) => runtime()?.block_on(run(*arguments))?,
        Command::Demo(arguments) => {
            let has_color = !arguments.no_color && arguments.no_color_variable.is_empty();
            runtime()?.block_on(demo::run(demo::Options {
                speed: arguments.speed,
                has_color,
                dashboard: arguments.dashboard,
            }))?;
        }
        Command::Simulate(arguments) => {
            return simulate::run(&arguments.own, &Connection::default(), arguments.look.look().glyphs);
        }
        Command::Dashboard(arguments) => runtime()?.block_on(serve_dashboard(arguments))?,
        Command::Crds(arguments) => print_crds(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")
}

/// Serves the page of a pod until it is ended.
async fn serve_dashboard(arguments: DashboardArguments) -> anyhow::Result<()> {
    let config = kube::Config::infer().await.context("connect to Kubernetes; is KUBECONFIG set?")?;
    let client = kube::Client::try_from(config).context("connect to Kubernetes")?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = dashboard::serve_forwarded(client, arguments.namespace, arguments.port) => served,
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn print_crds(arguments: &CrdsArguments) -> anyhow::Result<()> {
    if arguments.kustomize_openapi {
        println!("{:#}", kustomize::openapi());
        return Ok(());
    }
    for definition in crd::definitions() {
        let text = crd::yaml(&definition)?;
        match &arguments.output_dir {
            Some(dir) => {
                let name =
                    definition.pointer("/metadata/name").and_then(serde_json::Value::as_str).unwrap_or("unnamed");
                let path = dir.join(format!("{name}.yaml"));
                std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            }
            None => print!("---\n{text}"),
        }
    }
    Ok(())
}

async fn run(arguments: RunArguments) -> anyhow::Result<()> {
    telemetry::init(arguments.log_format, &arguments.log, &arguments.no_color_variable)?;
    let mut config = kube::Config::infer().await.context("connect to Kubernetes; is KUBECONFIG set?")?;
    // What may be tried again, and when, is decided by the passes and the watches themselves.
    config.default_retry = false;
    let agent = format!("serin/{} ({})", env!("CARGO_PKG_VERSION"), arguments.identity);
    config.headers.push((http::header::USER_AGENT, agent.parse().context("--identity")?));
    let client = controller::client::connect(config).context("connect to Kubernetes")?;
    let (stop, stopped) = watch::channel(false);
    let (resign, resigned) = watch::channel(false);
    let metrics = Arc::new(Metrics::default());
    let readiness = controller::readiness();
    let clock = clock::wall();
    let (leadership, agreed) = agree(&arguments, &client, (&clock, &metrics), (&readiness, resigned));
    let settings = Settings {
        route_wait_ms: millis(arguments.route_wait),
        route_ack_timeout_ms: millis(arguments.route_ack_timeout),
        drain_timeout_ms: millis(arguments.drain_timeout),
        drain_ms: millis(arguments.drain),
        verified_requesters: arguments.verified_requesters,
    };
    let proxies = proxies(&arguments, &client, &settings)?;
    let hosts =
        Hosts::of(&arguments.notification_host).map_err(|wrong| anyhow::anyhow!("--notification-host: {wrong}"))?;
    let courier = Arc::new(Post::new(hosts.clone(), send::TIMEOUT).context("make the client of notifications")?);
    let tracer = arguments.traces.tracer(&arguments, &metrics)?;
    let traced = tracer.clone();
    let start = Start {
        meter: Arc::new(PrometheusMeter::new(Api::namespaced(client.clone(), &arguments.system_namespace))),
        client,
        namespace: arguments.namespace,
        clock,
        leadership,
        default_provider: arguments.prometheus_url.as_deref().map(MetricProviderSpec::at),
        proxies,
        sources: commit::Sources {
            flux: arguments.commit_from.contains(&CommitSource::Flux),
            argo: arguments.commit_from.contains(&CommitSource::Argocd).then_some(arguments.argocd_namespace),
        },
        settings,
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        notifications: Some(Notifications { hosts, courier }),
        tracer,
    };
    let served = tokio::spawn(server::serve(arguments.listen, readiness, metrics, stopped.clone()));
    let mut controlled = tokio::spawn(controller::run(start, stopped));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = &mut controlled => anyhow::bail!("the controller ended by itself: {ended:?}"),
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping: passes under way are finished, the lease is given up");
    stop.send_replace(true);
    controlled.await?;
    resign.send_replace(true);
    if let Some(agreed) = agreed {
        agreed.await?;
    }
    // Last, since the collector may be away: others lead by now.
    if let Some(tracer) = traced {
        tracer.flush().await;
    }
    served.await?.context("serve /healthz, /readyz and /metrics")
}

/// Agrees with other replicas who handles what, until `resigned` turns true. What has not listed everything handles nothing.
fn agree(
    arguments: &RunArguments,
    client: &kube::Client,
    (clock, metrics): (&Clock, &Arc<Metrics>),
    (readiness, resigned): (&Readiness, watch::Receiver<bool>),
) -> (Leadership, Option<JoinHandle<()>>) {
    let api = Api::namespaced(client.clone(), &arguments.system_namespace);
    if arguments.sharding {
        let name = shard::name_of(&arguments.identity);
        let shards = Shards::new(&name);
        let leadership = Leadership::shared(shards.clone());
        let (clock, metrics) = (clock.clone(), metrics.clone());
        let member = Member { api, name, clock, leadership: leadership.clone(), shards, metrics };
        return (leadership, Some(once_ready(readiness, resigned.clone(), member.run(resigned))));
    }
    if !arguments.leader_election {
        return (Leadership::alone(), None);
    }
    let leadership = Leadership::candidate();
    let candidate = Candidate {
        api,
        name: lease::NAME.into(),
        identity: format!("{}_{}", arguments.identity, std::process::id()),
        clock: clock.clone(),
        leadership: leadership.clone(),
    };
    (leadership, Some(once_ready(readiness, resigned.clone(), candidate.run(resigned))))
}

/// Begins once every kind is listed, unless `resigned` turns true before.
fn once_ready(
    readiness: &Readiness,
    mut resigned: watch::Receiver<bool>,
    run: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let readiness = readiness.clone();
    tokio::spawn(async move {
        let is_ready = tokio::select! {
            () = readiness.wait() => true,
            _ = resigned.wait_for(|resigned| *resigned) => false,
        };
        if is_ready {
            run.await;
        }
    })
}

/// Who is asked about the proxies.
fn proxies(
    arguments: &RunArguments,
    client: &kube::Client,
    settings: &Settings,
) -> anyhow::Result<Option<Arc<dyn Proxies>>> {
    let addresses = match arguments.istiod.as_slice() {
        [off] if off == "off" => return Ok(None),
        [auto] if auto == "auto" => {
            Addresses::Found(Box::new(Api::namespaced(client.clone(), &arguments.istio_namespace)))
        }
        urls => {
            if let Some(wrong) = urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
                anyhow::bail!("--istiod: {wrong:?} is none of auto, off and URLs such as http://istiod.example:15014");
            }
            Addresses::Given(urls.to_vec())
        }
    };
    let route_wait = settings.route_wait().unsigned_abs();
    let token = match &arguments.istiod_token_file {
        Some(path) => TokenOf::File(path.clone()),
        None => TokenOf::Account(
            Box::new(Api::namespaced(client.clone(), &arguments.istio_namespace)),
            arguments.istiod_service_account.clone(),
        ),
    };
    let istiod = Istiod::new((client, &arguments.istio_namespace), addresses, token, route_wait).context("--istiod")?;
    Ok(Some(Arc::new(Searches(Arc::new(istiod)))))
}

/// Seconds in milliseconds, as a setting can hold them.
fn millis(seconds: f64) -> i64 {
    let duration = std::time::Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).unwrap_or_default();
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
