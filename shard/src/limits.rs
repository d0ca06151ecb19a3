//! Every bound of a shard, in one table.
//!
//! A bound's name ends in `_max` and says its unit; what happens when it is reached stands in its
//! documentation. Durations (`…_ms`) and sizes that are not bounds live here too, because the same
//! three sources set them: a flag, a `SHARDCAST_…` variable, a line of the TOML file.

use std::fmt;

/// One row of the table: what `shardcast config` prints and what the command line is made from.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The name in the TOML file; the flag and the variable are derived from it.
    pub name: &'static str,
    /// Value when nobody sets it.
    pub default: u64,
    /// Smallest value that makes sense.
    pub least: u64,
    /// Largest value that the engine can honour.
    pub most: u64,
    /// The sentences of its documentation.
    pub help: &'static str,
}

/// A value that the table does not permit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No row has this name.
    #[error("unknown limit `{0}`; `shardcast config` lists every name")]
    Unknown(String),
    /// The value lies outside of what the row permits.
    #[error("{name} = {value} is out of range: it must lie between {least} and {most}")]
    OutOfRange {
        /// The row's name.
        name: &'static str,
        /// The value that was asked for.
        value: u64,
        /// Smallest permitted value.
        least: u64,
        /// Largest permitted value.
        most: u64,
    },
    /// Two values contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

macro_rules! limits {
    ($( #[doc = $first:literal] $( #[doc = $more:literal] )* $name:ident = $default:literal in $least:literal ..= $most:literal; )*) => {
        /// The bounds of a shard and of its connections. Counts, bytes and milliseconds, as the names say.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $( #[doc = $first] $( #[doc = $more] )* #[doc = ""] #[doc = concat!("Default: `", stringify!($default), "`.")] pub $name: u64, )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Limits {
            /// Every row, in the order of the documentation.
            pub const FIELDS: &'static [Field] = &[
                $( Field { name: stringify!($name), default: $default, least: $least, most: $most, help: concat!($first $(, "\n", $more)*) }, )*
            ];

            /// The row called `name`.
            #[must_use]
            pub fn field(name: &str) -> Option<&'static Field> {
                Self::FIELDS.iter().find(|field| field.name == name)
            }

            /// Sets the row called `name`.
            ///
            /// # Errors
            /// The name is unknown or the value is out of the row's range.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), LimitError> {
                match name {
                    $( stringify!($name) => {
                        if !($least..=$most).contains(&value) {
                            return Err(LimitError::OutOfRange { name: stringify!($name), value, least: $least, most: $most });
                        }
                        self.$name = value;
                    } )*
                    _ => return Err(LimitError::Unknown(name.to_owned())),
                }
                Ok(())
            }

            /// The value of the row called `name`.
            #[must_use]
            pub fn value(&self, name: &str) -> Option<u64> {
                match name {
                    $( stringify!($name) => Some(self.$name), )*
                    _ => None,
                }
            }
        }

        $( const _: () = {
            let (least, default, most): (u64, u64, u64) = ($least, $default, $most);
            assert!(least <= default && default <= most, concat!(stringify!($name), ": default out of range"));
        }; )*
    };
}

limits! {
    /// Connections of the whole process. Above it a new one gets 503 with `Retry-After`.
    connections_max = 4_000_000 in 1 ..= 16_000_000;
    /// Connections of one shard, bounded further by the ring's table of direct descriptors. Above it: 503.
    shard_connections_max = 1_000_000 in 16 ..= 1_048_000;
    /// Connections from one address; 0 means no bound. Above it: 429.
    /// A bound above 0 makes the shard accept one connection a request instead of by multishot.
    address_connections_max = 0 in 0 ..= 16_000_000;
    /// Connections of one user over the whole process; 0 means no bound. Above it: close 4429, before the welcome.
    /// A bound above 0 has the home of the user's inbox asked about each connection.
    user_connections_max = 0 in 0 ..= 1_000_000;
    /// Resident memory of the process in MiB; 0 means no bound. Above it new connections get 503, open ones keep working.
    memory_mib_max = 0 in 0 ..= 16_777_216;
    /// Handshakes of a shard a second, as it accepts no more connections than that; 0 means no bound. It bounds all that is done for a connection before its
    /// handshake, too. Above it they wait in the listener's backlog (`backlog_max`), so that those who are
    /// connected are served while many come at once. A bound above 0 makes the shard accept one connection a request instead of by multishot.
    accepts_per_second_max = 5000 in 0 ..= 1_000_000;
    /// Handshakes of TLS that a shard takes up a second; 0 means no bound beside `accepts_per_second_max`. Above it connections wait in the listener's backlog
    /// likewise: a handshake takes 0.4 ms of the shard's time with an ECDSA key, and 1.2 ms with an RSA key.
    tls_handshakes_per_second_max = 1000 in 0 ..= 1_000_000;
    /// Bytes of a handshake's request line and headers together. Above it: 431.
    /// Also bytes of the first message, where that says whose the connection is. Above it: close 1009.
    handshake_size_max = 8192 in 256 ..= 65536;
    /// Header lines of a handshake. Above it: 431.
    handshake_headers_max = 64 in 8 ..= 128;
    /// Time for a whole handshake to arrive, in milliseconds. After it: 408.
    /// Where the first message says whose the connection is, it has to arrive in this time too. After it: close 4401.
    handshake_ms_max = 10_000 in 100 ..= 600_000;
    /// Time for a webhook to decide about a connection or a message that waits for it, in milliseconds. After it: close 1013, or the error `unavailable`.
    decision_ms_max = 10_000 in 10 ..= 600_000;
    /// Bytes of one message, all its fragments together. Above it: close 1009.
    message_size_max = 1_048_576 in 125 ..= 1_073_741_824;
    /// Bytes of a message below which it is sent as it is, where compression is agreed on.
    compressed_bytes_min = 512 in 1 ..= 1_073_741_824;
    /// How hard messages are compressed, from fastest to smallest.
    compression_level = 3 in 1 ..= 9;
    /// Size of a compression window as a power of two, where the client does not ask for less: 9 is 512 bytes, 15 is 32 KiB.
    compression_window_bits = 15 in 9 ..= 15;
    /// Connections of one shard that have compression windows of their own (`compression = "dedicated"`). Above it a new one shares the shard's.
    dedicated_windows_max = 1024 in 0 ..= 1_000_000;
    /// Bytes that may wait for one connection. Above it the oldest messages of rooms whose slow-consumer policy is `drop_oldest` are dropped; where that is not enough:
    /// close 1013. One message alone is never too much.
    outbox_bytes_max = 4_194_304 in 4096 ..= 1_073_741_824;
    /// Messages that may wait for one connection, whatever their size. Above it: the same.
    outbox_messages_max = 8192 in 16 ..= 1_048_576;
    /// Bytes of missed messages that may wait for one connection that came back; they count in no other bound of its outbox.
    /// Above it a join is answered with `recovered` false. The messages of one room alone are never too much.
    recovery_bytes_max = 16_777_216 in 4096 ..= 1_073_741_824;
    /// Bytes waiting for a connection above which it is not read: a client that sends without reading is slowed down. Where the slow-consumer policy of any room leaves
    /// messages out, connections are read all the same, and `outbox_bytes_max` alone bounds what waits.
    outbox_unread_bytes_max = 262_144 in 1024 ..= 1_073_741_824;
    /// Bytes of small frames gathered into one send; half of `outbox_bytes_max` where that is less, as what is being sent can be dropped no more.
    gather_bytes_max = 65_536 in 1024 ..= 1_048_576;
    /// Messages that one connection may send a second; 0 means no bound.
    /// Above it: one `rate_limited` error, then the connection is read at this rate.
    /// A message counts once for every 16 KiB that it takes or inflates to, and so do large answers; a ping, a pong and sixteen fragments count like a message.
    messages_per_second_max = 1000 in 0 ..= 10_000_000;
    /// Messages that one connection may send at once before the rate counts.
    messages_burst_max = 2000 in 1 ..= 2_000_000;
    /// Bytes that one connection may send a second, as they are received, frame headers included; 0 means no bound. Above it: as above `messages_per_second_max`,
    /// whichever is reached first. A bound above 0 costs up to 80 bytes of memory for each connection.
    bytes_per_second_max = 0 in 0 ..= 1_099_511_627_776;
    /// Bytes that one connection may send at once before the rate counts. A message may be larger: it is read at the rate.
    bytes_burst_max = 1_048_576 in 1 ..= 1_099_511_627_776;
    /// Messages of one connection handled in one pass of the loop; the rest waits for the next pass.
    messages_per_pass_max = 64 in 1 ..= 65536;
    /// Messages handled in one pass of the loop of all connections together, but for the first of each that sends little. The rest waits for its turn,
    /// so that connections which send little are heard first. A message counts once for every 4 KiB, one that came compressed once for every 256 bytes that it inflates to.
    queued_messages_per_pass_max = 256 in 1 ..= 1_048_576;
    /// Microseconds that output waits at most while a shard does not come to rest, so that more of it leaves in one send; 0 has none wait. A shard with time
    /// to spare lets none wait.
    coalesce_us_max = 20_000 in 0 ..= 1_000_000;
    /// Milliseconds between two heartbeats. A connection silent for one interval is sent a ping.
    heartbeat_ms = 25_000 in 10 ..= 3_600_000;
    /// Heartbeats that may go unanswered. After them: close 1001.
    heartbeat_missed_max = 2 in 1 ..= 100;
    /// Time for the peer to finish a close handshake, in milliseconds. After it the connection is dropped.
    close_ms_max = 5000 in 10 ..= 600_000;
    /// Bytes of a room's name. Above it: `bad_request`.
    room_name_size_max = 255 in 1 ..= 4096;
    /// Bytes of a user's name. Above it: `bad_request`, or 400 in the handshake.
    user_name_size_max = 255 in 1 ..= 4096;
    /// Bytes of a message id. Above it: `bad_request`.
    id_size_max = 64 in 1 ..= 4096;
    /// Bytes of a token, its signature included. Above it the token is refused before anything of it is read: 401 in the handshake, close 4401 in the first message.
    token_size_max = 4096 in 256 ..= 65536;
    /// Entries of `rooms` and `direct` in a token, together. Above it the token is refused.
    token_rules_max = 64 in 1 ..= 1024;
    /// Keys of a JWK set that are used to check tokens. Those beyond it are left out, which is logged.
    auth_keys_max = 32 in 1 ..= 1024;
    /// Rooms that one connection may be in. Above it: `too_many_rooms`.
    rooms_per_connection_max = 128 in 1 ..= 65536;
    /// Rooms that one shard is home to. Above it a join that would open one more gets `too_many_rooms`.
    rooms_max = 4_000_000 in 1 ..= 100_000_000;
    /// Members up to which a room announces each user who comes or goes; beyond it only counts are sent.
    presence_individual_max = 100 in 0 ..= 1_000_000;
    /// Milliseconds between two counts of a large room.
    presence_count_ms = 1000 in 10 ..= 3_600_000;
    /// Names in one answer to a presence request; the count is always whole.
    presence_list_max = 1000 in 1 ..= 1_000_000;
    /// Messages of a room's history; 0 turns history off. The oldest go first.
    history_messages_max = 100 in 0 ..= 1_000_000;
    /// Bytes of a room's history. The oldest go first.
    history_bytes_max = 1_048_576 in 0 ..= 1_073_741_824;
    /// Age of a message in the history, in milliseconds.
    history_age_ms_max = 300_000 in 0 ..= 86_400_000;
    /// Bytes of all histories that one shard is home to. Above it a publishing room gives up its own oldest messages.
    history_shard_bytes_max = 268_435_456 in 0 ..= 1_099_511_627_776;
    /// Message ids that a room remembers, to recognise a repeated publish. The oldest go first.
    ids_max = 1024 in 0 ..= 1_000_000;
    /// Age of a remembered id in milliseconds.
    ids_age_ms_max = 120_000 in 0 ..= 86_400_000;
    /// Mails handled in one pass of the loop.
    mail_per_pass_max = 1024 in 16 ..= 1_048_576;
    /// Mails waiting for one shard, shared out over the shards that send to it. A full mailbox slows the publishers down.
    mailbox_mails_max = 16_384 in 256 ..= 1_048_576;
    /// Actions that one call of the application may ask for. Above it the call gets `Overload`.
    actions_max = 65_536 in 16 ..= 1_048_576;
    /// Receive buffers of a shard, a power of two. When all are in use, connections wait for the next pass.
    receive_buffers_max = 512 in 8 ..= 32_768;
    /// Bytes of a receive buffer. A message that lies whole in one is not copied.
    receive_buffer_bytes = 8192 in 512 ..= 1_048_576;
    /// Bytes that a send buffer of the kernel may hold for one connection; 0 leaves it to the kernel.
    socket_send_bytes = 0 in 0 ..= 1_073_741_824;
    /// Entries of a ring's submission queue, a power of two. When it is full, it is submitted at once.
    submissions_max = 1024 in 16 ..= 32_768;
    /// Entries of a ring's completion queue, a power of two. When it is full, multishot operations end and are armed again.
    completions_max = 16_384 in 64 ..= 65_536;
    /// Microseconds that a shard goes on looking for work before it sleeps; 0 means that it sleeps at once.
    /// Its core is busy for so long after each burst of work, and nobody needs to wake it meanwhile. Only for cores that a shard has to itself.
    spin_us_max = 0 in 0 ..= 1_000_000;
    /// Pending connections of a listener, bounded further by `net.core.somaxconn`. Above it the kernel drops the SYN and the client tries again.
    backlog_max = 4096 in 1 ..= 1_048_576;
}

/// Bits of a slot's number inside an operation's key; also the kernel's cap on a ring's table of files.
pub const SLOT_BITS: u32 = 20;

impl Limits {
    /// Connections that a shard accepts a second; 0 means no bound.
    #[must_use]
    pub fn accept_pace(&self, is_tls: bool) -> u64 {
        let bounds = [
            self.accepts_per_second_max,
            self.tls_handshakes_per_second_max * u64::from(is_tls),
        ];
        bounds
            .into_iter()
            .filter(|bound| *bound > 0)
            .min()
            .unwrap_or(0)
    }

    /// Checks what no single row can: the relations between rows.
    ///
    /// # Errors
    /// The first contradiction found, with both values and the remedy.
    pub fn check(&self) -> Result<(), LimitError> {
        let power_of_two = [
            ("receive_buffers_max", self.receive_buffers_max),
            ("submissions_max", self.submissions_max),
            ("completions_max", self.completions_max),
        ];
        for (name, value) in power_of_two {
            if !value.is_power_of_two() {
                return Err(LimitError::Contradiction(format!(
                    "{name} = {value} must be a power of two; the next one is {}",
                    value.next_power_of_two()
                )));
            }
        }
        let ordered = [
            (
                "outbox_unread_bytes_max",
                self.outbox_unread_bytes_max,
                "outbox_bytes_max",
                self.outbox_bytes_max,
            ),
            (
                "user_connections_max",
                self.user_connections_max,
                "connections_max",
                self.connections_max,
            ),
            (
                "address_connections_max",
                self.address_connections_max,
                "connections_max",
                self.connections_max,
            ),
            (
                "submissions_max",
                self.submissions_max,
                "completions_max",
                self.completions_max,
            ),
        ];
        for (small_name, small, large_name, large) in ordered {
            if small > large {
                return Err(LimitError::Contradiction(format!(
                    "{small_name} = {small} must not exceed {large_name} = {large}; lower the first or raise the second"
                )));
            }
        }
        self.check_rates()
    }

    /// A bucket is filled once a millisecond, so one that holds less than a rate brings in that time would keep the rate from ever being reached.
    fn check_rates(&self) -> Result<(), LimitError> {
        let rates = [
            (
                "messages_per_second_max",
                self.messages_per_second_max,
                "messages_burst_max",
                self.messages_burst_max,
            ),
            (
                "bytes_per_second_max",
                self.bytes_per_second_max,
                "bytes_burst_max",
                self.bytes_burst_max,
            ),
        ];
        for (rate_name, rate, burst_name, burst) in rates {
            let least = rate.div_ceil(1000);
            if burst < least {
                return Err(LimitError::Contradiction(format!(
                    "{rate_name} = {rate} cannot be reached with {burst_name} = {burst}, as a burst is the most that passes in a millisecond; raise {burst_name} to at least {least}"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (default {}, {} to {})",
            self.name, self.default, self.least, self.most
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_goes_at_the_slower_pace_of_those_that_apply() {
        // Accepts and handshakes a second; without and with TLS.
        let cases = [
            (0, 0, 0, 0),
            (5000, 0, 5000, 5000),
            (0, 1000, 0, 1000),
            (5000, 1000, 5000, 1000),
            (500, 1000, 500, 500),
        ];
        for (accepts, handshakes, plain, tls) in cases {
            let limits = Limits {
                accepts_per_second_max: accepts,
                tls_handshakes_per_second_max: handshakes,
                ..Limits::default()
            };
            let paces = (limits.accept_pace(false), limits.accept_pace(true));
            assert_eq!(paces, (plain, tls), "{accepts} {handshakes}");
        }
    }
}
