//! Every limit of the machines, in one place. Part of the replicated behaviour: all replicas must have the same.

/// Queues of one vhost.
pub const MAX_QUEUES: usize = 65_536;
/// Exchanges of one vhost.
pub const MAX_EXCHANGES: usize = 16_384;
/// Bindings of one vhost.
pub const MAX_BINDINGS: usize = 262_144;
/// Live messages of one vhost, each queue's copy counted: about 6 GiB of slots.
pub const MAX_LIVE_MESSAGES: u64 = 1 << 28;
/// Copies that one publish batch may make: messages times queues they go to.
pub const MAX_COPIES_PER_BATCH: u64 = 1 << 20;
/// Arguments of one queue definition.
pub const MAX_ARGUMENTS: usize = 64;
/// Bytes of one argument's key or value.
pub const MAX_ARGUMENT_BYTES: usize = 1_024;
/// Producers remembered in one vhost; of more, the one unused for longest is forgotten.
pub const MAX_PRODUCERS: usize = 65_536;
/// Ranges of refused numbers remembered for one producer, above the first one it has not settled.
pub const MAX_REFUSED_RANGES: usize = 1_024;
/// Ranges remembered below that, for whoever begins again under the same id. Of more the lowest are forgotten, and that they
/// are is remembered.
pub const MAX_SETTLED_REFUSED_RANGES: usize = 256;
/// Sequences and message numbers are below this: far from where adding one could overflow.
pub const MAX_SEQUENCE: u64 = 1 << 62;
/// Slots of one chunk of a queue.
pub const CHUNK_SLOTS: u64 = 256;
/// Slots looked at by one call that searches for bodies to spill.
pub const SPILL_SEARCH: usize = 16_384;
/// Members of one cluster.
pub const MAX_MEMBERS: usize = 64;
/// Places of the founding rule's union.
pub const MAX_PLACES: usize = 64;
/// Virtual hosts of one cluster.
pub const MAX_VHOSTS: usize = 1_024;
/// Bytes of a broker's name or address.
pub const MAX_ADDRESS_BYTES: usize = 512;

const _: () = assert!(CHUNK_SLOTS == 256, "the place of a slot in its chunk is one byte of the checkpoint");
const _: () = assert!(MAX_PLACES >= MAX_MEMBERS, "every member may come from the founding rule's union");
const _: () = assert!(MAX_ARGUMENT_BYTES < u16::MAX as usize, "strings have a length of 16 bits");
const _: () = assert!(MAX_ADDRESS_BYTES < u16::MAX as usize, "strings have a length of 16 bits");
