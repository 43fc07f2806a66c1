use super::*;
use crate::limits::MESSAGE_FRAME_ROOM;

const PRODUCER: ProducerId = ProducerId(7);

fn names(key: &str) -> (ExchangeName, RoutingKey) {
    (ExchangeName::new("").unwrap(), RoutingKey::new(key).unwrap())
}

fn push(builder: &mut TransactionBuilder, key: &str, body: &[u8]) -> Result<(), TransactionError> {
    let (exchange, key) = names(key);
    builder.push(&exchange, &key, (&Properties::NONE, body), Limits::default(), 0)
}

fn bytes_of(body: &TransactionBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    body.write(&mut bytes);
    bytes
}

fn sample() -> TransactionBody {
    let mut builder = TransactionBuilder::new(PRODUCER, 5);
    for (key, body) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")] {
        push(&mut builder, key, body.as_bytes()).unwrap();
    }
    builder.finish()
}

#[test]
fn what_is_written_is_read_and_lies_where_it_says() {
    let body = sample().with_first_unsettled(3);
    let bytes = Bytes::from(bytes_of(&body));
    assert_eq!(bytes.len(), body.length());
    let read = TransactionBody::parse(bytes.clone()).unwrap();
    assert_eq!(read, body);
    assert_eq!((read.producer(), read.number(), read.first_unsettled()), (PRODUCER, 5, 3));
    assert_eq!(read.messages(), 4);
    let places: Vec<_> =
        read.batches().iter().map(|it| (it.body.key(), it.body.first(), it.body.last())).collect();
    assert_eq!(places, [("a", 1, 2), ("b", 3, 3), ("a", 4, 4)]);
    for batch in read.batches() {
        let at = usize::try_from(batch.offset).unwrap();
        assert_eq!(&bytes[at..at + batch.body.bytes().len()], &batch.body.bytes()[..]);
    }
}

#[test]
fn one_without_messages_is_one() {
    let body = TransactionBuilder::new(PRODUCER, 1).finish();
    assert_eq!((body.messages(), body.largest_body()), (0, 0));
    assert_eq!(TransactionBody::parse(bytes_of(&body).into()), Ok(body));
}

#[test]
fn changed_bytes_are_refused_or_read_and_never_a_panic() {
    let bytes = bytes_of(&sample());
    let whole: Vec<usize> = std::iter::once(HEADER)
        .chain(sample().batches().iter().map(|batch| usize::try_from(batch.offset).unwrap() - 4))
        .collect();
    for at in 0..bytes.len() {
        assert!(
            whole.contains(&at) || TransactionBody::parse(bytes[..at].to_vec().into()).is_err(),
            "cut at {at}"
        );
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = TransactionBody::parse(changed.into());
        }
    }
    // Places that leave one out, another producer, numbers that cannot be.
    for (at, value) in [(16, 0), (24, 6), (HEADER + 4, 8), (HEADER + 4 + 16, 2), (HEADER + 4 + 24, 0)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        assert!(TransactionBody::parse(changed.into()).is_err(), "{value} at {at}");
    }
}

#[test]
fn what_does_not_fit_is_said_before_it_is_sent() {
    let mut builder = TransactionBuilder::new(PRODUCER, 1);
    let limits = Limits::new(0, 100);
    let (exchange, key) = names("a");
    let big = [0; 101];
    let refused = builder.push(&exchange, &key, (&Properties::NONE, &big), limits, 0);
    assert_eq!(refused, Err(TransactionError::TooLarge { length: 101, limit: 100 }));
    let mut count = 0_u64;
    let full = loop {
        match builder.push(&exchange, &key, (&Properties::NONE, &big[..100]), limits, 1000) {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    let limit = length(MESSAGE_FRAME_ROOM) + 100 - 1000;
    assert!(count > 500, "{count}");
    assert_eq!(full, TransactionError::Full { messages: count, bytes: builder.length(), limit });
    assert!(builder.length() <= limit && builder.length() + 106 > limit, "{} of {limit}", builder.length());
    assert_eq!(builder.finish().messages(), count);
}

#[test]
fn messages_are_limited_in_number() {
    let mut builder = TransactionBuilder::new(PRODUCER, 1);
    for _ in 0..TRANSACTION_MESSAGES_MAX {
        push(&mut builder, "a", b"").unwrap();
    }
    assert!(matches!(push(&mut builder, "a", b""), Err(TransactionError::Full { .. })));
    assert!(matches!(push(&mut builder, "b", b""), Err(TransactionError::Full { .. })));
    assert_eq!(builder.finish().messages(), TRANSACTION_MESSAGES_MAX as u64);
}
