//! Several whole shards, their mailboxes and their clients in one thread, in virtual time, drawn from a seed.
//!
//! Each file of a property says what must hold and tries it on many seeds. `SHARDCAST_SEEDS=a..b` chooses other seeds
//! than the default ones, and `SHARDCAST_SEED=n` runs a single one and prints everything that its clients hear. A
//! failure names its seed and the command that repeats it: the same seed gives the same run.
//!
//! * `invariants`: what must hold after every pass of every shard.
//! * `cluster`: the shards, each in the loop of the executor with its sleeps and wakes, and what must be left of them
//!   at the end.
//! * `heard`: what a server says, parsed.
//! * `member`: a client that does as it is told; `view`: a room as it sees it, checked with everything that it hears.
//! * `granting`: the application, which gives grants; `guard`: what a member with a grant may do and hear.
//! * `deciding`: somebody outside who decides about connections and messages.
//! * `books`: what was published, and the one order that all members must agree on.
//! * `world`: a cluster and its members, run until nothing moves any more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

mod big;
mod books;
mod chaos;
mod clocks;
mod cluster;
mod crash;
mod deciding;
mod determinism;
mod each_byte;
mod granting;
mod grants;
mod guard;
mod heard;
mod hostile;
mod invariants;
mod mailboxes;
mod member;
mod order;
mod recovery;
mod resets;
mod seeds;
mod slow_consumers;
mod starvation;
mod view;
mod world;
