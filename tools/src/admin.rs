//! Talking HTTP to the admin ports of any brokers.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use ureq::typestate::WithoutBody;
use ureq::{Agent, RequestBuilder};

use crate::approach::Approach;
use crate::exit::{Failure, Status};
use crate::settings::Settings;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// A broker that takes longer than this to say how it is counts as unreachable.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(4);
/// A broker that takes longer than this to say that it is alive gets no command while there is another one to ask.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// So many brokers are asked for the leader at most.
const HOPS_MAX: usize = 8;
/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// Admin ports of one cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    agent: Agent,
    addresses: Vec<String>,
    approach: Approach,
    timeout: Duration,
}

/// A broker's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who answered.
    pub address: String,
    /// HTTP status.
    pub status: u16,
    /// The body: an object, or null if it is none in JSON.
    pub body: Value,
}

/// A broker that could not be asked.
#[derive(Clone, Debug)]
pub struct Silent {
    /// Who.
    pub address: String,
    /// Why.
    pub error: String,
}

/// What became of the tries before an answer, as far as anybody said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Earlier {
    /// Nothing: this answer is about the only try that had an effect.
    #[default]
    Nothing,
    /// One of them may have been carried out although nobody said so.
    Unknown,
    /// One of them was carried out, or is on its way.
    Done,
}

/// What brokers say when they do not do what was asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    code: String,
    message: String,
    next: Vec<String>,
    leader_admin_address: Option<String>,
}

impl Admin {
    /// The brokers in force.
    ///
    /// # Errors
    /// The certificates that are to be trusted cannot be read.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(2)))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None);
        if let Some(tls) = settings.approach.tls()? {
            config = config.tls_config(tls);
        }
        Ok(Self {
            agent: config.build().into(),
            addresses: settings.admin.clone(),
            approach: settings.approach.clone(),
            timeout: settings.timeout,
        })
    }

    fn url(&self, address: &str, path: &str) -> String {
        format!("{}://{address}{path}", self.approach.scheme())
    }

    /// The request with the token, if there is one and it may go there.
    fn shown<B>(&self, address: &str, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, Silent> {
        match self.approach.shown_to(address) {
            Ok(Some(token)) => Ok(request.header("authorization", token)),
            Ok(None) => Ok(request),
            Err(error) => Err(Silent { address: address.to_owned(), error }),
        }
    }

    fn get_request(&self, address: &str, path: &str) -> Result<RequestBuilder<WithoutBody>, Silent> {
        let request = self.shown(address, self.agent.get(self.url(address, path)))?;
        Ok(request.config().timeout_global(Some(QUESTION_TIMEOUT.min(self.timeout))).build())
    }

    fn post_json(&self, address: &str, path: &str, body: &Value, limit: Duration) -> Result<Answer, Silent> {
        let request = self.shown(address, self.agent.post(self.url(address, path)))?;
        answer(address, request.config().timeout_global(Some(limit)).build().send_json(body))
    }

    /// Whether a command that is sent there is likely to be heard. A broker that accepts connections and answers nothing would
    /// keep a command until its time is over, and leave it unknown what became of it: with more than one broker to ask, each is
    /// asked first whether it is alive. Who is the only one needs no such question.
    fn probe(&self, address: &str, limit: Duration) -> Result<(), Silent> {
        if self.addresses.iter().all(|other| other == address) {
            return Ok(());
        }
        let silent = |error: ureq::Error| Silent { address: address.to_owned(), error: error.to_string() };
        let request = self.get_request(address, "/health/live")?;
        request.config().timeout_global(Some(limit)).build().call().map(drop).map_err(silent)
    }

    /// Their addresses.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Asks one broker.
    ///
    /// # Errors
    /// It does not answer.
    pub fn get(&self, address: &str, path: &str) -> Result<Answer, Silent> {
        answer(address, self.get_request(address, path)?.call())
    }

    /// The text of a broker's `/metrics`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self, address: &str) -> Result<String, Silent> {
        let request = self.get_request(address, "/metrics")?;
        let silent = |error: ureq::Error| Silent { address: address.to_owned(), error: error.to_string() };
        let mut response = request.call().map_err(silent)?;
        response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(silent)
    }

    /// Asks all brokers at once; the answers in the order of the addresses.
    pub fn get_all(&self, path: &str) -> Vec<Result<Answer, Silent>> {
        thread::scope(|scope| {
            let asked: Vec<_> =
                self.addresses.iter().map(|address| scope.spawn(move || self.get(address, path))).collect();
            asked.into_iter().map(|one| one.join().expect("asking a broker does not panic")).collect()
        })
    }

    /// Asks one broker after the other until one answers with success.
    ///
    /// # Errors
    /// None does.
    pub fn get_any(&self, path: &str) -> Result<Value, Failure> {
        let mut last = None;
        for address in &self.addresses {
            match self.get(address, path) {
                Ok(answer) if answer.status < 300 => return Ok(answer.body),
                Ok(answer) => last = Some(refused(&answer)),
                Err(silent) => last = last.or(Some(unreachable(&[silent]))),
            }
        }
        Err(last.unwrap_or_else(|| unreachable(&[])))
    }

    /// Sends a command to whoever leads, following the brokers' directions, until one carries it out or the time is
    /// over. Says also what became of earlier tries.
    ///
    /// # Errors
    /// Refused for good, or not done in time.
    pub fn post(&self, path: &str, body: &Value) -> Result<(Answer, Earlier), Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut refusal = None;
        let mut silent = Vec::new();
        let mut earlier = Earlier::Nothing;
        let mut directed: Option<String> = None;
        let mut hops = 0;
        let mut patience = PROBE_TIMEOUT;
        loop {
            let addresses: Vec<String> =
                directed.take().into_iter().chain(self.addresses.iter().cloned()).collect();
            for address in addresses {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(given_up(refusal, &silent, earlier));
                }
                // Half of the time at most: somebody else may still have to be asked.
                if let Err(one) = self.probe(&address, patience.min(left / 2)) {
                    note_silent(&mut silent, one);
                    continue;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                match self.post_json(&address, path, body, left) {
                    Ok(answer) if answer.status < 300 || is_final(&answer) => return Ok((answer, earlier)),
                    Ok(answer) => {
                        earlier = earlier.max(effect_of(&answer));
                        directed = leader(&answer);
                        refusal = Some(refused(&answer));
                        if directed.is_some() {
                            break;
                        }
                    }
                    Err(one) => {
                        if !one.error.contains("refused") {
                            earlier = earlier.max(Earlier::Unknown);
                        }
                        note_silent(&mut silent, one);
                    }
                }
            }
            if directed.is_none() {
                // Perhaps they are only slow.
                patience = patience.saturating_mul(2);
            }
            // Who was named is asked at once, but not for ever.
            hops = if directed.is_some() { hops + 1 } else { 0 };
            if hops % HOPS_MAX == 0 {
                thread::sleep(RETRY.min(deadline.saturating_duration_since(Instant::now())));
            }
        }
    }

    /// A command that must not be sent twice: follows the brokers' directions to the leader, and takes the first answer.
    ///
    /// # Errors
    /// Nobody could be asked, or the one that was asked did not answer: then what was asked may still happen.
    pub fn post_once(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let mut addresses: VecDeque<String> = self.addresses.iter().cloned().collect();
        let mut silent = Vec::new();
        let mut asked = 0;
        while let Some(address) = addresses.pop_front() {
            asked += 1;
            if let Err(one) = self.probe(&address, PROBE_TIMEOUT.min(self.timeout)) {
                silent.push(one);
                continue;
            }
            match self.post_json(&address, path, body, self.timeout) {
                Ok(answer) => match leader(&answer).filter(|_| asked < HOPS_MAX) {
                    Some(leader) => addresses.push_front(leader),
                    None => return Ok(answer),
                },
                Err(one) if one.error.contains("refused") => silent.push(one),
                Err(one) => {
                    let text = format!("{} did not answer: {}; it may still happen", one.address, one.error);
                    return Err(
                        Failure::new(Status::Unknown, "no-answer", text).next("quorate cluster status")
                    );
                }
            }
        }
        Err(unreachable(&silent))
    }
}

fn answer(
    address: &str,
    result: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Answer, Silent> {
    let silent = |error: ureq::Error| Silent { address: address.to_owned(), error: error.to_string() };
    let mut response = result.map_err(silent)?;
    let status = response.status().as_u16();
    let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(silent)?;
    let body = object(&text);
    if status < 300 && body.is_null() {
        let error = "it answers with something that is not JSON: not an admin port?".to_owned();
        return Err(Silent { address: address.to_owned(), error });
    }
    Ok(Answer { address: address.to_owned(), status, body })
}

/// What brokers answer are objects; null for everything else.
fn object(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_default()
}

/// Asking again would not help: the request is at fault, not the moment.
fn is_final(answer: &Answer) -> bool {
    (400..500).contains(&answer.status) && answer.status != 421 && answer.status != 429
}

/// What a try had for an effect that was answered like this, and has to be made again.
fn effect_of(answer: &Answer) -> Earlier {
    match error_body(answer).code.as_str() {
        "LEADER_CHANGED" => Earlier::Done,
        "UNDECIDED" => Earlier::Unknown,
        _ if answer.status == 504 => Earlier::Unknown,
        _ => Earlier::Nothing,
    }
}

fn error_body(answer: &Answer) -> ErrorBody {
    serde_json::from_value(answer.body.clone()).unwrap_or_default()
}

fn leader(answer: &Answer) -> Option<String> {
    error_body(answer).leader_admin_address.filter(|address| !address.is_empty())
}

/// A broker's refusal as a failure.
pub fn refused(answer: &Answer) -> Failure {
    let ErrorBody { code, message, next, .. } = error_body(answer);
    let status = match answer.status {
        400..500 if answer.status != 421 => Status::Refused,
        504 => Status::Unknown,
        _ => Status::Warning,
    };
    if code.is_empty() {
        let text = format!("{} answered with HTTP status {}", answer.address, answer.status);
        return Failure::new(status, "http", text);
    }
    Failure { status, code, message: format!("{}: {message}", answer.address), next }
}

/// The newest word on who could not be asked.
fn note_silent(silent: &mut Vec<Silent>, one: Silent) {
    silent.retain(|other| other.address != one.address);
    silent.push(one);
}

/// A command that nobody carried out in time, as far as anybody said: what a broker answered tells more than who is away.
fn given_up(refusal: Option<Failure>, silent: &[Silent], earlier: Earlier) -> Failure {
    let mut failure = refusal.unwrap_or_else(|| unreachable(silent));
    if earlier > Earlier::Nothing {
        failure.status = Status::Unknown;
        failure.message.push_str("; an earlier try may have been carried out");
    }
    failure
}

/// Nobody answered.
pub fn unreachable(silent: &[Silent]) -> Failure {
    let whom: Vec<String> = silent.iter().map(|one| format!("{}: {}", one.address, one.error)).collect();
    let text = if whom.is_empty() {
        "no broker answered".to_owned()
    } else {
        format!("no broker answered; {}", whom.join("; "))
    };
    Failure::new(Status::Unknown, "unreachable", text)
        .next("quorate --admin HOST:PORT cluster status    (the address given to quorated --admin-listen)")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(status: u16, body: Value) -> Answer {
        Answer { address: "h:1".into(), status, body }
    }

    #[test]
    fn a_brokers_error_keeps_its_code_and_its_advice() {
        let body = json!({"code": "VHOST_EXISTS", "message": "there is one", "next": ["quorate vhost list"]});
        let failure = refused(&answered(409, body));
        assert_eq!((failure.status, failure.code.as_str()), (Status::Refused, "VHOST_EXISTS"));
        assert_eq!(failure.next, ["quorate vhost list"]);
        assert_eq!(refused(&answered(503, Value::Null)).status, Status::Warning);
        assert_eq!(refused(&answered(504, Value::Null)).status, Status::Unknown);
    }

    #[test]
    fn what_is_no_object_is_no_brokers_answer() {
        assert_eq!(object(r#"{"code": "OK"}"#), json!({"code": "OK"}));
        for text in ["", "[]", "\"ok\"", "true", "1", "<html>"] {
            assert_eq!(object(text), Value::Null, "{text}");
        }
    }

    #[test]
    fn who_is_not_the_leader_directs_to_it() {
        let other = answered(
            421,
            json!({"code": "NOT_LEADER", "message": "", "next": [], "leader_admin_address": "h:2"}),
        );
        assert_eq!(leader(&other).as_deref(), Some("h:2"));
        assert!(
            !is_final(&other)
                && is_final(&answered(409, Value::Null))
                && !is_final(&answered(503, Value::Null))
        );
    }

    #[test]
    fn what_a_broker_answered_tells_more_than_who_is_away() {
        let away = [Silent { address: "h:2".into(), error: "io: Connection refused".into() }];
        let body =
            json!({"code": "NO_QUORUM", "message": "nobody leads", "next": ["quorate cluster status"]});
        let answered = || Some(refused(&answered(503, body.clone())));
        let failure = given_up(answered(), &away, Earlier::Nothing);
        assert_eq!((failure.status, failure.code.as_str()), (Status::Warning, "NO_QUORUM"));
        assert_eq!(given_up(None, &away, Earlier::Nothing).code, "unreachable");
        let failure = given_up(answered(), &away, Earlier::Unknown);
        assert_eq!(failure.status, Status::Unknown, "it may be in effect");
        assert!(failure.message.contains("an earlier try"), "{}", failure.message);
    }

    #[test]
    fn what_was_decided_before_the_leader_changed_is_known_to_be_done() {
        let effect = |status, code: &str| effect_of(&answered(status, json!({ "code": code })));
        assert_eq!(effect(421, "LEADER_CHANGED"), Earlier::Done);
        assert_eq!(effect(421, "NOT_LEADER"), Earlier::Nothing);
        assert_eq!(effect(503, "UNDECIDED"), Earlier::Unknown);
        assert_eq!(effect(504, "no-answer"), Earlier::Unknown);
        assert!(Earlier::Done > Earlier::Unknown && Earlier::Unknown > Earlier::Nothing);
    }
}
