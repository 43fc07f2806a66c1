//! The table of all routes. To add one is to add a line here: its handler's types are its description, and the test that
//! compares the document says how to write it anew.

use axum::routing::get;

use super::route::{Route, asked, done, raw, told};
use super::{answers, events, groups, health, losses, members, panic};

const JSON: &str = "application/json";
const SAMPLES: &str = "text/plain";
const STREAM: &str = "text/event-stream";

/// What is served.
pub(super) fn routes() -> Vec<Route> {
    [health_routes(), reading_routes(), changing_routes()].into_iter().flatten().collect()
}

fn health_routes() -> Vec<Route> {
    let routes = vec![
        told("/health/startup", "The ports are open.", health::startup),
        told(
            "/health/live",
            "The core thread turns. Waiting for members, or for an operator, is live.",
            health::live,
        ),
        told(
            "/health/ready",
            "This broker serves its role: it leads with a quorum, or follows a leader within the lag limit, in every \
             virtual host.",
            health::ready,
        ),
        asked("/health/leader", "This broker leads the virtual host with a quorum.", health::leader),
        asked(
            "/health/replica",
            "This broker follows a leader of the virtual host, closely enough.",
            health::replica,
        ),
    ];
    routes.into_iter().map(Route::open).collect()
}

fn reading_routes() -> Vec<Route> {
    vec![
        raw("/metrics", "Counters and gauges in Prometheus's text format.", SAMPLES, get(answers::metrics)),
        raw(
            "/events",
            "Events as server-sent events, from now on or after a number; each one's data is an event of /api/v1/events.",
            STREAM,
            get(events::stream),
        )
        .with_query::<events::Wanted>(),
        asked("/api/v1/events", "Events that this broker keeps in memory, after a number.", events::page),
        told(
            "/api/v1/status",
            "The verdict, the members and the groups as this broker sees them; answered while waiting, too.",
            answers::status,
        ),
        told(
            "/api/v1/explain",
            "What the decision table says now for every group, by what facts, and why no earlier row holds; answered \
             while waiting, too.",
            answers::explain,
        ),
        told("/api/v1/members", "The known members, present or not.", answers::members),
        told("/api/v1/groups", "The groups of this broker with their controls.", groups::list),
        told(
            "/api/v1/audit",
            "What operators changed in the groups that this broker has, oldest first; up to 1,000 for each group.",
            groups::audit,
        ),
        asked(
            "/api/v1/losses",
            "What the quarantine of this broker's store holds that the cluster does not have, oldest first.",
            losses::list,
        ),
        told("/api/v1/vhosts", "The virtual hosts.", answers::list_vhosts),
        told(
            "/api/v1/cluster/panic",
            "The cluster's safety number as this broker knows it, and whether it panicked; answered in every state.",
            panic::show,
        ),
        raw("/api/v1/openapi.json", "This document.", JSON, get(answers::openapi)),
    ]
}

/// Whoever cannot carry one of these out says where, with 421.
fn changing_routes() -> Vec<Route> {
    vec![
        done(
            "/api/v1/vhosts",
            "Creates a virtual host; answered once it exists.",
            &[200, 201],
            answers::create_vhost,
        ),
        done(
            "/api/v1/vhosts/delete",
            "Deletes a virtual host with everything in it, confirmed by its name; answered when it is decided. Every broker \
             takes away what it holds of it, whoever is not there now when it comes back.",
            &[200],
            groups::delete_vhost,
        ),
        done(
            "/api/v1/members/add",
            "The broker of this name becomes a voter, now or when it comes.",
            &[200, 202],
            members::add,
        ),
        done(
            "/api/v1/members/remove",
            "A member leaves every group and the cluster; its store is never taken back.",
            &[200, 202],
            members::remove,
        ),
        done(
            "/api/v1/members/replace",
            "The lost store of a member is retired; an empty one under its name takes its place.",
            &[200, 202],
            members::replace,
        ),
        done(
            "/api/v1/members/drain",
            "A member hands its leaderships over and does not lead while another one can.",
            &[200, 202],
            members::drain,
        ),
        done("/api/v1/members/resume", "A drained member may lead again.", &[200, 202], members::resume),
        done(
            "/api/v1/members/permit",
            "Who may join, by name, store id or cluster address; nobody named: everybody. Every member there is must be in \
             the list.",
            &[200],
            groups::permit,
        ),
        done(
            "/api/v1/groups/set",
            "Changes controls of a group, all or none of those given.",
            &[200],
            groups::set,
        ),
        done(
            "/api/v1/groups/override",
            "Fewer voters than a majority go on with the group, and serve clients for as long as the lease lasts. What they \
             confirm is marked: the others can go on without it. `system` goes on with them if it has no quorum.",
            &[200],
            groups::go_on,
        ),
        done(
            "/api/v1/groups/take-over",
            "One of two voters goes on with every group that has no quorum. The other one gives way when it is back.",
            &[200],
            groups::take_over,
        ),
        done(
            "/api/v1/groups/transfer",
            "Another node leads the group; answered when it does.",
            &[200],
            groups::transfer,
        ),
        done(
            "/api/v1/cluster/shutdown",
            "Shuts the whole cluster down; answered once every store is closed.",
            &[200],
            answers::shutdown,
        ),
        done(
            "/api/v1/cluster/panic/clear",
            "Lets this broker take part again after a panic: it begins as after a start.",
            &[200],
            panic::clear,
        ),
    ]
}
