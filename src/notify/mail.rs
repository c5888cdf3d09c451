//! Messages as mail.

use lettre::message::{Mailbox, header::ContentType};

use super::context::Message;
use super::format::Given;

/// A mail and the server that takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Who sends.
    pub from: Mailbox,
    /// Who gets it.
    pub to: Vec<Mailbox>,
    /// The first line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// `Message-ID`: the same for the same event.
    pub id: String,
    /// `In-Reply-To`: what gathers the mails of one attempt.
    pub thread: String,
}

/// A mail about an event.
pub fn mail(given: &Given<'_>, message: &Message) -> Result<Mail, String> {
    let spec = given.spec.email.as_ref().ok_or("the channel names no mail")?;
    let read = |address: &String| address.parse::<Mailbox>().map_err(|_| format!("{address:?} is no address"));
    let to: Result<Vec<Mailbox>, String> = spec.to.iter().map(read).collect();
    let password = given.secrets.maybe(spec.password.as_ref())?;
    let context = &message.context;
    let attempt = format!("{}.{}.{}", context.rollout, context.revision, context.attempt.unwrap_or(0));
    Ok(Mail {
        host: spec.host.clone(),
        port: spec.port.and_then(|port| u16::try_from(port).ok()).unwrap_or(587),
        credentials: spec.username.clone().zip(password.cloned()),
        from: read(&spec.from)?,
        to: to?,
        subject: message.title.clone(),
        body: format!("{}\n", message.body),
        id: format!("<{}@serin>", context.id),
        thread: format!("<{attempt}.{}@serin>", context.namespace),
    })
}

impl Mail {
    /// As it goes over the wire.
    pub fn written(&self) -> Result<lettre::Message, String> {
        let mut builder = lettre::Message::builder().from(self.from.clone()).subject(&self.subject);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder
            .message_id(Some(self.id.clone()))
            .in_reply_to(self.thread.clone())
            .references(self.thread.clone())
            .header(ContentType::TEXT_PLAIN)
            .body(self.body.clone())
            .map_err(|error| error.to_string())
    }
}
