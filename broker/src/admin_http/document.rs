//! The OpenAPI document, made of the routes and their types. It is checked in as `openapi.json`, from which it is served.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::answers::ErrorJson;
use super::route::{Answer, Route};
use super::routes::routes;

const ABOUT: &str = "Health, metrics and administration of one broker. State never changes by GET. Whoever cannot carry a \
                     command out but knows who can answers 421 with leader_admin_address.";
const TOKEN: &str = "A token of --admin-token-file. One with the right `read` is for GET only. Without such a file, which is \
                     possible on loopback, none is asked for.";

/// Writes schemas into one list: those of what is answered, and those of what is taken, in which a default may be left out.
struct Schemas {
    answered: SchemaGenerator,
    taken: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self { answered: settings().for_serialize().into_generator(), taken: settings().into_generator() }
    }

    /// All that were referred to.
    fn all(mut self) -> Map<String, Value> {
        let mut all = self.answered.take_definitions(true);
        for (name, schema) in self.taken.take_definitions(true) {
            let other = all.insert(name.clone(), schema.clone());
            assert!(other.is_none_or(|other| other == schema), "two types are called {name}");
        }
        all
    }
}

/// The document.
pub(super) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let operation = operation(&route, &mut schemas);
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        methods[route.method] = operation;
    }
    let error = schemas.answered.subschema_for::<ErrorJson>();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Quorate admin API", "version": "1", "description": ABOUT },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": TOKEN } },
            "responses": { "Error": { "description": "Why not.", "content": { "application/json": { "schema": error } } } },
            "schemas": schemas.all(),
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let content = match &route.answer {
        Answer::Json(describe) => {
            json!({ "application/json": { "schema": describe(&mut schemas.answered) } })
        }
        Answer::Media("application/json") => {
            json!({ "application/json": { "schema": { "type": "object" } } })
        }
        Answer::Media(media) => json!({ *media: { "schema": { "type": "string" } } }),
    };
    let mut responses = json!({ "default": { "$ref": "#/components/responses/Error" } });
    for status in route.statuses {
        responses[status.to_string()] = json!({ "description": said(*status), "content": content });
    }
    let mut operation = json!({ "summary": route.summary, "responses": responses });
    if let Some(describe) = route.query {
        operation["parameters"] = parameters(describe, schemas);
    }
    if let Some(describe) = route.body {
        let schema = describe(&mut schemas.taken);
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    if route.open {
        operation["security"] = json!([]);
    }
    operation
}

fn said(status: u16) -> &'static str {
    match status {
        201 => "It was made.",
        202 => "It is decided and goes on by itself.",
        _ => "It is so.",
    }
}

/// The fields of a query, each as a parameter.
fn parameters(describe: super::route::Describe, schemas: &mut Schemas) -> Value {
    // A query's fields are not referred to: its schema is made apart.
    let mut apart = schemas.taken.settings().clone().into_generator();
    let reference = describe(&mut apart);
    let definitions = apart.take_definitions(true);
    let name =
        reference.as_value()["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let schema = definitions.get(name).cloned().unwrap_or_else(|| reference.to_value());
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let none = Map::new();
    let fields = schema["properties"].as_object().unwrap_or(&none);
    fields
        .iter()
        .map(|(name, field)| {
            let mut field = field.clone();
            let description = field.as_object_mut().and_then(|field| field.remove("description"));
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&name.as_str()),
                "description": description,
                "schema": field,
            })
        })
        .collect()
}

/// As the file has it.
pub fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).expect("a document has text keys only");
    text.push('\n');
    text
}
