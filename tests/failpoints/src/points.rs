//! All the points, in one place. The test compares this list with what the workload touches: a step that the product
//! gains, or loses, is noticed.

/// What the broker must do when the disk fails at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It ends at once with status 5. What waits for the disk is not confirmed.
    Stops,
    /// It ends at once with status 5 if the disk failed; if it is only full, room is made from the reserve, or the file is
    /// made shorter, and it goes on.
    StopsUnlessFull,
    /// What was wanted is given up, with a word why; everything else goes on.
    GoesOn,
}

/// A point: what is touched and how, and what must happen there.
pub type Point = (&'static str, Rule);

use Rule::{GoesOn, Stops, StopsUnlessFull};

/// All of them, in the order of their names: a kind of file (what is in quarantine begins with `image-`), or the state
/// store, and an operation. What is touched both by the broker and by an operator's act has the rule of the broker, which
/// comes first; an operator's act that fails says so and ends with an error.
pub const POINTS: &[Point] = &[
    ("image-dir.create-dir", GoesOn),
    ("image-dir.remove-dir", Stops),
    ("image-dir.rename", GoesOn),
    ("image-dir.sync-dir", GoesOn),
    ("image-image.create", GoesOn),
    ("image-image.remove", Stops),
    ("image-image.rename", GoesOn),
    ("image-image.sync", GoesOn),
    ("image-image.write", GoesOn),
    ("image-log.create-dir", GoesOn),
    ("image-log.remove-dir", Stops),
    ("image-log.rename", Stops),
    ("image-log.sync-dir", GoesOn),
    ("image-segment.create", GoesOn),
    ("image-segment.link", GoesOn),
    ("image-segment.preallocate", GoesOn),
    ("image-segment.remove", Stops),
    ("image-segment.sync", GoesOn),
    ("image-segment.write", GoesOn),
    ("image-spare.remove", Stops),
    ("image-stamp.create", GoesOn),
    ("image-stamp.remove", Stops),
    ("image-stamp.rename", GoesOn),
    ("image-stamp.sync", GoesOn),
    ("image-stamp.write", GoesOn),
    ("image-state.create", Stops),
    ("image-state.create-dir", Stops),
    ("image-state.link", Stops),
    ("image-state.remove", Stops),
    ("image-state.remove-dir", Stops),
    ("image-state.rename", Stops),
    ("image-state.sync", Stops),
    ("image-state.sync-dir", Stops),
    ("image-state.write", Stops),
    ("image-store-id.create", GoesOn),
    ("image-store-id.remove", Stops),
    ("image-store-id.rename", Stops),
    ("image-store-id.sync", GoesOn),
    ("image-store-id.write", GoesOn),
    ("lock.lock", Stops),
    ("log.create-dir", Stops),
    ("log.remove-dir", Stops),
    ("log.rename", Stops),
    ("log.sync-dir", Stops),
    ("panic.create", GoesOn),
    ("panic.remove", GoesOn),
    ("panic.rename", GoesOn),
    ("panic.sync", GoesOn),
    ("panic.write", GoesOn),
    ("quarantine.create-dir", GoesOn),
    ("quarantine.sync-dir", GoesOn),
    ("reserve.create", StopsUnlessFull),
    ("reserve.preallocate", StopsUnlessFull),
    ("reserve.sync", StopsUnlessFull),
    ("restoring.create", Stops),
    ("restoring.remove", Stops),
    ("restoring.rename", Stops),
    ("restoring.sync", Stops),
    ("restoring.write", Stops),
    ("segment.remove", Stops),
    ("segment.rename", Stops),
    ("segment.sync", Stops),
    ("segment.write", Stops),
    ("spare.create", StopsUnlessFull),
    ("spare.preallocate", StopsUnlessFull),
    ("spare.remove", GoesOn),
    ("spare.rename", Stops),
    ("spare.sync", StopsUnlessFull),
    ("spare.write", StopsUnlessFull),
    ("stamp.create", Stops),
    ("stamp.remove", Stops),
    ("stamp.rename", Stops),
    ("stamp.sync", Stops),
    ("stamp.write", Stops),
    ("state-store.checkpoint", GoesOn),
    ("state-store.flush", Stops),
    ("state-store.open-view", Stops),
    ("state-store.write", Stops),
    ("state.remove", Stops),
    ("state.remove-dir", Stops),
    ("state.rename", Stops),
    ("store-id.create", Stops),
    ("store-id.remove", Stops),
    ("store-id.rename", Stops),
    ("store-id.sync", Stops),
    ("store-id.write", Stops),
    ("store.create-dir", Stops),
    ("store.sync-dir", Stops),
];
