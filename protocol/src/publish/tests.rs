use proptest::prelude::*;

use super::*;
use crate::fault::FaultCode;
use crate::message::Message;
use crate::name::NameError;

fn builder(first: u64) -> PublishBuilder {
    let (exchange, key) = (ExchangeName::new("trade").unwrap(), RoutingKey::new("eu.de").unwrap());
    PublishBuilder::new(ProducerId(42), first, 1, &exchange, &key)
}

fn batch(bodies: &[&[u8]]) -> PublishBody {
    let mut builder = builder(7);
    for body in bodies {
        builder.push(&Properties::new([("type", &b"t"[..])]).unwrap(), body, 1 << 20).unwrap();
    }
    builder.finish().unwrap()
}

fn parse(bytes: &[u8]) -> Result<PublishBody, Malformed> {
    PublishBody::parse(Bytes::copy_from_slice(bytes))
}

/// The batch with other bytes from `at` on.
fn altered(body: &PublishBody, at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = body.bytes().to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    bytes
}

#[test]
fn a_batch_says_what_was_put_into_it() {
    let body = batch(&[b"one", b"", b"three"]);
    assert_eq!((body.producer(), body.first(), body.last(), body.count()), (ProducerId(42), 7, 9, 3));
    assert_eq!((body.exchange(), body.key(), body.first_unsettled()), ("trade", "eu.de", 1));
    assert_eq!(body.largest_body(), 5);
    let seen: Vec<_> = body
        .messages()
        .map(|message| (message.number, Message::parse(&message.bytes).unwrap().into_body()))
        .collect();
    let expected = [(7, &b"one"[..]), (8, b""), (9, b"three")];
    assert_eq!(seen, expected.map(|(number, body)| (number, Bytes::from_static(body))));
    assert_eq!(parse(body.bytes()), Ok(body));
}

#[test]
fn offsets_lead_to_the_messages_without_copies() {
    let body = batch(&[b"one", b"two"]);
    for message in body.messages() {
        let (at, length) = (message.span.offset as usize, message.span.length as usize);
        assert_eq!(message.bytes, body.bytes().slice(at..at + length));
        assert_eq!(message.bytes.as_ptr(), body.bytes()[at..].as_ptr());
    }
    assert_eq!(body.spans().len(), 2);
    assert_eq!(body.slice(MessageSpan { offset: 10, length: u32::MAX }), Bytes::new());
}

#[test]
fn the_header_alone_can_be_read() {
    let body = batch(&[b"one"]);
    let header = PublishHeader::parse(body.bytes()).unwrap();
    assert_eq!((header.exchange, header.key, header.numbers()), ("trade", "eu.de", body.numbers()));
    assert_eq!(header.messages_at, 16 + 8 + 8 + 7 + 7 + 4);
    assert!(PublishHeader::parse(&body.bytes()[..header.messages_at]).is_ok(), "messages are not looked at");
}

#[test]
fn numbers_begin_at_one_and_do_not_overflow() {
    let body = batch(&[b"one", b"two"]);
    let refused = |at, with: u64| parse(&altered(&body, at, &with.to_le_bytes())).unwrap_err().field;
    assert_eq!(refused(16, 0), "first");
    assert_eq!(refused(16, u64::MAX), "count");
    assert_eq!(refused(FIRST_UNSETTLED_AT, 0), "first_unsettled");
    assert_eq!(refused(FIRST_UNSETTLED_AT, 8), "first_unsettled");
    assert!(parse(&altered(&body, 16, &(u64::MAX - 1).to_le_bytes())).is_ok());
}

#[test]
fn counts_and_lengths_are_compared_with_what_is_there() {
    let body = batch(&[b"one", b"two"]);
    let count_at = body.messages_at - 4;
    let refused = |at, with: u32| parse(&altered(&body, at, &with.to_le_bytes())).unwrap_err();
    assert_eq!(refused(count_at, 0).field, "count");
    assert!(matches!(refused(count_at, 1).problem, Problem::TrailingBytes(_)));
    assert_eq!(refused(count_at, 3).field, "message");
    assert!(matches!(refused(count_at, BATCH_MESSAGES_MAX + 1).problem, Problem::TooLong { .. }));
    assert_eq!(refused(count_at, u32::MAX).field, "count");
    assert_eq!(refused(body.messages_at, u32::MAX).field, "message");
    assert_eq!(refused(body.messages_at, 1).field, "properties");
}

#[test]
fn names_are_checked() {
    let body = batch(&[b"one"]);
    let error = parse(&altered(&body, 34, b"\n")).unwrap_err();
    assert_eq!((error.field, error.fault()), ("exchange", FaultCode::InvalidName));
    let error = parse(&altered(&body, 41, b"\xff")).unwrap_err();
    assert_eq!((error.field, error.problem), ("key", Problem::Name(NameError::NotUtf8(0))));
}

#[test]
fn the_builder_refuses_what_no_batch_can_hold() {
    let mut builder = builder(u64::MAX);
    let error = builder.push(&Properties::NONE, &[0; 11], 10);
    assert_eq!(error, Err(BatchError::TooLarge { length: 11, limit: 10 }));
    assert_eq!(builder.push(&Properties::NONE, &[0; 10], 10), Ok(u64::MAX));
    assert_eq!(builder.push(&Properties::NONE, &[], 10), Err(BatchError::Full));
    assert_eq!(builder.finish().unwrap().last(), u64::MAX);
}

#[test]
fn a_batch_has_at_least_one_message_and_at_most_the_limit() {
    assert_eq!(builder(1).finish(), None);
    let mut full = builder(1);
    for _ in 0..BATCH_MESSAGES_MAX {
        full.push(&Properties::NONE, &[], 1).unwrap();
    }
    assert_eq!(full.push(&Properties::NONE, &[], 1), Err(BatchError::Full));
    let length = full.length();
    assert_eq!(full.finish().unwrap().bytes().len(), length);
}

#[test]
fn message_length_is_what_push_adds() {
    let properties = Properties::new([("a", &b"b"[..])]).unwrap();
    let mut builder = builder(1);
    let before = builder.length();
    builder.push(&properties, b"body", 100).unwrap();
    assert_eq!(builder.length() - before, PublishBuilder::message_length(&properties, b"body"));
}

proptest! {
    #[test]
    fn truncated_batches_are_refused(cut in 0_usize..90) {
        let body = batch(&[b"one", b"two", b"three"]);
        prop_assume!(cut < body.bytes().len());
        prop_assert!(parse(&body.bytes()[..cut]).is_err());
    }

    #[test]
    fn random_and_damaged_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let _ = parse(&bytes);
        let mut damaged = batch(&[b"one", b"two"]).into_bytes().to_vec();
        for (at, with) in damage {
            let at = at.index(damaged.len());
            damaged[at] = with;
        }
        if let Ok(body) = parse(&damaged) {
            // Whatever was accepted can be walked.
            for message in body.messages() {
                prop_assert!(Message::parse(&message.bytes).is_ok());
            }
        }
    }
}
