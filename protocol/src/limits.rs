//! Every limit of the wire, in one place, related by assertions. Lengths are in bytes.

/// A frame's header: length, kind, flags, channel.
pub const HEADER_LENGTH: usize = 8;
/// The largest payload of any frame before login, in both directions.
pub const FRAME_LIMIT_BEFORE_LOGIN: u32 = 4 << 10;
/// The largest payload of a frame after login, unless configured otherwise.
pub const FRAME_LIMIT_DEFAULT: u32 = 1 << 20;
/// No configuration and no announcement makes the frame limit smaller than this.
pub const FRAME_LIMIT_MIN: u32 = 64 << 10;
/// No configuration and no announcement makes the frame limit larger than this.
pub const FRAME_LIMIT_MAX: u32 = 16 << 20;
/// The largest message body, unless configured otherwise.
pub const MESSAGE_LIMIT_DEFAULT: u32 = 16 << 20;
/// No configuration and no announcement makes the message limit larger than this.
pub const MESSAGE_LIMIT_MAX: u32 = 64 << 20;
/// What a frame that carries messages may hold beyond one largest message body: names, properties, counts.
pub const MESSAGE_FRAME_ROOM: u32 = 64 << 10;
/// The most messages in one Publish frame.
pub const BATCH_MESSAGES_MAX: u32 = 65_536;
/// The most messages in one transaction.
pub const TRANSACTION_MESSAGES_MAX: usize = 65_536;
/// The most lists of deliveries that one transaction settles.
pub const TRANSACTION_SETTLEMENTS_MAX: usize = 4_096;
/// The most ranges of deliveries that one transaction settles, in all its lists.
pub const TRANSACTION_RANGES_MAX: usize = 65_536;
/// The most properties of one message.
pub const PROPERTIES_MAX: usize = 64;
/// All properties of one message, as encoded.
pub const PROPERTIES_LENGTH_MAX: u16 = 32 << 10;
/// A virtual host's, queue's, exchange's or property's name, a routing key.
pub const NAME_LENGTH_MAX: usize = 255;
/// A text for people, an address, a user name. Longer ones are cut when encoded and refused when decoded.
pub const TEXT_LENGTH_MAX: usize = 1024;
/// What a client proves itself with at login.
pub const SECRET_LENGTH_MAX: usize = 1024;
/// The most arguments of one declaration.
pub const ARGUMENTS_MAX: usize = 64;
/// The value of one argument.
pub const ARGUMENT_LENGTH_MAX: usize = 1024;

/// The largest payload of a peer link's frame before both sides have proved themselves.
pub const PEER_FRAME_LIMIT_BEFORE_AUTH: u32 = 4 << 10;
/// The largest payload of a peer link's frame afterwards, unless configured otherwise.
pub const PEER_FRAME_LIMIT_DEFAULT: u32 = 128 << 20;

const _: () = {
    assert!(FRAME_LIMIT_BEFORE_LOGIN < FRAME_LIMIT_MIN);
    assert!(FRAME_LIMIT_MIN <= FRAME_LIMIT_DEFAULT && FRAME_LIMIT_DEFAULT <= FRAME_LIMIT_MAX);
    assert!(MESSAGE_LIMIT_DEFAULT <= MESSAGE_LIMIT_MAX);
    // One largest message with the longest names and properties fits a frame that carries messages.
    assert!(PROPERTIES_LENGTH_MAX as usize + 4 * NAME_LENGTH_MAX + 1024 <= MESSAGE_FRAME_ROOM as usize);
    // All messages of a transaction may be in one of its batches.
    assert!(TRANSACTION_MESSAGES_MAX <= BATCH_MESSAGES_MAX as usize);
    // What a client may send in one frame, the leader can send on to its replicas in one frame.
    assert!(MESSAGE_LIMIT_MAX + MESSAGE_FRAME_ROOM + (1 << 20) <= PEER_FRAME_LIMIT_DEFAULT);
    // The longest Login and the longest HelloOk and Refused fit before login.
    assert!(
        NAME_LENGTH_MAX + 2 * TEXT_LENGTH_MAX + SECRET_LENGTH_MAX + 64 <= FRAME_LIMIT_BEFORE_LOGIN as usize
    );
};

/// The negotiable limits of one client connection, announced by the broker in HelloOk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    frame: u32,
    message: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: FRAME_LIMIT_DEFAULT, message: MESSAGE_LIMIT_DEFAULT }
    }
}

impl Limits {
    /// Limits for frames without messages, and for one message body. Values outside the constants of this
    /// module are moved to the nearest allowed one, so that no announcement can demand unbounded memory.
    pub fn new(frame: u32, message: u32) -> Self {
        Self { frame: frame.clamp(FRAME_LIMIT_MIN, FRAME_LIMIT_MAX), message: message.min(MESSAGE_LIMIT_MAX) }
    }

    /// The largest payload of a frame that carries no messages.
    pub fn frame(self) -> u32 {
        self.frame
    }

    /// The largest message body.
    pub fn message(self) -> u32 {
        self.message
    }

    /// The largest payload of a frame that carries messages (Publish, Commit, Deliver, PeekOk).
    pub fn message_frame(self) -> u32 {
        let one_message = self.message.saturating_add(MESSAGE_FRAME_ROOM);
        if one_message > self.frame { one_message } else { self.frame }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_limits_are_bounded() {
        let limits = Limits::new(u32::MAX, u32::MAX);
        assert_eq!(limits.frame(), FRAME_LIMIT_MAX);
        assert_eq!(limits.message(), MESSAGE_LIMIT_MAX);
        assert_eq!(Limits::new(0, 0).frame(), FRAME_LIMIT_MIN);
        assert_eq!(Limits::new(FRAME_LIMIT_MAX, 10).message_frame(), FRAME_LIMIT_MAX);
        assert_eq!(Limits::default().message_frame(), MESSAGE_LIMIT_DEFAULT + MESSAGE_FRAME_ROOM);
    }
}
