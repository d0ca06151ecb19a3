//! Why a connection ended, and the pace at which a shard's log tells of it.

use std::fmt;

use crate::ws::close;

/// Why a connection ended that had been let in by its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer sent a close frame, with this code or none.
    Peer(Option<u16>),
    /// The peer's stream ended without a close frame.
    StreamEnded,
    /// Receiving failed; the error number of the kernel.
    ReceiveError(i32),
    /// Sending failed; the error number of the kernel.
    SendError(i32),
    /// TLS failed: what arrived could not be decrypted, or nothing could be encrypted any more.
    Tls,
    /// The peer broke RFC 6455; the code that it was told.
    Protocol(u16),
    /// Its heartbeats were not answered.
    Heartbeat,
    /// It read too slowly.
    SlowConsumer,
    /// Its user had as many connections as `user_connections_max` permits.
    TooManyOfUser,
    /// What it was granted has ended.
    Expired,
    /// Its first message did not say, or not in time, whose it is; the code that it was told.
    Unnamed(u16),
    /// It was decided outside of the shard that it may not stay; the code that it was told.
    Dismissed(u16),
    /// The operator closed it, with this code.
    Ordered(u16),
    /// Nobody decided in time whether it may come in.
    Undecided,
    /// The rooms did not come to know it in time.
    OpeningTimedOut,
    /// Its handling panicked.
    Panic,
    /// The application closed it, with this code.
    Application(u16),
    /// The server stops.
    Shutdown,
}

impl CloseReason {
    /// The reason as one word, for logs and machines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer(_) => "peer",
            Self::StreamEnded => "stream_ended",
            Self::ReceiveError(_) => "receive_error",
            Self::SendError(_) => "send_error",
            Self::Tls => "tls",
            Self::Protocol(_) => "protocol",
            Self::Heartbeat => "heartbeat",
            Self::SlowConsumer => "slow_consumer",
            Self::TooManyOfUser => "too_many_connections",
            Self::Expired => "expired",
            Self::Unnamed(_) => "unnamed",
            Self::Dismissed(_) => "dismissed",
            Self::Ordered(_) => "ordered",
            Self::Undecided => "undecided",
            Self::OpeningTimedOut => "opening_timed_out",
            Self::Panic => "panic",
            Self::Application(_) => "application",
            Self::Shutdown => "shutdown",
        }
    }

    /// The code of the close frame that was sent or, from the peer, received; `None` where there was none.
    #[must_use]
    pub const fn code(self) -> Option<u16> {
        match self {
            Self::Peer(code) => code,
            Self::Protocol(code)
            | Self::Unnamed(code)
            | Self::Dismissed(code)
            | Self::Ordered(code)
            | Self::Application(code) => Some(code),
            Self::Heartbeat | Self::Shutdown => Some(close::GOING_AWAY),
            Self::SlowConsumer | Self::Undecided => Some(close::TRY_AGAIN_LATER),
            Self::TooManyOfUser => Some(close::TOO_MANY_CONNECTIONS),
            Self::Expired => Some(close::UNAUTHORIZED),
            Self::Panic => Some(close::INTERNAL_ERROR),
            Self::StreamEnded
            | Self::ReceiveError(_)
            | Self::SendError(_)
            | Self::Tls
            | Self::OpeningTimedOut => None,
        }
    }

    /// The error number of the kernel, where that ended the connection.
    #[must_use]
    pub const fn error(self) -> Option<i32> {
        match self {
            Self::ReceiveError(error) | Self::SendError(error) => Some(error),
            _ => None,
        }
    }

    /// Whether nobody had wanted this end: neither the peer, nor the application, nor the operator.
    #[must_use]
    pub const fn is_abnormal(self) -> bool {
        match self {
            // Who goes away says 1000, 1001, a code of its application's or nothing; the others accuse the other end.
            Self::Peer(code) => matches!(code, Some(1002..3000)),
            Self::Application(code) => matches!(code, 1002..3000),
            Self::Ordered(_) | Self::Shutdown => false,
            _ => true,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match (self.code(), self.error()) {
            (Some(code), _) => write!(f, " (code {code})"),
            (None, Some(error)) => write!(f, " (error {error})"),
            (None, None) => Ok(()),
        }
    }
}

/// Lines about closed connections that a shard logs a second, once it has used up [`LINES_BURST_MAX`].
const LINES_PER_SECOND_MAX: u64 = 10;

/// Lines about closed connections that a shard logs at once.
const LINES_BURST_MAX: u64 = 50;

/// How long lines are left out before one line says how many.
const LEFT_OUT_MS: u64 = 1000;

/// Bounds what a shard logs about connections that ended: a network that breaks ends thousands at once, and each line is a system call.
#[derive(Debug)]
pub(crate) struct LogPace {
    /// Thousandths of a line.
    tokens: u64,
    filled_ms: u64,
    left_out: u64,
    /// When to say how many were left out. Of no meaning where none were.
    due_ms: u64,
}

impl LogPace {
    const LINE: u64 = 1000;
    const MOST: u64 = LINES_BURST_MAX * Self::LINE;

    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            tokens: Self::MOST,
            filled_ms: now_ms,
            left_out: 0,
            due_ms: 0,
        }
    }

    /// Whether one more line may be logged now. Otherwise it is counted among those that were left out.
    pub(crate) fn may_log(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        let filled = passed_ms.saturating_mul(LINES_PER_SECOND_MAX);
        self.tokens = self.tokens.saturating_add(filled).min(Self::MOST);
        self.filled_ms = now_ms;
        if self.tokens >= Self::LINE {
            self.tokens -= Self::LINE;
            return true;
        }
        if self.left_out == 0 {
            self.due_ms = now_ms + LEFT_OUT_MS;
        }
        self.left_out += 1;
        false
    }

    /// How many lines were left out, once it is time to say so; then counting begins anew.
    pub(crate) fn take_left_out(&mut self, now_ms: u64) -> Option<u64> {
        self.due_ms()
            .is_some_and(|due_ms| due_ms <= now_ms)
            .then(|| std::mem::take(&mut self.left_out))
    }

    /// When it is time to say how many lines were left out; `None` where none were.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        (self.left_out > 0).then_some(self.due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_somebody_wanted_are_not_abnormal() {
        let wanted = [
            CloseReason::Peer(None),
            CloseReason::Peer(Some(1000)),
            CloseReason::Peer(Some(1001)),
            CloseReason::Peer(Some(4000)),
            CloseReason::Application(4000),
            CloseReason::Shutdown,
        ];
        assert!(wanted.iter().all(|reason| !reason.is_abnormal()));
        let unwanted = [
            CloseReason::Peer(Some(1002)),
            CloseReason::StreamEnded,
            CloseReason::SendError(32),
            CloseReason::Application(1003),
            CloseReason::Protocol(1007),
            CloseReason::Dismissed(4403),
            CloseReason::Panic,
        ];
        assert!(unwanted.iter().all(|reason| reason.is_abnormal()));
        assert_eq!(
            CloseReason::SendError(32).to_string(),
            "send_error (error 32)"
        );
        assert_eq!(CloseReason::Expired.to_string(), "expired (code 4401)");
        assert_eq!(CloseReason::StreamEnded.to_string(), "stream_ended");
    }

    /// Connections that end at an even rate: lines logged, lines said to be left out, and how often that was said.
    fn logged(per_second: u64, seconds: u64) -> (u64, u64, u64) {
        let mut pace = LogPace::new(5000);
        let (mut lines, mut left_out, mut said) = (0, 0, 0);
        for passed_ms in 0..(seconds + 2) * 1000 {
            let ended = |ms: u64| per_second * ms.min(seconds * 1000) / 1000;
            for _ in ended(passed_ms)..ended(passed_ms + 1) {
                lines += u64::from(pace.may_log(5000 + passed_ms));
            }
            if let Some(count) = pace.take_left_out(5000 + passed_ms) {
                left_out += count;
                said += 1;
            }
        }
        (lines, left_out, said)
    }

    #[test]
    fn lines_are_bounded_and_every_one_is_accounted_for() {
        for (per_second, seconds) in [(5, 20), (10, 30), (100, 1), (100, 10), (50_000, 5)] {
            let (lines, left_out, said) = logged(per_second, seconds);
            assert_eq!(
                lines + left_out,
                per_second * seconds,
                "{per_second} a second"
            );
            assert!(lines <= LINES_BURST_MAX + LINES_PER_SECOND_MAX * seconds);
            assert!(said <= seconds + 1);
            assert_eq!(left_out == 0, per_second <= LINES_PER_SECOND_MAX);
        }
    }
}
