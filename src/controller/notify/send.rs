//! Carries messages out of the cluster: by HTTP and by SMTP, bounded in time and size, and redirected nowhere.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use serde_json::json;

use crate::api::names;
use crate::api::watched::Rollout;
use crate::controller::Shell;
use crate::controller::measure::prometheus::root;
use crate::notify::answer::{Answer, Outcome, judge};
use crate::notify::commit::{Object, PROMOTER_GROUP};
use crate::notify::format::{Outgoing, Request};
use crate::notify::host::Hosts;
use crate::notify::mail::Mail;
use crate::notify::service::Service;

/// How long a service may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_BYTES: usize = 65_536;
/// Port at which TLS is there from the beginning.
const SUBMISSIONS: u16 = 465;

/// Carries messages.
pub trait Courier: Send + Sync {
    /// What became of a message; never later than a time-out.
    fn carry(&self, outgoing: Outgoing, service: Service) -> BoxFuture<'static, Outcome>;
}

/// The courier of a cluster that is no test.
#[derive(Clone)]
pub struct Post {
    client: reqwest::Client,
    hosts: Arc<Hosts>,
    timeout: Duration,
}

impl Post {
    /// A courier that knows where mail may go without TLS.
    pub fn new(hosts: Hosts, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .user_agent(concat!("serin/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, hosts: Arc::new(hosts), timeout })
    }

    async fn http(&self, request: Request, service: Service) -> Outcome {
        let is_webhook_of_slack = !request.headers.iter().any(|(name, _)| name == "authorization");
        let mut builder = self.client.post(&request.url).body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let mut response = match builder.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Outcome::Refused("the request cannot be built".to_owned()),
            Err(error) if error.is_connect() => {
                return Outcome::Later(format!("no connection: {}", root(&error)), None);
            }
            Err(error) if error.is_timeout() => return self.silent(),
            Err(_) => return Outcome::Unknown("the connection broke before the answer".to_owned()),
        };
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Some(Vec::new());
        while let Some(read) = &mut body {
            match response.chunk().await {
                Ok(Some(piece)) if read.len() + piece.len() <= ANSWER_BYTES => read.extend_from_slice(&piece),
                Ok(Some(_)) | Err(_) => body = None,
                Ok(None) => break,
            }
        }
        judge(service, is_webhook_of_slack, &Answer { code: response.status().as_u16(), retry_after, body })
    }

    fn silent(&self) -> Outcome {
        Outcome::Unknown(format!("no answer within {} s", self.timeout.as_secs()))
    }

    async fn mail(&self, mail: Mail) -> Outcome {
        let message = match mail.written() {
            Ok(message) => message,
            Err(error) => return Outcome::Refused(format!("the mail cannot be written: {error}")),
        };
        let tls = match TlsParameters::new(mail.host.clone()) {
            Ok(_) if self.hosts.allows_plain_mail(&mail.host, mail.port) => Tls::None,
            Ok(parameters) if mail.port == SUBMISSIONS => Tls::Wrapper(parameters),
            Ok(parameters) => Tls::Required(parameters),
            Err(_) => return Outcome::Refused("the host is none that TLS knows".to_owned()),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host)
            .port(mail.port)
            .tls(tls)
            .timeout(Some(self.timeout));
        if let Some((user, password)) = mail.credentials {
            builder = builder.credentials(Credentials::new(user, password));
        }
        match tokio::time::timeout(self.timeout, builder.build().send(message)).await {
            Ok(Ok(_)) => Outcome::Sent(None),
            Ok(Err(error)) => of_mail(&error),
            Err(_) => self.silent(),
        }
    }
}

/// What an error of SMTP means: an answer says that nothing was taken, a broken connection says nothing.
fn of_mail(error: &lettre::transport::smtp::Error) -> Outcome {
    let code = error.status().map_or_else(|| "SMTP".to_owned(), |code| format!("SMTP {code}"));
    if error.is_transient() {
        return Outcome::Later(code, None);
    }
    if error.is_permanent() {
        return Outcome::Refused(code);
    }
    let is_before = error.is_client() || error.is_tls() || root(error).contains("refused");
    if is_before {
        Outcome::Later(format!("no connection: {}", root(error)), None)
    } else {
        Outcome::Unknown("the connection broke before the answer".to_owned())
    }
}

impl Courier for Post {
    fn carry(&self, outgoing: Outgoing, service: Service) -> BoxFuture<'static, Outcome> {
        let post = self.clone();
        async move {
            match outgoing {
                Outgoing::Http(request) => post.http(request, service).await,
                Outgoing::Mail(mail) => post.mail(mail).await,
                Outgoing::Object(_) | Outgoing::Nothing => Outcome::Refused("this is no message".to_owned()),
            }
        }
        .boxed()
    }
}

/// Applies an object in the channel's namespace; it goes with the Rollout.
pub async fn object(shell: &Shell, (channel, namespace): (&str, &str), rollout: &Rollout, object: Object) -> Outcome {
    let kind = GroupVersionKind::gvk(PROMOTER_GROUP, "v1alpha1", "CommitStatus");
    let resource = ApiResource::from_gvk_with_plural(&kind, "commitstatuses");
    let api: Api<DynamicObject> = Api::namespaced_with(shell.client.clone(), namespace, &resource);
    let mut body = object.body;
    let owner = json!([{
        "apiVersion": names::API_VERSION, "kind": "Rollout",
        "name": rollout.metadata.name, "uid": rollout.metadata.uid,
    }]);
    if let Some(metadata) = body.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.insert("ownerReferences".into(), owner);
    }
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    let request = api.patch(&object.name, &params, &patch);
    match shell.write(channel, ("commitstatuses", "patch"), "write the CommitStatus", request).await {
        Ok(_) => Outcome::Sent(None),
        Err(error) => match error.code() {
            Some(404) => Outcome::Later(
                "the kind CommitStatus does not exist here: is gitops-promoter installed?".to_owned(),
                None,
            ),
            Some(403) => Outcome::Later(
                "Serin may not write CommitStatuses; apply deploy/notifications/promoter.yaml".to_owned(),
                None,
            ),
            Some(422) => Outcome::Refused("the CommitStatus is refused: HTTP 422".to_owned()),
            _ => Outcome::Later(error.to_string(), None),
        },
    }
}
