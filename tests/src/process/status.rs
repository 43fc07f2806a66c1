//! What a broker says of itself, at its admin port.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

/// Longer than a healthy broker needs to answer, shorter than a test's patience.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(QUESTION_TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}

/// Status and body of a GET at an admin port.
///
/// # Errors
/// Nobody answers.
pub fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let response = agent().get(format!("http://{address}{path}")).call();
    read(response)
}

/// Status and body of a POST of JSON at an admin port.
///
/// # Errors
/// Nobody answers.
pub fn post(address: &str, path: &str, body: &Value) -> Result<(u16, String), String> {
    let request = agent().post(format!("http://{address}{path}")).header("content-type", "application/json");
    read(request.send(body.to_string()))
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), String> {
    let mut response = response.map_err(|error| error.to_string())?;
    let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
    Ok((response.status().as_u16(), text))
}

/// The answer of `/api/v1/status`.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// Asks the broker at this admin address.
    ///
    /// # Errors
    /// It does not answer, or not with a status.
    pub fn ask(address: &str) -> Result<Self, String> {
        let (code, text) = get(address, "/api/v1/status")?;
        if code != 200 {
            return Err(format!("status {code}: {text}"));
        }
        serde_json::from_str(&text).map(Self).map_err(|error| error.to_string())
    }

    fn text<'a>(value: &'a Value, key: &str) -> &'a str {
        value[key].as_str().unwrap_or("")
    }

    /// One word for the whole broker.
    pub fn verdict(&self) -> &str {
        Self::text(&self.0, "verdict")
    }

    /// The row of the decision table.
    pub fn row(&self) -> &str {
        Self::text(&self.0, "row")
    }

    /// For people.
    pub fn reason(&self) -> &str {
        Self::text(&self.0, "reason")
    }

    /// The cluster, once there is one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.0["cluster_id"].as_str()
    }

    /// What it knows of a member.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0["members"].as_array()?.iter().find(|member| member["name"] == name)
    }

    /// What it knows of a virtual host's group.
    pub fn group(&self, vhost: &str) -> Option<&Value> {
        self.0["groups"].as_array()?.iter().find(|group| group["vhost"] == vhost)
    }

    /// Who leads a virtual host with a quorum, as far as this broker knows.
    pub fn leader(&self, vhost: &str) -> Option<&str> {
        let group = self.group(vhost)?;
        group["leader"].as_str().filter(|_| group["quorum"] == true)
    }

    /// This broker's role in a virtual host's group.
    pub fn role(&self, vhost: &str) -> &str {
        self.group(vhost).map_or("", |group| Self::text(group, "role"))
    }

    /// Applied index and digest of the state there.
    pub fn digest(&self, vhost: &str) -> Option<(u64, String)> {
        let group = self.group(vhost)?;
        Some((group["applied"].as_u64()?, group["digest"].as_str()?.to_owned()))
    }
}
