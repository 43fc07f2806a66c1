//! The document is what the routes are, and the routes answer what the document says.

use std::collections::BTreeSet;

use jsonschema::Validator;

use super::super::routes::routes;
use super::*;

#[test]
fn the_document_that_is_served_is_that_of_the_routes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin_http/openapi.json");
    let made = openapi();
    if made != answers::OPENAPI && std::env::var_os("QUORATE_UPDATE").is_some() {
        std::fs::write(path, made).unwrap();
        return;
    }
    assert!(
        made == answers::OPENAPI,
        "QUORATE_UPDATE=1 and this test once more write {path}; so does quorated openapi"
    );
}

#[test]
fn every_path_and_method_is_in_it_once() {
    let document: Value = serde_json::from_str(&openapi()).unwrap();
    let mut documented = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            assert!(
                routes().iter().any(|route| route.path == path && route.method == method),
                "{method} {path}"
            );
            documented += 1;
        }
    }
    assert_eq!(documented, routes().len());
    for route in routes() {
        let open = document["paths"][route.path][route.method].get("security").is_some();
        assert_eq!(open, route.path.starts_with("/health/"), "{}: what needs no token", route.path);
    }
}

/// Requests that each route answers with success, and then one that it refuses, if it can.
const REQUESTS: [(&str, &str, &str); 53] = [
    ("get", "/health/startup", ""),
    ("get", "/health/live", ""),
    ("get", "/health/ready", ""),
    ("get", "/health/leader", ""),
    ("get", "/health/leader?vhost=none", "503"),
    ("get", "/health/replica?vhost=system&max_lag=10", ""),
    ("get", "/health/replica?max_lag=x", "400"),
    ("get", "/metrics", ""),
    ("get", "/events?code=x", "400"),
    ("get", "/api/v1/events", ""),
    ("get", "/api/v1/events?after=0&limit=1&code=HA-1001&vhost=/", ""),
    ("get", "/api/v1/events?limit=x", "400"),
    ("get", "/api/v1/status", ""),
    ("get", "/api/v1/explain", ""),
    ("get", "/api/v1/members", ""),
    ("get", "/api/v1/groups", ""),
    ("get", "/api/v1/audit", ""),
    ("get", "/api/v1/losses?after=0&limit=5", ""),
    ("get", "/api/v1/losses?limit=x", "400"),
    ("get", "/api/v1/vhosts", ""),
    ("get", "/api/v1/cluster/panic", ""),
    ("post", "/api/v1/cluster/panic/clear", r#"{"confirm":"id","reason":"again"}"#),
    ("post", "/api/v1/cluster/panic/clear", r#"400 {"confirm":"other"}"#),
    ("get", "/api/v1/openapi.json", ""),
    ("post", "/api/v1/vhosts", r#"{"name":"new"}"#),
    ("post", "/api/v1/vhosts", r#"{"name":"old"}"#),
    ("post", "/api/v1/vhosts", r#"421 {"name":"elsewhere"}"#),
    ("post", "/api/v1/vhosts/delete", r#"{"name":"v","confirm":"v","group":3,"reason":"r"}"#),
    ("post", "/api/v1/vhosts/delete", r#"{"name":"v","confirm":"v"}"#),
    ("post", "/api/v1/vhosts/delete", r#"400! {"name":"v"}"#),
    ("post", "/api/v1/members/add", r#"{"name":"b4","address":"h4:1"}"#),
    ("post", "/api/v1/members/add", r#"{"name":"b4"}"#),
    ("post", "/api/v1/members/remove", r#"{"name":"b1"}"#),
    ("post", "/api/v1/members/remove", r#"404 {"name":"nobody"}"#),
    ("post", "/api/v1/members/replace", r#"{"name":"b1"}"#),
    ("post", "/api/v1/members/replace", r#"400 {"name":"b1","store_id":"b1"}"#),
    ("post", "/api/v1/members/replace", r#"{"name":"b1","store_id":"00000000-0000-0000-0000-000000000001"}"#),
    ("post", "/api/v1/members/drain", r#"{"name":"b1"}"#),
    ("post", "/api/v1/members/resume", r#"{"name":"b1"}"#),
    ("post", "/api/v1/members/permit", r#"{"nodes":["b1"],"reason":"r"}"#),
    ("post", "/api/v1/members/permit", r#"{"nodes":[]}"#),
    (
        "post",
        "/api/v1/groups/set",
        r#"{"vhost":"/","priorities":[{"node":"b2","priority":3}],"required_nodes":3}"#,
    ),
    ("post", "/api/v1/groups/set", "{}"),
    ("post", "/api/v1/groups/set", r#"404 {"vhost":"none","required_nodes":1}"#),
    ("post", "/api/v1/groups/transfer", r#"{"vhost":"/","to":"b2","timeout_ms":50,"reason":"r"}"#),
    ("post", "/api/v1/groups/transfer", r#"{"vhost":"system","to":"b2"}"#),
    (
        "post",
        "/api/v1/groups/override",
        r#"{"vhost":"/","nodes":["b1"],"lease_ms":60000,"confirm":"c","reason":"r"}"#,
    ),
    (
        "post",
        "/api/v1/groups/take-over",
        r#"{"node":"b1","other_is_stopped":true,"confirm":"c","reason":"r"}"#,
    ),
    ("post", "/api/v1/groups/take-over", r#"400! {"node":"b1","confirm":"c","reason":"r"}"#),
    ("post", "/api/v1/cluster/shutdown", r#"{"reason":"kernel"}"#),
    ("post", "/api/v1/cluster/shutdown", r#"400 {"reason":""}"#),
    ("post", "/api/v1/cluster/shutdown", r#"400! {"reason":"r","more":1}"#),
    ("post", "/api/v1/vhosts", "400! {}"),
];

/// Checks values by the document's schemas.
struct Judge(Value);

impl Judge {
    fn validator(&self, schema: &Value) -> Validator {
        // What it refers to is found from the root.
        let mut root = schema.clone();
        root["components"] = self.0["components"].clone();
        jsonschema::validator_for(&root).unwrap()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        &self.0["paths"][path.split('?').next().unwrap()][method]
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        !schema.is_null() && self.validator(schema).is_valid(value)
    }

    /// Each parameter of a query is described, and each that is there is as described.
    fn check_query(&self, method: &str, path: &str, good: bool) {
        let parameters = self.operation(method, path)["parameters"].as_array().cloned().unwrap_or_default();
        let mut fit = true;
        for pair in
            path.split_once('?').map_or("", |(_, query)| query).split('&').filter(|pair| !pair.is_empty())
        {
            let (name, text) = pair.split_once('=').unwrap();
            let parameter = parameters.iter().find(|parameter| parameter["name"] == name);
            let schema = &parameter.unwrap_or_else(|| panic!("{path}: {name} is not described"))["schema"];
            let number = text.parse::<u64>().map(Value::from);
            fit &= self.fits(schema, &json!(text)) || number.is_ok_and(|number| self.fits(schema, &number));
        }
        assert!(fit || !good, "{path}: the query is not as described");
    }

    fn check_answer(&self, method: &str, path: &str, status: u16, answer: &Value) {
        let responses = &self.operation(method, path)["responses"];
        let described = &responses[status.to_string()];
        let described = if described.is_null() {
            assert!(status >= 400, "{method} {path}: {status} is not described");
            &self.0["components"]["responses"]["Error"]
        } else {
            described
        };
        let schema = &described["content"]["application/json"]["schema"];
        assert!(
            self.fits(schema, answer),
            "{method} {path}: {status} {answer} is not as described: {schema}"
        );
        // A type that is not described would fit everything.
        assert!(!self.fits(schema, &json!([1])), "{method} {path}: {schema} is no description");
    }
}

#[test]
fn every_route_takes_and_answers_what_the_document_says() {
    let judge = Judge(serde_json::from_str(&openapi()).unwrap());
    let mut answered = BTreeSet::new();
    let mut statuses = BTreeSet::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    with_server(sample_status(), move |address| {
        for (method, path, told) in REQUESTS {
            let (expected, body) = told.split_once(' ').unwrap_or(("", told));
            let (expected, body) = match (method, told) {
                ("get", _) => (told, ""),
                _ if expected.starts_with(|c: char| c.is_ascii_digit()) => (expected, body),
                _ => ("", told),
            };
            let url = format!("{address}{path}");
            let (status, answer) = match method {
                "get" if path == "/metrics" => (200, Value::Null),
                "get" => get(&url),
                _ => post(&url, "application/json", body),
            };
            sender.send((method, path, expected, body, status, answer)).unwrap();
        }
    });
    for (method, path, expected, body, status, answer) in receiver {
        let good = expected.is_empty();
        let wanted = expected.trim_end_matches('!');
        assert!(
            if good { status < 300 } else { wanted == status.to_string() },
            "{method} {path} {body}: {status} {answer}"
        );
        judge.check_query(method, path, good);
        if method == "post" {
            let described =
                &judge.operation(method, path)["requestBody"]["content"]["application/json"]["schema"];
            let fits = judge.fits(described, &serde_json::from_str(body).unwrap());
            assert_eq!(fits, !expected.ends_with('!'), "{method} {path}: {body}");
        }
        if path != "/metrics" {
            judge.check_answer(method, path, status, &answer);
        }
        answered.insert((method.to_owned(), path.split('?').next().unwrap().to_owned()));
        statuses.insert((path.split('?').next().unwrap().to_owned(), status));
    }
    let all: BTreeSet<_> =
        routes().iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(answered, all, "a request for every route");
    // The stream is another test's, and answers of 200 to what is under way are the members' business.
    for route in routes().iter().filter(|route| route.path != "/events" && !route.path.contains("members")) {
        for status in route.statuses {
            let seen = statuses.contains(&(route.path.to_owned(), *status));
            assert!(seen || route.method == "get", "{} was never answered with {status}", route.path);
        }
    }
}
