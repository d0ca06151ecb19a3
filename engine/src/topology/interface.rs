//! The interfaces that messages come by: where the card sits, and which cores its interrupts go to.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::parse_cpu_list;

/// One interrupt of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number, as in `/proc/irq`.
    pub number: u32,
    /// The cores that it may go to.
    pub cores: Vec<usize>,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Packets to anywhere leave by it (IPv4).
    pub has_default_route: bool,
    /// The NUMA node of its card; none where there is no card, or one node alone.
    pub node: Option<usize>,
    /// The interrupts of its card, by number.
    pub interrupts: Vec<Interrupt>,
}

impl Interface {
    /// All interfaces of this machine, without loopback; none where they cannot be listed.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let default_route = fs::read_to_string("/proc/net/route")
            .ok()
            .and_then(|table| default_route(&table));
        let mut interfaces: Vec<Self> = Vec::new();
        let addresses = if_addrs::get_if_addrs().unwrap_or_default();
        for address in addresses.iter().filter(|address| !address.is_loopback()) {
            match interfaces.iter_mut().find(|one| one.name == address.name) {
                Some(known) => known.addresses.push(address.ip()),
                None => interfaces.push(Self {
                    name: address.name.clone(),
                    addresses: vec![address.ip()],
                    has_default_route: default_route.as_ref() == Some(&address.name),
                    ..card(&address.name)
                }),
            }
        }
        interfaces
    }

    /// Whether each interrupt of the card goes to one core alone, that of a shard, and each of those cores has one: then whoever hands a connection to the shard
    /// on the core that it came in on spreads connections as the card does.
    #[must_use]
    pub fn is_spread_over(&self, cores: &[usize]) -> bool {
        let bound_to = |core: &usize| self.interrupts.iter().any(|one| one.cores[..] == [*core]);
        let is_bound = |one: &Interrupt| matches!(one.cores[..], [core] if cores.contains(&core));
        !self.interrupts.is_empty()
            && self.interrupts.iter().all(is_bound)
            && cores.iter().all(bound_to)
    }
}

/// The interface of the route to everywhere, from the table in /proc/net/route (proc_net(5)): a line's second field is the destination.
fn default_route(table: &str) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    })
}

/// What `/sys` and `/proc` say of the card behind an interface.
fn card(name: &str) -> Interface {
    let device = Path::new("/sys/class/net").join(name).join("device");
    let node = fs::read_to_string(device.join("numa_node"))
        .ok()
        // A machine with one node says -1.
        .and_then(|node| node.trim().parse().ok());
    // A virtio card is a device of its own behind the one on the bus, which lists the interrupts: also those of the card's configuration and of sending. Which
    // core those come to says nothing of where packets come in.
    let bus = fs::read_link(device.join("subsystem")).unwrap_or_default();
    let is_virtio = bus.ends_with("virtio");
    let listed = if is_virtio { "../msi_irqs" } else { "msi_irqs" };
    let mut interrupts: Vec<Interrupt> = names(&device.join(listed))
        .filter_map(|name| name.parse().ok())
        .filter(|number| !is_virtio || names(&irq(*number)).any(|name| is_virtio_input(&name)))
        .filter_map(|number| {
            let list = fs::read_to_string(irq(number).join("smp_affinity_list")).ok()?;
            let cores = parse_cpu_list(&list).ok()?;
            Some(Interrupt { number, cores })
        })
        .collect();
    interrupts.sort_by_key(|interrupt| interrupt.number);
    Interface {
        node,
        interrupts,
        ..Interface::default()
    }
}

/// Where the kernel shows an interrupt: its cores, and a directory named after each who handles it.
fn irq(number: u32) -> PathBuf {
    PathBuf::from(format!("/proc/irq/{number}"))
}

/// What a directory holds; nothing where it cannot be read.
fn names(directory: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Whether who handles an interrupt is a receive queue of a virtio card, such as `virtio2-input.0`.
fn is_virtio_input(handler: &str) -> bool {
    handler.starts_with("virtio") && handler.contains("-input.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_the_one_to_everywhere() {
        let table =
            "Iface\tDestination\tGateway\neth1\t0000A8C0\t00000000\neth0\t00000000\t0100A8C0\n";
        assert_eq!(default_route(table).as_deref(), Some("eth0"));
        assert_eq!(default_route("Iface\tDestination\n"), None);
        assert_eq!(default_route(""), None);
    }

    #[test]
    fn of_a_virtio_card_the_receive_queues_count() {
        let handlers = [
            ("virtio2-input.0", true),
            ("virtio10-input.7", true),
            ("virtio2-output.0", false),
            ("virtio2-config", false),
            ("smp_affinity", false),
        ];
        for (handler, expected) in handlers {
            assert_eq!(is_virtio_input(handler), expected, "{handler}");
        }
    }

    #[test]
    fn interrupts_are_spread_where_each_core_has_one_of_its_own() {
        let cases: &[(&[&[usize]], bool)] = &[
            (&[&[2], &[3]], true),
            (&[&[2], &[3], &[2]], true),
            (&[], false),
            (&[&[2]], false),
            (&[&[2], &[3], &[0, 1, 2, 3]], false),
            (&[&[2], &[3], &[1]], false),
            (&[&[2, 3]], false),
        ];
        for (interrupts, expected) in cases {
            let interface = Interface {
                interrupts: interrupts
                    .iter()
                    .zip(24..)
                    .map(|(of, number)| Interrupt {
                        number,
                        cores: of.to_vec(),
                    })
                    .collect(),
                ..Interface::default()
            };
            assert_eq!(
                interface.is_spread_over(&[2, 3]),
                *expected,
                "{interrupts:?}"
            );
        }
    }

    #[test]
    fn this_machine_lists_no_loopback() {
        for interface in Interface::all() {
            assert_ne!(interface.name, "lo");
            assert!(!interface.addresses.is_empty(), "{interface:?}");
        }
    }
}
