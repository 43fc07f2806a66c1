//! The registry of error codes: number, name, whose fault, whether trying again may help, one line of text.

use std::fmt;

/// Who can do something about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// The program or person that asked.
    Caller,
    /// The program at the other end broke the protocol.
    Peer,
    /// Whoever runs the cluster.
    Operator,
    /// The present state of network, machines, load or cluster.
    Environment,
    /// Quorate itself.
    Bug,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "caller",
            Self::Peer => "peer",
            Self::Operator => "operator",
            Self::Environment => "environment",
            Self::Bug => "bug",
        })
    }
}

macro_rules! registry {
    ($($number:literal $variant:ident $name:literal $blame:ident $retryable:literal $text:literal;)*) => {
        /// What went wrong, as said on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultCode {
            $(
                #[doc = $text]
                $variant,
            )*
            /// A number this version does not know; never one of the registry. Not retryable.
            Unrecognised(u16),
        }

        impl FaultCode {
            /// Every code of the registry, by ascending number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code's number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Unrecognised(number) => number,
                }
            }

            /// The code with this number.
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Unrecognised(other),
                }
            }

            /// The code's name, as in documents and logs.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unrecognised(_) => "UNRECOGNISED",
                }
            }

            /// Who can do something about it.
            pub fn blame(self) -> Blame {
                match self {
                    $(Self::$variant => Blame::$blame,)*
                    Self::Unrecognised(_) => Blame::Peer,
                }
            }

            /// Whether the same thing, asked again later or of another broker, may succeed.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$variant => $retryable,)*
                    Self::Unrecognised(_) => false,
                }
            }

            /// One line for people.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unrecognised(_) => "a code of a later version",
                }
            }
        }
    };
}

registry! {
    // 1xx: the connection's own rules.
    100 WrongProtocol "WRONG_PROTOCOL" Peer false "The other end does not speak Quorate's protocol.";
    101 UnsupportedVersion "UNSUPPORTED_VERSION" Peer false "The two ends have no protocol version in common.";
    102 MalformedFrame "MALFORMED_FRAME" Peer false "A frame's bytes do not follow the protocol.";
    103 FrameTooLarge "FRAME_TOO_LARGE" Peer false "A frame is longer than the limit in force.";
    104 UnknownFrame "UNKNOWN_FRAME" Peer false "A frame of a kind that this version does not know and may not skip.";
    105 UnexpectedFrame "UNEXPECTED_FRAME" Peer false "A frame that is not allowed at this point of the connection.";
    106 InvalidName "INVALID_NAME" Caller false "A name is empty, too long, not UTF-8 or contains control characters.";
    107 LoginTimeout "LOGIN_TIMEOUT" Peer true "The client did not log in within the time allowed.";
    108 HeartbeatMissed "HEARTBEAT_MISSED" Environment true "Nothing arrived for two heartbeat intervals.";
    109 TooSlow "TOO_SLOW" Caller true "The client does not read what it is sent.";
    // 2xx: this broker cannot serve now.
    200 NotLeader "NOT_LEADER" Environment true "Another broker leads the virtual host.";
    201 Waiting "WAITING" Environment true "The broker waits for other members of its cluster.";
    202 NoQuorum "NO_QUORUM" Environment true "The virtual host has no majority of its voters.";
    203 NotReady "NOT_READY" Environment true "The broker leads but is not ready to serve yet.";
    204 NeedsOperator "NEEDS_OPERATOR" Operator true "The cluster does not go on without its operator.";
    205 ShuttingDown "SHUTTING_DOWN" Operator true "The broker or its cluster is shutting down.";
    206 UnknownOutcome "UNKNOWN_OUTCOME" Environment true "The request may or may not take effect; ask again to find out.";
    207 Overloaded "OVERLOADED" Environment true "The broker has as much work as it accepts.";
    208 DiskLow "DISK_LOW" Operator true "The broker's disk is nearly full; publishing must wait.";
    209 TooManySessions "TOO_MANY_SESSIONS" Operator true "The broker has as many clients as it accepts.";
    // 3xx: who may do what.
    300 LoginFailed "LOGIN_FAILED" Caller false "User or secret is wrong.";
    301 MechanismUnsupported "MECHANISM_UNSUPPORTED" Caller false "The login mechanism is not supported.";
    302 VhostNotFound "VHOST_NOT_FOUND" Caller false "There is no such virtual host.";
    303 NotSecure "NOT_SECURE" Operator false "From this address the broker accepts only TLS or credentials.";
    304 AccessRefused "ACCESS_REFUSED" Operator false "The user may not do this.";
    // 4xx: queues, exchanges, bindings.
    400 QueueNotFound "QUEUE_NOT_FOUND" Caller false "There is no such queue.";
    401 ExchangeNotFound "EXCHANGE_NOT_FOUND" Caller false "There is no such exchange.";
    402 BindingNotFound "BINDING_NOT_FOUND" Caller false "There is no such binding.";
    403 DeclarationDiffers "DECLARATION_DIFFERS" Caller false "It exists and was declared differently.";
    404 QueueNotEmpty "QUEUE_NOT_EMPTY" Caller false "The queue still holds messages.";
    405 QueueInUse "QUEUE_IN_USE" Caller false "The queue still has consumers.";
    406 ExchangeInUse "EXCHANGE_IN_USE" Caller false "The exchange still has bindings.";
    407 ReservedName "RESERVED_NAME" Caller false "The name belongs to the broker.";
    408 UnknownArgument "UNKNOWN_ARGUMENT" Caller false "The declaration has an argument that this version does not know.";
    409 LimitReached "LIMIT_REACHED" Operator false "The virtual host has as many of these as it accepts.";
    410 VhostExists "VHOST_EXISTS" Caller false "The virtual host exists already.";
    411 InvalidPattern "INVALID_PATTERN" Caller false "The binding's key is not a topic pattern.";
    // 5xx: publishing.
    500 Unroutable "UNROUTABLE" Caller false "The message was routed to no queue.";
    501 QueueFull "QUEUE_FULL" Environment true "A queue that the message is routed to is full.";
    502 MessageTooLarge "MESSAGE_TOO_LARGE" Caller false "The message is longer than the limit.";
    503 OutOfOrder "OUT_OF_ORDER" Caller true "An earlier number of this producer was not accepted; send on from there.";
    504 RefusedBefore "REFUSED_BEFORE" Caller false "This number was refused before and stays refused.";
    505 TransactionRolledBack "TRANSACTION_ROLLED_BACK" Environment true "Nothing of the transaction took effect; begin it again.";
    506 OutcomeForgotten "OUTCOME_FORGOTTEN" Caller false "This number was used so long ago that its outcome is forgotten.";
    // 6xx: consuming.
    600 ConsumerExists "CONSUMER_EXISTS" Caller false "The consumer's number is in use on this channel.";
    601 ConsumerNotFound "CONSUMER_NOT_FOUND" Caller false "There is no consumer with this number on this channel.";
    602 ExclusiveConsumer "EXCLUSIVE_CONSUMER" Caller true "The queue is consumed exclusively, or not exclusively enough.";
    603 QueueDeleted "QUEUE_DELETED" Environment false "The queue was deleted while it was consumed.";
    604 CreditTooHigh "CREDIT_TOO_HIGH" Caller false "The consumer's credit would not fit its number.";
    605 DeliveryNotHeld "DELIVERY_NOT_HELD" Caller false "The consumer does not hold a delivery that the transaction settles.";
    // 7xx: brokers among themselves.
    700 PeerClusterName "PEER_CLUSTER_NAME" Operator false "The brokers have different cluster names.";
    701 PeerSecretMissing "PEER_SECRET_MISSING" Operator false "One broker has a cluster secret and the other has none.";
    702 PeerSecretWrong "PEER_SECRET_WRONG" Operator false "The brokers have different cluster secrets.";
    703 PeerIsSelf "PEER_IS_SELF" Operator false "The broker reached itself.";
    704 PeerRefused "PEER_REFUSED" Operator false "The broker does not accept this peer.";
    // 9xx: ours.
    900 Internal "INTERNAL" Bug false "A defect in Quorate; please report it with the log.";
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_come_back() {
        assert!(FaultCode::ALL.is_sorted_by(|a, b| a.number() < b.number()));
        for code in FaultCode::ALL {
            assert_eq!(FaultCode::from_number(code.number()), *code);
        }
        assert_eq!(FaultCode::from_number(65_535), FaultCode::Unrecognised(65_535));
    }

    #[test]
    fn names_are_distinct_upper_case_words() {
        let mut names: Vec<_> = FaultCode::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b));
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')));
    }
}
