//! The pieces of a message's way that are counted. Each makes what it needs first, and is counted without that.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate_core::machine::{Command, QueueDefinition, QueueId, Range, VhostMachine};
use quorate_core::peer::PeerMessage;
use quorate_protocol::codec::{BrokerDecoder, Segments, encode};
use quorate_protocol::frame::{
    ClientFrame, Confirm, Deliver, Delivery, Durability, ProducerId, ServerFrame, SyncPolicy,
};
use quorate_protocol::limits::Limits;
use quorate_protocol::name::{ExchangeName, QueueName, RoutingKey};
use quorate_store::ids::{Epoch, Index, StoreId};
use quorate_store::log::{LogConfig, open};
use quorate_store::record::{Batch, Record};
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::messages::{GROUP, QUEUE, append, batch, entry, entry_data};
use crate::meter::{Measured, measure};
use crate::void::VoidFiles;

/// How often the work is repeated while it is counted, so that what is done now and then is in the mean.
const REPEATS: u64 = 32;
const SMALL: usize = 128;
const USUAL: usize = 1 << 10;
const LARGE: usize = 16 << 10;

/// One piece.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// What is counted, and for which messages: `apply-publish-64x1k` is for batches of 64 messages of 1 KiB.
    pub name: &'static str,
    /// Does it once.
    pub run: fn() -> Measured,
}

/// All of them, in the order of a message's way.
pub const ALL: [Work; 20] = [
    Work { name: "decode-publish-1x1k", run: || decode_publish(1, USUAL) },
    Work { name: "decode-publish-64x1k", run: || decode_publish(64, USUAL) },
    Work { name: "decode-publish-400x128", run: || decode_publish(400, SMALL) },
    Work { name: "encode-append-64x1k", run: encode_append },
    Work { name: "decode-append-64x1k", run: decode_append },
    Work { name: "log-batch-1x1k", run: || log_batch(1, 1, USUAL) },
    Work { name: "log-batch-64x1k", run: || log_batch(1, 64, USUAL) },
    Work { name: "log-batch-32-entries-of-1k", run: || log_batch(32, 1, USUAL) },
    Work { name: "crc-64x1k", run: crc },
    Work { name: "apply-publish-1x1k", run: || apply_publish(1, USUAL) },
    Work { name: "apply-publish-64x1k", run: || apply_publish(64, USUAL) },
    Work { name: "apply-publish-400x128", run: || apply_publish(400, SMALL) },
    Work { name: "apply-ack-64", run: || apply_ack(64, false) },
    Work { name: "apply-ack-64-with-gaps", run: || apply_ack(64, true) },
    Work { name: "checkpoint-8k", run: checkpoint },
    Work { name: "encode-answers-64x1k", run: encode_answers },
    Work { name: "round-1-broker-64x1k", run: || publish_round(1, 64, USUAL) },
    Work { name: "round-3-brokers-64x1k", run: || publish_round(3, 64, USUAL) },
    Work { name: "round-3-brokers-8x16k", run: || publish_round(3, 8, LARGE) },
    Work { name: "deliver-and-ack-64x1k", run: deliver_and_ack },
];

/// The one of this name.
pub fn named(name: &str) -> Option<Work> {
    ALL.into_iter().find(|work| work.name == name)
}

fn batches(count: u64, size: usize) -> Vec<Bytes> {
    (0..REPEATS).map(|number| batch(1 + number * count, count, size).into_bytes()).collect()
}

fn decode_publish(count: u64, size: usize) -> Measured {
    let mut wire = BytesMut::new();
    for number in 0..REPEATS {
        encode(&ClientFrame::Publish(batch(1 + number * count, count, size)), 1, &mut wire);
    }
    let mut decoder = BrokerDecoder::new(Limits::default());
    decoder.logged_in();
    let mut frames = 0;
    let measured = measure(REPEATS * count, || {
        while let Some(frame) = decoder.decode(&mut wire).expect("it is sound") {
            black_box(&frame);
            frames += 1;
        }
    });
    assert_eq!(frames, REPEATS);
    measured
}

/// An append of one entry with 64 messages.
fn append_of_one(number: u64) -> PeerMessage {
    let data = entry_data(&Command::Publish(batch(1 + number * 64, 64, USUAL).into_bytes()));
    append(number, vec![entry(number + 1, data)])
}

fn encode_append() -> Measured {
    let messages: Vec<_> = (0..REPEATS).map(append_of_one).collect();
    measure(REPEATS * 64, || {
        for message in &messages {
            black_box(message.encode_pieces());
        }
    })
}

fn decode_append() -> Measured {
    let wires: Vec<_> = (0..REPEATS).map(|number| append_of_one(number).encode()).collect();
    measure(REPEATS * 64, || {
        for wire in &wires {
            black_box(PeerMessage::decode(wire.clone()).expect("it is sound"));
        }
    })
}

/// Batches of the log of so many entries, with so many messages in each: what the log does with them before the disk.
fn log_batch(entries: u64, count: u64, size: usize) -> Measured {
    let config = LogConfig { segment_bytes: 1 << 30, fill: false, ..LogConfig::new(StoreId(Uuid::nil()), 7) };
    let (mut log, _, _) = open(Arc::new(VoidFiles), Path::new("log"), config, None).expect("it is empty");
    let data = entry_data(&Command::Publish(batch(1, count, size).into_bytes()));
    let one = |number: u64| {
        let indexes = number * entries + 1..=(number + 1) * entries;
        let records = indexes.map(|index| Record::Entry(GROUP, Epoch(1), entry(index, data.clone())));
        Batch { records: records.collect() }
    };
    let all: Vec<_> = (0..=REPEATS).map(one).collect();
    let (first, rest) = all.split_first().expect("there are some");
    // Makes the segment, and the buffer.
    log.append(&[first]).expect("it takes everything");
    log.sync().expect("it takes everything");
    measure(REPEATS * entries * count, || {
        for batch in rest {
            log.append(&[batch]).expect("it takes everything");
            log.sync().expect("it takes everything");
        }
    })
}

fn crc() -> Measured {
    let bytes = vec![0x5a; 64 * USUAL];
    measure(REPEATS * 64, || {
        for _ in 0..REPEATS {
            black_box(crc32fast::hash(black_box(&bytes)));
        }
    })
}

/// A machine with a queue, and so many messages in it.
fn machine(messages: u64) -> VhostMachine {
    let mut machine = VhostMachine::new();
    let name = QueueName::new(QUEUE).expect("a name");
    let declare = Command::DeclareQueue { name, definition: QueueDefinition::default() };
    machine.apply(Index(1), &entry_data(&declare));
    let mut published = 0;
    while published < messages {
        let count = 256.min(messages - published);
        let data = entry_data(&Command::Publish(batch(published + 1, count, SMALL).into_bytes()));
        published += count;
        machine.apply(Index(1 + published), &data);
    }
    assert_eq!(machine.queue(QueueId(1)).expect("it was declared").live(), messages);
    machine
}

fn apply_publish(count: u64, size: usize) -> Measured {
    let mut machine = machine(0);
    let entries: Vec<_> =
        batches(count, size).into_iter().map(|batch| entry_data(&Command::Publish(batch))).collect();
    let measured = measure(REPEATS * count, || {
        for (number, data) in (2..).zip(&entries) {
            black_box(machine.apply(Index(number), data));
        }
    });
    assert_eq!(machine.queue(QueueId(1)).expect("it was declared").live(), REPEATS * count);
    measured
}

/// Acknowledges so many messages with each entry; with gaps every second one, and then the others.
fn apply_ack(count: u64, gaps: bool) -> Measured {
    let messages = REPEATS * count;
    let mut machine = machine(messages);
    let ranges = |number: u64| {
        if gaps {
            let (pass, place) = (number / (REPEATS / 2), number % (REPEATS / 2));
            let first = 1 + pass + place * 2 * count;
            (0..count).map(|step| Range::one(first + 2 * step)).collect()
        } else {
            vec![Range::new(1 + number * count, (number + 1) * count).expect("a range")]
        }
    };
    let entries: Vec<_> = (0..REPEATS)
        .map(|number| entry_data(&Command::Ack { queue: QueueId(1), ranges: ranges(number) }))
        .collect();
    let measured = measure(messages, || {
        for (number, data) in (2 + messages..).zip(&entries) {
            black_box(machine.apply(Index(number), data));
        }
    });
    assert_eq!(machine.queue(QueueId(1)).expect("it was declared").live(), 0);
    measured
}

fn checkpoint() -> Measured {
    let messages = 8192;
    let mut machine = machine(messages);
    measure(messages, || {
        black_box(machine.checkpoint(GROUP, Bytes::new()));
    })
}

/// What a publisher and a consumer of a batch are told, as bytes to write.
fn encode_answers() -> Measured {
    let frames: Vec<[ServerFrame; 2]> = (0..REPEATS)
        .map(|number| {
            let batch = batch(1 + number * 64, 64, USUAL);
            let confirm = Confirm {
                producer: ProducerId(7),
                ranges: vec![batch.numbers()],
                group: 1,
                epoch: 1,
                term: 3,
                index: number,
                durability: Durability { leader: SyncPolicy::Sync, replicas: SyncPolicy::Sync },
                under_override: false,
                duplicate: false,
            };
            let messages = batch.messages();
            let deliver = Deliver {
                consumer: 1,
                exchange: ExchangeName::new("").expect("a name"),
                key: RoutingKey::new(QUEUE).expect("a key"),
                messages: messages
                    .map(|message| Delivery {
                        seq: message.number,
                        redelivered: false,
                        message: message.bytes,
                    })
                    .collect(),
            };
            [confirm.into(), deliver.into()]
        })
        .collect();
    measure(REPEATS * 64, || {
        for both in &frames {
            let mut segments = Segments::new();
            for frame in both {
                segments.push(frame, 1);
            }
            black_box(segments.take());
        }
    })
}

/// From a client's Publish frame to its Confirm, in all cores together. The world around them is in the count, too.
fn publish_round(brokers: u32, count: u64, size: usize) -> Measured {
    let mut cluster = Cluster::new(brokers);
    assert_eq!(cluster.publish(batch(1, count, size)), count, "not confirmed");
    let batches: Vec<_> = (1..=REPEATS).map(|number| batch(1 + number * count, count, size)).collect();
    let mut confirmed = 0;
    let mut waiting = batches.into_iter();
    let measured = measure(REPEATS * count, || {
        for batch in &mut waiting {
            confirmed += cluster.publish(batch);
        }
    });
    assert_eq!(confirmed, REPEATS * count, "not confirmed");
    measured
}

/// From credit to Settled, on a broker alone.
fn deliver_and_ack() -> Measured {
    let mut cluster = Cluster::new(1);
    for number in 0..REPEATS {
        cluster.publish(batch(1 + number * 64, 64, USUAL));
    }
    cluster.consume();
    let mut settled = 0;
    let measured = measure(REPEATS * 64, || {
        for _ in 0..REPEATS {
            let taken = cluster.take(64);
            settled += cluster.settle(taken);
        }
    });
    assert_eq!(settled, REPEATS * 64, "not settled");
    measured
}
