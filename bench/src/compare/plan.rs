//! The plan: which workloads with which options, how often, and how long that is expected to take.

use super::metric::Metric;

/// A quick comparison ends within ten minutes; half a minute of them is kept for starting and for what a server takes longer.
pub(super) const QUICK_S_MAX: f64 = 570.0;
const QUICK_ROUNDS: [u32; 3] = [3, 2, 1];
const DEFAULT_ROUNDS: u32 = 5;

/// Seconds that starting a server, joining and ending a run take beside the ramp and the measured part.
const BESIDE_S: f64 = 1.5;

/// What a server must speak to take part in a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discipline {
    Rooms,
    Echo,
}

/// One workload with its options.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    /// What it is called here; `--workloads` takes it.
    pub(super) name: &'static str,
    /// What it does, as a phrase.
    pub(super) title: String,
    /// The subcommand that runs it.
    pub(super) subcommand: &'static str,
    /// The subcommand's options, but for those about the server and the output.
    pub(super) options: Vec<(&'static str, String)>,
    pub(super) discipline: Discipline,
    /// What is compared, the most important first.
    pub(super) metrics: &'static [Metric],
    /// Rounds after which it is not run again, where repetition tells nothing more.
    pub(super) rounds_max: Option<u32>,
    /// Whether it is run where nobody asks for it by name.
    pub(super) by_default: bool,
    /// Whether the floor takes part.
    pub(super) has_floor: bool,
    /// How long one run is expected to take, the start of the server included.
    pub(super) expected_s: f64,
}

/// How long the parts of a run are.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    measured_s: f64,
    warmup_s: f64,
}

const ROOMS: &[Metric] = &[
    Metric::CpuPerDelivery,
    Metric::UserPerDelivery,
    Metric::MedianLatency,
    Metric::P99Latency,
    Metric::LastReceiverP99,
];
const ECHO: &[Metric] = &[
    Metric::CpuPerDelivery,
    Metric::UserPerDelivery,
    Metric::MedianLatency,
    Metric::P99Latency,
];

/// All workloads that there are. `duration_s` overrides the length of the measured part.
pub(super) fn workloads(quick: bool, duration_s: Option<f64>) -> Vec<Workload> {
    let lengths = Lengths {
        measured_s: duration_s.unwrap_or(if quick { 3.0 } else { 15.0 }),
        warmup_s: if quick { 1.0 } else { 3.0 },
    };
    vec![
        lengths.sending(
            "rooms-1000",
            "one room of 1,000 members, 40 messages of 128 B a second: 40,000 deliveries a second",
            ("rooms", 1000),
            &[("room-size", 1000), ("payload", 128), ("rate", 40)],
        ),
        lengths.sending(
            "rooms-100",
            "10 rooms of 100 members, 20 messages of 1,024 B a second in each: 20,000 deliveries a second",
            ("rooms", 1000),
            &[("room-size", 100), ("payload", 1024), ("rate", 20)],
        ),
        lengths.sending(
            "echo",
            "1,000 connections, open loop, 10 messages of 128 B a second on each: 10,000 echoes a second",
            ("echo", 1000),
            &[("payload", 128), ("rate", 10)],
        ),
        lengths.sending(
            "mixed",
            "100 connections, 10 messages of 1,024 B a second on each, half of them to a room of 100 and half to one user: \
             50,500 deliveries a second",
            ("mixed", 100),
            &[("room-size", 100), ("payload", 1024), ("rate", 10)],
        ),
        memory(quick),
        capacity(quick),
    ]
}

/// How many rounds: those asked for, else the default, else as many as a quick comparison has time for. `servers` is the number of
/// servers in a workload.
pub(super) fn rounds(
    asked: Option<u32>,
    quick: bool,
    workloads: &[Workload],
    servers: impl Fn(&Workload) -> usize,
) -> u32 {
    match asked {
        Some(rounds) => rounds,
        None if !quick => DEFAULT_ROUNDS,
        None => QUICK_ROUNDS
            .into_iter()
            .find(|rounds| expected_s(workloads, *rounds, &servers) <= QUICK_S_MAX)
            .unwrap_or(1),
    }
}

/// How long the comparison is expected to take, in seconds.
pub(super) fn expected_s(
    workloads: &[Workload],
    rounds: u32,
    servers: impl Fn(&Workload) -> usize,
) -> f64 {
    let of = |workload: &Workload| {
        let rounds = rounds.min(workload.rounds_max.unwrap_or(u32::MAX));
        f64::from(rounds) * servers(workload) as f64 * workload.expected_s
    };
    workloads.iter().map(of).sum()
}

impl Workload {
    /// Whether it is run in this round, counted from 0.
    pub(super) fn is_in_round(&self, round: u32) -> bool {
        self.rounds_max.is_none_or(|rounds| round < rounds)
    }

    /// Its options as they stand on a command line.
    pub(super) fn arguments(&self) -> Vec<String> {
        let pairs = self.options.iter();
        pairs
            .flat_map(|(name, value)| [format!("--{name}"), value.clone()])
            .collect()
    }
}

impl Lengths {
    fn sending(
        self,
        name: &'static str,
        title: &str,
        (subcommand, connections): (&'static str, u64),
        options: &[(&'static str, u64)],
    ) -> Workload {
        let common = [
            ("connections", connections.to_string()),
            ("warmup", self.warmup_s.to_string()),
            ("duration", self.measured_s.to_string()),
        ];
        let own = options
            .iter()
            .map(|(name, value)| (*name, value.to_string()));
        let echo = subcommand == "echo";
        Workload {
            name,
            title: title.to_owned(),
            subcommand,
            options: common.into_iter().chain(own).collect(),
            discipline: if echo {
                Discipline::Echo
            } else {
                Discipline::Rooms
            },
            metrics: if echo { ECHO } else { ROOMS },
            rounds_max: None,
            by_default: true,
            has_floor: true,
            expected_s: BESIDE_S + self.warmup_s + self.measured_s,
        }
    }
}

/// Memory hardly varies between runs, so a quick comparison measures it once.
fn memory(quick: bool) -> Workload {
    const CONNECTIONS: u64 = 10_000;
    const RAMP_PER_S: u64 = 2500;
    let hold_s: u64 = if quick { 1 } else { 5 };
    let options = [
        ("connections", CONNECTIONS),
        ("ramp", RAMP_PER_S),
        ("steps", 1),
        ("hold", hold_s),
        ("probe-rooms", 0),
    ];
    Workload {
        name: "memory",
        title: "10,000 idle connections: the server's private memory for each".to_owned(),
        subcommand: "density",
        options: options
            .map(|(name, value)| (name, value.to_string()))
            .into(),
        discipline: Discipline::Rooms,
        metrics: &[Metric::MemoryPerConnection],
        rounds_max: Some(if quick { 1 } else { 2 }),
        by_default: true,
        // What the floor holds for a connection is no lower bound of anything.
        has_floor: false,
        expected_s: BESIDE_S * 2.0 + (CONNECTIONS / RAMP_PER_S + hold_s) as f64,
    }
}

fn capacity(quick: bool) -> Workload {
    let options = [
        ("connections", 1000_u64),
        ("room-size", 100),
        ("payload", 128),
        ("p99-max-ms", 50),
        ("start-rate", 10_000),
        ("warmup", 1),
        ("duration", 3),
    ];
    Workload {
        name: "capacity",
        title: "rooms of 100 members, 128 B: the most deliveries a second with p99 up to 50 ms"
            .to_owned(),
        subcommand: "capacity",
        options: options
            .map(|(name, value)| (name, value.to_string()))
            .into(),
        discipline: Discipline::Rooms,
        metrics: &[Metric::Capacity],
        rounds_max: Some(3),
        // The search takes a minute a server.
        by_default: !quick,
        has_floor: true,
        // The rate is raised step by step until the bound is passed, and a step is four seconds.
        expected_s: 65.0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn by_default(quick: bool, duration_s: Option<f64>) -> Vec<Workload> {
        let all = workloads(quick, duration_s).into_iter();
        all.filter(|workload| workload.by_default).collect()
    }

    /// Nine servers and the floor, as in a full checkout.
    fn ten(workload: &Workload) -> usize {
        9 + usize::from(workload.has_floor)
    }

    #[test]
    fn a_quick_comparison_of_ten_servers_has_two_rounds_within_ten_minutes() {
        let workloads = by_default(true, None);
        let rounds = rounds(None, true, &workloads, ten);
        assert_eq!(rounds, 2);
        let expected_s = expected_s(&workloads, rounds, ten);
        assert!(expected_s < QUICK_S_MAX, "{expected_s} s");
        assert!(!workloads.iter().any(|workload| workload.name == "capacity"));
    }

    #[test]
    fn what_is_asked_for_overrides_the_plan() {
        let workloads = by_default(false, Some(7.5));
        assert_eq!(rounds(Some(9), true, &workloads, ten), 9);
        assert_eq!(rounds(None, false, &workloads, ten), DEFAULT_ROUNDS);
        let arguments = workloads[0].arguments().join(" ");
        assert!(arguments.contains("--duration 7.5"), "{arguments}");
        assert!(workloads.iter().any(|workload| workload.name == "capacity"));
    }

    #[test]
    fn fewer_servers_leave_time_for_more_rounds_and_many_for_one() {
        let workloads = by_default(true, None);
        assert_eq!(rounds(None, true, &workloads, |_| 4), 3);
        assert_eq!(rounds(None, true, &workloads, |_| 40), 1);
    }

    #[test]
    fn memory_is_not_measured_again_in_later_rounds() {
        let memory = memory(true);
        assert!(memory.is_in_round(0) && !memory.is_in_round(1));
        assert_eq!(
            expected_s(std::slice::from_ref(&memory), 5, |_| 2),
            2.0 * memory.expected_s
        );
    }
}
