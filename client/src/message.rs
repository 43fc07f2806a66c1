//! A message as the application sees it.

use bytes::Bytes;
use quorate_protocol::message::{self as wire, Properties};

use crate::error::Error;

/// Body and properties of a message. Cloning shares the bytes.
///
/// ```
/// use quorate_client::Message;
///
/// let plain = Message::from("hello");
/// let typed = Message::new("{}").with_properties([("content-type", "application/json")])?;
/// assert_eq!(typed.property("content-type"), Some(&b"application/json"[..]));
/// # Ok::<(), quorate_client::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    properties: Properties,
    body: Bytes,
}

impl Message {
    /// A message with this body and no properties.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { properties: Properties::NONE, body: body.into() }
    }

    /// The same body with these properties instead of those it has. Well-known names are in [`crate::property`].
    ///
    /// # Errors
    /// A name is empty, too long or has control characters; more than 64 properties; more than 32 KiB in all.
    pub fn with_properties<'a, V>(self, pairs: impl IntoIterator<Item = (&'a str, V)>) -> Result<Self, Error>
    where
        V: AsRef<[u8]>,
    {
        let pairs: Vec<(&str, V)> = pairs.into_iter().collect();
        let properties = Properties::new(pairs.iter().map(|(name, value)| (*name, value.as_ref())))?;
        Ok(Self { properties, ..self })
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Takes the body out.
    pub fn into_body(self) -> Bytes {
        self.body
    }

    /// The value of the first property of this name.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.get(name)
    }

    /// All properties, in the order in which they were set.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }
}

impl From<wire::Message> for Message {
    fn from(message: wire::Message) -> Self {
        Self { properties: message.properties().clone(), body: message.into_body() }
    }
}

impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

impl From<String> for Message {
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<&'static str> for Message {
    fn from(body: &'static str) -> Self {
        Self::new(body)
    }
}

impl From<&'static [u8]> for Message {
    fn from(body: &'static [u8]) -> Self {
        Self::new(body)
    }
}
